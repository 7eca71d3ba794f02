-- After the schedule was lost: a worker registers what it runs, so that caps hold and a dead worker is noticed.
-- ARGV: length (ms), then per job id, organization, lane, priority, generation, token. Returns per job 1, or 0 where
-- the job is known already.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
local out = {}
for i = 2, #ARGV, 6 do
  local job, org, lane, priority = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local J = P .. 'j:' .. job
  if call('EXISTS', J) == 1 then
    out[#out + 1] = 0
  else
    call('HSET', J, 'o', org, 'l', lane, 'p', priority, 'g', ARGV[i + 4], 's', 'l', 't', ARGV[i + 5])
    call('ZADD', P .. 'lease', now + tonumber(ARGV[1]), job)
    call('HINCRBY', P .. 'l:' .. lane, 'c' .. priority, 1)
    call('HSET', P .. 'l:' .. lane, 'o', org)
    call('HINCRBY', P .. 'l:' .. lane, 'n', 1)
    call('HINCRBY', P .. 'o:' .. org, 'n', 1)
    count('leased', 1)
    out[#out + 1] = 1
  end
end
return finish(out)
