-- READ: the newest messages, or the right to fill the key.
-- ARGV: token, reserve_ms, owner, min_version, limit, lease_ms, max_age_ms
-- Answers {token, 'hit', element...}, {token, 'foreign'}, {token, 'miss'} (read the database, fill nothing),
-- or {token, 'lease', run, reason} (read the database, then POPULATE).

local owner, min_version, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lease_ms, max_age_ms = tonumber(ARGV[6]), tonumber(ARGV[7])

if #marks > 0 or lease then
  return {token, 'miss'}
end
if head then
  local age = now - head.time
  if head.owner ~= owner then
    return {token, 'foreign'}
  elseif max_age_ms > 0 and (age < 0 or age > max_age_ms) then
    reason = 'old'
  elseif head.version < min_version then
    reason = 'behind'
  else
    local answer = {token, 'hit'}
    for place = 1, math.min(#base, math.max(limit, 1)) do
      answer[place + 2] = base[place]
    end
    return answer
  end
end
redis.call('UNLINK', key)
local granted = redis.pcall('RPUSH', key, '{"_l":"' .. token .. '","_e":"' .. run .. '","_t":' .. number(now) .. '}')
if type(granted) == 'table' then
  return {token, 'miss'} -- out of memory
end
redis.call('PEXPIRE', key, lease_ms)
return {token, 'lease', run, reason}
