"""Changing conversations: fields, versions, archive, resolve, trash, permanent deletion and pruning."""

from __future__ import annotations

import datetime as dt

import pytest

from flask_conversations.errors import ClientIdConflict, NotFound, ValidationFailed, VersionConflict

from .tools import NEVER, check, check_invisible, contents, rows, sql


def test_fields_change_and_the_version_rises_by_one(ada, bob):
    """Each update sets what it names, leaves the rest, and is one step of the version."""
    chat = ada.create_conversation("a", folder="f", metadata={"x": 1})
    changed = ada.update_conversation(chat["id"], title="b", starred=True, tags=["t", "t", "u"], metadata={"y": None})
    assert changed["version"] == 2
    assert (changed["title"], changed["starred"], changed["folder"]) == ("b", True, "f")
    assert (changed["tags"], changed["metadata"]) == (["t", "u"], {"y": None})
    assert changed["updated_at"] > chat["updated_at"]
    assert changed["last_activity_at"] == chat["last_activity_at"]
    assert changed["etag"] != chat["etag"]
    assert ada.get_conversation(chat["id"]) == changed
    check_invisible(bob, chat["id"])


def test_none_takes_a_field_back(ada):
    """None empties an optional field, and makes the title the default one again."""
    chat = ada.create_conversation("a", folder="f", metadata={"x": 1}, context_type="c", page_context="p")
    changed = ada.update_conversation(
        chat["id"], title=None, folder=None, metadata=None, context_type=None, page_context=None
    )
    assert (changed["title"], changed["title_source"]) == ("New Conversation", "default")
    assert {changed[name] for name in ("folder", "metadata", "context_type", "page_context")} == {None}


def test_no_fields_change_nothing(ada):
    """An update without fields returns the conversation as it is."""
    chat = ada.create_conversation()
    assert ada.update_conversation(chat["id"]) == chat
    assert ada.update_conversation(chat["id"], expected_version=1) == chat
    with pytest.raises(VersionConflict):
        ada.update_conversation(chat["id"], expected_version=2)


def test_a_stale_version_is_refused_and_shows_the_current_one(ada):
    """expected_version lets nothing be overwritten unseen; the error carries the conversation as it is now."""
    chat = ada.create_conversation("a")
    theirs = ada.update_conversation(chat["id"], title="b")
    with pytest.raises(VersionConflict) as refused:
        ada.update_conversation(chat["id"], title="c", expected_version=chat["version"])
    assert refused.value.current == theirs == ada.get_conversation(chat["id"])
    assert ada.update_conversation(chat["id"], title="c", expected_version=theirs["version"])["version"] == 3


def test_an_expected_version_is_a_whole_number(ada, subtests):
    """A version that none can be is refused by name."""
    chat = ada.create_conversation("a")
    for bad in (-1, "1", 1.0, True, 2**63, [1]):
        with subtests.test(expected_version=bad):
            with pytest.raises(ValidationFailed) as refused:
                ada.update_conversation(chat["id"], title="b", expected_version=bad)
            assert list(refused.value.errors) == ["expected_version"]
            assert ada.get_conversation(chat["id"]) == chat


def test_unknown_and_own_fields_are_refused(ada, subtests):
    """Owner, counters and unknown fields cannot be set."""
    chat = ada.create_conversation("a")
    for field in ("id", "user_id", "org_id", "version", "checksum", "message_count", "nonsense"):
        with subtests.test(field):
            with pytest.raises(ValidationFailed) as refused:
                ada.update_conversation(chat["id"], title="b", **{field: "x"})
            assert list(refused.value.errors) == [field]
            assert ada.get_conversation(chat["id"]) == chat


def test_every_verb_refuses_a_stranger(ada, bob):
    """No verb changes or reveals another user's conversation, deleted or not."""
    chat = ada.create_conversation("secret")
    for verb in ("update_conversation", "archive_conversation", "unarchive_conversation", "resolve_conversation"):
        with pytest.raises(NotFound):
            getattr(bob, verb)(chat["id"])
    with pytest.raises(NotFound):
        bob.update_conversation(chat["id"], title="mine")
    with pytest.raises(NotFound):
        bob.restore_conversation(chat["id"])
    assert bob.delete_conversation(chat["id"]) is False
    assert bob.delete_conversation(chat["id"], permanent=True) is False
    assert ada.get_conversation(chat["id"]) == chat
    ada.delete_conversation(chat["id"])
    with pytest.raises(NotFound):
        bob.restore_conversation(chat["id"])
    assert bob.delete_conversation(chat["id"], permanent=True) is False
    assert ada.restore_conversation(chat["id"])["title"] == "secret"


def test_archive_and_back(ada):
    """Archiving sets status and time, is one step, may be repeated without effect, and can be undone."""
    chat = ada.create_conversation()
    archived = ada.archive_conversation(chat["id"])
    assert (archived["status"], archived["version"]) == ("archived", 2)
    assert archived["archived_at"] is not None
    assert ada.archive_conversation(chat["id"]) == archived
    back = ada.unarchive_conversation(chat["id"])
    assert (back["status"], back["archived_at"], back["version"]) == ("active", None, 3)
    assert ada.unarchive_conversation(chat["id"]) == back


def test_resolve(ada):
    """Resolving sets resolved_at; the conversation can still be written to, archived and reopened."""
    chat = ada.create_conversation()
    resolved = ada.resolve_conversation(chat["id"])
    assert (resolved["status"], resolved["archived_at"]) == ("resolved", None)
    assert resolved["resolved_at"] is not None
    assert ada.resolve_conversation(chat["id"]) == resolved
    ada.save_message(chat["id"], "user", "one more thing")
    archived = ada.archive_conversation(chat["id"])
    assert (archived["status"], archived["resolved_at"]) == ("archived", None)
    assert ada.unarchive_conversation(chat["id"])["status"] == "active"


def test_a_status_can_be_set_as_a_field(ada):
    """Status is a field like any other, its times go with it, and the trash is not reached that way."""
    chat = ada.create_conversation()
    assert ada.update_conversation(chat["id"], status="archived")["archived_at"] is not None
    assert ada.update_conversation(chat["id"], status="active")["archived_at"] is None
    for bad in ("deleted", "ACTIVE", None, 1):
        with pytest.raises(ValidationFailed):
            ada.update_conversation(chat["id"], status=bad)


def test_the_trash_hides_at_once_and_gives_back_everything(ada):
    """A deleted conversation is invisible to every read and write, and comes back as it was."""
    chat = ada.create_conversation("T", id="c-1", tags=["t"], messages=[{"role": "user", "content": "hi"}])
    message = ada.get_messages("c-1")["messages"][0]
    assert ada.delete_conversation("c-1") is True
    assert ada.delete_conversation("c-1") is False
    for call in (
        lambda: ada.get_conversation("c-1"),
        lambda: ada.get_messages("c-1"),
        lambda: ada.get_message("c-1", message["id"]),
        lambda: ada.get_conversation_history("c-1"),
        lambda: ada.save_message("c-1", "user", "x"),
        lambda: ada.save_messages("c-1", [{"role": "user", "content": "x"}]),
        lambda: ada.save_messages("c-1", []),
        lambda: ada.update_conversation("c-1", title="x"),
        lambda: ada.update_message("c-1", message["id"], content="x"),
        lambda: ada.delete_message("c-1", message["id"]),
        lambda: ada.rate_message("c-1", message["id"], "up"),
        lambda: ada.pop_message("c-1"),
        lambda: ada.clear_conversation("c-1"),
        lambda: ada.replace_messages("c-1", []),
        lambda: ada.archive_conversation("c-1"),
    ):
        with pytest.raises(NotFound):
            call()
    assert ada.list_conversations(tag="t")["conversations"] == []
    assert [one["id"] for one in ada.list_conversations(status="deleted")["conversations"]] == [chat["id"]]
    restored = ada.restore_conversation("c-1")
    assert (restored["status"], restored["deleted_at"], restored["version"]) == ("active", None, 3)
    assert contents(ada, "c-1") == ["hi"]
    assert ada.list_conversations(tag="t")["conversations"] == [restored]
    check(ada, chat["id"])


@pytest.mark.parametrize("verb", ["archive", "resolve"])
def test_restored_to_where_it_was(ada, verb):
    """A conversation that was archived or resolved before it was deleted is so again."""
    chat = ada.create_conversation()
    before = getattr(ada, f"{verb}_conversation")(chat["id"])
    ada.delete_conversation(chat["id"])
    assert ada.restore_conversation(chat["id"])["status"] == before["status"]


def test_restoring_what_is_not_deleted_changes_nothing(ada):
    """A conversation outside the trash stays as it is; a missing one is not found."""
    chat = ada.create_conversation()
    assert ada.restore_conversation(chat["id"]) == chat
    with pytest.raises(NotFound):
        ada.restore_conversation(NEVER)


def test_permanent_deletion_leaves_no_row(app, ada, bob):
    """Permanent deletion removes messages, tags and all, from the trash too, and no other user's rows."""
    his = bob.create_conversation(tags=["t"], messages=[{"role": "user", "content": "his"}])
    for trash_first in (False, True):
        chat = ada.create_conversation(tags=["t"], messages=[{"role": "user", "content": "hers"}])
        if trash_first:
            ada.delete_conversation(chat["id"])
        assert ada.delete_conversation(chat["id"], permanent=True) is True
        assert ada.delete_conversation(chat["id"], permanent=True) is False
    assert {name: count for name, count in rows(app).items() if count} == {
        "conversations": 1,
        "conversation_messages": 1,
        "conversation_tags": 1,
    }
    assert contents(bob, his["id"]) == ["his"]


def test_without_a_trash_deletion_is_permanent(make_app):
    """CONVERSATIONS_TRASH_DAYS = 0 deletes at once."""
    app = make_app(CONVERSATIONS_TRASH_DAYS=0)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation(messages=[{"role": "user", "content": "x"}])
    assert ada.delete_conversation(chat["id"]) is True
    assert not any(rows(app).values())
    with pytest.raises(NotFound):
        ada.restore_conversation(chat["id"])


def test_permanent_is_a_boolean(ada):
    """Nothing is deleted for good on a guess."""
    chat = ada.create_conversation()
    for bad in ("true", 1, None):
        with pytest.raises(ValidationFailed):
            ada.delete_conversation(chat["id"], permanent=bad)
        assert ada.conversation_exists(chat["id"])


def grow_older(app, conversation, **ago):
    """Set the times of a conversation back, as if *ago* had passed."""
    at = dt.datetime.now(dt.timezone.utc) - dt.timedelta(**ago)
    model = app.conversations.models.Conversation
    with app.app_context():
        app.db.session.query(model).filter_by(id=conversation["id"]).update({"deleted_at": at, "updated_at": at})
        app.db.session.commit()


def test_prune_empties_the_old_trash_only(app, ada, bob):
    """What lay in the trash longer than the settings say goes for good; younger trash, live ones and others' stay."""
    old, young, live = (ada.create_conversation(name) for name in ("old", "young", "live"))
    his = bob.create_conversation("his")
    for service, chat in ((ada, old), (ada, young), (bob, his)):
        service.delete_conversation(chat["id"])
    for chat in (old, his):
        grow_older(app, chat, days=31)
    grow_older(app, young, days=29)
    assert ada.prune(dry_run=True) == 1
    assert ada.prune() == 1
    assert ada.prune() == 0
    with pytest.raises(NotFound):
        ada.restore_conversation(old["id"])
    assert ada.restore_conversation(young["id"])["title"] == "young"
    assert ada.get_conversation(live["id"]) == live
    assert bob.restore_conversation(his["id"])["title"] == "his"


def test_the_system_prunes_everybodys(app, conversations, ada, bob):
    """As the system, prune covers all users, at most *limit* a call."""
    for service in (ada, bob):
        chat = service.create_conversation(messages=[{"role": "user", "content": "x"}], tags=["t"])
        service.delete_conversation(chat["id"])
        grow_older(app, chat, days=31)
    system = conversations.as_system(app=app)
    assert [system.prune(limit=1), system.prune(limit=1), system.prune(limit=1)] == [1, 1, 0]
    assert not any(rows(app).values())


def test_prune_removes_forgotten_temporary_conversations(app, ada):
    """A temporary conversation without a change for CONVERSATIONS_TEMPORARY_HOURS goes."""
    old, young = (ada.create_conversation(temporary=True) for _ in range(2))
    sql(app, "UPDATE conversations SET updated_at = :at WHERE id = :id", at="2020-01-01 00:00:00", id=key(app, old))
    assert ada.prune() == 1
    assert not ada.conversation_exists(old["id"])
    assert ada.conversation_exists(young["id"])


def key(app, row):
    """The id as raw SQL needs it."""
    with app.app_context():
        return row["id"].replace("-", "") if app.db.engine.name == "sqlite" else row["id"]


def guest(app, name="guest:1"):
    return app.conversations.as_user(name, app=app)


def test_claim_moves_everything_of_the_guest(app, ada, bob):
    """Signing in takes over the guest's conversations, trash, tags and messages; the guest has nothing left."""
    visitor, other = guest(app), guest(app, "guest:2")
    chat = visitor.create_conversation("T", tags=["t"], messages=[{"role": "user", "content": "hi"}])
    trashed = visitor.create_conversation("gone")
    visitor.delete_conversation(trashed["id"])
    kept = other.create_conversation("other guest's")
    hers = ada.create_conversation("hers")
    assert ada.claim("guest:1") == 2
    assert ada.claim("guest:1") == 0
    claimed = ada.get_conversation(chat["id"])
    assert (claimed["user_id"], claimed["version"]) == ("ada", chat["version"] + 1)
    assert ada.list_conversations(tag="t")["conversations"] == [claimed]
    assert ada.restore_conversation(trashed["id"])["title"] == "gone"
    check_invisible(visitor, chat["id"])
    check_invisible(bob, chat["id"])
    assert other.get_conversation(kept["id"]) == kept
    assert ada.get_conversation(hers["id"]) == hers
    ada.save_message(chat["id"], "assistant", "hello")
    check(ada, chat["id"])


def test_claim_keeps_both_where_client_ids_collide(app, ada):
    """A client id that both used stays with the user's own; the guest's conversation keeps its id."""
    theirs = guest(app).create_conversation("guest's", id="c-1")
    mine = ada.create_conversation("mine", id="c-1")
    assert ada.claim("guest:1") == 1
    assert ada.get_conversation("c-1")["id"] == mine["id"]
    assert ada.get_conversation(theirs["id"])["client_id"] is None


def test_only_a_guest_can_be_claimed_and_only_by_a_user(app, ada, bob, conversations):
    """No user claims another user's conversations, and no guest claims another guest's."""
    chat = bob.create_conversation("his")
    for bad in ("bob", "", "Guest:1", " guest:1", None, 7):
        with pytest.raises(ValidationFailed):
            ada.claim(bad)
    guest(app, "guest:2").create_conversation()
    with pytest.raises(ValidationFailed):
        guest(app).claim("guest:2")
    with pytest.raises(ValidationFailed):
        conversations.as_system(app=app).claim("guest:2")
    assert bob.get_conversation(chat["id"]) == chat


def test_a_claimed_client_id_is_one_of_the_users_own(app, ada):
    """After claiming, creating again with the guest's client id returns the claimed conversation."""
    chat = guest(app).create_conversation("T", id="c-1")
    ada.claim("guest:1")
    assert ada.create_conversation("again", id="c-1")["id"] == chat["id"]
    with pytest.raises(ClientIdConflict):
        guest(app).create_conversation("again", id=chat["id"])
