"""`flask conversations verify` finds whatever is wrong, puts right what follows from the messages, and leaves all else alone."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

from flask_conversations.errors import Conflict, NotFound
from flask_conversations.ops.verify import WINDOW

from ..service.test_model import Histories
from ..service.tools import NEVER, everything, rows, sql
from .tools import MARK, kinds, looked, run, spoil, verified


@pytest.fixture
def chat(ada, bob) -> str:
    """Ada's conversation of six messages, the third of them deleted, among others that are well."""
    bob.create_conversation("well", messages=[{"role": "user", "content": MARK}], tags=["a"])
    ada.delete_conversation(ada.create_conversation(messages=[{"role": "user", "content": "in the trash"}])["id"])
    return six_messages(ada)


def six_messages(ada: Any) -> str:
    """One more conversation of six messages, the third of them deleted."""
    own = ada.create_conversation(messages=[{"role": "user", "content": f"{MARK} 1"}], tags=["a", "b"])["id"]
    for place in range(2, 7):
        ada.save_message(own, "assistant", f"{MARK} {place}")
    ada.delete_message(own, everything(ada, own)[2]["id"])
    return str(own)


class Spoilt(NamedTuple):
    """One way to spoil the conversation, and what is said of it."""

    sql: str
    kinds: set[str]


OF_CHAT = "UPDATE conversations SET {} WHERE id = :own"
OF_MESSAGE = "UPDATE conversation_messages SET {} WHERE conversation_id = :own AND seq = {}"

REPAIRABLE = {
    "last_seq behind": Spoilt(OF_CHAT.format("last_seq = 2"), {"last_seq"}),
    "too many counted": Spoilt(OF_CHAT.format("message_count = 99"), {"message_count"}),
    "too few counted": Spoilt(OF_CHAT.format("message_count = 0"), {"message_count"}),
    "another checksum": Spoilt(OF_CHAT.format("checksum = 42"), {"checksum"}),
    "version behind": Spoilt(OF_CHAT.format("version = 1"), {"version"}),
    "head nowhere": Spoilt(OF_CHAT.format("head_id = :never"), {"head"}),
    "no head": Spoilt(OF_CHAT.format("head_id = NULL"), {"head"}),
    "head too old": Spoilt(
        OF_CHAT.format("head_id = (SELECT id FROM conversation_messages WHERE conversation_id = :own AND seq = 1)"),
        {"head"},
    ),
    "head deleted": Spoilt(
        OF_CHAT.format("head_id = (SELECT id FROM conversation_messages WHERE conversation_id = :own AND seq = 3)"),
        {"head"},
    ),
    "another preview": Spoilt(OF_CHAT.format("preview = 'made up'"), {"preview"}),
    "no preview": Spoilt(OF_CHAT.format("preview = NULL"), {"preview"}),
    "another time": Spoilt(OF_CHAT.format("last_message_at = '2001-01-01 00:00:00.000000'"), {"last_message_at"}),
    "no time": Spoilt(OF_CHAT.format("last_message_at = NULL"), {"last_message_at"}),
    "a tag lost": Spoilt("DELETE FROM conversation_tags WHERE conversation_id = :own AND tag = 'a'", {"tags"}),
    "a tag renamed": Spoilt(OF_CHAT.format("""tags = '["a", "c"]'"""), {"tags"}),
    "a tag of somebody else": Spoilt(
        "UPDATE conversation_tags SET user_id = 'eve' WHERE conversation_id = :own AND tag = 'a'", {"tags"}
    ),
    "another digest": Spoilt(OF_MESSAGE.format("digest = 5", 2), {"digest"}),
    "everything": Spoilt(
        OF_CHAT.format(
            "last_seq = 1, message_count = 7, checksum = 1, version = 1, head_id = NULL, preview = NULL, tags = NULL"
        ),
        {"last_seq", "message_count", "checksum", "version", "head", "preview", "tags"},
    ),
}

LEFT = {
    "a message lost": Spoilt(
        "DELETE FROM conversation_messages WHERE conversation_id = :own AND seq = 2",
        {"gap", "message_count", "checksum", "parent"},
    ),
    "the newest message lost": Spoilt(
        "DELETE FROM conversation_messages WHERE conversation_id = :own AND seq = 6",
        {"gap", "message_count", "checksum", "head", "preview", "last_message_at"},
    ),
    "last_seq ahead": Spoilt(OF_CHAT.format("last_seq = 100"), {"gap"}),
    "a deleted message that speaks": Spoilt(OF_MESSAGE.format("content = 'still here'", 3), {"tombstone"}),
    "a message of somebody else": Spoilt(OF_MESSAGE.format("user_id = 'eve'", 2), {"owner"}),
    "a message of another organisation": Spoilt(OF_MESSAGE.format("org_id = 'acme'", 2), {"owner"}),
    "a parent nowhere": Spoilt(OF_MESSAGE.format("parent_id = :never", 5), {"parent"}),
    "a parent forgotten": Spoilt(OF_MESSAGE.format("parent_id = NULL", 5), {"parent"}),
    "a parent that was deleted": Spoilt(
        OF_MESSAGE.format(
            "parent_id = (SELECT id FROM conversation_messages WHERE conversation_id = :own AND seq = 3)", 5
        ),
        {"parent"},
    ),
}


def spoilt(app: Any, own: str, how: Spoilt) -> None:
    spoil(app, how.sql, own=own, never=NEVER)


def one_for_each(app: Any, ada: Any, ways: dict[str, Spoilt]) -> dict[str, str]:
    """A conversation for each way to spoil one, spoilt in that way."""
    chats = {name: six_messages(ada) for name in ways}
    for name, own in chats.items():
        spoilt(app, own, ways[name])
    return chats


def about(own: str, findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings of one conversation."""
    return [finding for finding in findings if finding["conversation_id"] == own]


def test_nothing_is_wrong_with_what_the_service_has_done(app, chat):
    """Three conversations, one in the trash, one with a deleted message: all is well, and it says how much it has read."""
    said = run(app, "verify")
    assert "3 conversations with 8 messages: all is well." in said
    assert verified(app) == (
        [],
        {"conversations": 3, "messages": 8, "cache": False, "findings": {}, "repaired": 0, "left": 0, "unanswered": 0},
    )


def test_an_empty_database_is_well(app):
    assert "0 conversations" in run(app, "verify")


def test_whatever_is_wrong_is_found_and_named(app, ada, chat, subtests):
    """Of each conversation exactly what was spoilt is reported, of those that are well nothing, and looking changes nothing."""
    chats = one_for_each(app, ada, REPAIRABLE | LEFT)
    before = dump(app)
    findings, summary = verified(app, code=1)
    for name, how in (REPAIRABLE | LEFT).items():
        with subtests.test(name):
            assert kinds(about(chats[name], findings)) == how.kinds
    assert {finding["conversation_id"] for finding in findings} == {*chats.values()}
    assert summary["left"] == len(findings)
    assert dump(app) == before


def test_a_repair_puts_right_what_follows_from_the_messages(app, ada, chat, subtests):
    """After it a second look finds nothing, no message has changed, and the version says that something did."""
    chats = {name: six_messages(ada) for name in REPAIRABLE}
    good = {name: ada.get_conversation(own) for name, own in chats.items()}
    messages = {name: everything(ada, own) for name, own in chats.items()}
    for name, own in chats.items():
        spoilt(app, own, REPAIRABLE[name])
    findings, summary = verified(app, "--repair", "--yes")
    assert all(finding["repaired"] for finding in findings)
    assert summary["left"] == 0

    assert verified(app)[0] == []
    for name, own in chats.items():
        with subtests.test(name):
            assert kinds(about(own, findings)) == REPAIRABLE[name].kinds
            now = ada.get_conversation(own)
            for derived in ("message_count", "checksum", "preview", "last_message_at"):
                assert now[derived] == good[name][derived]
            assert now["version"] >= good[name]["version"]
            assert now["etag"] != good[name]["etag"]
            assert list(map(unversioned, everything(ada, own))) == list(map(unversioned, messages[name]))
            assert ada.save_message(own, "user", "goes on")["seq"] == 7
    assert verified(app)[0] == []


def unversioned(message: dict[str, Any]) -> dict[str, Any]:
    return {**message, "version": None, "updated_at": None}


def test_a_repair_leaves_messages_alone_and_says_so(app, ada, chat, subtests):
    """What cannot follow from the messages stays reported, and the command still ends with 1."""
    chats = one_for_each(app, ada, LEFT)
    every_message = "SELECT * FROM conversation_messages ORDER BY conversation_id, seq"
    messages = sql(app, every_message)
    findings, _ = verified(app, "--repair", "--yes", code=1)
    assert sql(app, every_message) == messages
    again, _ = verified(app, code=1)
    for name, how in LEFT.items():
        with subtests.test(name):
            found = about(chats[name], findings)
            assert kinds(found) == how.kinds
            left = {finding["kind"] for finding in found if not finding["repaired"]}
            assert kinds(about(chats[name], again)) == left != set()


def test_a_message_changed_behind_our_back_is_kept_until_it_is_accepted(app, ada, chat, subtests):
    """A repair alone never makes a forged message look like a saved one; --accept-content does, and clients learn of it."""
    changes = ("content = 'forged'", "role = 'system'", "content_is_parts = TRUE, parts = '[]'")
    chats = one_for_each(app, ada, {change: Spoilt(OF_MESSAGE.format(change, 2), set()) for change in changes})
    findings, _ = verified(app, "--repair", "--yes", code=1)
    versions = {own: ada.get_conversation(own)["version"] for own in chats.values()}
    accepted, _ = verified(app, "--repair", "--accept-content", "--yes")
    assert verified(app)[0] == []
    for change, own in chats.items():
        with subtests.test(change):
            (finding,) = about(own, findings)
            second = everything(ada, own)[1]
            assert (finding["kind"], finding["repairable"], finding["repaired"]) == ("content", False, False)
            assert finding["message_id"] == second["id"]
            (finding,) = about(own, accepted)
            assert finding["repaired"]
            assert ada.get_conversation(own)["version"] == second["version"] == versions[own] + 1


def test_a_checksum_is_not_repaired_to_fit_a_forged_message(app, chat):
    """Nobody can tell any more what the checksum was of: it is reported, and stays."""
    spoilt(app, chat, Spoilt(OF_MESSAGE.format("content = 'forged'", 2), set()))
    spoilt(app, chat, REPAIRABLE["another checksum"])
    findings, _ = verified(app, "--repair", "--yes", code=1)
    assert kinds(findings) == {"content", "checksum"}
    assert not any(finding["repaired"] for finding in findings)
    verified(app, "--repair", "--accept-content", "--yes")
    assert verified(app)[0] == []


def test_a_conversation_that_changed_hands_by_sql(app, chat):
    """Its messages still name the old owner: who is right is for a person to say."""
    spoilt(app, chat, Spoilt(OF_CHAT.format("user_id = 'eve'"), set()))
    findings, _ = verified(app, code=1)
    assert kinds(findings) == {"owner", "tags"}


def test_branches(app, ada, chat):
    """With branches any live message may be the head, and an answer must only have what it answers."""
    messages = everything(ada, chat)
    ada.save_message(chat, "assistant", "another answer", parent_id=messages[0]["id"])
    assert verified(app)[0] == []
    spoil(app, OF_CHAT.format("head_id = :head, preview = 'x'"), own=chat, head=messages[-1]["id"])
    assert kinds(verified(app, code=1)[0]) == {"preview"}
    verified(app, "--repair", "--yes")
    assert len(everything(ada, chat)) == 5
    spoilt(app, chat, LEFT["a parent nowhere"])
    assert kinds(verified(app, code=1)[0]) == {"parent"}
    spoil(app, OF_CHAT.format("head_id = :never"), own=chat, never=NEVER)
    verified(app, "--repair", "--yes", code=1)
    assert [message["content"] for message in everything(ada, chat)][-1] == "another answer"


OF_BRANCH = "UPDATE conversation_branches SET {} WHERE conversation_id = :own AND name = 'branch-2'"
SPOILT_BRANCHES = {
    "tip nowhere": OF_BRANCH.format("head_id = :never"),
    "tip deleted": OF_BRANCH.format(
        "head_id = (SELECT id FROM conversation_messages WHERE conversation_id = :own AND seq = 3)"
    ),
    "of somebody else": OF_BRANCH.format("user_id = 'eve'"),
    "unknown to the conversation": OF_CHAT.format("branched = false"),
}


def test_names_that_lead_nowhere(app, ada, chat, subtests):
    """A branch whose tip is no live message ends at one again after a repair, and no name and no message is lost."""
    chats = {how: six_messages(ada) for how in SPOILT_BRANCHES}
    before = {how: everything(ada, own) for how, own in chats.items()}
    for how, own in chats.items():
        ada.branches.create(own, before[how][1]["id"])
        spoil(app, SPOILT_BRANCHES[how], own=own, never=NEVER)
    findings, _ = verified(app, code=1)
    _, summary = verified(app, "--repair", "--yes")
    assert summary["left"] == 0
    assert verified(app)[0] == []
    for how, own in chats.items():
        with subtests.test(how):
            assert kinds(about(own, findings)) == {"branch"}
            named = {branch["name"]: branch["head_id"] for branch in ada.branches.list(own)["branches"]}
            second, last = before[how][1]["id"], before[how][-1]["id"]
            assert named == {"main": last, "branch-2": last if how == "tip nowhere" else second}
            assert everything(ada, own) == before[how]


FIRST, LAST = NEVER, "ffffffff-ffff-7fff-bfff-ffffffffffff"
"""Ids of no conversation, before and behind all that there are."""
STRAYS = {
    "message": "UPDATE conversation_messages SET conversation_id = :never WHERE conversation_id = :own",
    "tag": "UPDATE conversation_tags SET conversation_id = :never WHERE conversation_id = :own",
    "branch": "INSERT INTO conversation_branches (conversation_id, name, org_id, user_id, created_at) "
    "VALUES (:never, 'b', '', 'ada', '2026-01-01 00:00:00.000000')",
    "turn": "INSERT INTO conversation_turns (conversation_id, number, id, org_id, user_id, kind, state, cancelled, created_at, "
    "updated_at) VALUES (:never, 1, :never, '', 'ada', 'send', 'completed', FALSE, '2026-01-01 00:00:00.000000', "
    "'2026-01-01 00:00:00.000000')",
    "answer": "INSERT INTO conversation_idempotency (user_id, org_id, scope, key, fingerprint, conversation_id, created_at) "
    "VALUES ('ada', '', 's', :key, 'f', :never, '2026-01-01 00:00:00.000000')",
}


@pytest.mark.parametrize("kind", STRAYS)
def test_rows_of_a_conversation_that_is_not_there(app, ada, chat, kind):
    """They are found wherever their id stands among the others. They go, but for messages, which never do."""
    for key, never in (("first", FIRST), ("last", LAST)):
        spoil(app, STRAYS[kind], own=six_messages(ada), never=never, key=key)
    before = rows(app)
    for batch in ("1", "100"):
        stray = [finding for finding in verified(app, "--batch", batch, code=1)[0] if finding["kind"] == "orphan"]
        assert sorted(finding["conversation_id"] for finding in stray) == [FIRST, LAST]
    for never in (FIRST, LAST):
        (one,) = verified(app, "--conversation", never, code=1)[0]
        assert one["kind"] == "orphan"

    verified(app, "--repair", "--yes", code=1 if kind == "message" else 0)
    after = rows(app)
    if kind == "message":
        assert after["conversation_messages"] == before["conversation_messages"]
    else:
        assert verified(app)[0] == []
    assert after["conversation_idempotency"] == 0


def test_messages_that_share_a_seq(make_app, database):
    """Tables without their keys, from a careless copy say, may hold a message twice; so does a window's edge."""
    url = database.empty()
    app = make_app(tables=False, SQLALCHEMY_DATABASE_URI=url)
    run(app, "create-tables")
    ada = app.conversations.as_user("ada", app=app)
    own = ada.create_conversation(messages=[{"role": "user", "content": f"m{n}"} for n in range(WINDOW + 20)])["id"]
    spoil(
        app,
        "CREATE TABLE copied AS SELECT * FROM conversation_messages",
        "DROP TABLE conversation_messages",
        "ALTER TABLE copied RENAME TO conversation_messages",
        f"INSERT INTO conversation_messages SELECT * FROM conversation_messages WHERE seq IN (3, {WINDOW})",
        f"UPDATE conversation_messages SET seq = {WINDOW} WHERE seq = {WINDOW + 1}",
    )
    findings, _ = verified(app, code=1)
    assert {"duplicate", "gap", "message_count"} <= kinds(findings)
    assert {finding["conversation_id"] for finding in findings} == {own}
    assert "primary key of conversation_messages" in run(app, "doctor", code=1)


def test_a_long_conversation_is_read_in_windows(app, ada, statements):
    """No statement reads more than one window of messages, and a forged one far inside is found."""
    size = 2 * WINDOW + 10
    own = ada.create_conversation(messages=[{"role": "user", "content": f"{n}"} for n in range(size)])["id"]
    with statements(app) as seen:
        assert verified(app)[1]["messages"] == size
    read = [one for one in seen if "content_is_parts" in one]
    assert len(read) == 3
    assert all("LIMIT" in one for one in read)
    spoilt(app, own, Spoilt(OF_MESSAGE.format("content = 'forged'", size - 5), set()))
    assert kinds(verified(app, code=1)[0]) == {"content"}


def test_short_conversations_share_their_statements(app, ada, statements):
    """Sixty conversations in one batch cost a handful of statements, not sixty times as many."""
    for number in range(60):
        ada.create_conversation(messages=[{"role": "user", "content": f"{number}"}])
    with statements(app) as seen:
        verified(app)
    assert len(seen) < 15


def test_batches_of_one_find_the_same(app, chat):
    spoilt(app, chat, REPAIRABLE["everything"])
    assert verified(app, "--batch", "1", code=1) == verified(app, "--batch", "100", code=1)


def test_only_one_user_or_one_conversation(app, ada, bob, chat):
    """What was not asked for is not looked at."""
    spoilt(app, chat, REPAIRABLE["another preview"])
    theirs = bob.list_conversations()["conversations"][0]["id"]
    assert verified(app, "--user", "ada", code=1)[1]["conversations"] == 2
    assert verified(app, "--user", "bob")[1]["conversations"] == 1
    assert verified(app, "--user", "ada", "--org", "acme")[1]["conversations"] == 0
    assert verified(app, "--conversation", chat, code=1)[1]["conversations"] == 1
    assert verified(app, "--conversation", theirs)[1]["conversations"] == 1
    assert "UUID" in run(app, "verify", "--conversation", "nonsense", code=2)


def test_a_repair_is_asked_for_and_can_be_tried(app, chat):
    """A dry run and a no change nothing; both say what is wrong, or ask."""
    spoilt(app, chat, REPAIRABLE["everything"])
    before = dump(app)
    assert "--repair puts it right" in run(app, "verify", "--repair", "--dry-run", code=1)
    run(app, "verify", "--repair", code=1, input="n\n")
    assert dump(app) == before
    run(app, "verify", "--repair", input="y\n")
    assert "all is well" in run(app, "verify")
    assert "goes with --repair" in run(app, "verify", "--accept-content", code=2)


def test_no_report_repeats_what_was_said(app, chat):
    """Reports go into logs and tickets: ids and numbers, never content. `run` looks for a word that every message has."""
    for how in (*REPAIRABLE.values(), *LEFT.values()):
        spoilt(app, chat, how)
    run(app, "verify", code=1)
    run(app, "verify", "--json", code=1)
    run(app, "verify", "--repair", "--yes", code=1)


def test_how_far_it_has_come_goes_to_stderr(app, chat, monkeypatch):
    """A long walk says so, where it is not in the way of whoever reads the report."""
    monkeypatch.setattr("flask_conversations.cli.verify.PROGRESS_INTERVAL", -1.0)
    result = app.test_cli_runner().invoke(args=["conversations", "verify", "--batch", "1"])
    assert "1 conversations with 1 messages, 0 findings ..." in result.stderr
    assert len(result.stderr.splitlines()) > 2
    assert "..." not in result.stdout


def test_a_conversation_that_is_busy_is_said_to_be(make_app):
    """Somebody holds its lock for longer than a call waits: that is said, and the walk goes on."""
    app = make_app(CONVERSATIONS_LOCK_TIMEOUT=0.2)
    ada = app.conversations.as_user("ada", app=app)
    own = ada.create_conversation()["id"]
    spoil(app, OF_CHAT.format("preview = 'x'"), own=own)
    with app.app_context(), app.db.engine.connect() as other:
        if other.dialect.name == "sqlite":
            other.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            other.exec_driver_sql("SELECT * FROM conversations FOR UPDATE")
        findings, _ = verified(app, code=1)
        other.rollback()
    assert kinds(findings) == {"busy"}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_row_that_cannot_be_read_is_found(app, ada, chat):
    """Bytes that are no text spoil one message, and neither the walk nor the conversations around it."""
    spoilt(app, chat, Spoilt(OF_MESSAGE.format("content = CAST(x'ff41' AS TEXT)", 2), set()))
    assert kinds(verified(app, code=1)[0]) == {"content"}
    spoilt(app, chat, Spoilt(OF_CHAT.format("checksum = 'text', version = 'text', last_message_at = 'text'"), set()))
    assert {"content", "checksum", "version"} <= kinds(verified(app, code=1)[0])


def test_a_repair_is_announced_and_logged(make_app):
    """Whoever shows conversations hears of the change; the query log has the repair and not the looks."""
    from flask_conversations import signals

    app = make_app(CONVERSATIONS_AUDIT=True)
    ada = app.conversations.as_user("ada", app=app)
    own = ada.create_conversation(messages=[{"role": "user", "content": "x"}])["id"]
    spoil(app, OF_CHAT.format("preview = 'x y'"), own=own)
    before = rows(app)["conversation_query_log"]
    heard = []

    def hear(sender: Any, conversation: Any, **rest: Any) -> None:
        heard.append(conversation["id"])

    with signals.conversation_updated.connected_to(hear, app):
        verified(app, "--repair", "--yes")
    assert heard == [own]
    assert rows(app)["conversation_query_log"] == before + 1


def test_writers_at_work_are_no_findings(app, ada, bob, long):
    """Half of a change that is just being made looks wrong; the second look, under the lock, does not."""
    chats = [ada.create_conversation(messages=[{"role": "user", "content": "x"}])["id"] for _ in range(3)]
    stop = threading.Event()

    def write(own: str) -> None:
        while not stop.is_set():
            ada.save_message(own, "user", "more")
            ada.pop_message(own)
            ada.save_messages(own, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])

    writers = [threading.Thread(target=write, args=[own]) for own in chats]
    for writer in writers:
        writer.start()
    try:
        found = [looked(app) for _ in range(60 if long else 8)]
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    assert not any(found)
    assert not looked(app)
    assert not bob.list_conversations()["conversations"]


class Verified(Histories):
    """Random histories of two users, looked at when each ends."""

    def teardown(self) -> None:
        super().teardown()
        assert looked(self.app) == []


def test_nothing_is_found_after_random_histories(app, long):
    """Whatever calls in whatever order: a walk finds nothing."""
    machine = type("VerifiedOnThis", (Verified,), {"app": app})
    options = {"stateful_step_count": 20, "suppress_health_check": list(HealthCheck)}
    options["max_examples"] = 20 if long else 3
    run_state_machine_as_test(machine, settings=settings(deadline=None, print_blob=True, **options))


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["answer", "append", "delete", "edit", "pop", "date", "name", "switch", "go", "forget", "fork"]
        ),
        st.integers(0, 9),
    ),
    max_size=14,
)


def test_nothing_is_found_after_random_branches(app, ada, long):
    """The same where messages answer older ones, are deleted in between, bring times of their own, and branches have names."""

    @settings(max_examples=200 if long else 20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def histories(steps):
        own = ada.create_conversation(messages=[{"role": "user", "content": "first"}])["id"]
        known = [message["id"] for message in everything(ada, own)]
        for step, place in steps:
            one = known[place % len(known)]
            try:
                if step == "answer":
                    known.append(ada.save_messages(own, [{"role": "user", "content": "x", "parent_id": one}])[0]["id"])
                elif step == "append":
                    known.append(ada.save_message(own, "assistant", "y")["id"])
                elif step == "date":
                    moment = f"20{10 + place}-01-01T00:00:00Z"
                    known.append(ada.save_message(own, "assistant", "z", created_at=moment)["id"])
                elif step == "edit":
                    ada.update_message(own, one, content=f"edited {place}")
                elif step == "delete":
                    ada.delete_message(own, one)
                elif step == "pop":
                    ada.pop_message(own)
                elif step == "fork":
                    ada.fork_conversation(own, one)
                elif step == "name":
                    ada.branches.create(own, one)
                elif step == "go":
                    ada.branches.switch(own, one)
                else:
                    verb = ada.branches.delete if step == "forget" else ada.branches.switch
                    verb(own, "main" if place == 0 else f"branch-{place}")
            except (Conflict, NotFound, ValueError):
                continue
        assert looked(app) == []

    histories()


def dump(app: Any) -> list[Any]:
    """Every row of the tables that a repair could touch."""
    tables = ("conversations", "conversation_messages", "conversation_tags", "conversation_branches")
    tables += ("conversation_idempotency",)
    return [sorted(map(str, sql(app, f"SELECT * FROM {table}"))) for table in tables]
