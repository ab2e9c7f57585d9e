-- RESERVE: until the reservation ends, no entry is served. Called under the row lock, just before COMMIT.
-- ARGV: token, reserve_ms, from version, tail of the element of an empty conversation (or '', where none may be made)
-- Answers {token, 'reserved'}.

local from = tonumber(ARGV[3])
drop_lease()
if not own_mark() then
  local alone = #marks == 0
  if alone and head and head.version ~= from then
    -- the caller holds the row lock and knows the version: an entry with another one is wrong
    drop_base()
  end
  redis.call('LPUSH', key, '{"_r":"' .. token .. '","_t":' .. number(now) .. '}')
  redis.call('PEXPIRE', key, reserve_ms)
  if alone and from == 0 and #base == 0 and ARGV[4] ~= '' then
    redis.pcall('RPUSH', key, stamped(0, now, ARGV[4]))
  end
end
return {token, 'reserved'}
