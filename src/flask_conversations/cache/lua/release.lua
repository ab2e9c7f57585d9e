-- RELEASE: give back a lease unused.
-- ARGV: token, reserve_ms
-- Answers {token, 'released'}.

if lease and lease.token == token then
  drop_lease()
end
return {token, 'released'}
