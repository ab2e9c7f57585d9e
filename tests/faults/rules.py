"""Planted faults of the rules: service, turns, transaction and streams."""

from __future__ import annotations

from tests.faults.fault import Fault

SERVICE = "src/flask_conversations/service"
TURNS = f"{SERVICE}/turns"

FAULTS: list[Fault] = [
    # -- conversations and their messages
    Fault(
        name="version-compared-without-the-lock",
        path=f"{SERVICE}/conversations.py",
        right="""\
    before = work.store.lock(conversation_id)
    _check_version(before, expected)
""",
        wrong="""\
    before = work.store.get(conversation_id)
    _check_version(before, expected)
""",
        tests=("tests/service/test_concurrency.py",),
    ),
    Fault(
        name="guest-claims-another-guest",
        path=f"{SERVICE}/conversations.py",
        right="if work.identity is None or work.identity.anonymous or not str(anonymous_user_id)",
        wrong="if work.identity is None or not str(anonymous_user_id)",
        tests=("tests/service/test_change.py",),
    ),
    Fault(
        name="other-text-under-a-client-id-taken-for-a-retry",
        path=f"{SERVICE}/messages.py",
        right="""\
    if message.fingerprint != row["fingerprint"]:
        raise ClientIdConflict
""",
        wrong="""\
    if message.role != row["role"]:
        raise ClientIdConflict
""",
        tests=("tests/service/test_save.py",),
    ),
    Fault(
        name="survivors-answer-a-deleted-message",
        path=f"{SERVICE}/edits.py",
        right="    while message_id is not None and message_id in parents:\n",
        wrong="    if message_id is not None and message_id in parents:\n",
        tests=("tests/service/test_edit.py",),
    ),
    Fault(
        name="branch-named-without-the-lock",
        path=f"{SERVICE}/branches.py",
        right="""\
    conversation = work.store.lock(conversation_id)
    message = message_rows.one(work.store, conversation.id, from_message_id)
""",
        wrong="""\
    conversation = work.store.get(conversation_id)
    message = message_rows.one(work.store, conversation.id, from_message_id)
""",
        tests=("tests/branches/test_concurrency.py",),
    ),
    Fault(
        name="summary-in-a-fork-ends-one-message-early",
        path=f"{SERVICE}/forks.py",
        right='bisect_right(self._seqs, about["until_seq"])',
        wrong='bisect_right(self._seqs, about["until_seq"] - 1)',
        tests=("tests/branches/test_forks.py",),
    ),
    Fault(
        name="client-copy-edits-what-the-system-said",
        path=f"{SERVICE}/snapshots.py",
        right="""\
        conflicts += more
        _refuse_unwritable(roles, [*(row for _, row in edited), *fresh])
""",
        wrong="""\
        conflicts += more
        _refuse_unwritable(roles, fresh)
""",
        tests=("tests/rest/test_snapshot.py",),
    ),
    # -- what is read
    Fault(
        name="user-forges-the-answer-of-a-tool",
        path="src/flask_conversations/history/parsing.py",
        right="entries = [entry for entry in entries if not isinstance(entry, (Call, Result))]",
        wrong="entries = [entry for entry in entries if not isinstance(entry, Call)]",
        tests=("tests/history/test_history_formats.py",),
    ),
    Fault(
        name="page-shows-a-dead-answer-as-growing",
        path=f"{SERVICE}/reading.py",
        right="return Page(window.conversation_id, messages, rest, any(map(_is_growing, messages)))",
        wrong="return Page(window.conversation_id, messages, rest, any(map(_is_growing, messages[:1])))",
        tests=("tests/turns/test_leases.py",),
    ),
    Fault(
        name="cursor-of-another-user-taken",
        path=f"{SERVICE}/cursors.py",
        right="""self._owner = f"{identity.org_id or ''}\\n{identity.user_id}" if identity else""",
        wrong="""self._owner = f"{identity.org_id or ''}\\n" if identity else""",
        tests=("tests/service/test_list.py",),
    ),
    Fault(
        name="own-uncommitted-change-read-from-the-cache",
        path=f"{SERVICE}/windows.py",
        right="""\
    if any(change.conversation_id == own_id for change in transaction.changes(session)):
        return False
    return work.store.sees_commits
""",
        wrong="""\
    return work.store.sees_commits
""",
        tests=("tests/cache/test_transactions.py",),
    ),
    Fault(
        name="repair-takes-a-forged-message-for-a-saved-one",
        path="src/flask_conversations/ops/audit.py",
        right="return self.accept or self._sum_now == self.conversation.checksum",
        wrong="return self.accept or self._sum == self.conversation.checksum",
        tests=("tests/cli/test_verify.py",),
    ),
    # -- guards
    Fault(
        name="guard-changes-the-message-in-place",
        path=f"{SERVICE}/guards.py",
        right="    original = dict(message)\n",
        wrong="    original = message\n",
        tests=("tests/service/test_guards.py",),
    ),
    Fault(
        name="direction-marks-hide-text-in-any-number",
        path="src/flask_conversations/guards.py",
        right='return one if reads_leftwards and before and not _MARKS.match(before) else ""',
        wrong='return one if reads_leftwards and before else ""',
        tests=("tests/service/test_invisible.py",),
    ),
    # -- transactions
    Fault(
        name="commit-of-unknown-outcome-done-again",
        path="src/flask_conversations/service/unit_of_work.py",
        right="if own and db_errors.is_conflict(error) and attempts.should_retry(counters, error, db_errors.is_conflict):",
        wrong="if own and attempts.should_retry(counters, error, db_errors.is_transient):",
        tests=("tests/chaos/test_nth_failure.py",),
    ),
    Fault(
        name="lock-outlives-a-failed-call",
        path="src/flask_conversations/service/unit_of_work.py",
        right="""\
        if began and store.session.in_transaction():
            _driver(store).rollback()
        raise
""",
        wrong="""\
        raise
""",
        tests=("tests/regressions/test_service_findings.py",),
    ),
    Fault(
        name="failed-call-undoes-the-work-of-its-host",
        path=f"{SERVICE}/savepoints.py",
        right="            nested.rollback()\n",
        wrong="            session.rollback()\n",
        tests=("tests/service/test_transactions.py",),
    ),
    Fault(
        name="savepoint-never-sent",
        path="src/flask_conversations/service/savepoints.py",
        right="    store.renew_connection()\n",
        wrong="",
        tests=("tests/turns/test_findings.py",),
    ),
    Fault(
        name="signal-sent-before-the-commit",
        path="src/flask_conversations/service/unit_of_work.py",
        right="transaction.after_commit(self.session, lambda: _send(signal, backend, identity, payload))",
        wrong="_send(signal, backend, identity, payload)",
        tests=("tests/service/test_signals.py",),
    ),
    Fault(
        name="rolled-back-savepoint-sends-its-signals",
        path="src/flask_conversations/transaction.py",
        right="for tag, what in noted if done or tag is not ended]",
        wrong="for tag, what in noted]",
        tests=("tests/service/test_signals.py",),
    ),
    Fault(
        name="next-request-in-a-context-has-the-first-identity",
        path="src/flask_conversations/state.py",
        right="vars(_request._get_current_object())",
        wrong='vars(__import__("flask").g._get_current_object())',
        tests=("tests/isolation/test_service.py",),
    ),
    # -- turns
    Fault(
        name="tool-calls-decided-without-the-lock",
        path=f"{TURNS}/transitions.py",
        right="""\
    conversation = work.store.lock(conversation_id)
    live_turns(work, conversation)
    turn = turn_rows.newest(work.store, work.store.lock(conversation.id))
""",
        wrong="""\
    conversation = work.store.get(conversation_id)
    live_turns(work, conversation)
    turn = turn_rows.newest(work.store, conversation)
""",
        tests=("tests/turns/test_concurrency.py",),
    ),
    Fault(
        name="repeated-cancel-ends-the-next-turn",
        path=f"{TURNS}/transitions.py",
        right="""\
    return Outcome(turn_rows.find(work.store, conversation, "id", once.result["turn_id"]), once.replayed)
""",
        wrong="""\
    return Outcome(turn_rows.newest(work.store, conversation), once.replayed)
""",
        tests=("tests/turns/test_findings.py",),
    ),
    Fault(
        name="decision-without-a-new-version",
        path=f"{TURNS}/states.py",
        right="""\
    rows.change(work.store, conversation, message, values)
    conversation_rows.change(work.store, conversation.id, totals)
""",
        wrong="""\
    rows.change(work.store, conversation, message, values)
    if totals:
        conversation_rows.change(work.store, conversation.id, totals)
""",
        tests=("tests/turns/test_states.py",),
    ),
    Fault(
        name="branch-left-behind-by-its-answer",
        path=f"{TURNS}/states.py",
        right="""\
    changed = conversation_rows.change(work.store, conversation.id, values)
    branches.follow(work.store, conversation, {parent_id: row["id"]})
""",
        wrong="""\
    changed = conversation_rows.change(work.store, conversation.id, values)
""",
        tests=("tests/turns/test_findings.py",),
    ),
    Fault(
        name="question-of-a-dead-worker-stored-amid-a-living-answer",
        path=f"{TURNS}/recovery.py",
        right="if any(each.state != WAITING and not each.dead for each in live):",
        wrong="if any(each.state == AWAITING for each in live):",
        tests=("tests/turns/test_leases.py",),
    ),
    Fault(
        name="turn-lease-renewed-too-late",
        path=f"{TURNS}/registry.py",
        right="if now - self._renewed_at >= system.backend.config.turn_lease / 3:",
        wrong="if now - self._renewed_at >= system.backend.config.turn_lease * 3:",
        tests=("tests/turns/test_leases.py",),
    ),
    Fault(
        name="turn-leases-end-with-one-error-of-the-host",
        path=f"{TURNS}/registry.py",
        right="""\
                log_errors(target)
""",
        wrong="""\
                target()
""",
        tests=("tests/turns/test_findings.py",),
    ),
    Fault(
        name="last-words-saved-only-with-the-next-ones",
        path=f"{TURNS}/execution.py",
        right="if now - self._saved_at >= self.registry.timing.checkpoint_interval and self._save_lock.acquire(blocking=False):",
        wrong="if now - self._saved_at >= self.registry.timing.storage_timeout and self._save_lock.acquire(blocking=False):",
        tests=("tests/turns/test_states.py",),
    ),
    Fault(
        name="words-saved-five-times-as-seldom",
        path=f"{TURNS}/timing.py",
        right="checkpoint_interval: float = 0.5",
        wrong="checkpoint_interval: float = 2.5",
        tests=("tests/repo/test_settings.py",),
    ),
    Fault(
        name="turn-given-up-when-the-database-is-out-for-a-moment",
        path=f"{TURNS}/execution.py",
        right="if time.monotonic() > deadline or not error.retryable:",
        wrong="if time.monotonic() < deadline or not error.retryable:",
        tests=("tests/turns/test_findings.py",),
    ),
    Fault(
        name="reader-not-informed-that-less-was-kept",
        path="src/flask_conversations/streams/events.py",
        right='yield StreamEvent(COMPLETED, "message.completed", self.answer)',
        wrong='yield StreamEvent(self.next_position + 1, "message.completed", self.answer)',
        tests=("tests/turns/test_streams.py",),
    ),
    Fault(
        name="what-redis-sends-taken-for-new-again",
        path=f"{TURNS}/following.py",
        right="""\
        if event.position <= end:
            continue  # relayed twice, or already in the database
        if event.position - size > end:
""",
        wrong="""\
        if event.position - size > end:
""",
        tests=("tests/turns/test_streams.py",),
    ),
    Fault(
        name="answer-taken-for-the-question-before-it",
        path=f"{TURNS}/questions.py",
        right="""\
    while found.role != "user":
""",
        wrong="""\
    if found.role != "user":
""",
        tests=("tests/turns/test_tree.py",),
    ),
    Fault(
        name="retry-of-a-question-asks-the-model-again",
        path=f"{TURNS}/operations.py",
        right="if started.turn is not None and not started.replayed and responder is not None:",
        wrong="if started.turn is not None and responder is not None:",
        tests=("tests/turns/test_concurrency.py",),
    ),
    Fault(
        name="error-of-the-host-shown-to-the-page",
        path=f"{TURNS}/hosting.py",
        right='else ResponderError("The question was not answered.")',
        wrong='else ResponderError(f"The question was not answered: {error}")',
        tests=("tests/turns/test_host_turns.py",),
    ),
    # -- streams
    Fault(
        name="last-event-sent-again-on-resume",
        path="src/flask_conversations/streams/events.py",
        right="if event.position > after)",
        wrong="if event.position >= after)",
        tests=("tests/turns/test_streams.py",),
    ),
    Fault(
        name="reader-of-a-decision-skips-to-the-next-wait",
        path=f"{TURNS}/following.py",
        right='if call["id"] in calls and call["decision"]]',
        wrong='if call["id"] in calls]',
        tests=("tests/turns/test_stream_findings.py",),
    ),
    Fault(
        name="last-state-shares-an-id",
        path="src/flask_conversations/streams/events.py",
        right="        yield _state(ENDED, self.state)\n",
        wrong="        yield _state(COMPLETED, self.state)\n",
        tests=("tests/turns/test_streams.py",),
    ),
]
