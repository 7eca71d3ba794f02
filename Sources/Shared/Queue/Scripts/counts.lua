-- The exact counts: {ready, delayed, leased}, and who is hungry, who is then taken off the list.
-- ARGV: how many hungry lanes at most.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
promote()
finish()
local v = call('HMGET', P .. 'n', 'ready', 'delayed', 'leased')
local out = { tonumber(v[1]) or 0, tonumber(v[2]) or 0, tonumber(v[3]) or 0 }
local most = tonumber(ARGV[1])
if most > 0 then
  for _, lane in ipairs(call('SPOP', P .. 'hungry', most)) do out[#out + 1] = lane end
end
return out
