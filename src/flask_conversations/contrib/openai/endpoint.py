"""The HTTP request to an endpoint, retried as long as no part of the answer was passed on."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx

from ...turns import Reasoning, Usage
from .connection import CancellableConnection, ConnectionWatcher
from .errors import CUT, EndpointError, refused
from .reading import RequestedCall, chunks_of, read

JSON = dict[str, Any]

CONNECT_SECONDS = 10.0
MAX_RETRY_WAIT = 30.0
"""Seconds before another attempt; an endpoint that asks for more is not retried."""
MAX_ERROR_BYTES = 64 * 1024
"""Bytes that are read of an error response."""

_log = logging.getLogger("flask_conversations")


class Endpoint:
    """The address of chat completions, with its timeouts and retries."""

    backoff = 0.5
    """Seconds before the second attempt, about; then twice as long each time."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        headers: Mapping[str, str],
        *,
        timeout: float,
        deadline: float,
        retries: int,
    ) -> None:
        self._url = _address(base_url)
        self._headers = _headers(api_key, headers)
        self._timeout, self._deadline, self._retries = timeout, deadline, retries
        self._watcher = ConnectionWatcher()
        self._tls = httpx.create_ssl_context()

    @contextlib.contextmanager
    def session(self, is_cancelled: Callable[[], bool]) -> Iterator[Session]:
        """The requests of one turn, on one connection, which is closed with the block."""
        connection = CancellableConnection(is_cancelled)
        timeout = httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout))
        # no redirects: the key is meant for this address
        client = httpx.Client(verify=self._tls, timeout=timeout, headers=self._headers, follow_redirects=False)
        with self._watcher.watch(connection), client:
            yield Session(self, client, connection)

    def post(
        self, client: httpx.Client, connection: CancellableConnection, payload: JSON
    ) -> Iterator[str | Reasoning | RequestedCall | Usage]:
        """One attempt. Raises `EndpointError`."""
        deadline = time.monotonic() + self._deadline
        content, extensions = json.dumps(payload).encode(), {"trace": connection.trace}
        with self._errors("The model cannot be reached at the moment."):
            request = client.build_request("POST", self._url, content=content, extensions=extensions)
            response = client.send(request, stream=True)
        with contextlib.closing(response):
            if not response.is_success:
                raise refused(response.status_code, response.headers, self._reason(response))
            yield from read(chunks_of(response.headers.get("content-type", ""), self._bytes(response, deadline)))

    def pause(self, attempt: int, error: EndpointError, is_cancelled: Callable[[], bool]) -> bool:
        """Wait before attempt number *attempt* + 1. False if there should be none."""
        seconds = error.retry_after
        if seconds is None:
            seconds = min(self.backoff * 2**attempt * random.uniform(0.5, 1), MAX_RETRY_WAIT)
        if not error.temporary or attempt >= self._retries or seconds > MAX_RETRY_WAIT:
            return False
        ends = time.monotonic() + seconds
        while not is_cancelled() and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return not is_cancelled()

    @property
    def host(self) -> str:
        return self._url.netloc.decode()

    def _bytes(self, response: httpx.Response, deadline: float) -> Iterator[bytes]:
        with self._errors(CUT):
            for piece in response.iter_bytes():
                yield piece
                if time.monotonic() > deadline:
                    raise EndpointError(f"The model took longer than {_seconds(self._deadline)}.", note="deadline")

    def _reason(self, response: httpx.Response) -> Any:
        """The JSON of an error response, None if it is something else."""
        body = b""
        try:
            for piece in response.iter_bytes():
                body += piece
                if len(body) > MAX_ERROR_BYTES:
                    break
            return json.loads(body)
        except (httpx.HTTPError, ValueError, RecursionError):
            return None

    @contextlib.contextmanager
    def _errors(self, sentence: str) -> Iterator[None]:
        try:
            yield
        except httpx.ConnectTimeout as error:
            raise EndpointError(
                "The model cannot be reached at the moment.", temporary=True, note="ConnectTimeout"
            ) from error
        except httpx.TimeoutException as error:
            silent = f"The model said nothing for {_seconds(self._timeout)}."
            raise EndpointError(silent, temporary=True, note=type(error).__name__) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise EndpointError(sentence, temporary=True, note=type(error).__name__) from error


class Session:
    """The requests of one turn."""

    def __init__(self, endpoint: Endpoint, client: httpx.Client, connection: CancellableConnection) -> None:
        self._endpoint, self._client, self._connection = endpoint, client, connection

    def ask(self, payload: JSON) -> Iterator[str | Reasoning | RequestedCall | Usage]:
        """The model's answer, as it comes. Ends early when the turn is cancelled. Raises `ResponderError`."""
        attempt = 0
        while True:
            passed_on = False
            try:
                for piece in self._endpoint.post(self._client, self._connection, payload):
                    passed_on = True
                    yield piece
                return
            except EndpointError as error:
                if self._connection.is_cancelled():
                    return
                # no retry once a reader has received the beginning
                if passed_on or not self._endpoint.pause(attempt, error, self._connection.is_cancelled):
                    self._log(logging.WARNING, "gave no answer" if not passed_on else "broke off", attempt, error)
                    if self._connection.is_cancelled():
                        return
                    raise error.for_user() from None
                self._log(logging.INFO, "will be retried", attempt, error)
            attempt += 1

    def _log(self, level: int, event: str, attempt: int, error: EndpointError) -> None:
        _log.log(
            level, "The model's endpoint %s %s (attempt %d: %s).", self._endpoint.host, event, attempt + 1, error.note
        )


def _seconds(number: float) -> str:
    return "a second" if number == 1 else f"{number:g} seconds"


def _address(base_url: str) -> httpx.URL:
    """The address of the completions; a query, as in URLs of Azure, stays at the end."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError):
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("base_url is the address of an OpenAI-compatible API, as https://api.openai.com/v1.")
    return url.copy_with(path=f"{url.path.rstrip('/')}/chat/completions")


def _headers(api_key: str | None, given: Mapping[str, str]) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
    key = (api_key or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("api_key has characters that no header can carry.")
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return {**headers, **given}
