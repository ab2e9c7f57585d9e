"""Where the question of a turn comes from: it is new, put differently, or was asked before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ClientIdConflict, ValidationFailed
from ...schemas import messages as schema
from ...schemas.common import preview_of
from ...store import conversations as conversation_rows
from ...store import messages as rows
from .shapes import EDIT, HOST, RECORD, SEND, Asked
from .steps import Steps


class Questions(Steps):
    """How a turn gets its question."""

    def _put_question(self, conversation: Any, kind: str, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Make the question the newest message of the active branch."""
        row, message_id = request["row"], request["message_id"]
        if kind in (SEND, HOST) and row is not None:
            return self.append_prepared(conversation.id, dict(row))
        if kind == EDIT:
            return self._put_differently(conversation, self._live(conversation, message_id), dict(row))
        if kind == RECORD:
            newest = rows.newest(self.store, conversation.id, limit=1)
            return schema.dump(newest.rows[0]) if newest and newest.rows else None
        question = self._question_before(conversation, message_id)
        if question.id != conversation.head_id:
            self._turn_to(conversation, question.id, question.content)
        return schema.dump(question)

    def _check_request(self, conversation: Any, asked: Asked, row: Mapping[str, Any] | None) -> None:
        """Refuse now what could not begin once it is its turn. Raises what it would raise then."""
        if asked.kind == EDIT:
            _check_is_question(self._live(conversation, asked.message_id))
        elif asked.message_id is not None:
            self._question_before(conversation, asked.message_id)
        if row is None:
            return
        if row.get("parent_id") and rows.one(self.store, conversation.id, row["parent_id"]) is None:
            raise ValidationFailed({"parent_id": ["There is no such message in this conversation."]})
        if rows.one(self.store, conversation.id, row["id"]) is not None:
            raise ClientIdConflict("This id is taken.")

    def _put_differently(self, conversation: Any, original: Any, row: dict[str, Any]) -> Mapping[str, Any]:
        """A new question beside *original*, which stays with all that came after it."""
        _check_is_question(original)
        version = conversation.version + 1
        self._turn_to(conversation, original.parent_id, None)
        message = self.append_prepared(conversation.id, row)
        conversation_rows.set_version(self.store, conversation, version)
        rows.set_version(self.store, conversation, version)
        message["version"] = version
        return message

    def _turn_to(self, conversation: Any, head_id: str | None, content: str | None) -> None:
        preview = preview_of(content) if content is not None else conversation.preview
        values = {"head_id": head_id, "branched": True, "preview": preview}
        conversation_rows.change(self.store, conversation.id, values)

    def _question_before(self, conversation: Any, message_id: str | None) -> Any:
        """The message itself if it is a question, else the one that it answers."""
        found = self._live(conversation, message_id or conversation.head_id)
        while found.role != "user":
            if found.parent_id is None:
                raise ValidationFailed({"message_id": ["There is no question before this message."]})
            found = self._live(conversation, found.parent_id)
        return found


def _check_is_question(message: Any) -> None:
    if message.role != "user":
        raise ValidationFailed({"message_id": ["Only a question can be put differently: this is an answer."]})
