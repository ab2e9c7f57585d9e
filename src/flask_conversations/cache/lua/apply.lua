-- APPLY: the transaction is committed; bring the entry from one version to the next.
-- ARGV: token, reserve_ms, from version, to version, ttl_ms, limit, element tails, the oldest first
-- Answers {token, 'applied'}, {token, 'later'} (a later writer was faster), or {token, 'gap'} (also for an entry
-- that would become too large).

local from, to, ttl_ms, limit = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

-- the reader with the lease may have read before the commit
drop_lease()
local place, reserved = own_mark()

local function fits()
  local bytes = 0
  for tail = 7, #ARGV do
    bytes = bytes + #ARGV[tail]
  end
  for below = 1, math.min(#base, limit - (#ARGV - 6)) do
    bytes = bytes + #base[below]
  end
  return bytes <= MAX_BYTES
end

-- the new elements on top of the old ones, below the reservations of others
local function push()
  local empty = base[1]:match(EMPTY)
  if #marks == 1 then
    if empty then
      redis.call('LTRIM', key, 0, 0)
    end
    -- on top of the own reservation, which is about to go: the usual case, in few bytes for replicas
    for tail = 7, #ARGV do
      redis.call('LPUSH', key, stamped(to, reserved, ARGV[tail]))
    end
  else
    local elements = {}
    for tail = #ARGV, 7, -1 do
      elements[#elements + 1] = stamped(to, reserved, ARGV[tail])
    end
    for _, element in ipairs(empty and {} or base) do
      elements[#elements + 1] = element
    end
    redis.call('LTRIM', key, 0, #marks - 1)
    redis.call('RPUSH', key, unpack(elements))
  end
end

local outcome = 'gap'
if head and head.version >= to then
  outcome = 'later'
elseif head and place and head.version == from and #ARGV > 6 and fits() then
  if not pcall(push) then
    -- out of memory, in the middle
    redis.call('UNLINK', key)
    return {token, 'gap'}
  end
  outcome = 'applied'
else
  drop_base()
end
-- last: any failure before this leaves the key closed
if place then
  remove_mark(place)
end
if outcome == 'applied' then
  redis.call('LTRIM', key, 0, #marks + limit - 1)
end
expire(ttl_ms)
return {token, outcome}
