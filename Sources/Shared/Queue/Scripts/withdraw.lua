-- Takes jobs out that are not leased: cancelled, or deleted with their organization.
-- ARGV: job ids. Returns per job 1 withdrawn, 0 unknown or leased.
if not standing() then return redis.error_reply('NOEPOCH the schedule must be set up first') end
local out = {}
for i = 1, #ARGV do
  local job = ARGV[i]
  local v = call('HMGET', P .. 'j:' .. job, 's', 'l', 'o', 'p')
  if v[1] == 'r' or v[1] == 'd' then
    take_out(job, v[1], v[2], v[4])
    forget(job, v[2], v[3], v[4])
    forget_lane(v[2])
    forget_org(v[3])
    out[#out + 1] = 1
  else
    out[#out + 1] = 0
  end
end
return finish(out)
