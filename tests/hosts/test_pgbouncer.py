"""Behind a PgBouncer in transaction mode, set up as docs/howto/production.md says."""

from __future__ import annotations

import pytest

from tests.cli.tools import run as command
from tests.infra.pgbouncer import pgbouncer
from tests.service.tools import check, sequence

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("database", ["postgresql"], indirect=True)]

POOL = {"pool_size": 20}
WITHOUT_PREPARED_STATEMENTS = {**POOL, "connect_args": {"prepare_threshold": None}}


@pytest.fixture
def behind(make_app, database):
    """Makes an app whose connections go through PgBouncer, with these engine options."""
    make_app()  # the tables
    with pgbouncer(database.url) as url:
        yield lambda **options: make_app(
            tables=False, SQLALCHEMY_DATABASE_URI=url, SQLALCHEMY_ENGINE_OPTIONS=options, CONVERSATIONS_LOCK_TIMEOUT=30
        )


def test_every_call_works_and_nothing_is_lost(behind, threads):
    """Eight threads write and read one conversation over four connections: dense, and each reads its own write."""
    app = behind(**WITHOUT_PREPARED_STATEMENTS)
    ada = app.conversations.as_user("ada", app=app)
    chat = ada.create_conversation()["id"]

    def talk(number):
        for count in range(20):
            ada.save_message(chat, "user", f"{number} {count}")
            history = ada.get_conversation_history(chat, limit=100)
            assert f"{number} {count}" in [message["content"] for message in history]

    threads(8, talk)
    assert sequence(app, chat) == list(range(1, 161))
    check(ada, chat)


@pytest.mark.parametrize(("options", "said"), [(POOL, "PgBouncer say"), (WITHOUT_PREPARED_STATEMENTS, "prepares no")])
def test_doctor_sees_it(behind, options, said):
    """It says that there is one, and what to set until that is set."""
    assert said in command(behind(**options), "doctor")
