-- Sets the schedule up, and its pauses, caps, rates and weights as PostgreSQL has them; what is not named is lifted.
-- ARGV: a new epoch, used only when none stands; then field and value pairs of cfg. Returns the epoch.
call('SET', P .. 'epoch', ARGV[1], 'NX')
local before = call('HGETALL', P .. 'cfg')
call('DEL', P .. 'cfg')
if #ARGV > 1 then call('HSET', P .. 'cfg', unpack(ARGV, 2)) end
-- Whatever a pause held, and holds no longer, comes back into its ring.
for i = 1, #before, 2 do
  local kind, name = string.match(before[i], '^pause:([ol]):(.+)$')
  if kind and call('HEXISTS', P .. 'cfg', before[i]) == 0 then
    local H = P .. kind .. ':' .. name
    if call('HGET', H, 's') == 'pause' then
      call('HSET', H, 's', '')
      if kind == 'o' then ring_org(name) else ring_lane(name, call('HGET', H, 'o') or name) end
    end
  end
end
wake()
return call('GET', P .. 'epoch')
