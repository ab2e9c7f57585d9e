"""Planted faults of the cache, identity, migrations, commands, adapters and the example app."""

from __future__ import annotations

from tests.faults.fault import Fault

PACKAGE = "src/flask_conversations"
CONFORMANCE = ("tests/protocol/test_conformance.py",)

CACHE = [
    Fault(
        name="cache-owner-tag-without-organisation",
        path=f"{PACKAGE}/cache/entries.py",
        right='json.dumps([org_id or "", user_id])',
        wrong="json.dumps([user_id])",
        tests=("tests/cache/test_foreigners.py",),
    ),
    Fault(
        name="cache-damaged-entry-served",
        path=f"{PACKAGE}/cache/entries.py",
        right="and crc32(*bodies[-1]) == int(check[5:])",
        wrong="and check.startswith(b'\"_k\":')",
        tests=("tests/cache/test_bad_input.py",),
    ),
    Fault(
        name="cache-filled-entry-never-expires",
        path=f"{PACKAGE}/cache/lua/populate.lua",
        right="redis.call('PEXPIRE', key, tonumber(ARGV[4]))\n",
        wrong="",
        tests=("tests/cache/test_entries.py",),
    ),
    Fault(
        name="cache-lease-of-before-a-failover-fills",
        path=f"{PACKAGE}/cache/lua/populate.lua",
        right="if not lease or lease.token ~= token or lease.run ~= ARGV[3] or run ~= ARGV[3] then",
        wrong="if not lease or lease.token ~= token then",
        tests=CONFORMANCE,
    ),
    Fault(
        name="cache-applies-to-an-older-entry",
        path=f"{PACKAGE}/cache/lua/apply.lua",
        right="head.version == from",
        wrong="head.version <= from",
        tests=CONFORMANCE,
    ),
    Fault(
        name="cache-dead-reservation-leaves-the-entry",
        path=f"{PACKAGE}/cache/lua/common.lua",
        right="if #dead > 0 then",
        wrong="if #dead > 0 and #base == 0 then",
        tests=CONFORMANCE,
    ),
    Fault(
        name="cache-rolled-back-creation-leaves-an-entry",
        path=f"{PACKAGE}/cache/lua/unreserve.lua",
        right="if head and head.version == 0 then",
        wrong="if head and head.version < 0 then",
        tests=("tests/cache/test_transactions.py",),
    ),
    Fault(
        name="cache-reserves-the-first-conversation-only",
        path=f"{PACKAGE}/cache/changes.py",
        right="for each in self._commits:\n            each.reserve()",
        wrong="for each in self._commits[:1]:\n            each.reserve()",
        tests=("tests/cache/test_transactions.py",),
    ),
    Fault(
        name="cache-change-without-reservation-is-not-dropped",
        path=f"{PACKAGE}/cache/changes.py",
        right="else:\n            # also after a failed reservation",
        wrong="elif self._reserved:\n            # not after a failed reservation",
        tests=("tests/chaos/test_nth_failure.py",),
    ),
    Fault(
        name="cache-failed-drop-is-forgotten",
        path=f"{PACKAGE}/cache/core.py",
        right=(
            "        if self._write(DROP, key, token, failed_before=not reserved) is None:\n            self._mark_stale(key)\n"
        ),
        wrong="        self._write(DROP, key, token, failed_before=not reserved)\n",
        tests=("tests/cache/test_versions.py",),
    ),
    Fault(
        name="cache-short-entry-taken-for-the-whole",
        path=f"{PACKAGE}/cache/core.py",
        right="if len(entry.bodies) < wanted and not entry.is_whole:",
        wrong="if not entry.bodies and not entry.is_whole:",
        tests=("tests/cache/test_warm_is_cold.py",),
    ),
    Fault(
        name="redis-client-errors-reach-the-caller",
        path=f"{PACKAGE}/cache/server.py",
        right="except Exception as error:",
        wrong="except (RedisError, OSError) as error:",
        tests=("tests/cache/test_bad_input.py",),
    ),
    Fault(
        name="breaker-waits-for-three-time-outs",
        path=f"{PACKAGE}/cache/breaker.py",
        right="if not self._pause and not timed_out and self._failures < FAILURES:",
        wrong="if not self._pause and self._failures < FAILURES:",
        tests=("tests/cache/test_costs.py",),
    ),
    Fault(
        name="breaker-never-closes",
        path=f"{PACKAGE}/cache/breaker.py",
        right="self._failures, self._pause = 0, 0.0",
        wrong="self._failures = 0",
        tests=("tests/chaos/test_redis_outages.py",),
    ),
]

IDENTITY = [
    Fault(
        name="jwt-expiry-not-checked",
        path=f"{PACKAGE}/identity/jwt.py",
        right='options={"require": list(self.required),',
        wrong='options={"verify_exp": False, "require": list(self.required),',
        tests=("tests/identity/test_jwt.py",),
    ),
    Fault(
        name="jwt-audience-not-checked",
        path=f"{PACKAGE}/identity/jwt.py",
        right='"enforce_minimum_key_length": not self.lenient}',
        wrong='"enforce_minimum_key_length": not self.lenient, "verify_aud": False}',
        tests=("tests/identity/test_jwt.py",),
    ),
    Fault(
        name="empty-authorization-falls-back-to-the-cookie",
        path=f"{PACKAGE}/identity/tokens.py",
        right="if header is not None:",
        wrong="if header:",
        tests=("tests/identity/test_jwt.py",),
    ),
    Fault(
        name="jwks-fetched-for-every-unknown-key-id",
        path=f"{PACKAGE}/identity/jwks.py",
        right="keys = self._keys(COOLDOWN)",
        wrong="keys = self._keys(0.0)",
        tests=("tests/identity/test_jwks.py",),
    ),
    Fault(
        name="csrf-not-checked-for-delete",
        path=f"{PACKAGE}/identity/csrf.py",
        right='SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})',
        wrong='SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"})',
        tests=("tests/rest/test_cookies.py",),
    ),
    Fault(
        name="guest-cookie-outlives-the-claim",
        path=f"{PACKAGE}/identity/guest.py",
        right="    withhold_guest_cookie()\n    after_this_request(_delete_cookie)\n",
        wrong="    withhold_guest_cookie()\n",
        tests=("tests/identity/test_guest.py", "tests/rest/test_guests.py"),
    ),
    Fault(
        name="bad-token-let-in-as-a-guest",
        path=f"{PACKAGE}/identity/chain.py",
        right="            if header_was_refused and not _reads_authorization(resolver):\n                continue\n",
        wrong="",
        tests=("tests/identity/test_chain.py",),
    ),
]

MIGRATIONS = [
    Fault(
        name="downgrade-forgets-a-table",
        path=f"{PACKAGE}/migrations/versions/0001_initial.py",
        right='        "conversation_query_log",\n        "conversation_idempotency",\n',
        wrong='        "conversation_idempotency",\n',
        tests=("tests/migrations/test_steps.py",),
    ),
    Fault(
        name="own-revision-writes-the-hosts-tables-too",
        path=f"{PACKAGE}/migrations/autogenerate.py",
        right="[op for op in up.ops if isinstance(op, (StepOp, AdditionsOp, ImportOp))]",
        wrong="list(up.ops)",
        tests=("tests/migrations/test_commands.py",),
    ),
    Fault(
        name="failed-revision-leaves-tables-on-sqlite",
        path=f"{PACKAGE}/migrations/runner.py",
        right="        record(run, names, step.revision)\n        step.upgrade(names)\n",
        wrong="        step.upgrade(names)\n        record(run, names, step.revision)\n",
        tests=("tests/migrations/test_hosts.py::test_a_revision_that_fails_can_be_repeated[sqlite]",),
    ),
    Fault(
        name="batch-on-sqlite-deletes-what-refers-to-the-table",
        path=f"{PACKAGE}/migrations/guard.py",
        right="table = target.name.removeprefix(_IN_ALEMBICS_BATCH)",
        wrong="table = target.name",
        tests=("tests/migrations/test_hosts.py",),
    ),
]

COMMANDS = [
    Fault(
        name="verify-calls-well-what-redis-does-not-say",
        path=f"{PACKAGE}/cli/verify.py",
        right="context.exit(1 if report.left or report.unanswered else 0)",
        wrong="context.exit(1 if report.left else 0)",
        tests=("tests/cli/test_verify_cache.py",),
    ),
    Fault(
        name="doctor-overlooks-a-missing-unique-index",
        path=f"{PACKAGE}/ops/database.py",
        right="    unique += [index.name for index in table.indexes if index.unique]\n",
        wrong="",
        tests=("tests/cli/test_doctor.py",),
    ),
    Fault(
        name="prune-dry-run-deletes",
        path=f"{PACKAGE}/cli/prune.py",
        right="service.prune(limit=1_000_000, dry_run=True)",
        wrong="service.prune(limit=1_000_000)",
        tests=("tests/service/test_prune.py",),
    ),
]

ADAPTERS = [
    Fault(
        name="rate-limit-counted-in-each-process",
        path=f"{PACKAGE}/rate_limits.py",
        right='return shared if shared.partition("://")[0] in _SINGLE_REDIS else "memory://"',
        wrong='return "memory://"',
        tests=("tests/contrib/test_limiter.py",),
    ),
    Fault(
        name="openai-asks-again-with-a-used-up-account",
        path=f"{PACKAGE}/contrib/openai/errors.py",
        right="temporary = (status >= 500 or status in _TEMPORARY) and code not in _BY_CODE",
        wrong="temporary = status >= 500 or status in _TEMPORARY",
        tests=("tests/contrib/test_openai_responder.py",),
    ),
    Fault(
        name="openai-call-approved-twice-runs-twice",
        path=f"{PACKAGE}/contrib/openai/responder.py",
        right=(
            "        for call in calls:\n"
            '            if call.id not in ids_of(self._parts, "tool_result", "tool_call_id"):\n'
        ),
        wrong=(
            '        settled = ids_of(self._parts, "tool_result", "tool_call_id")\n'
            "        for call in calls:\n"
            "            if call.id not in settled:\n"
        ),
        tests=("tests/contrib/test_openai_responder.py",),
    ),
    Fault(
        name="sessions-index-reaches-beyond-maxlen",
        path=f"{PACKAGE}/sessions/stored.py",
        right="self._visible(conversation_id, _smaller(count, self.maxlen))",
        wrong="self._visible(conversation_id, count)",
        tests=("tests/sessions/test_as_a_dict.py",),
    ),
    Fault(
        name="hybrid-sessions-forget-what-the-database-missed",
        path=f"{PACKAGE}/sessions/memory.py",
        right=(
            "                    cell.pending[0](stored)\n"
            "            except PERMANENT_ERRORS as error:\n"
            "                cell.refused += 1\n"
            '                logger.warning("Sessions: the database refuses a change with %s; see compare().", '
            "_name(error))\n"
            "            del cell.pending[0]\n"
        ),
        wrong=(
            "                    cell.pending.pop(0)(stored)\n"
            "            except PERMANENT_ERRORS as error:\n"
            "                cell.refused += 1\n"
            '                logger.warning("Sessions: the database refuses a change with %s; see compare().", '
            "_name(error))\n"
        ),
        tests=("tests/sessions/test_hybrid.py",),
    ),
    Fault(
        name="sessions-metadata-forges-a-role",
        path=f"{PACKAGE}/sessions/items.py",
        right='return frozen(item) if (role, content) == (plain["role"], plain["content"]) else plain',
        wrong="return frozen(item)",
        tests=("tests/sessions/test_items.py",),
    ),
]

EXAMPLE = [
    Fault(
        name="example-chat-reads-any-content-type",
        path="example_app/chat.py",
        right="payload = request.get_json()",
        wrong="payload = request.get_json(force=True)",
        tests=("tests/example/test_login.py",),
    ),
    Fault(
        name="example-key-alone-sends-questions-away",
        path="example_app/responder.py",
        right='return bool(config.get("OPENAI_BASE_URL") or config.get("OPENAI_MODEL"))',
        wrong='return any(map(config.get, ("OPENAI_BASE_URL", "OPENAI_MODEL", "OPENAI_API_KEY")))',
        tests=("tests/example/test_responder.py",),
    ),
]

FAULTS: list[Fault] = [*CACHE, *IDENTITY, *MIGRATIONS, *COMMANDS, *ADAPTERS, *EXAMPLE]
