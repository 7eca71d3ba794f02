-- Makes jobs known to the schedule. A job that is known already stays as it is, so pushing twice is harmless.
-- ARGV: per job id, organization, lane, priority, generation, due (ms; 0 now).
-- Returns per job 1 taken, 0 known, 2 its window is full or it is due too late: the feeder brings it.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end

-- A job that is known may have been pushed before it was taken back in PostgreSQL; its fence follows. One that is in
-- no ZSET although it says so was lost there by somebody's hand, and comes back. So does one whose row waits behind a
-- newer fence than its lease: that attempt is over, and whoever held the lease has not told or cannot. True if it did.
local function mend(job, J, v, generation, due)
  if v[1] == 'l' then
    if call('ZSCORE', P .. 'lease', job) and tonumber(generation) <= tonumber(v[2]) then return false end
    call('ZREM', P .. 'lease', job)
    call('HDEL', J, 't')
    left_running(v[3], v[4])
  elseif v[1] == 'd' and not call('ZSCORE', P .. 'delayed', job) then
    count('delayed', -1)
  else
    if tonumber(generation) > tonumber(v[2]) then call('HSET', J, 'g', generation) end
    return false
  end
  call('HSET', J, 'g', generation)
  place(job, v[3], v[4], v[5], due, false)
  return true
end

local out = {}
for i = 1, #ARGV, 6 do
  local job, org, lane, priority = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local due = tonumber(ARGV[i + 5])
  local J, L = P .. 'j:' .. job, P .. 'l:' .. lane
  local v = call('HMGET', J, 's', 'g', 'l', 'o', 'p')
  if v[1] then
    out[#out + 1] = mend(job, J, v, ARGV[i + 4], due) and 1 or 0
  elseif due > now + HORIZON then
    out[#out + 1] = 2
  else
    local known = tonumber(call('HGET', L, 'c' .. priority)) or 0
    if known >= (due > now and WINDOW_DELAYED or WINDOW) or known >= WINDOW_PARKED and parked(lane, org) then
      call('HSET', L, 'x' .. priority, '1')
      out[#out + 1] = 2
    else
      call('HSET', J, 'o', org, 'l', lane, 'p', priority, 'g', ARGV[i + 4])
      call('HINCRBY', L, 'c' .. priority, 1)
      call('HSET', L, 'o', org)
      place(job, lane, org, priority, due, false)
      out[#out + 1] = 1
    end
  end
end
return finish(out)
