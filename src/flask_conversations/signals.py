"""Blinker signals, sent after commit, never before and never on rollback. The sender is the Flask app.

Each is sent with `identity` (an `Identity`, or None for the system) and `conversation`, `message` or `turn` (the JSON-ready dict as
the service returns it). Receivers run after the transaction has ended and may use the database; their errors are logged, and not
raised.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

conversation_created = _signals.signal("conversation-created")
"""A conversation exists; sent with `conversation`."""

conversation_updated = _signals.signal("conversation-updated")
"""Fields or the status of a conversation changed, or it was restored; sent with `conversation`."""

conversation_deleted = _signals.signal("conversation-deleted")
"""A conversation went to the trash or for good; sent with `conversation` (as it was) and `permanent`."""

message_saved = _signals.signal("message-saved")
"""A message was stored for the first time, replays excluded; sent with `message`."""

message_updated = _signals.signal("message-updated")
"""A message was edited or rated; sent with `message`."""

message_deleted = _signals.signal("message-deleted")
"""A message was deleted; sent with `message` (as it was)."""

turn_state_changed = _signals.signal("turn-state-changed")
"""A turn went from one state to the next, once for each step; sent with `turn` and `previous_state`, None for a turn that begins.

`turn` has `id`, `conversation_id`, `kind`, `protocol`, `state`, `outcome` (None while the turn lives), `question_id`, `answer_id`,
`error` (None, or `{"code", "detail"}`), `created_at`, `started_at` (None while it waits), `updated_at` and `ended_at`, and
no content. Both states are those of a conversation, or `waiting`: a turn that was completed or interrupted is `idle`,
and its `outcome` says which.
"""
