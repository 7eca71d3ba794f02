-- Takes expired leases over: the holder's token stops working, and the caller has `length` to put things right in
-- PostgreSQL and settle with its own token. If it dies too, they expire again.
-- ARGV: how many at most, the reaper's token, length (ms).
-- Returns {now (ms), then per job id, organization, generation}.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
allow_full_memory()
local out = { now }
for _, job in ipairs(call('ZRANGEBYSCORE', P .. 'lease', '-inf', now, 'LIMIT', 0, tonumber(ARGV[1]))) do
  local v = call('HMGET', P .. 'j:' .. job, 'o', 'g')
  if v[1] then
    call('HSET', P .. 'j:' .. job, 't', ARGV[2])
    call('ZADD', P .. 'lease', now + tonumber(ARGV[3]), job)
    for _, value in ipairs({ job, v[1], v[2] }) do out[#out + 1] = value end
  else
    call('ZREM', P .. 'lease', job)
    count('leased', -1)
  end
end
return finish(out)
