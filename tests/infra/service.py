"""The service as the REST API uses it."""

from __future__ import annotations

import json
from typing import Any

from flask_conversations.service import ConversationService, http
from flask_conversations.service.unit_of_work import Units


def units_of(service: ConversationService) -> Units:
    return service._units


def messages_json(service: ConversationService, conversation_id: str, **options: Any) -> Any:
    """A page of messages as `GET .../messages` answers it, parsed."""
    return json.loads(http.get_messages(units_of(service), conversation_id, **options))
