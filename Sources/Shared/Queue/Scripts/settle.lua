-- Ends leases. Nothing happens where the token is not the lease's: a late worker can finish nothing.
-- ARGV: per job id, token, verb, generation, due (ms).
--   done   the job is finished, dead, or not to be run from here: forget it
--   again  it runs again at `due`, with its new generation
--   back   it is handed back as it was, to the front of its lane
-- Returns per job 1, or 0 where the lease was somebody else's.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
allow_full_memory()
local out = {}
for i = 1, #ARGV, 5 do
  local job, token, verb = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local J = P .. 'j:' .. job
  local v = call('HMGET', J, 't', 'l', 'o', 'p', 's')
  if v[5] ~= 'l' or v[1] ~= token then
    out[#out + 1] = 0
  else
    local lane, org, priority = v[2], v[3], v[4]
    local due = tonumber(ARGV[i + 4])
    call('ZREM', P .. 'lease', job)
    local running = left_running(lane, org)
    if verb == 'done' or due > now + HORIZON then
      forget(job, lane, org, priority)
    else
      call('HDEL', J, 't')
      call('HSET', J, 'g', ARGV[i + 3])
      place(job, lane, org, priority, due, verb == 'back')
    end
    if running <= 0 then
      forget_lane(lane)
      forget_org(org)
    end
    out[#out + 1] = 1
  end
end
return finish(out)
