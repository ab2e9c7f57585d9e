"""Errors of a model's endpoint, in sentences for the user: no key, no address, no content."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from ...turns import ResponderError

NO_COMPLETION = "The model's endpoint answered with something that is no chat completion."
CUT = "The model's answer was cut off."
SILENT = "The model answered with nothing."
TOO_LONG = "The model's answer is too long."
WITHHELD = "The model's endpoint withheld the answer."

_BY_CODE = {
    "context_length_exceeded": "This conversation is too long for the model.",
    "insufficient_quota": "The account that pays for the model is used up.",
}
_BY_STATUS = {
    401: "The model's endpoint did not accept our key.",
    402: _BY_CODE["insufficient_quota"],
    403: "The model's endpoint does not allow this with our key.",
    404: "The model's endpoint does not know this model, or has another address.",
    408: "The model took too long.",
    413: _BY_CODE["context_length_exceeded"],
    429: "The model is asked too often at the moment.",
}
_TEMPORARY = {408, 409, 425, 429}
"""Statuses after which another attempt may succeed, besides those from 500 on."""


class EndpointError(Exception):
    """The endpoint gave no answer, or a part of one."""

    def __init__(
        self, sentence: str, *, temporary: bool = False, retry_after: float | None = None, note: str = ""
    ) -> None:
        super().__init__(sentence)
        self.sentence, self.temporary, self.retry_after = sentence, temporary, retry_after
        self.note = note or type(self).__name__
        """A detail for the log."""

    def for_user(self) -> ResponderError:
        """The error that the user sees."""
        error = ResponderError(self.sentence)
        error.retryable = self.temporary
        error.retry_after = round(self.retry_after) if self.retry_after is not None else None
        return error


def refused(status: int, headers: Mapping[str, str], body: Any) -> EndpointError:
    """The error for an answer with this status."""
    code = _code(body)
    if 300 <= status < 400:
        return EndpointError("The model's endpoint redirected the request, which is not allowed.", note=str(status))
    general = f"The model's endpoint {'has a problem' if status >= 500 else 'refused the question'} ({status})."
    sentence = _BY_CODE.get(code) or _BY_STATUS.get(status) or general
    temporary = (status >= 500 or status in _TEMPORARY) and code not in _BY_CODE
    return EndpointError(
        sentence, temporary=temporary, retry_after=_retry_after(headers), note=f"{status} {code}".strip()
    )


def reported(error: Any) -> EndpointError:
    """The error that an endpoint reports in the middle of its answer."""
    code = _code({"error": error})
    sentence = _BY_CODE.get(code, "The model's endpoint has a problem.")
    return EndpointError(sentence, temporary=code not in _BY_CODE, note=f"reported {code}".strip())


def _code(body: Any) -> str:
    """The code of the error, if it is an identifier; a text might repeat the question."""
    error = body.get("error") if isinstance(body, dict) else None
    for key in ("code", "type"):
        code = error.get(key) if isinstance(error, dict) else None
        if isinstance(code, str) and len(code) <= 64 and code.isidentifier() and code.isascii():
            return code
    return ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that the endpoint wants us to wait."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.isascii() and value.replace(".", "", 1).isdigit():
            return float(value) * unit
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time())
    except (TypeError, ValueError, OverflowError):
        return None
