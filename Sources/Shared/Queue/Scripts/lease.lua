-- Leases ready jobs, fair by weighted round robin over organizations and by turns over an organization's lanes.
-- ARGV: how many at most, lease token, lease length (ms).
-- Returns {ms until something else is due or -1, then per job id, organization, lane, generation}.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
promote()
local out = { next_due() }
if call('HEXISTS', P .. 'cfg', 'pause') == 1 then return out end
local most, token, length = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local leased = 0
-- Every turn leases a job or takes something out of a ring; the bound is for the case that this is ever wrong.
for _ = 1, most * 3 + 1000 do
  if leased >= most then break end
  local org = call('LINDEX', P .. 'ring', 0)
  if not org then break end
  local O, lanes = P .. 'o:' .. org, P .. 'lanes:' .. org
  local lane = call('LINDEX', lanes, 0)
  local L = lane and P .. 'l:' .. lane
  local R = lane and P .. 'r:' .. lane .. ':'
  if not lane then
    call('LPOP', P .. 'ring')
    call('HSET', O, 's', '')
  elseif call('EXISTS', R .. '0', R .. '1', R .. '2') == 0 then
    call('LPOP', lanes)
    call('HSET', L, 's', '')
  else
    local held, back = nil, nil
    if lane ~= org then
      held, back = gate('l', lane, L)
      if held then
        call('LPOP', lanes)
        hold('l', lane, L, held, back)
      end
    end
    if not held then
      held, back = gate('o', org, O)
      if held then
        call('LPOP', P .. 'ring')
        hold('o', org, O, held, back)
      end
    end
    if not held then
      local priority = 0
      local job = call('LPOP', R .. '0')
      while not job do
        priority = priority + 1
        job = call('LPOP', R .. priority)
      end
      count('ready', -1)
      local generation = call('HGET', P .. 'j:' .. job, 'g')
      if generation then
        call('HSET', P .. 'j:' .. job, 's', 'l', 't', token)
        call('ZADD', P .. 'lease', now + length, job)
        count('leased', 1)
        call('HINCRBY', L, 'n', 1)
        -- When lane and organization are one, they are still two hashes, each with its own count.
        call('HINCRBY', O, 'n', 1)
        leased = leased + 1
        for _, value in ipairs({ job, org, lane, generation }) do out[#out + 1] = value end
      end
      call('LMOVE', lanes, lanes, 'LEFT', 'RIGHT')
      local turns = (tonumber(call('HGET', O, 'k')) or tonumber(call('HGET', P .. 'cfg', 'weight:o:' .. org)) or 1) - 1
      if turns <= 0 then
        call('HDEL', O, 'k')
        call('LMOVE', P .. 'ring', P .. 'ring', 'LEFT', 'RIGHT')
      else
        call('HSET', O, 'k', turns)
      end
    end
  end
end
-- Another worker may take what this one had no room for.
if call('EXISTS', P .. 'ring') == 1 then out[1] = 0 else out[1] = next_due() end
return out
