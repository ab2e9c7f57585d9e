"""Keys from the login server's address: fetched rarely, never guessed. The server here is a real one on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from flask_conversations.errors import IdentityUnavailable
from flask_conversations.identity import AnonymousIdentity, ChainIdentity, JWTIdentity
from flask_conversations.identity.jwks import COOLDOWN, FRESH, PAUSE, KeySet

from .bad_tokens import signed
from .tools import KEY, token, who, whoami_app

FIRST = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SECOND = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CURVE = ec.generate_private_key(ec.SECP256R1())


def published(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    algorithm = ECAlgorithm if isinstance(key, ec.EllipticCurvePrivateKey) else RSAAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", **more}


class LoginServer(ThreadingHTTPServer):
    """Publishes `keys`, or answers with `body` and `status` if they are set; counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.keys: list[dict[str, Any]] = [published(FIRST, "first")]
        self.body: bytes | None = None
        self.status = 200
        self.delay = 0.0
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"


class _Answer(BaseHTTPRequestHandler):
    server: LoginServer

    def do_GET(self) -> None:
        self.server.asked += 1
        time.sleep(self.server.delay)
        body = json.dumps({"keys": self.server.keys}).encode() if self.server.body is None else self.server.body
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Iterator[LoginServer]:
    with LoginServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(server, clock) -> KeySet:
    return KeySet(server.url, ["RS256", "ES256"], clock=clock)


def app_for(server: LoginServer, *more: Any) -> Any:
    resolver = JWTIdentity(jwks_url=server.url, algorithms=["RS256", "ES256"])
    return whoami_app(ChainIdentity(resolver, *more) if more else resolver, strict=True, jwt_key=None)


def by_first(**changes: Any) -> str:
    return token(FIRST, "RS256", headers={"kid": "first"}, **changes)


def test_a_token_is_verified_by_the_published_key(server):
    """What the login server signed names its user; a token with any other signature does not."""
    app = app_for(server)
    assert who(app, by_first())["user_id"] == "ada"
    assert who(app, token(SECOND, "RS256", headers={"kid": "first"})) is None
    assert who(app, token(FIRST, "RS256", headers={"kid": "unknown"})) is None
    assert who(app, signed(KEY)) is None


def test_keys_are_fetched_once_for_many_requests(server):
    """The login server is not asked for each request."""
    app = app_for(server)
    assert all(who(app, by_first()) for _ in range(20))
    assert server.asked == 1


def test_keys_are_fetched_once_for_many_threads(server, keys):
    """Requests that arrive together wait for one fetch."""
    server.delay = 0.1
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(keys.find("first"))) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), server.asked) == (10, 1)
    assert all(found)


def test_a_new_key_is_found_without_a_restart(server, keys, clock):
    """Rotation: an unknown key id leads to one fetch."""
    assert keys.find("first")
    server.keys.append(published(SECOND, "second"))
    clock.now += COOLDOWN
    assert keys.find("second")
    assert server.asked == 2


def test_made_up_key_ids_do_not_flood_the_login_server(server, keys, clock):
    """Unknown key ids lead to one fetch per cool-down, however many there are."""
    for number in range(50):
        assert not keys.find(f"made-up-{number}")
    clock.now += COOLDOWN
    for number in range(50):
        assert not keys.find(f"made-up-{number}")
    assert server.asked == 2


def test_a_withdrawn_key_stops_counting(server, keys, clock):
    """After some minutes the keys are fetched anew, and what is gone is gone."""
    assert keys.find("first")
    server.keys = [published(SECOND, "second")]
    clock.now += FRESH
    assert not keys.find("first")


def test_a_token_may_leave_out_the_key_id_where_one_key_is_published(server, keys, clock):
    """Without a choice there is nothing to name."""
    assert keys.find(None)
    server.keys.append(published(SECOND, "second"))
    clock.now += FRESH
    assert not keys.find(None)


def test_a_published_key_is_for_its_own_algorithm_only(server):
    """An RSA key that names RS256 verifies neither PS256 nor, as text, HS256."""
    server.keys = [published(FIRST, "first", alg="RS256"), published(CURVE, "curve")]
    resolver = JWTIdentity(jwks_url=server.url, algorithms=["RS256", "PS256", "ES256"])
    app = whoami_app(resolver, strict=True, jwt_key=None)
    assert who(app, by_first())
    assert who(app, token(CURVE, "ES256", headers={"kid": "curve"}))
    assert who(app, token(FIRST, "PS256", headers={"kid": "first"})) is None


def test_a_published_secret_verifies_nothing(server):
    """A shared secret in a public list is no secret."""
    server.keys = [{"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "s", "alg": "HS256"}]
    made = signed(b"secret-secret-secret-secret-secret", header={"alg": "HS256", "kid": "s"})
    assert who(app_for(server), made) is None


BROKEN = {
    "an error": {"status": 500},
    "not found": {"status": 404},
    "a web page": {"body": b"<html>"},
    "nothing": {"body": b""},
    "a list": {"body": b"[]"},
    "no keys": {"keys": []},
    "no usable keys": {"keys": [{"kty": "magic", "kid": "first"}]},
    "deep JSON": {"body": b"[" * 100_000},
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_login_server_is_a_clear_503(server, how):
    """No token is accepted while the keys are not known, and the answer says that it is not the user's fault."""
    vars(server).update(BROKEN[how])
    answer = app_for(server).test_client().get("/whoami", headers={"Authorization": f"Bearer {by_first()}"})
    assert (answer.status_code, answer.json) == (503, {"code": "identity_unavailable"})


def test_a_broken_login_server_lets_nobody_in_as_a_guest(server):
    """The error ends a chain."""
    server.status = 500
    answer = app_for(server, AnonymousIdentity()).test_client()
    assert answer.get("/whoami", headers={"Authorization": f"Bearer {by_first()}"}).status_code == 503


def test_nobody_answers_there(server, clock):
    """A refused connection is the same clear error."""
    server.server_close()
    with pytest.raises(IdentityUnavailable) as error:
        KeySet(server.url, ["RS256"], clock=clock).find("first")
    assert (error.value.status, error.value.retryable) == (503, True)


def test_a_failed_fetch_is_not_repeated_at_once(server, keys, clock):
    """While the login server is down, requests fail at once instead of each waiting for it."""
    server.status = 500
    for _ in range(10):
        with pytest.raises(IdentityUnavailable):
            keys.find("first")
    assert server.asked == 1
    server.status, clock.now = 200, clock.now + PAUSE
    assert keys.find("first")


def test_known_keys_outlive_a_short_outage(server, keys, clock):
    """Who has a known key id is served while the login server is away; an unknown one cannot be judged."""
    assert keys.find("first")
    server.status, clock.now = 500, clock.now + COOLDOWN
    with pytest.raises(IdentityUnavailable):
        keys.find("unknown")
    assert keys.find("first")
    clock.now += FRESH
    with pytest.raises(IdentityUnavailable):
        keys.find("first")


def test_an_odd_token_does_not_reach_the_login_server(server):
    """What is refused for its form is refused without asking for keys."""
    assert who(app_for(server), signed(KEY, header={"alg": "RS256", "kid": 7})) is None
    assert who(app_for(server), "rubbish") is None
    assert server.asked == 0
