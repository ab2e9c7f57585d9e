"""The cache protocol without Redis and without a database: every order of its steps and faults, and the Lua beside it."""
