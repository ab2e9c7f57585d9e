-- POPULATE: fill the key that this lease still holds, on the server that granted it.
-- ARGV: token, reserve_ms, run, ttl_ms, version, element tails, the newest first
-- Answers {token, 'stored'} or {token, 'late'}.

if not lease or lease.token ~= token or lease.run ~= ARGV[3] or run ~= ARGV[3] then
  return {token, 'late'}
end
local time, elements = lease.time, {}
for place = 6, #ARGV do
  elements[#elements + 1] = stamped(tonumber(ARGV[5]), time, ARGV[place])
end
drop_lease()
redis.call('RPUSH', key, unpack(elements))
redis.call('PEXPIRE', key, tonumber(ARGV[4]))
return {token, 'stored'}
