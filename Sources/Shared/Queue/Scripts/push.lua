-- Makes jobs known to the schedule. A job that is known already stays as it is, so pushing twice is harmless.
-- ARGV: per job id, organization, lane, priority, generation, due (ms; 0 now).
-- Returns per job 1 taken, 0 known, 2 its window is full or it is due too late: the feeder brings it.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
local out = {}
for i = 1, #ARGV, 6 do
  local job, org, lane, priority = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local due = tonumber(ARGV[i + 5])
  local J, L = P .. 'j:' .. job, P .. 'l:' .. lane
  if call('EXISTS', J) == 1 then
    out[#out + 1] = 0
  else
    local v = call('HMGET', L, 'c' .. priority, 's')
    local window = v[2] == 'park' and WINDOW_PARKED or WINDOW
    if due > now + HORIZON or (tonumber(v[1]) or 0) >= window then
      if due <= now + HORIZON then call('HSET', L, 'o', org, 'x', '1') end
      out[#out + 1] = 2
    else
      call('HSET', J, 'o', org, 'l', lane, 'p', priority, 'g', ARGV[i + 4], 's', 'd')
      call('HINCRBY', L, 'c' .. priority, 1)
      call('HSET', L, 'o', org)
      if due > now then
        call('ZADD', P .. 'delayed', due, job)
        count('delayed', 1)
      else
        make_ready(job, lane, org, priority, false)
      end
      out[#out + 1] = 1
    end
  end
end
return out
