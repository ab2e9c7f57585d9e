"""JWTIdentity: the user of a token, and that nothing else names a user."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_conversations.config import Config
from flask_conversations.errors import ConfigurationError
from flask_conversations.identity import JWTIdentity
from flask_conversations.identity.resolving import resolve

from .bad_tokens import BAD, good_authorization, good_claims, signed
from .tools import KEY, OTHER_KEY, claims, token, who, whoami_app

RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())


def public_pem(key: Any) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def user(app: Flask, token: str) -> str | None:
    found = who(app, token)
    return found and found["user_id"]


@pytest.fixture(scope="module")
def app() -> Flask:
    return whoami_app(JWTIdentity())


def test_a_good_token_names_its_user(app):
    """The subject of a verified token is the user id, and a token in a header is not cookie-borne."""
    found = who(app, token())
    assert found is not None
    assert (found["user_id"], found["anonymous"], found["cookie_borne"]) == ("ada", False, False)


def test_no_token_names_nobody(app):
    """A request without an Authorization header is not logged in."""
    assert who(app) is None


def test_there_are_at_least_sixty_bad_tokens():
    """The list that other tests reuse does not shrink unnoticed."""
    assert len(BAD) >= 60


def test_the_bad_tokens_are_bad_for_one_reason_only(app):
    """The token from which the bad ones are made is good."""
    assert who(app, Authorization=good_authorization(KEY)) is not None


def test_a_bad_token_names_nobody(app, subtests):
    """Whatever is wrong with a token, its sender is not logged in and the app does not fail."""
    for name, make in BAD.items():
        with subtests.test(name):
            assert who(app, Authorization=make(KEY)) is None


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "bEaReR"])
def test_the_scheme_is_read_in_any_case(app, scheme):
    """RFC 9110: authentication schemes are case-insensitive."""
    assert who(app, Authorization=f"{scheme} {token()}") is not None


def test_two_authorization_headers_name_nobody(app):
    """A request that says twice who sends it is not believed once."""
    headers = [("Authorization", f"Bearer {token()}"), ("Authorization", f"Bearer {token(sub='bob')}")]
    assert app.test_client().get("/whoami", headers=headers).status_code == 401


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "AT+JWT", "application/at+jwt"])
def test_usual_types_of_tokens_are_accepted(app, kind):
    """Login servers write the type in several ways."""
    assert user(app, token(headers={"typ": kind})) == "ada"


def test_a_token_may_leave_out_its_type(app):
    """RFC 7519: `typ` is optional."""
    assert user(app, signed(KEY, header={"alg": "HS256"})) == "ada"


def test_addresses_of_keys_are_never_followed(app):
    """`jku` and `x5u`, which some login servers add to every token, neither help nor harm."""
    assert user(app, token(headers={"jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/"})) == "ada"


def test_dates_may_have_fractions(app):
    """RFC 7519: a NumericDate may be a fraction."""
    now = time.time()
    assert user(app, signed(KEY, {"sub": "ada", "iat": now - 1.5, "exp": now + 60.5})) == "ada"


@given(text=st.text(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_text_in_the_header_makes_the_app_fail(text):
    """CorruptEntry after `Bearer` is refused without an exception."""
    app = RUBBISH_APP
    environ = {"HTTP_AUTHORIZATION": "Bearer " + text.encode("utf-8", "surrogatepass").decode("latin-1")}
    with app.test_request_context("/whoami", environ_overrides=environ):
        assert resolve(RUBBISH_RESOLVER) is None


@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "typ", "kid", "crit", "b64", "x"]), st.none() | st.text() | st.integers()
    ),
    payload=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda children: (
            st.lists(children, max_size=3)
            | st.dictionaries(st.sampled_from(["sub", "exp", "iat", "nbf", "aud", "iss", "jti"]), children, max_size=7)
        ),
        max_leaves=10,
    ),
)
@settings(max_examples=150, deadline=None)
def test_no_signed_json_makes_the_app_fail(header, payload):
    """Any JSON that is signed with the right key: it names a user that is safe to use, or none."""
    made = signed(KEY, json.dumps(payload), json.dumps({"alg": "HS256", **header}))
    with RUBBISH_APP.test_request_context("/whoami", headers={"Authorization": f"Bearer {made}"}):
        found = resolve(RUBBISH_RESOLVER)
    assert found is None or (found.identity.user_id == payload["sub"] and found.identity.user_id.strip())


RUBBISH_RESOLVER = JWTIdentity()
RUBBISH_APP = whoami_app(RUBBISH_RESOLVER)


# -- audience, issuer, leeway, required claims -------------------------------------------------------------------------
def test_a_configured_audience_is_required():
    """Neither no audience nor another one gets in."""
    app = whoami_app(JWTIdentity(audience="chat"))
    assert [user(app, token(aud=aud)) for aud in ("chat", ["mail", "chat"])] == ["ada", "ada"]
    assert [user(app, token(aud=aud)) for aud in (None, "mail", [], ["mail"], "", "CHAT", ["chat", 1])] == [None] * 7


def test_a_configured_issuer_is_required():
    """Neither no issuer nor another one gets in, nor one that only begins like ours (CVE-2024-53861)."""
    app = whoami_app(JWTIdentity(issuer="https://login.example"))
    assert user(app, token(iss="https://login.example")) == "ada"
    assert [user(app, token(iss=iss)) for iss in (None, "https://login.example.evil", "https://", "")] == [None] * 4


def test_one_of_several_issuers_is_enough():
    """A list names all login servers that are trusted with this key."""
    app = whoami_app(JWTIdentity(issuer=["a", "b"]))
    assert [user(app, token(iss=iss)) for iss in ("a", "b", "ab")] == ["ada", "ada", None]


def test_leeway_forgives_small_differences_of_clocks():
    """A token that expired less than the leeway ago still counts, and one that expired earlier does not."""
    app = whoami_app(JWTIdentity(leeway=30))
    now = int(time.time())
    assert user(app, token(exp=now - 10)) == "ada"
    assert user(app, token(exp=now - 60)) is None
    assert user(app, token(iat=now + 10)) == "ada"


def test_the_host_decides_which_claims_are_required():
    """A host may demand more claims, or accept tokens that never expire."""
    assert user(whoami_app(JWTIdentity(required=["exp", "jti"])), token()) is None
    assert user(whoami_app(JWTIdentity(required=["iat"])), token(exp=None)) == "ada"


# -- which claims make the identity ------------------------------------------------------------------------------------
SEEDS = {"user_claim": "email", "org_claim": "dept", "session_claim": "sid"}


def test_the_seed_apps_claims_make_an_identity():
    """`email`, `dept` and `sid` become user, organisation and browser session."""
    found = who(whoami_app(JWTIdentity(**SEEDS)), token(sub=None, email="ada@x.example", dept="maths", sid="s-1"))
    assert found is not None
    assert (found["user_id"], found["org_id"], found["session_id"]) == ("ada@x.example", "maths", "s-1")


@pytest.mark.parametrize("missing", [{"email": None}, {"dept": None}, {"email": ""}, {"dept": " "}, {"dept": 7}])
def test_without_email_or_dept_nobody_is_logged_in(missing):
    """A missing user or organisation never widens to another one."""
    app = whoami_app(JWTIdentity(**SEEDS))
    assert user(app, token(**{"email": "ada@x.example", "dept": "maths", **missing})) is None


@pytest.mark.parametrize("sid", [None, "", 7, "a\0b", ["s"]])
def test_a_missing_or_unfit_session_is_left_out(sid):
    """The browser session is for the log only, so that it neither is needed nor does harm."""
    found = who(whoami_app(JWTIdentity(**SEEDS)), token(email="ada@x.example", dept="maths", sid=sid))
    assert found is not None
    assert found["session_id"] is None


def test_a_list_of_user_claims_is_tried_in_turn():
    """The first claim that is there names the user."""
    app = whoami_app(JWTIdentity(user_claim=["email", "sub"]))
    assert user(app, token(email="ada@x.example")) == "ada@x.example"
    assert user(app, token()) == "ada"
    assert user(app, token(sub=None)) is None


def test_a_blank_claim_does_not_hand_over_to_the_next_one():
    """Who has a blank email address is not found by something else."""
    app = whoami_app(JWTIdentity(user_claim=["email", "sub"]))
    assert [user(app, token(email=email)) for email in ("", " ", 7, ["a"])] == [None] * 4


def test_an_unverified_email_address_names_nobody():
    """Where the login server says that an address is not verified, any user could have typed it in."""
    app = whoami_app(JWTIdentity(user_claim="email"))
    assert user(app, token(email="ada@x.example", email_verified=True)) == "ada@x.example"
    assert user(app, token(email="ada@x.example", email_verified=False)) is None


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        ({"scope": "read write"}, ["read", "write"]),
        ({"scp": ["read", "write"]}, ["read", "write"]),
        ({"scopes": ["read"]}, ["read"]),
        ({"scp": "read"}, ["read"]),
        ({"scope": 7}, []),
        ({"scope": {"read": True}}, []),
        ({"scopes": ["read", 7, ""]}, ["read"]),
        ({}, []),
    ],
)
def test_scopes_are_read_in_their_usual_spellings(claim, expected):
    """`scope` is text, `scp` and `scopes` may be lists; anything else is no scope."""
    found = who(whoami_app(JWTIdentity()), token(**claim))
    assert found is not None
    assert found["scopes"] == expected


def test_the_claims_of_the_token_can_be_read_and_not_changed():
    """A host finds its own claims on the identity."""
    resolver = JWTIdentity()
    app = whoami_app(resolver)
    with app.test_request_context(headers={"Authorization": f"Bearer {token(plan='pro')}"}):
        identity = resolve(resolver).identity
    assert identity.claims["plan"] == "pro"
    assert identity["plan"] == "pro"
    with pytest.raises(TypeError):
        identity.claims["plan"] = "free"


# -- settings and options ----------------------------------------------------------------------------------------------
def test_settings_come_from_the_app_and_options_win():
    """One resolver serves two apps, each by its own settings, except for what was given in code."""
    resolver = JWTIdentity(user_claim="email")
    first = whoami_app(resolver, jwt_key=KEY, jwt_user_claim="sub")
    second = whoami_app(resolver, jwt_key=OTHER_KEY)
    assert user(first, token(email="ada@x.example")) == "ada@x.example"
    assert user(second, token(email="ada@x.example")) is None
    assert user(second, token(OTHER_KEY, email="ada@x.example")) == "ada@x.example"


# -- rotation ----------------------------------------------------------------------------------------------------------
def test_during_a_rotation_old_and_new_keys_count():
    """With a list of keys each is tried, whatever key id the token has."""
    app = whoami_app(JWTIdentity(key=[OTHER_KEY, KEY]))
    assert user(app, token(KEY)) == user(app, token(OTHER_KEY, headers={"kid": "new"})) == "ada"
    assert user(app, token("a third key that nobody has configured here")) is None


def test_a_key_id_selects_the_key():
    """With a mapping only the named key counts: not another, not an unknown one, not none."""
    app = whoami_app(JWTIdentity(key={"old": KEY, "new": OTHER_KEY}))
    assert user(app, token(KEY, headers={"kid": "old"})) == user(app, token(OTHER_KEY, headers={"kid": "new"})) == "ada"
    refused = [(KEY, {"kid": "new"}), (KEY, {"kid": "unknown"}), (KEY, {"kid": "OLD"}), (KEY, {}), (OTHER_KEY, {})]
    assert [user(app, token(key, headers=headers)) for key, headers in refused] == [None] * 5


def test_a_token_may_leave_out_the_key_id_where_there_is_one_key():
    """Without a choice there is nothing to name, but a wrong name is still wrong."""
    app = whoami_app(JWTIdentity(key={"only": KEY}))
    assert user(app, token(KEY)) == "ada"
    assert user(app, token(KEY, headers={"kid": "other"})) is None


# -- public keys -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, "RS256"), (RSA_KEY, "PS256"), (EC_KEY, "ES256"), (ed25519.Ed25519PrivateKey.generate(), "EdDSA")],
)
def test_public_keys_verify_their_own_algorithm(key, algorithm):
    """A PEM public key verifies what its private key signed, and no other key's."""
    app = whoami_app(JWTIdentity(key=public_pem(key), algorithms=algorithm), strict=True)
    assert user(app, token(key, algorithm)) == "ada"
    assert user(app, token(KEY)) is None


def test_only_the_allowed_algorithms_of_a_key_count():
    """An RSA key could verify PS256 as well, but was not allowed to."""
    app = whoami_app(JWTIdentity(key=public_pem(RSA_KEY), algorithms=["RS256"]))
    assert user(app, token(RSA_KEY, "PS256")) is None


def test_a_public_key_never_passes_for_a_secret():
    """Key confusion (CVE-2022-29217): what is signed with HMAC and the text of the public key is refused."""
    pem = public_pem(RSA_KEY)
    app = whoami_app(JWTIdentity(key=pem, algorithms=["RS256"]))
    assert [user(app, signed(text)) for text in (pem, pem.strip(), pem.encode())] == [None] * 3


def test_keys_of_two_kinds_are_tried_only_with_their_own_algorithm():
    """In a list of an RSA and an EC key each keeps to its algorithm."""
    app = whoami_app(JWTIdentity(key=[public_pem(RSA_KEY), public_pem(EC_KEY)], algorithms=["RS256", "ES256"]))
    assert user(app, token(RSA_KEY, "RS256")) == user(app, token(EC_KEY, "ES256")) == "ada"


# -- start-up ----------------------------------------------------------------------------------------------------------
WRONG = {
    "no key": {"jwt_key": None},
    "a blank key": {"jwt_key": "  "},
    "a number for a key": {"jwt_key": 12345678},
    "an empty list of keys": {"jwt_key": []},
    "an empty mapping of keys": {"jwt_key": {}},
    "a mapping from numbers": {"jwt_key": {1: KEY}},
    "a weak key": {"jwt_key": "k" * 31},
    "a weak key among strong ones": {"jwt_key": [KEY, "secret"]},
    "a weak key in a mapping": {"jwt_key": {"a": KEY, "b": "secret"}},
    "a key that is shorter than the longer hash": {"jwt_key": "k" * 32, "jwt_algorithms": ("HS256", "HS512")},
    "algorithm none": {"jwt_algorithms": ("none",)},
    "algorithm none among others": {"jwt_algorithms": ("HS256", "none")},
    "no algorithm": {"jwt_algorithms": ()},
    "an unknown algorithm": {"jwt_algorithms": ("HS257",)},
    "secrets and public keys mixed": {"jwt_algorithms": ("HS256", "RS256"), "jwt_key": public_pem(RSA_KEY)},
    "a public key as a secret": {"jwt_key": public_pem(RSA_KEY)},
    "a secret as a public key": {"jwt_algorithms": ("RS256",)},
    "a key of another curve family": {"jwt_algorithms": ("RS256",), "jwt_key": public_pem(EC_KEY)},
    "a weak RSA key": {
        "jwt_algorithms": ("RS256",),
        "jwt_key": public_pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),
    },
    "a key and an address of keys": {"jwt_jwks_url": "https://login.example/jwks", "jwt_algorithms": ("RS256",)},
    "an address of keys for secrets": {"jwt_key": None, "jwt_jwks_url": "https://login.example/jwks"},
    "an address without encryption": {
        "jwt_key": None,
        "jwt_jwks_url": "http://login.example/jwks",
        "jwt_algorithms": ("RS256",),
    },
    "a file for an address": {"jwt_key": None, "jwt_jwks_url": "file:///etc/keys", "jwt_algorithms": ("RS256",)},
    "a leeway of a minute": {"jwt_leeway": 60},
    "a blank audience": {"jwt_audience": ""},
    "a blank issuer": {"jwt_issuer": " "},
    "a blank user claim": {"jwt_user_claim": ""},
    "no user claim": {"jwt_user_claim": []},
}


def test_wrong_settings_are_refused_at_start(subtests):
    """An app that could be entered with a forged token, or not at all, does not start."""
    for name, wrong in WRONG.items():
        with subtests.test(name), pytest.raises(ConfigurationError, match=r"CONVERSATIONS_|RSA key"):
            whoami_app(JWTIdentity(), strict=True, **wrong)


def test_a_refused_key_is_not_shown():
    """The error at start does not put the secret into the log."""
    with pytest.raises(ConfigurationError) as error:
        whoami_app(JWTIdentity(key="hunter2"), strict=True)
    assert "hunter2" not in str(error.value)


def test_a_strong_key_is_accepted_at_start():
    """The control of the test above it."""
    assert user(whoami_app(JWTIdentity(key="k" * 32), strict=True), token("k" * 32)) == "ada"


@pytest.mark.filterwarnings("ignore::jwt.InsecureKeyLengthWarning")
def test_a_weak_key_is_only_warned_about_while_testing(caplog):
    """Debug and testing apps work with any key, and say that they would not outside."""
    with caplog.at_level(logging.WARNING):
        app = whoami_app(JWTIdentity(key="weak"))
    assert "needs 32" in caplog.text
    assert user(app, token("weak")) == "ada"


# -- the cookie --------------------------------------------------------------------------------------------------------
def ask_with_cookie(app: Flask, cookie: str, authorization: str | None = None) -> Any:
    headers = {"Cookie": f"session_token={cookie}"}
    if authorization is not None:
        headers["Authorization"] = authorization
    return app.test_client(use_cookies=False).get("/whoami", headers=headers).json


def test_a_token_in_a_cookie_counts_where_it_was_asked_for():
    """The cookie is read if one is named, and then the identity is cookie-borne."""
    asked = ask_with_cookie(whoami_app(JWTIdentity(cookie="session_token")), token())
    assert (asked["user_id"], asked["cookie_borne"]) == ("ada", True)
    assert ask_with_cookie(whoami_app(JWTIdentity()), token())["user_id"] is None


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer rubbish", "Basic YTpi", f"Bearer {token(exp=1)}"],
    # a fresh token is no name: workers that collect side by side must call a test the same
    ids=["empty", "no token", "rubbish", "basic", "expired"],
)
def test_a_bad_header_never_falls_back_to_the_cookie(authorization):
    """A request with an Authorization header is judged by that header alone."""
    app = whoami_app(JWTIdentity(cookie="session_token"))
    assert ask_with_cookie(app, token(), authorization)["user_id"] is None


def test_a_good_header_wins_over_the_cookie():
    """And then the identity is not cookie-borne."""
    app = whoami_app(JWTIdentity(cookie="session_token"))
    asked = ask_with_cookie(app, token(), f"Bearer {token(sub='bob')}")
    assert (asked["user_id"], asked["cookie_borne"]) == ("bob", False)


def test_a_bad_cookie_names_nobody():
    """A token is verified the same way wherever it comes from."""
    app = whoami_app(JWTIdentity(cookie="session_token"))
    assert ask_with_cookie(app, signed(OTHER_KEY))["user_id"] is None
    assert ask_with_cookie(app, "x" * 20_000)["user_id"] is None


def test_the_reason_of_a_refusal_is_logged_without_the_token(app, caplog):
    """With debug logging one sees why a token was refused, but neither the token nor its claims."""
    bad = token(OTHER_KEY, sub="somebody-secret")
    with caplog.at_level(logging.DEBUG, logger="flask_conversations"):
        assert who(app, bad) is None
    assert "A token was refused" in caplog.text
    assert bad not in caplog.text
    assert "somebody-secret" not in caplog.text


def test_a_resolver_without_an_extension_says_what_to_do():
    """Outside an app with conversations there are no settings to verify by."""
    with Flask(__name__).test_request_context(), pytest.raises(ConfigurationError, match="init_app"):
        JWTIdentity()()


def test_the_settings_of_the_config_are_not_changed():
    """Options apply to the resolver, not to the app."""
    config = Config(jwt_key=KEY)
    JWTIdentity(audience="chat").check(Flask(__name__), config)
    assert config.jwt_audience is None
    assert jwt.decode(token(), KEY, ["HS256"])["sub"] == claims()["sub"] == good_claims()["sub"]
