-- Sets the schedule up, and its pauses, caps, rates and weights as PostgreSQL has them; what is not named is lifted.
-- ARGV: a new epoch, used only when none stands; how long (ms) the workers that live are then awaited, how many they
-- are, and who; then field and value pairs of cfg. Returns the epoch.
allow_full_memory()
local is_new = call('SET', P .. 'epoch', ARGV[1], 'NX')
local awaited = tonumber(ARGV[3])
if is_new and awaited > 0 then
  for i = 4, 3 + awaited do call('SADD', P .. 'awaited', ARGV[i]) end
  call('PEXPIRE', P .. 'awaited', ARGV[2])
  -- They hear that there is something to register.
  call('PUBLISH', P .. 'wake', 'epoch')
end
local before = {}
local pairs_before = call('HGETALL', P .. 'cfg')
for i = 1, #pairs_before, 2 do before[pairs_before[i]] = pairs_before[i + 1] end
call('DEL', P .. 'cfg')
local changed = {}
for i = 4 + awaited, #ARGV, 2 do
  call('HSET', P .. 'cfg', ARGV[i], ARGV[i + 1])
  if before[ARGV[i]] ~= ARGV[i + 1] then changed[#changed + 1] = ARGV[i] end
  before[ARGV[i]] = nil
end
for field in pairs(before) do changed[#changed + 1] = field end
-- Whatever a rule held that has changed comes back into its ring, where the new one is asked.
for _, field in ipairs(changed) do
  local held = string.match(field, '^%a+:([ol]:.+)$')
  if held then release(held) end
end
wake()
return call('GET', P .. 'epoch')
