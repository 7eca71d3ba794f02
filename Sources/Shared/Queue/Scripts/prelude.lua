-- What every script of the schedule begins with; Schedule.swift puts it in front of each.
--
-- KEYS[1] is the prefix of all keys of one queue and shard, "<namespace>:{<queue>.<shard>}:", one hash tag, so that
-- a script runs on one node of a cluster. Under it:
--   epoch          set while the schedule stands; without it every script refuses (a flush, an empty new primary)
--   awaited        set of workers that have still to register what they run since the epoch was set; nothing is leased
--                  while it is there, and it goes by itself after a while
--   j:<job>        hash: o organization, l lane, p priority, g generation, s state (r ready, d delayed, l leased),
--                  t lease token. No payload.
--   r:<lane>:<p>   list of ready jobs, next first
--   lanes:<org>    list of the organization's lanes with ready jobs: its own small ring
--   ring           list of organizations that have a lane to serve
--   l:<lane>       hash: o organization, n leased, c0 c1 c2 jobs of that priority in Redis, x0 x1 x2 a push of that
--                  priority did not fit, s where the lane is: "" idle, ring, park, cap, pause
--   o:<org>        hash: n leased, k turns left, s as above
--   b:o:<org>, b:l:<lane>  token bucket, hash: tk tokens at ts; gone when it is full again
--   delayed, lease ZSETs of jobs by due time and by expiry; park a ZSET of "o:<org>" and "l:<lane>" by return
--   n              hash of exact counts: ready, delayed, leased
--   cfg            hash: pause, pause:o:<org>, pause:l:<lane>, cap:…, rate:…, weight:o:<org>; slots: how many jobs
--                  all workers together run at a time
--   hungry         set of "<org> <lane>" whose window ran low while rows wait in PostgreSQL
-- Times are milliseconds of Redis' own clock. `lease` is the only record of what is active.
local P = KEYS[1]
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local WINDOW = 500          -- jobs of one lane and priority in Redis
local WINDOW_PARKED = 50    -- while its lane is parked
local WINDOW_DELAYED = 250  -- into which a job that is not due yet may still come: fresh ones find room behind a storm
                            -- of retries
local PARKED = 1000         -- milliseconds; who is held no longer than this is not parked but paced
local LOW_WATER = 100       -- below it the feeder is called
local LOW_WATER_PARKED = 10
local HORIZON = 60000       -- milliseconds; what is due later stays a row

local function standing() return call('EXISTS', P .. 'epoch') == 1 end

-- Redis lets no script begin with a write that may need memory when it has none left. Those that only end or renew
-- what is there begin with this.
local function allow_full_memory() call('ZREM', P .. 'lease', '') end

local counts = { ready = 0, delayed = 0, leased = 0 }
local function count(field, by) counts[field] = counts[field] + by end

-- What every script that changes something ends with: writes the counts down, once.
local function finish(out)
  for field, by in pairs(counts) do
    if by ~= 0 then call('HINCRBY', P .. 'n', field, by) end
  end
  return out
end

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

-- Let go of the hash of an idle lane or organization, so that none is left behind.
local function forget_lane(lane)
  local v = call('HMGET', P .. 'l:' .. lane, 's', 'n', 'c0', 'c1', 'c2')
  if v[1] and v[1] ~= '' then return end
  for i = 2, 5 do
    if v[i] and tonumber(v[i]) > 0 then return end
  end
  call('DEL', P .. 'l:' .. lane)
end

local function forget_org(org)
  local v = call('HMGET', P .. 'o:' .. org, 's', 'n')
  if v[1] and v[1] ~= '' or v[2] and tonumber(v[2]) > 0 then return end
  if call('EXISTS', P .. 'lanes:' .. org) == 0 then call('DEL', P .. 'o:' .. org) end
end

-- Makes a job ready; `front` for one that was handed back.
local function make_ready(job, lane, org, priority, front)
  call('HSET', P .. 'j:' .. job, 's', 'r')
  call(front and 'LPUSH' or 'RPUSH', P .. 'r:' .. lane .. ':' .. priority, job)
  count('ready', 1)
  ring_lane(lane, org)
end

-- Makes a job wait until `due`, or ready when that has come.
local function place(job, lane, org, priority, due, front)
  if due <= now then return make_ready(job, lane, org, priority, front) end
  call('HSET', P .. 'j:' .. job, 's', 'd')
  call('ZADD', P .. 'delayed', due, job)
  count('delayed', 1)
end

-- Takes a waiting job from where it waits, `state` being r or d; its hash stays.
local function take_out(job, state, lane, priority)
  if state == 'd' then
    call('ZREM', P .. 'delayed', job)
    count('delayed', -1)
  elseif call('LREM', P .. 'r:' .. lane .. ':' .. priority, 1, job) == 1 then
    count('ready', -1)
  end
end

-- Whether a lane is held for longer than a moment.
local function parked(lane, org)
  for _, held in ipairs({ 'l:' .. lane, 'o:' .. org }) do
    local back = call('ZSCORE', P .. 'park', held)
    if back and tonumber(back) > now + PARKED then return true end
  end
  return false
end

-- Forgets a job wholly; it is in no list and no ZSET any more.
local function forget(job, lane, org, priority)
  local L = P .. 'l:' .. lane
  call('DEL', P .. 'j:' .. job)
  local left = call('HINCRBY', L, 'c' .. priority, -1)
  if left >= LOW_WATER or call('HEXISTS', L, 'x' .. priority) == 0 then return end
  if left >= LOW_WATER_PARKED and parked(lane, org) then return end
  call('HDEL', L, 'x' .. priority)
  call('SADD', P .. 'hungry', org .. ' ' .. lane)
  call('PUBLISH', P .. 'feed', '1')
end

-- Brings a held lane or organization back; whoever leases asks again whether it may run. `held` is "o:<org>" or
-- "l:<lane>".
local function release(held)
  local H, name = P .. held, string.sub(held, 3)
  call('ZREM', P .. 'park', held)
  local v = call('HMGET', H, 's', 'o')
  if not v[1] or v[1] == '' or v[1] == 'ring' then return end
  call('HSET', H, 's', '')
  if string.sub(held, 1, 1) == 'o' then
    ring_org(name)
    forget_org(name)
  else
    ring_lane(name, v[2] or name)
    forget_lane(name)
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
  for _, held in ipairs(call('ZRANGEBYSCORE', P .. 'park', '-inf', now, 'LIMIT', 0, 200)) do release(held) end
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

-- One job less runs: what was held by its cap comes back. Returns how many of the lane still run.
local function left_running(lane, org)
  count('leased', -1)
  local running = call('HINCRBY', P .. 'l:' .. lane, 'n', -1)
  if call('HGET', P .. 'l:' .. lane, 's') == 'cap' then release('l:' .. lane) end
  call('HINCRBY', P .. 'o:' .. org, 'n', -1)
  if call('HGET', P .. 'o:' .. org, 's') == 'cap' then release('o:' .. org) end
  return running
end
