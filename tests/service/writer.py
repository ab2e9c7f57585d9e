"""A worker process: `python -m tests.service.writer URL CONVERSATION NAME COUNT` saves, and prints what was acknowledged.

Further settings of its app come from the environment, as `WRITER_CONVERSATIONS_REDIS_URL`.
"""

from __future__ import annotations

import sys

from flask import Flask
from flask_sqlalchemy import SQLAlchemy

from flask_conversations import Conversations


def main(url: str, conversation_id: str, name: str, count: str) -> None:
    db = SQLAlchemy()
    conversations = Conversations(db, identity=lambda: "ada")
    app = Flask(__name__)
    app.config.update(SQLALCHEMY_DATABASE_URI=url, TESTING=True, SECRET_KEY="x" * 32, CONVERSATIONS_LOCK_TIMEOUT=30)
    app.config.from_prefixed_env("WRITER")
    db.init_app(app)
    conversations.init_app(app)
    ada = conversations.as_user("ada", app=app)
    ada.get_conversation(conversation_id)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        print(ada.save_message(conversation_id, "user", f"{name} {number}")["id"], flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
