-- Heartbeat: renews leases.
-- ARGV: length (ms), then per job id and token. Returns per job 1, 0 where the lease was lost, or 2 where
-- the job is not known: the schedule was lost, and its holder registers it again.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
allow_full_memory()
local out = {}
for i = 2, #ARGV, 2 do
  local v = call('HMGET', P .. 'j:' .. ARGV[i], 't', 's')
  if v[2] == 'l' and v[1] == ARGV[i + 1] then
    -- Also where somebody's hand has taken it out of the ZSET.
    call('ZADD', P .. 'lease', now + tonumber(ARGV[1]), ARGV[i])
    out[#out + 1] = 1
  else
    out[#out + 1] = v[2] and 0 or 2
  end
end
return out
