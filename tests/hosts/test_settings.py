"""Settings: from the environment, out of range, mistyped."""

from __future__ import annotations

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import ConfigurationError, Conversations

from .works import who


def config(**settings):
    """The settings of an app with these keys."""
    app = Flask("host")
    app.config.update(TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://", **settings)
    Conversations(SQLAlchemy(app), app=app, identity=who)
    return app.extensions["flask_conversations"].config


def test_settings_from_the_environment(monkeypatch):
    """from_prefixed_env gives text and JSON: numbers, truth values and lists are read from both."""
    given = {
        "LOCK_TIMEOUT": "2.5",
        "HISTORY_LIMIT": "7",
        "AUTOCOMMIT": "false",
        "SQLITE_WAL": "off",
        "AUDIT": "True",
        "CLIENT_ROLES": "user, assistant ,system",
        "TRUSTED_ORIGINS": '["https://a.example"]',
        "TABLE_PREFIX": "chat_",
        "TRASH_DAYS": "0",
        "FOREIGN_STATUS": "403",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"FLASK_CONVERSATIONS_{name}", value)
    app = Flask("host")
    app.config.from_prefixed_env()
    found = config(**{key: value for key, value in app.config.items() if key.startswith("CONVERSATIONS_")})
    assert (found.lock_timeout, found.history_limit, found.trash_days, found.foreign_status) == (2.5, 7, 0, 403)
    assert (found.autocommit, found.sqlite_wal, found.audit) == (False, False, True)
    assert tuple(found.client_roles) == ("user", "assistant", "system")
    assert tuple(found.trusted_origins) == ("https://a.example",)
    assert found.table_prefix == "chat_"


def test_options_in_code_win():
    """What the code says counts more than the settings."""
    app = Flask("host")
    app.config.update(TESTING=True, SQLALCHEMY_DATABASE_URI="sqlite://", CONVERSATIONS_HISTORY_LIMIT=5)
    Conversations(SQLAlchemy(app), app=app, identity=who, history_limit=9)
    assert app.extensions["flask_conversations"].config.history_limit == 9


MISTYPED = {
    "CONVERSATIONS_HISTORY_LIMITS": "CONVERSATIONS_HISTORY_LIMIT",
    "CONVERSATIONS_JWT_AUDIENC": "CONVERSATIONS_JWT_AUDIENCE",
    "CONVERSATIONS_TABLEPREFIX": "CONVERSATIONS_TABLE_PREFIX",
    "CONVERSATIONS_ZZZZ": None,
}


def test_a_mistyped_key_is_an_error(subtests):
    """A setting that does not exist is refused, with what was probably meant."""
    for key, suggestion in MISTYPED.items():
        with subtests.test(key):
            with pytest.raises(ConfigurationError, match=key) as refused:
                config(**{key: 1})
            assert suggestion is None or f"Did you mean {suggestion}?" in str(refused.value)


OUT_OF_RANGE = {
    "HISTORY_LIMIT": [0, -1, "many", 1.5, True, None, "1e3", [1]],
    "TRASH_DAYS": [-1, "x", 0.5],
    "LOCK_TIMEOUT": [0, -1, "soon", "nan", "inf", float("nan"), float("inf")],
    "MAX_REQUEST_BYTES": [0, 10, "1k"],
    "MAX_CONTENT_LENGTH": [0, -5, "x"],
    "AUTOCOMMIT": ["maybe", 2, None, ""],
    "AUDIT": ["ja", 7],
    "CLIENT_ROLES": ["boss", ["user", "boss"], 7, [7]],
    "JSON_CASE": ["kebab", 7, ""],
    "FOREIGN_STATUS": [200, "x", 410],
    "CSRF": ["off", False],
    "URL_PREFIX": ["api", 7],
    "TABLE_PREFIX": [7, None],
    "JWT_LEEWAY": [31, -1, "x", "nan"],
    "TEMPORARY_HOURS": [0, "x"],
}


def test_a_value_out_of_range_is_an_error(subtests):
    """A value that cannot work is refused at start, by the name of its key."""
    for name, values in OUT_OF_RANGE.items():
        for bad in values:
            with subtests.test(name, value=bad), pytest.raises(ConfigurationError, match=f"CONVERSATIONS_{name}"):
                config(**{f"CONVERSATIONS_{name}": bad})


def test_a_host_that_sets_nothing_gets_the_documented_defaults():
    """The defaults are those of the contract."""
    found = config()
    assert (found.history_limit, found.trash_days, found.url_prefix, found.resource) == (
        20,
        30,
        "/api",
        "conversations",
    )
    assert (tuple(found.client_roles), found.foreign_status, found.autocommit) == (("user", "assistant"), 404, True)
