-- Leases ready jobs, fair by weighted round robin over organizations and by turns over an organization's lanes.
-- ARGV: how many at most, lease token, lease length (ms), worker or "".
-- Returns {ms until something else is due or -1, then per job id, organization, lane, generation}.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
if call('EXISTS', P .. 'awaited') == 1 then
  if call('SISMEMBER', P .. 'awaited', ARGV[4]) == 1 then
    return redis.error_reply('UNREGISTERED this worker must register what it runs first')
  end
  -- What others run is not counted yet, so no cap could be kept.
  return { math.max(0, call('PTTL', P .. 'awaited')) }
end

-- What an operator or a default says of a lane or an organization; read once a call.
local rules = {}
local function rule(held)
  if not rules[held] then
    local kind = string.sub(held, 1, 1)
    local v = call('HMGET', P .. 'cfg', 'pause:' .. held, 'cap:' .. held, 'cap:' .. kind, 'rate:' .. held,
      'rate:' .. kind, 'weight:' .. held)
    rules[held] = {
      pause = v[1], cap = tonumber(v[2] or v[3]), rate = tonumber(v[4] or v[5]), weight = tonumber(v[6]) or 1,
      shares = kind == 'o' and not v[2],
    }
  end
  return rules[held]
end

-- One organization may take three jobs for each slot that it leaves free: alone three quarters of all slots, two greedy
-- ones three sevenths each, and whoever comes next finds one. Only for who has no cap of its own. Being held so ends
-- with one of its own jobs, of which there is at least one.
local SHARE = 3
local slots = tonumber(call('HGET', P .. 'cfg', 'slots'))
local leased_before = slots and tonumber(call('HGET', P .. 'n', 'leased')) or 0
local function over_share(running)
  return slots and running > 0 and running >= SHARE * (slots - leased_before - counts.leased)
end

-- A tenth of a second's worth may come at once.
local function burst(rate) return math.max(1, rate / 10) end

-- What holds a lane or an organization back, if anything does: "pause", "cap", or "park" and until when. Where
-- nothing does, nil, nil, and how many tokens its bucket has, if it has one.
local function gate(held)
  local r = rule(held)
  if r.pause or r.rate and r.rate <= 0 then return 'pause' end
  if r.cap or r.shares and slots then
    local running = tonumber(call('HGET', P .. held, 'n')) or 0
    if r.cap and running >= r.cap or r.shares and over_share(running) then return 'cap' end
  end
  if not r.rate then return nil end
  local b = call('HMGET', P .. 'b:' .. held, 'tk', 'ts')
  local tokens = burst(r.rate)
  -- A clock that was set back gives nothing, and takes nothing.
  if b[1] then tokens = math.min(tokens, tonumber(b[1]) + math.max(0, now - tonumber(b[2])) * r.rate / 1000) end
  if tokens < 1 then return 'park', now + math.ceil((1 - tokens) * 1000 / r.rate) end
  return nil, nil, tokens
end

-- Takes a token. A full bucket is like none, so that an idle one goes by itself.
local function take(held, tokens)
  if not tokens then return end
  local rate, B = rule(held).rate, P .. 'b:' .. held
  call('HSET', B, 'tk', tostring(tokens - 1), 'ts', now)
  call('PEXPIRE', B, math.ceil((burst(rate) - tokens + 1) * 1000 / rate))
end

-- Takes what is held out of its ring; O(1) however long its backlog.
local function hold(ring, held, state, back)
  call('LPOP', ring)
  call('HSET', P .. held, 's', state)
  if state == 'park' then call('ZADD', P .. 'park', back, held) end
end

local function lease(job, lane, org, token, expiry)
  count('ready', -1)
  local J = P .. 'j:' .. job
  local generation = call('HGET', J, 'g')
  if not generation then return nil end
  call('HSET', J, 's', 'l', 't', token)
  call('ZADD', P .. 'lease', expiry, job)
  count('leased', 1)
  call('HINCRBY', P .. 'l:' .. lane, 'n', 1)
  -- When lane and organization are one, they are still two hashes, each with its own count.
  call('HINCRBY', P .. 'o:' .. org, 'n', 1)
  return generation
end

-- The next lane has its turn, and the next organization after as many as its weight.
local function turn(org, lanes)
  local O, weight = P .. 'o:' .. org, rule('o:' .. org).weight
  call('LMOVE', lanes, lanes, 'LEFT', 'RIGHT')
  if weight > 1 then
    -- Never more than its weight, should that have become less in the middle of a turn.
    local left = math.min(tonumber(call('HGET', O, 'k')) or weight, weight) - 1
    if left > 0 then return call('HSET', O, 'k', left) end
    call('HDEL', O, 'k')
  end
  call('LMOVE', P .. 'ring', P .. 'ring', 'LEFT', 'RIGHT')
end

promote()
local out = { -1 }
if call('HEXISTS', P .. 'cfg', 'pause') == 1 then
  out[1] = next_due()
  return finish(out)
end
local most, token, expiry = tonumber(ARGV[1]), ARGV[2], now + tonumber(ARGV[3])
local leased = 0
-- Every turn leases a job or takes something out of a ring; the bound is for the case that this is ever wrong.
for _ = 1, most * 3 + 1000 do
  if leased >= most then break end
  local org = call('LINDEX', P .. 'ring', 0)
  if not org then break end
  local lanes = P .. 'lanes:' .. org
  local lane = call('LINDEX', lanes, 0)
  if not lane then
    call('LPOP', P .. 'ring')
    call('HSET', P .. 'o:' .. org, 's', '')
    forget_org(org)
  else
    -- Both are asked before either gives a token, so that none is spent for nothing.
    local held, back, of_org = gate('o:' .. org)
    if held then
      hold(P .. 'ring', 'o:' .. org, held, back)
    else
      local of_lane
      held, back, of_lane = gate('l:' .. lane)
      if held then
        hold(lanes, 'l:' .. lane, held, back)
      else
        local R = P .. 'r:' .. lane .. ':'
        local job = call('LPOP', R .. '0') or call('LPOP', R .. '1') or call('LPOP', R .. '2')
        local generation = job and lease(job, lane, org, token, expiry)
        if generation then
          take('o:' .. org, of_org)
          take('l:' .. lane, of_lane)
          leased = leased + 1
          for _, value in ipairs({ job, org, lane, generation }) do out[#out + 1] = value end
        end
        if job then
          turn(org, lanes)
        else
          call('LPOP', lanes)
          call('HSET', P .. 'l:' .. lane, 's', '')
          forget_lane(lane)
        end
      end
    end
  end
end
-- Another worker may take what this one had no room for.
if call('EXISTS', P .. 'ring') == 1 then out[1] = 0 else out[1] = next_due() end
return finish(out)
