-- Who is held back by a rate, and until when: {how many, then per lane or organization its name as "o:<org>" or
-- "l:<lane>", its organization, ms until it returns}.
-- ARGV: how many to name at most.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
local out = { call('ZCARD', P .. 'park') }
local most = tonumber(ARGV[1])
if most == 0 then return out end
local parked_now = call('ZRANGE', P .. 'park', 0, most - 1, 'WITHSCORES')
for i = 1, #parked_now, 2 do
  local held = parked_now[i]
  local name = string.sub(held, 3)
  local org = string.sub(held, 1, 1) == 'o' and name or call('HGET', P .. held, 'o') or ''
  out[#out + 1] = held
  out[#out + 1] = org
  out[#out + 1] = math.max(0, tonumber(parked_now[i + 1]) - now)
end
return out
