-- After the schedule was lost: a worker registers what it runs, so that caps hold and a dead worker is noticed.
-- ARGV: length (ms), the worker if this is all it runs or the rest of it, else "", then per job id, organization, lane,
-- priority, generation, token. Returns per job 1, or 0 where somebody has a lease of it.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
local out = {}
for i = 3, #ARGV, 6 do
  local job, org, lane, priority = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local J = P .. 'j:' .. job
  local state = call('HGET', J, 's')
  if state == 'l' then
    out[#out + 1] = 0
  else
    -- It was brought by the feeder before its claim was committed: it runs, so it does not wait.
    if state then take_out(job, state, lane, priority) else call('HINCRBY', P .. 'l:' .. lane, 'c' .. priority, 1) end
    call('HSET', J, 'o', org, 'l', lane, 'p', priority, 'g', ARGV[i + 4], 's', 'l', 't', ARGV[i + 5])
    call('ZADD', P .. 'lease', now + tonumber(ARGV[1]), job)
    call('HSET', P .. 'l:' .. lane, 'o', org)
    call('HINCRBY', P .. 'l:' .. lane, 'n', 1)
    call('HINCRBY', P .. 'o:' .. org, 'n', 1)
    count('leased', 1)
    out[#out + 1] = 1
  end
end
-- The last that was awaited: leasing begins.
if ARGV[2] ~= '' and call('SREM', P .. 'awaited', ARGV[2]) == 1 and call('EXISTS', P .. 'awaited') == 0 then wake() end
return finish(out)
