-- Heartbeat: renews leases.
-- ARGV: length (ms), then per job id and token. Returns per job 1, or 0 where the lease was lost.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
local out = {}
for i = 2, #ARGV, 2 do
  local v = call('HMGET', P .. 'j:' .. ARGV[i], 't', 's')
  if v[2] == 'l' and v[1] == ARGV[i + 1] then
    call('ZADD', P .. 'lease', 'XX', now + tonumber(ARGV[1]), ARGV[i])
    out[#out + 1] = 1
  else
    out[#out + 1] = 0
  end
end
return out
