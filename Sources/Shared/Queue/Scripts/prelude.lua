-- What every script of the schedule begins with; Schedule.swift puts it in front of each.
--
-- KEYS[1] is the prefix of all keys of one queue and shard, "<namespace>:{<queue>.<shard>}:", one hash tag, so that
-- a script runs on one node of a cluster. Under it:
--   epoch          set while the schedule stands; without it every script refuses (a flush, an empty new primary)
--   j:<job>        hash: o organization, l lane, p priority, g generation, s state (r ready, d delayed, l leased),
--                  t lease token. No payload.
--   r:<lane>:<p>   list of ready jobs, next first
--   lanes:<org>    list of the organization's lanes with ready jobs: its own small ring
--   ring           list of organizations that have a lane to serve
--   l:<lane>       hash: o organization, n leased, c0 c1 c2 jobs of that priority in Redis, x a push did not fit,
--                  s where the lane is: "" idle, ring, park, cap, pause
--   o:<org>        hash: n leased, k turns left, s as above, tk and ts the token bucket
--   delayed, lease ZSETs of jobs by due time and by expiry; park a ZSET of "o:<org>" and "l:<lane>" by return
--   n              hash of exact counts: ready, delayed, leased
--   cfg            hash: pause, pause:o:<org>, pause:l:<lane>, cap:…, rate:…, weight:o:<org>
--   hungry         set of "<org> <lane>" whose window ran low while rows wait in PostgreSQL
-- Times are milliseconds of Redis' own clock. `lease` is the only record of what is active.
local P = KEYS[1]
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local WINDOW = 500          -- jobs of one lane and priority in Redis
local WINDOW_PARKED = 50    -- while its lane is parked
local LOW_WATER = 100       -- below it the feeder is called
local HORIZON = 60000       -- milliseconds; what is due later stays a row

local function standing() return call('EXISTS', P .. 'epoch') == 1 end

local function count(field, by) call('HINCRBY', P .. 'n', field, by) end

local function wake() call('PUBLISH', P .. 'wake', '1') end

-- Puts an organization back into the ring, if it has lanes to serve and nothing holds it.
local function ring_org(org)
  local O = P .. 'o:' .. org
  local state = call('HGET', O, 's')
  if state and state ~= '' then return end
  if call('EXISTS', P .. 'lanes:' .. org) == 0 then return end
  call('HSET', O, 's', 'ring')
  if call('RPUSH', P .. 'ring', org) == 1 then wake() end
end

-- Puts a lane back among its organization's lanes, if it has ready jobs and nothing holds it.
local function ring_lane(lane, org)
  local L = P .. 'l:' .. lane
  local state = call('HGET', L, 's')
  if state and state ~= '' then return end
  local R = P .. 'r:' .. lane .. ':'
  if call('EXISTS', R .. '0', R .. '1', R .. '2') == 0 then return end
  call('HSET', L, 's', 'ring')
  call('RPUSH', P .. 'lanes:' .. org, lane)
  ring_org(org)
end

-- Lets go of the hash of an idle lane or organization, so that none is left behind.
local function forget_idle(lane, org)
  local L = P .. 'l:' .. lane
  local v = call('HMGET', L, 's', 'n', 'c0', 'c1', 'c2')
  if (not v[1] or v[1] == '') and (tonumber(v[2]) or 0) <= 0
    and (tonumber(v[3]) or 0) + (tonumber(v[4]) or 0) + (tonumber(v[5]) or 0) <= 0 then
    call('DEL', L)
  end
  local O = P .. 'o:' .. org
  local w = call('HMGET', O, 's', 'n', 'tk', 'ts')
  -- A token bucket is kept until it would be full again; `rate` makes the difference only for limited ones.
  if (not w[1] or w[1] == '') and (tonumber(w[2]) or 0) <= 0 and not w[3] and call('EXISTS', P .. 'lanes:' .. org) == 0 then
    call('DEL', O)
  end
end

-- Makes a job ready; `front` for one that was handed back.
local function make_ready(job, lane, org, priority, front)
  call('HSET', P .. 'j:' .. job, 's', 'r')
  call(front and 'LPUSH' or 'RPUSH', P .. 'r:' .. lane .. ':' .. priority, job)
  count('ready', 1)
  ring_lane(lane, org)
end

-- Forgets a job wholly; it is in no list and no ZSET any more.
local function forget(job, lane, org, priority)
  call('DEL', P .. 'j:' .. job)
  local left = call('HINCRBY', P .. 'l:' .. lane, 'c' .. priority, -1)
  if left < LOW_WATER and call('HGET', P .. 'l:' .. lane, 'x') then
    call('HDEL', P .. 'l:' .. lane, 'x')
    call('SADD', P .. 'hungry', org .. ' ' .. lane)
    call('PUBLISH', P .. 'feed', '1')
  end
end

-- Moves delayed jobs that are due to their lanes, and returns parked lanes and organizations, some at a time.
local function promote()
  for _, job in ipairs(call('ZRANGEBYSCORE', P .. 'delayed', '-inf', now, 'LIMIT', 0, 200)) do
    call('ZREM', P .. 'delayed', job)
    count('delayed', -1)
    local v = call('HMGET', P .. 'j:' .. job, 'l', 'o', 'p')
    if v[1] then make_ready(job, v[1], v[2], v[3], false) end
  end
  for _, held in ipairs(call('ZRANGEBYSCORE', P .. 'park', '-inf', now, 'LIMIT', 0, 200)) do
    call('ZREM', P .. 'park', held)
    local name = string.sub(held, 3)
    call('HSET', P .. held, 's', '')
    if string.sub(held, 1, 1) == 'o' then ring_org(name)
    else ring_lane(name, call('HGET', P .. held, 'o') or name) end
  end
end

-- Milliseconds until something is due that no push will announce: a delayed job, a parked lane. -1: nothing.
local function next_due()
  local due = -1
  for _, set in ipairs({ 'delayed', 'park' }) do
    local first = call('ZRANGE', P .. set, 0, 0, 'WITHSCORES')
    if first[2] then
      local wait = math.max(0, tonumber(first[2]) - now)
      if due < 0 or wait < due then due = wait end
    end
  end
  return due
end

-- What a lane or an organization is held back by, if by anything: nil, or "pause", "cap", "park" and until when.
-- `kind` is "o" or "l". A token is taken when nothing holds it.
local function gate(kind, name, H)
  local cfg = call('HMGET', P .. 'cfg', 'pause:' .. kind .. ':' .. name,
    'cap:' .. kind .. ':' .. name, 'cap:' .. kind, 'rate:' .. kind .. ':' .. name, 'rate:' .. kind)
  if cfg[1] then return 'pause' end
  local cap = tonumber(cfg[2] or cfg[3])
  if cap and (tonumber(call('HGET', H, 'n')) or 0) >= cap then return 'cap' end
  local rate = tonumber(cfg[4] or cfg[5])
  if rate then
    local burst = math.max(1, rate / 10)
    local b = call('HMGET', H, 'tk', 'ts')
    local tokens = math.min(burst, (tonumber(b[1]) or 1) + (now - (tonumber(b[2]) or now)) * rate / 1000)
    if tokens < 1 then
      return 'park', now + math.ceil((1 - tokens) * 1000 / rate)
    end
    call('HSET', H, 'tk', tostring(tokens - 1), 'ts', now)
  end
  return nil
end

-- Takes a held lane or organization out of its ring; O(1) however long its backlog.
local function hold(kind, name, H, state, back)
  call('HSET', H, 's', state)
  if state == 'park' then call('ZADD', P .. 'park', back, kind .. ':' .. name) end
end

-- One job less runs: what was held by its cap comes back.
local function left_running(lane, org)
  count('leased', -1)
  for _, held in ipairs({ { 'l', lane }, { 'o', org } }) do
    local H = P .. held[1] .. ':' .. held[2]
    call('HINCRBY', H, 'n', -1)
    if call('HGET', H, 's') == 'cap' then
      call('HSET', H, 's', '')
      if held[1] == 'o' then ring_org(org) else ring_lane(lane, org) end
    end
  end
end
