"""Authorization headers that no route may let in, each by the name of what is wrong with it.

`bad_authorizations(key)` makes them for an app that verifies HS256 with *key* and expects `sub`, `iat` and `exp`, no
audience and no issuer. `good_authorization(key)` is the control: the same token with nothing wrong.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

Raw = str | bytes | dict[str, Any]
BAD: dict[str, Callable[[str], str]] = {}

HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
SQL = "x' UNION SELECT 'own"


def good_authorization(key: str) -> str:
    return f"Bearer {signed(key)}"


def bad_authorizations(key: str) -> dict[str, str]:
    """Every bad `Authorization` header by its name, made with the *key* that the app verifies with."""
    return {name: make(key) for name, make in BAD.items()}


def signed(key: str | bytes, claims: Raw | None = None, header: Raw | None = None, digest: Any = hashlib.sha256) -> str:
    """A token with a right signature over whatever it is given, which no library would sign."""
    body = f"{part(HEADER if header is None else header)}.{part(good_claims() if claims is None else claims)}"
    return f"{body}.{part(hmac.new(as_bytes(key), body.encode(), digest).digest())}"


def good_claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"sub": "ada", "iat": now - 10, "exp": now + 3600, **changes}


def part(value: Raw) -> str:
    return base64.urlsafe_b64encode(as_bytes(value)).rstrip(b"=").decode()


def as_bytes(value: Raw) -> bytes:
    if isinstance(value, dict):
        return json.dumps(value).encode()
    return value.encode() if isinstance(value, str) else value


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in good_claims().items() if key != name}


def raw_claims(extra: str) -> str:
    """Good claims as JSON text, with *extra* members that a dict could not hold."""
    return json.dumps(good_claims())[:-1] + f", {extra}}}"


def bad(name: str) -> Callable[[Callable[[str], str]], Callable[[str], str]]:
    def add(make: Callable[[str], str]) -> Callable[[str], str]:
        assert name not in BAD
        BAD[name] = make
        return make

    return add


def bad_header(name: str, **header: Any) -> None:
    bad(name)(lambda key: f"Bearer {signed(key, header={**HEADER, **header})}")


def bad_raw_header(name: str, header: str) -> None:
    bad(name)(lambda key: f"Bearer {signed(key, header=header)}")


def bad_claim(name: str, **changes: Any) -> None:
    bad(name)(lambda key: f"Bearer {signed(key, good_claims(**changes))}")


def bad_payload(name: str, make: Callable[[], Raw]) -> None:
    bad(name)(lambda key: f"Bearer {signed(key, make())}")


def bad_text(name: str, make: Callable[[str], str]) -> None:
    """A header made from the good token."""
    bad(name)(lambda key: make(signed(key)))


# -- the Authorization header itself -----------------------------------------------------------------------------------
bad_text("an empty header", lambda token: "")
bad_text("a scheme without a token", lambda token: "Bearer")
bad_text("a scheme with a blank token", lambda token: "Bearer  ")
bad_text("a token without a scheme", lambda token: token)
bad_text("another scheme", lambda token: f"Token {token}")
bad_text("a basic login", lambda token: "Basic YWRhOnBhc3N3b3Jk")
bad_text("two tokens", lambda token: f"Bearer {token} {token}")
bad_text("two headers joined by a comma", lambda token: f"Bearer {token}, Bearer {token}")
bad_text("a quoted token", lambda token: f'Bearer "{token}"')
bad_text("a token parameter", lambda token: f"Bearer token={token}")
bad_text("a tab for the space", lambda token: f"Bearer\t{token}")

# -- the three parts ---------------------------------------------------------------------------------------------------
bad_text("a word", lambda token: "Bearer ada")
bad_text("two parts", lambda token: "Bearer " + token.rpartition(".")[0])
bad_text("no signature", lambda token: "Bearer " + token.rpartition(".")[0] + ".")
bad_text("four parts", lambda token: f"Bearer {token}.{part('more')}")
bad_text("a leading dot", lambda token: f"Bearer .{token}")
bad_text("a trailing dot", lambda token: f"Bearer {token}.")
bad_text("an empty payload part", lambda token: "Bearer {}..{}".format(token.split(".")[0], token.split(".")[2]))
bad_text("five parts as of an encrypted token", lambda token: "Bearer a.b.c.d.e")
bad_text("characters outside base64url", lambda token: "Bearer " + token.replace(".", ".!", 1))
bad_text("padding", lambda token: "Bearer " + token.replace(".", "==.", 1))
bad_text("a flipped signature", lambda token: f"Bearer {token[:-6]}{'A' if token[-6] != 'A' else 'B'}{token[-5:]}")
bad_text("a cut signature", lambda token: f"Bearer {token[:-4]}")
bad_text("a signature of another token", lambda token: f"Bearer {token.rpartition('.')[0]}.{part(bytes(32))}")
bad_text("more than 8 KB", lambda token: "Bearer " + token + "A" * 9000)
bad("more than 8 KB of signed claims")(lambda key: f"Bearer {signed(key, good_claims(filler='x' * 9000))}")


@bad("a payload changed after signing")
def changed_payload(key: str) -> str:
    header, _, signature = signed(key).split(".")
    return f"Bearer {header}.{part(good_claims(sub='bob'))}.{signature}"


# -- the signature -----------------------------------------------------------------------------------------------------
bad("signed with another key")(lambda key: f"Bearer {signed(key + 'x')}")
bad("signed with an empty key")(lambda key: f"Bearer {signed('')}")
bad("signed with the word secret")(lambda key: f"Bearer {signed('secret')}")
bad("signed with a hash that is not allowed")(
    lambda key: f"Bearer {signed(key, header={**HEADER, 'alg': 'HS512'}, digest=hashlib.sha512)}"
)
bad("another hash than its header says")(lambda key: f"Bearer {signed(key, digest=hashlib.sha512)}")
for unsigned in ("none", "None", "NONE", "nOnE", ""):
    bad_header(f"algorithm {unsigned!r}", alg=unsigned)
bad("algorithm none and no signature")(
    lambda key: f"Bearer {part({'alg': 'none', 'typ': 'JWT'})}.{part(good_claims())}."
)
bad_header("an algorithm in lower case", alg="hs256")
bad_header("an asymmetric algorithm", alg="RS256")
bad_header("an unknown algorithm", alg="HS1")
bad_header("a list of algorithms", alg=["HS256"])
bad_header("a null algorithm", alg=None)
bad("no algorithm")(lambda key: f"Bearer {signed(key, header={'typ': 'JWT'})}")

# -- the header part ---------------------------------------------------------------------------------------------------
bad_header("a critical extension", crit=["exp"])
bad_header("an empty list of critical extensions", crit=[])
bad_header("an unencoded payload", b64=False, crit=["b64"])
bad_header("an unencoded payload that is not critical", b64=False)
bad_header("an explicitly encoded payload", b64=True)
bad_header("type of a refresh token", typ="refresh+jwt")
bad_header("type of an identity proof", typ="dpop+jwt")
bad_header("type of an encrypted token", typ="JWE")
bad_header("a numeric type", typ=1)
bad_header("a null type", typ=None)
bad_header("a numeric key id", kid=1)
bad_header("a null key id", kid=None)
bad_header("a list of key ids", kid=["a"])
bad_header("an empty key id", kid="")
bad_header("a key id of 1,000 characters", kid="k" * 1000)
bad_header("a key id with a line break", kid="a\nb")
bad_raw_header("a header with the algorithm twice", '{"alg": "none", "alg": "HS256"}')
bad_raw_header("a header that is a list", "[]")
bad_raw_header("a header that is text", '"HS256"')
bad_raw_header("a header that is no JSON", "alg=HS256")


@bad("an embedded key that vouches for itself")
def embedded_key(key: str) -> str:
    own = "a key that the attacker has made up, long enough"
    return f"Bearer {signed(own, header={**HEADER, 'jwk': {'kty': 'oct', 'k': part(own)}})}"


bad_header("an embedded key beside a right signature", jwk={"kty": "oct", "k": part("anything")})
bad("the address of the attacker's keys")(
    lambda key: f"Bearer {signed('own', header={**HEADER, 'jku': 'https://evil.example/jwks.json'})}"
)
bad("the address of the attacker's certificate")(
    lambda key: f"Bearer {signed('own', header={**HEADER, 'x5u': 'https://evil.example/cert.pem'})}"
)
bad("a path for a key id")(lambda key: f"Bearer {signed('', header={**HEADER, 'kid': '../../../../dev/null'})}")
bad("SQL for a key id")(lambda key: f"""Bearer {signed("own", header={**HEADER, "kid": "x' UNION SELECT 'own"})}""")

# -- dates -------------------------------------------------------------------------------------------------------------
NOW = int(time.time())
bad_claim("expired long ago", exp=1)
bad_claim("expired a minute ago", exp=NOW - 60)
bad_claim("expires before the epoch", exp=-1)
bad_claim("expiry as text", exp=str(NOW + 3600))
bad_claim("expiry as a date", exp="2099-01-01T00:00:00Z")
bad_claim("expiry true", exp=True)
bad_claim("expiry null", exp=None)
bad_claim("expiry in a list", exp=[NOW + 3600])
bad_claim("expiry in an object", exp={"at": NOW + 3600})
bad_claim("expiry of 400 digits", exp=10**400)
bad_claim("expiry of 19 digits", exp=10**18)
bad_payload("expiry infinite", lambda: json.dumps(good_claims()).replace('"exp": ', '"exp": Infinity, "x": '))
bad_payload("expiry not a number", lambda: json.dumps(good_claims()).replace('"exp": ', '"exp": NaN, "x": '))
bad_payload("expiry too large for a float", lambda: json.dumps(good_claims()).replace('"exp": ', '"exp": 1e999, "x": '))
bad_payload("no expiry", lambda: without("exp"))
bad_payload("no issue date", lambda: without("iat"))
bad_claim("issued in the future", iat=NOW + 100_000, exp=NOW + 200_000)
bad_claim("issue date as text", iat=str(NOW))
bad_claim("issue date true", iat=True)
bad_claim("issue date null", iat=None)
bad_claim("not valid yet", nbf=NOW + 100_000)
bad_claim("start as text", nbf=str(NOW - 10))
bad_claim("start null", nbf=None)
bad_claim("start of 400 digits", nbf=10**400)

# -- who, for whom -----------------------------------------------------------------------------------------------------
bad_payload("no subject", lambda: without("sub"))
bad_claim("subject null", sub=None)
bad_claim("subject empty", sub="")
bad_claim("subject blank", sub="   ")
bad_claim("subject of other white space", sub="\u2003\u00a0")
bad_claim("subject with NUL", sub="ada\0")
bad_claim("subject with a line break", sub="ada\nroot")
bad_claim("subject with a lone surrogate", sub="ada\ud800")
bad_claim("subject a number", sub=42)
bad_claim("subject zero", sub=0)
bad_claim("subject true", sub=True)
bad_claim("subject a list", sub=["ada"])
bad_claim("subject an object", sub={"id": "ada"})
bad_claim("subject of 1,000 characters", sub="a" * 1000)
bad_claim("subject of a guest", sub="guest:0d6ee3a4-6d5f-4a53-b2a1-6b6c7ef9d0c4")
bad_claim("an audience that nobody asked for", aud="another-service")
bad_claim("a list of audiences that nobody asked for", aud=["another-service"])
bad_claim("an empty audience", aud="")
bad_claim("a numeric token id", jti=1)

# -- the payload as JSON -----------------------------------------------------------------------------------------------
bad_payload("the subject twice", lambda: raw_claims('"sub": "bob"'))
bad_payload("the expiry twice", lambda: raw_claims('"exp": 9999999999'))
bad_payload("a key twice in a nested object", lambda: raw_claims('"realm": {"role": "user", "role": "admin"}'))
bad_payload("a list of claims", lambda: json.dumps([good_claims()]))
bad_payload("text for claims", lambda: '"ada"')
bad_payload("null for claims", lambda: "null")
bad_payload("no JSON", lambda: "sub=ada")
bad_payload("JSON with a comment", lambda: json.dumps(good_claims()) + "// ada")
bad_payload("two JSON objects", lambda: json.dumps(good_claims()) * 2)
bad_payload("JSON in UTF-16", lambda: json.dumps(good_claims()).encode("utf-16"))
bad_payload("JSON with a byte order mark", lambda: b"\xef\xbb\xbf" + json.dumps(good_claims()).encode())
bad_payload("bytes that are no UTF-8", lambda: b'{"sub": "\xff\xfe"}')
bad_payload("5,000 levels deep", lambda: "[" * 5000)
bad_payload("100,000 levels deep", lambda: "[" * 100_000 + "]" * 100_000)
bad_payload("600 levels deep in a claim", lambda: raw_claims('"deep": ' + "[" * 600 + "]" * 600))
bad_payload("50 objects deep in a claim", lambda: raw_claims('"deep": ' + '{"a":' * 50 + "1" + "}" * 50))
bad_payload("5,000 digits in a claim", lambda: raw_claims('"number": ' + "9" * 5000))
bad_payload("infinity in a claim", lambda: raw_claims('"number": -Infinity'))
