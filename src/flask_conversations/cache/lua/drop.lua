-- DROP: end a change that is no plain append, or that could not be reserved. Only the reservations of others stay.
-- ARGV: token, reserve_ms
-- Answers {token, 'dropped'}. Redis accepts each of these commands when it is out of memory.

drop_lease()
local place = own_mark()
drop_base()
if place then
  remove_mark(place)
end
return {token, 'dropped'}
