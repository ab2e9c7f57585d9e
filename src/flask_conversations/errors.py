"""Every error of the extension: its sentence, its HTTP status, its code, and whether trying again can help."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

FieldErrors = Mapping[str, Any]
"""Messages by field name, nested the way the input was nested."""


class ConversationsError(Exception):
    """Something went wrong with the conversations."""

    status = 500
    code = "internal_error"
    title = "Internal Server Error"
    retryable = False
    retry_after: int | None = None
    """Seconds a client should wait before it tries again, where waiting helps."""

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.detail)


class ConfigurationError(ConversationsError, RuntimeError):
    """The extension is not set up correctly."""

    code = "configuration_error"


class MalformedRequest(ConversationsError):
    """The request could not be read."""

    status, code, title = 400, "malformed_request", "Bad Request"


class IdentityRequired(ConversationsError):
    """No user is logged in, or the credentials are not valid."""

    status, code, title = 401, "identity_required", "Unauthorized"


class Forbidden(ConversationsError):
    """This is not allowed for you."""

    status, code, title = 403, "forbidden", "Forbidden"


class CsrfFailed(Forbidden):
    """The request carries a cookie but no proof that it comes from this site."""

    code = "csrf_failed"


class NotFound(ConversationsError):
    """There is no such thing, or it is not yours."""

    status, code, title = 404, "not_found", "Not Found"


class ConversationNotFound(NotFound):
    """There is no such conversation, or it is not yours."""

    code = "conversation_not_found"


class MessageNotFound(NotFound):
    """There is no such message in this conversation."""

    code = "message_not_found"


class ToolCallNotFound(NotFound):
    """There is no such tool call in this conversation."""

    code = "tool_call_not_found"


class BranchNotFound(NotFound):
    """There is no such branch in this conversation."""

    code = "branch_not_found"


class MethodNotAllowed(ConversationsError):
    """This address does not answer that method."""

    status, code, title = 405, "method_not_allowed", "Method Not Allowed"


class Conflict(ConversationsError):
    """The request contradicts what is stored."""

    status, code, title = 409, "conflict", "Conflict"


class VersionConflict(Conflict):
    """The conversation has changed since the version you named."""

    code = "version_conflict"

    def __init__(self, detail: str | None = None, *, current: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.current = current
        """The conversation as it is now."""


class PreconditionFailed(VersionConflict):
    """The If-Match precondition failed."""

    status, code, title = 412, "precondition_failed", "Precondition Failed"


class PreconditionRequired(ConversationsError):
    """This server wants an If-Match header with every change."""

    status, code, title = 428, "precondition_required", "Precondition Required"


class ClientIdConflict(Conflict):
    """This client id was used before, with other content."""

    code = "client_id_conflict"


class BranchExists(Conflict):
    """This conversation has a branch of that name already."""

    code = "branch_exists"


class BranchInUse(Conflict):
    """The active branch and `main` cannot be deleted."""

    code = "branch_in_use"


class TurnInProgress(Conflict):
    """Another turn is running in this conversation."""

    code, retryable, retry_after = "turn_in_progress", True, 1


class ToolCallSettled(Conflict):
    """This tool call was decided before."""

    code = "tool_call_settled"


class NoResponder(Conflict):
    """This app has no responder: register one, or answer in a route of your own."""

    code = "no_responder"


class RequestInProgress(Conflict):
    """The first request with this Idempotency-Key is still running."""

    code, retryable, retry_after = "request_in_progress", True, 1


class PayloadTooLarge(ConversationsError):
    """The request is larger than this server takes."""

    status, code, title = 413, "payload_too_large", "Content Too Large"


class UnsupportedMediaType(ConversationsError):
    """The body must be JSON, sent as application/json."""

    status, code, title = 415, "unsupported_media_type", "Unsupported Media Type"


class ValidationFailed(ConversationsError, ValueError):
    """Some fields are not valid."""

    status, code, title = 422, "validation_failed", "Unprocessable Content"

    def __init__(self, errors: FieldErrors | None = None, detail: str | None = None) -> None:
        super().__init__(detail or self._naming(errors))
        self.errors: dict[str, Any] = _by_legible_names(errors or {})

    def rename_fields(self, spelled: Callable[[Any], Any]) -> None:
        """Rename the fields to the spelling of the caller."""
        errors = spelled(self.errors)
        if self.detail == self._naming(self.errors):
            self.detail = self._naming(errors) or self.detail
        self.errors = errors

    def _naming(self, errors: FieldErrors | None) -> str | None:
        if not errors:
            return None
        names = sorted(map(_legible, errors))
        return f"{type(self).__doc__} See: {', '.join(names[:10])}{' and more' if len(names) > 10 else ''}."


def _by_legible_names(errors: FieldErrors) -> dict[str, Any]:
    return {_legible(name): _by_legible_names(one) if isinstance(one, Mapping) else one for name, one in errors.items()}


def _legible(name: Any) -> str:
    """The name of a field, fit to be repeated in an answer: a client may have sent any text."""
    text = str(name).encode("utf-8", "replace").decode()
    return text if len(text) <= 100 else f"{text[:99]}…"


class IdempotencyKeyReused(ValidationFailed):
    """This Idempotency-Key was used before, with another request."""

    code = "idempotency_key_reused"


class RateLimited(ConversationsError):
    """Too many requests."""

    status, code, title, retryable, retry_after = 429, "rate_limited", "Too Many Requests", True, 60

    def __init__(self, detail: str | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        if retry_after is not None:
            self.retry_after = retry_after


class StorageUnavailable(ConversationsError):
    """The database does not answer at the moment."""

    status, code, title, retryable, retry_after = 503, "storage_unavailable", "Service Unavailable", True, 2


class TransactionAborted(ConversationsError):
    """The transaction that this call would be part of has failed already: roll it back first."""

    code = "transaction_aborted"


class IdentityUnavailable(ConversationsError):
    """The server that knows the login keys does not answer at the moment."""

    status, code, title, retryable, retry_after = 503, "identity_unavailable", "Service Unavailable", True, 5


class SchemaMissing(StorageUnavailable):
    """The database has no conversation tables yet."""

    code, retryable = "schema_missing", False


def redacted_traceback(error: BaseException) -> str:
    """For logs: the type of an error, its causes, and the lines of its traceback.

    The messages of errors are left out, since they may repeat content of users.
    """
    causes: list[BaseException] = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    return "\nafter ".join(map(_type_and_places, causes))


def _type_and_places(error: BaseException) -> str:
    # not traceback.format_tb: it parses the source to mark columns, and in some CPython 3.11 two threads cannot do that at once
    places = (
        f'\n  File "{place.filename}", line {place.lineno}, in {place.name}\n    {place.line}'
        for place in traceback.extract_tb(error.__traceback__)
    )
    return f"{type(error).__name__}{''.join(places)}"
