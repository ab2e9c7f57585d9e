"""Hybrid mode: both halves written, either read, compared, switched, and nothing lost when the database fails."""

from __future__ import annotations

import logging

import pytest
import sqlalchemy as sa

from flask_conversations.errors import ConfigurationError, StorageUnavailable

from .conftest import said


@pytest.fixture
def both(sessions_of):
    """Ada's sessions in both halves, read from memory."""
    return sessions_of("ada", 3, write="both", read="memory")


def restarted(sessions, sessions_of):
    """The same sessions in a process that has just begun."""
    return sessions_of("ada", sessions.maxlen, write=sessions.mode.write, read=sessions.mode.read)


def test_each_write_is_in_both_halves(both, sessions_of, statements, app):
    """The database has what memory shows, and a read asks memory only."""
    for each in "abcd":
        both["s1"].append(said(each))
    both["s1"].pop()
    with statements(app) as seen:
        assert list(both["s1"]) == [said("b"), said("c")]
    assert seen == []
    assert list(sessions_of("ada", 3)["s1"]) == [said("b"), said("c")]
    assert both.compare() == {"write": "both", "read": "memory", "compared": 1, "differences": [], "failures": 0}


def test_two_users_share_no_memory(conversations, app):
    """The dict of before gave one key's deque to every caller with the key; the memory half does not."""
    sessions = conversations.sessions(3, write="both", read="memory")
    ada, bob, acme = (
        sessions.as_user("ada", app=app),
        sessions.as_user("bob", app=app),
        sessions.as_user("ada", "acme", app=app),
    )
    ada["s1"].append(said("Ada's"))
    for other in (bob, acme):
        assert "s1" not in other
        assert list(other["s1"]) == []
        assert list(other) == []
        other["s1"].append(said("mine"))
    del bob["s1"]
    assert list(ada["s1"]) == [said("Ada's")]
    assert ada.compare()["compared"] == 1
    assert sessions.as_user("system", app=app).compare(everyone=True)["compared"] == 3


def test_what_is_appended_is_copied(both):
    """Changing it afterwards changes neither half: the halves stay the same."""
    item = said("a", tags=["x"])
    both["s1"].append(item)
    item["content"] = "b"
    item["tags"].append("y")
    assert list(both["s1"]) == [said("a", tags=["x"])]
    with pytest.raises(TypeError, match="copy"):
        both["s1"][-1]["content"] = "b"


def test_a_process_that_begins_reads_what_is_stored(both, sessions_of):
    """Memory is filled from the database, key by key: a restart forgets nothing."""
    both["s1"].append(said("a"))
    fresh = restarted(both, sessions_of)
    assert list(fresh) == ["s1"]
    fresh["s1"].append(said("b"))
    assert list(fresh["s1"]) == [said("a"), said("b")]


def test_differences_are_logged_without_content(both, ada, caplog):
    """How many items, where they first differ, and nothing of what was said or of the key in the log."""
    both["s1"].extend([said("alpha"), said("beta")])
    both["s2"].append(said("gamma"))
    both["s3"].append(said("delta"))
    message = ada.get_messages("session:s1")["messages"][-1]
    ada.update_message("session:s1", message["id"], content="changed")
    ada.save_message("session:s1", "user", "more")
    ada.delete_conversation("session:s2")
    with caplog.at_level(logging.DEBUG, "flask_conversations"):
        report = both.compare()
    one = {"user_id": "ada", "org_id": None, "owed": 0, "refused": 0}
    assert report["differences"] == [
        {**one, "key": "s1", "memory": 2, "database": 3, "first_difference": 1},
        {**one, "key": "s2", "memory": 1, "database": None, "first_difference": 0},
    ]
    assert "2 of 3" in caplog.text
    for word in ("alpha", "beta", "gamma", "changed", "more", "s1"):
        assert word not in caplog.text
        assert word == "s1" or word not in str(report)


def test_switching_to_memory_fetches_what_the_process_lacks(sessions_of):
    """What other workers have written, and what was written before, is there after the switch; and back."""
    ours, other = sessions_of("ada", 3, write="both"), sessions_of("ada", 3)
    ours["s1"].append(said("a"))
    other["s1"].append(said("b"))
    other["s2"].append(said("c"))
    ours.switch(read="memory")
    assert list(ours["s1"]) == [said("a"), said("b")]
    assert list(ours) == ["s1", "s2"]
    ours["s1"].append(said("d"))
    ours.switch(write="database", read="database")
    assert list(ours["s1"]) == [said("a"), said("b"), said("d")]
    ours["s1"].append(said("e"))
    ours.switch(write="both", read="memory")
    assert list(ours["s1"]) == [said("b"), said("d"), said("e")]


def test_memory_alone_is_an_emergency_that_loses_nothing(sessions_of, statements, app, ada):
    """With write="memory" the database gets nothing for a while; back in both halves, it gets all of it."""
    ours = sessions_of("ada", 3, write="both", read="memory")
    ours["s1"].append(said("a"))
    ours.switch(write="memory")
    with statements(app) as seen:
        ours["s1"].append(said("b"))
        ours["s1"].extend([said("c"), said("d")])
        ours["s1"].popleft()
    assert seen == []
    [difference] = ours.compare()["differences"]
    assert (difference["owed"], difference["database"]) == (3, 1)
    ours["s2"].append(said("e"))
    ours.switch(write="both", read="database")
    assert list(ours["s1"]) == [said("c"), said("d")]
    assert list(ours) == ["s1", "s2"]
    assert [each["content"] for each in ada.get_messages("session:s1")["messages"]] == list("abcd")


def test_a_database_that_is_out_does_not_stop_memory(both, sessions_of, unreachable, caplog):
    """Reads and writes go on, the failure is counted and said once; the next write after it brings the database up to date."""
    both["s1"].append(said("a"))
    unreachable(True)
    with caplog.at_level(logging.INFO, "flask_conversations"):
        both["s1"].append(said("b"))
        both["s1"].extend([said("c"), said("d")])
        both["s1"].pop()
        both["s2"].append(said("e"))
        assert list(both["s1"]) == [said("b"), said("c")]
        assert list(both["s2"]) == [said("e")]
        assert list(both["s3"]) == []
        assert list(both) == ["s1", "s2"]
        both["s4"].append(said("f"))
        del both["s4"]
        assert "s4" not in both
    [record] = [record for record in caplog.records if record.name == "flask_conversations"]
    assert (
        record.getMessage()
        == "Sessions: the database fails with StorageUnavailable; this process keeps the pending changes."
    )
    for call in (both.compare, both.sync):
        with pytest.raises(StorageUnavailable):
            call()
    unreachable(False)
    report = both.compare()
    assert report["failures"] >= 1
    assert [(each["key"], each["owed"]) for each in report["differences"]] == [("s1", 3), ("s2", 1), ("s4", 2)]
    until_repaired(both, "s1")
    stored = sessions_of("ada", 3)
    assert list(stored["s1"])[:2] == [said("b"), said("c")]
    assert "s2" not in stored
    both.sync()
    assert list(stored["s2"]) == [said("e")]
    assert both.compare()["differences"] == []
    assert "answers again" in caplog.text


def until_repaired(sessions, key):
    """Write until the pause after the failures is over: no more than a few times."""
    for _ in range(1000):
        sessions[key].append(said("x"))
        sessions[key].pop()
        if not any(each["key"] == key for each in sessions.compare()["differences"]):
            return
    raise AssertionError("The database was not brought up to date.")


def test_read_from_the_database_fails_where_the_database_fails(sessions_of, unreachable):
    """Nothing is pretended: the call raises, and memory does not have what the database has not."""
    ours = sessions_of("ada", 3, write="both", read="database")
    ours["s1"].append(said("a"))
    unreachable(True)
    for call in (
        lambda: ours["s1"].append(said("b")),
        lambda: list(ours["s1"]),
        lambda: "s1" in ours,
        lambda: list(ours),
    ):
        with pytest.raises(StorageUnavailable):
            call()
    ours.switch(read="memory")
    assert list(ours["s1"]) == [said("a")]
    ours["s1"].append(said("c"))
    unreachable(False)
    ours.switch(read="database")
    assert list(ours["s1"]) == [said("a"), said("c")]


def test_pending_changes_are_saved_before_the_database_is_read(sessions_of, unreachable):
    """Switching to the database while it still lacks something: a read brings it up first, or raises."""
    ours = sessions_of("ada", 3, write="both", read="memory")
    unreachable(True)
    ours["s1"].append(said("a"))
    ours["s2"].append(said("b"))
    ours.switch(write="database", read="database")
    with pytest.raises(StorageUnavailable):
        list(ours["s1"])
    unreachable(False)
    assert list(ours["s1"]) == [said("a")]
    assert list(ours) == ["s1", "s2"]
    assert "s2" in ours


def test_a_commit_whose_answer_was_lost_is_not_saved_twice(both, app, ada):
    """The database has the message, the process does not know: it says it again, and it is there once."""
    with app.app_context():
        engine = app.db.engine

    def cut(connection):
        connection.connection.dbapi_connection.commit()
        sa.event.remove(engine, "commit", cut)
        raise sa.exc.OperationalError("COMMIT", {}, Exception("the line was cut"))

    both["s1"].append(said("a"))
    sa.event.listen(engine, "commit", cut)
    both["s1"].append(said("b"))
    assert list(both["s1"]) == [said("a"), said("b")]
    both.sync()
    assert [each["content"] for each in ada.get_messages("session:s1")["messages"]] == ["a", "b"]
    assert both.compare() | {"failures": 1} == both.compare()
    assert both.compare()["differences"] == []


def test_what_the_database_refuses_does_not_stop_memory(both, sessions_of):
    """An object that is no JSON stays in memory, is counted as refused, and what comes after it is stored."""
    both["s1"].append(said("fine"))
    both["s1"].append(said("odd", value={1, 2}))
    both["s1"].append(said("fine too"))
    assert list(both["s1"]) == [said("fine"), said("odd", value={1, 2}), said("fine too")]
    assert list(sessions_of("ada", 3)["s1"]) == [said("fine"), said("fine too")]
    [difference] = both.compare()["differences"]
    assert (difference["first_difference"], difference["owed"], difference["refused"]) == (1, 0, 1)


def test_a_locked_database_is_left_alone_for_a_while(make_app, database):
    """A wait that ended in vain is followed by a rest: the next writes do not wait again, and nothing is lost."""
    app = make_app(CONVERSATIONS_LOCK_TIMEOUT=0.2)
    sessions = app.conversations.sessions(3, write="both", read="memory").as_user("ada", app=app)
    sessions["s1"].append(said("a"))
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        if database.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.exec_driver_sql("SELECT * FROM conversations FOR UPDATE")
        for each in "bcdef":
            sessions["s1"].append(said(each))
        assert list(sessions["s1"]) == [said(each) for each in "def"]
        assert sessions._memory.failures == 1
        connection.rollback()
    engine.dispose()
    sessions.sync()
    assert sessions.compare()["differences"] == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_database_that_gives_no_permission(both, app, database):
    """A grant was forgotten: memory goes on, and the database is brought up to date once it is there."""
    refuse = "RAISE EXCEPTION 'permission denied' USING ERRCODE = '42501'"
    with app.app_context():
        table = app.conversations.models.Message.__table__.name
    with database.engine.connect() as connection:
        connection.exec_driver_sql(
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse}; END $$;"
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
        try:
            both["s1"].append(said("a"))
            assert list(both["s1"]) == [said("a")]
            with pytest.raises(sa.exc.ProgrammingError):
                both.sync()
        finally:
            connection.exec_driver_sql("DROP FUNCTION refuse() CASCADE")
    both.sync()
    assert both.compare()["differences"] == []


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_mode_that_makes_no_sense(conversations, subtests):
    """Refused with the ones that do, at the start and at a switch, which then changes nothing."""
    for write, read in (("database", "memory"), ("memory", "database"), ("all", "database"), ("both", "")):
        with subtests.test(write=write, read=read):
            with pytest.raises(ConfigurationError, match="write='both' with read='memory'"):
                conversations.sessions(write=write, read=read)
            sessions = conversations.sessions()
            with pytest.raises(ConfigurationError):
                sessions.switch(write=write, read=read or "none")
            assert tuple(sessions.mode) == ("database", "database")
            assert "database" in repr(sessions)
