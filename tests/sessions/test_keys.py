"""Keys of any shape, each with a conversation of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_conversations.schemas import rules
from flask_conversations.sessions import keys

from .conftest import said

KEYS = [
    "s1",
    "0198f6a2-7c3e-7cc1-9a4e-3f1f5f6b7a8d",
    "messages",
    "..",
    "",
    " ",
    "ada@example.com",
    "Zoë/1",
    "S1",
    "5",
    5,
    -5,
    "a\0b",
    "\ud800",
    "x" * 100,
    "x" * 101,
    "y" * 5000,
    "-b64:YQ",
    "session:s1",
]


def test_every_key_has_its_own_deque(sessions_of):
    """Texts, long ones, empty ones, whole numbers, reserved words: told apart, listed, deleted."""
    ours = sessions_of("ada")
    for place, key in enumerate(KEYS):
        assert key not in ours
        ours[key].append(said(f"{place}"))
    assert list(ours) == KEYS
    assert [items[0]["content"] for items in ours.values()] == [f"{place}" for place in range(len(KEYS))]
    for key in KEYS:
        del ours[key]
        assert key not in ours
        ours[key].append(said("anew"))
    assert list(ours) == KEYS


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_other_keys_are_refused(sessions_of, subtests):
    """`SESSIONS[request.cookies.get("sid")]` without a cookie would be one deque for all who have none."""
    ours = sessions_of("ada")
    for key in (None, 1.5, True, ("a", "b"), b"a"):
        with subtests.test(key=key):
            assert key not in ours
            for use in (ours.__getitem__, ours.__delitem__, lambda key: ours.__setitem__(key, [])):
                with pytest.raises(TypeError, match="A key of the sessions"):
                    use(key)


def test_the_same_uuid_serves_two_users(sessions_of, bobs):
    """A browser's id is a UUID, and two people use one browser: it is no id of a conversation."""
    ours = sessions_of("ada", 3)
    ours[KEYS[1]].append(said("ada's"))
    assert KEYS[1] not in bobs
    bobs[KEYS[1]].append(said("bob's"))
    assert list(ours[KEYS[1]]) == [said("ada's")]
    assert list(bobs[KEYS[1]]) == [said("bob's")]


ANY_KEY = st.text() | st.text("ab.:-_", max_size=4) | st.integers()


@given(one=ANY_KEY, other=ANY_KEY)
def test_a_key_and_its_client_id_name_each_other(one, other):
    """Different keys have different client ids, all of them valid, and from each the key is found again."""
    later = keys.next_client_id(one, "0198f6a2-7c3e-7cc1-9a4e-3f1f5f6b7a8d")
    for client_id in (keys.client_id(one), later):
        assert rules.conversation_client_id(client_id) == client_id
        found = keys.key_of({"client_id": client_id, "metadata": keys.metadata(one)})
        assert (found, type(found)) == (one, type(one))
    assert (keys.client_id(one) == keys.client_id(other)) == (one == other and type(one) is type(other))
    assert later != keys.client_id(other)


@pytest.mark.parametrize(
    "client_id",
    [
        *(None, "s1", "sessions:a", "session", "session.1:a"),
        *("session-int:05", "session-int:x", "session-b64:YQ==", "session-b64:YQ", f"session-sha256:{'0' * 64}"),
    ],
)
def test_a_client_id_of_another_kind(client_id):
    """Only the one spelling that the sessions give a key is a key."""
    for metadata in (None, {}, {"session_key": "YQ"}, {"session_key": 5}):
        assert keys.key_of({"client_id": client_id, "metadata": metadata}) is None
