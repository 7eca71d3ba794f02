-- Takes expired leases over: the holder's token stops working, and the caller has `length` to put things right in
-- PostgreSQL and settle with its own token. If it dies too, they expire again.
-- ARGV: how many at most, the reaper's token, length (ms), the time the reaper expects (ms) or "", and by how much it
-- may be wrong (ms). Where the clock has jumped (set by hand, failed over to a node with another one) nothing is taken:
-- every lease would look expired at once.
-- Returns {now (ms), then per job id, organization, generation}.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
allow_full_memory()
local out = { now }
if ARGV[4] ~= '' and math.abs(now - tonumber(ARGV[4])) > tonumber(ARGV[5]) then return out end
-- No lease is longer than `length`, so one that ends much later was given by a clock that was ahead, and would outlive
-- its holder by as much.
local latest = now + tonumber(ARGV[3])
for _, job in ipairs(call('ZRANGEBYSCORE', P .. 'lease', latest + 5000, '+inf', 'LIMIT', 0, 1000)) do
  call('ZADD', P .. 'lease', latest, job)
end
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
