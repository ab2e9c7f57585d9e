-- UNRESERVE: the transaction was rolled back for certain; the entry below is as valid as before.
-- ARGV: token, reserve_ms, ttl_ms
-- Answers {token, 'unreserved'}.

local place = own_mark()
if place then
  remove_mark(place)
  if head and head.version == 0 then
    -- the reservation has made it, for a conversation that does not exist after all
    drop_base()
  end
  expire(tonumber(ARGV[3]))
end
return {token, 'unreserved'}
