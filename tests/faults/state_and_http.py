"""Planted faults of the store, the models, the schemas and the REST API."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS: list[Fault] = [
    # -- the store
    Fault(
        name="organisation-not-compared",
        path="src/flask_conversations/store/__init__.py",
        right='return sa.and_(c.user_id == sa.bindparam("mine_user"), c.org_id == sa.bindparam("mine_org"))',
        wrong='return c.user_id == sa.bindparam("mine_user")',
        tests=("tests/isolation/test_service.py",),
    ),
    Fault(
        name="conversation-locked-without-for-update",
        path="src/flask_conversations/store/__init__.py",
        right="return query.where(bounded_lock_wait(locking_on)).with_for_update() if locking_on else query",
        wrong="return query.where(bounded_lock_wait(locking_on)) if locking_on else query",
        tests=("tests/rest/test_change.py", "tests/service/test_concurrency.py"),
    ),
    Fault(
        name="list-order-without-tiebreaker",
        path="src/flask_conversations/store/conversations.py",
        right="query = query.order_by(*([key.desc(), c.id.desc()] if descending else [key, c.id]))",
        wrong="query = query.order_by(key.desc() if descending else key)",
        tests=("tests/rest/test_list.py", "tests/service/test_list.py"),
    ),
    Fault(
        name="permanent-deletion-left-to-the-cascade",
        path="src/flask_conversations/store/conversations.py",
        right="for model in store.models.of_conversations:",
        wrong="for model in (store.models.Idempotency,):",
        tests=("tests/service/test_change.py",),
    ),
    Fault(
        name="prune-waits-for-what-others-hold",
        path="src/flask_conversations/store/conversations.py",
        right=".with_for_update(skip_locked=True) if locking_on else query",
        wrong=".with_for_update() if locking_on else query",
        tests=("tests/regressions/test_store_findings.py",),
    ),
    Fault(
        name="message-page-loses-a-row",
        path="src/flask_conversations/store/messages.py",
        right='window = window.where(m.seq < sa.bindparam("before", type_=sa.BigInteger))',
        wrong='window = window.where(m.seq < sa.bindparam("before", type_=sa.BigInteger) - 1)',
        tests=("tests/service/test_read.py", "tests/rest/test_messages.py"),
    ),
    Fault(
        name="newest-of-each-counts-deleted-messages",
        path="src/flask_conversations/store/messages.py",
        right=".where(older.conversation_id == c.id, older.deleted_at.is_(None))",
        wrong=".where(older.conversation_id == c.id)",
        tests=("tests/regressions/test_store_findings.py",),
    ),
    Fault(
        name="page-of-a-branch-without-owner",
        path="src/flask_conversations/store/branches.py",
        right=".where(keyed(models, column), mine(models, system), visible(models))",
        wrong=".where(keyed(models, column), visible(models))",
        tests=("tests/isolation",),
    ),
    Fault(
        name="poll-of-the-state-without-owner",
        path="src/flask_conversations/store/turns.py",
        right="return query.where(keyed(models, column), mine(models, system), visible(models))",
        wrong="return query.where(keyed(models, column), visible(models))",
        tests=("tests/isolation",),
    ),
    Fault(
        name="leases-judged-by-the-workers-clock",
        path="src/flask_conversations/store/turns.py",
        right='return sa.func.clock_timestamp() if dialect == "postgresql" else sa.bindparam("moment", type_=_MOMENT)',
        wrong='return sa.bindparam("moment", type_=_MOMENT)',
        tests=("tests/turns/test_leases.py",),
    ),
    Fault(
        name="kept-answer-without-organisation",
        path="src/flask_conversations/store/requests.py",
        right="    return sa.and_(owned_by_me(c), c.scope ==",
        wrong='    return sa.and_(c.user_id == sa.bindparam("mine_user"), c.scope ==',
        tests=("tests/isolation/test_service.py",),
    ),
    Fault(
        name="lenient-text-stays-switched-on",
        path="src/flask_conversations/store/lenient.py",
        right="    try:\n        yield\n    finally:\n        driver.text_factory = before\n",
        wrong="    yield\n",
        tests=("tests/service/test_poisoned_rows.py",),
    ),
    Fault(
        name="serialization-failure-not-tried-again",
        path="src/flask_conversations/store/db_errors.py",
        right='_SERIALIZATION = {"40001", "40P01"}',
        wrong='_SERIALIZATION = {"40P01"}',
        tests=("tests/cache/test_transactions.py",),
    ),
    Fault(
        name="stale-connection-not-replaced",
        path="src/flask_conversations/store/db_errors.py",
        right="return is_conflict(error) or (isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated)",
        wrong="return is_conflict(error)",
        tests=("tests/rest/test_responses.py",),
    ),
    # -- the tables and the database
    Fault(
        name="claim-leaves-branches-with-the-guest",
        path="src/flask_conversations/tables.py",
        right='BRANCHES, "Branch", BranchMixin, has_owner=True, orphans=',
        wrong='BRANCHES, "Branch", BranchMixin, orphans=',
        tests=("tests/branches/test_branches.py",),
    ),
    Fault(
        name="json-columns-become-jsonb",
        path="src/flask_conversations/column_types.py",
        right="    impl = sa.JSON(none_as_null=True)\n",
        wrong="    from sqlalchemy.dialects.postgresql import JSONB\n\n    impl = JSONB(none_as_null=True)\n",
        tests=("tests/service/test_save.py",),
    ),
    Fault(
        name="sqlite-waits-milliseconds-for-seconds",
        path="src/flask_conversations/database.py",
        right="{round(config.lock_timeout * 1000)}",
        wrong="{round(config.lock_timeout)}",
        tests=("tests/service/test_concurrency.py",),
    ),
    # -- the schemas and the settings
    Fault(
        name="nul-let-through-in-a-json-name",
        path="src/flask_conversations/schemas/rules.py",
        right="return _storable(key)",
        wrong="return key",
        tests=("tests/api/test_nasty_input.py",),
    ),
    Fault(
        name="offset-of-a-time-ignored",
        path="src/flask_conversations/schemas/rules.py",
        right="value.replace(tzinfo=dt.timezone.utc) if value.tzinfo is None else value.astimezone(dt.timezone.utc)",
        wrong="value.replace(tzinfo=dt.timezone.utc)",
        tests=("tests/service/test_save.py",),
    ),
    Fault(
        name="etag-ignores-the-revision",
        path="src/flask_conversations/schemas/conversations.py",
        right="""found["etag"] = f"{found['version']}-{_whole(row[_REV]):x}\"""",
        wrong="""found["etag"] = f"{found['version']}\"""",
        tests=("tests/rest/test_get.py",),
    ),
    Fault(
        name="attachments-not-counted",
        path="src/flask_conversations/schemas/messages.py",
        right='LISTS = ("content", "parts", "attachments")',
        wrong='LISTS = ("content", "parts")',
        tests=("tests/service/test_limits.py",),
    ),
    Fault(
        name="unknown-members-ignored",
        path="src/flask_conversations/schemas/http_schemas.py",
        right="unknown = RAISE",
        wrong="unknown = 'exclude'",
        tests=("tests/rest/test_create.py",),
    ),
    Fault(
        name="clients-may-write-system-messages",
        path="src/flask_conversations/config.py",
        right='client_roles: Sequence[str] = ("user", "assistant")',
        wrong='client_roles: Sequence[str] = ("user", "assistant", "system")',
        tests=("tests/rest/test_messages.py", "tests/hosts/test_settings.py"),
    ),
    # -- the REST API
    Fault(
        name="replayed-creation-answered-201",
        path="src/flask_conversations/api/conversations.py",
        right="return with_etag(outcome.result, 200 if outcome.replayed else 201, location_of(outcome.result)",
        wrong="return with_etag(outcome.result, 201, location_of(outcome.result)",
        tests=("tests/rest/test_create.py",),
    ),
    Fault(
        name="if-match-ignored-when-a-message-is-deleted",
        path="src/flask_conversations/api/messages.py",
        right="        _check_match(conversation_id, message_id)\n        return current_conversations.delete_message(",
        wrong="        return current_conversations.delete_message(",
        tests=("tests/api/test_nasty_input.py",),
    ),
    Fault(
        name="rated-message-without-etag",
        path="src/flask_conversations/api/messages.py",
        right="return _tagged(current_conversations.rate_message(conversation_id, message_id, **body))",
        wrong="return current_conversations.rate_message(conversation_id, message_id, **body)",
        tests=("tests/api/test_fuzz.py",),
    ),
    Fault(
        name="messages-in-snake-case-on-a-camel-mount",
        path="src/flask_conversations/api/messages.py",
        right=(
            '    if responses.of_this_request()["case"] == "snake":\n'
            "        return responses.ready_answer(http.get_messages(state().current_units(), conversation_id, **query))\n"
            "    return current_conversations.get_messages(conversation_id, **query)\n"
        ),
        wrong="    return responses.ready_answer(http.get_messages(state().current_units(), conversation_id, **query))\n",
        tests=("tests/cache/test_warm_is_cold.py",),
    ),
    Fault(
        name="idempotency-key-ignores-the-body",
        path="src/flask_conversations/api/routing.py",
        right='        "body": request.get_data().decode("utf-8", "replace"),\n',
        wrong="",
        tests=("tests/rest/test_idempotency.py",),
    ),
    Fault(
        name="chunked-body-cut-at-the-limit",
        path="src/flask_conversations/api/routing.py",
        right="if request.content_length is None and len(body) >= _max_bytes():",
        wrong="if request.content_length is None and len(body) > _max_bytes():",
        tests=("tests/api/test_nasty_input.py",),
    ),
    Fault(
        name="last-event-id-off-by-one",
        path="src/flask_conversations/api/stream.py",
        right="turn_id, position, cuts = match[1], int(match[2]), int(match[3] or 0)",
        wrong="turn_id, position, cuts = match[1], int(match[2]) + 1, int(match[3] or 0)",
        tests=("tests/turns/test_streams.py",),
    ),
    Fault(
        name="event-id-with-the-first-chunk",
        path="src/flask_conversations/api/ai_sdk/chunks.py",
        right='frames.append(f"id: {event_id}\\n{last}")',
        wrong='frames = [f"id: {event_id}\\n{[*frames, last][0]}", *[*frames, last][1:]]',
        tests=("tests/ui/test_chunks.py",),
    ),
]
