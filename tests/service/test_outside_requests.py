"""Services outside requests: threads, generators, event loops, and no connection left behind."""

from __future__ import annotations

import asyncio
import concurrent.futures

import pytest

from flask_conversations import Identity, current_conversations
from flask_conversations.errors import NotFound

from .tools import NEVER, check, check_invisible, contents, everything, in_use


def test_every_verb_leaves_no_connection(app, ada, bob):
    """With app= each call opens what it needs and gives it back, whether it succeeds or fails."""
    chat = ada.create_conversation(id="c-1", messages=[{"role": "user", "content": "a", "client_id": "k"}])
    calls = [
        lambda: ada.get_conversation("c-1"),
        lambda: ada.conversation_exists("c-1"),
        lambda: ada.list_conversations(),
        lambda: ada.load_conversations(),
        lambda: ada.update_conversation("c-1", title="T"),
        lambda: ada.archive_conversation("c-1"),
        lambda: ada.unarchive_conversation("c-1"),
        lambda: ada.resolve_conversation("c-1"),
        lambda: ada.save_message("c-1", "user", "b"),
        lambda: ada.save_messages("c-1", [{"role": "user", "content": "c"}]),
        lambda: ada.get_messages("c-1"),
        lambda: ada.get_message("c-1", "k"),
        lambda: ada.get_conversation_history("c-1"),
        lambda: ada.update_message("c-1", "k", content="A"),
        lambda: ada.rate_message("c-1", "k", "up"),
        lambda: ada.delete_message("c-1", "k"),
        lambda: ada.pop_message("c-1"),
        lambda: ada.replace_messages("c-1", [{"role": "user", "content": "z"}]),
        lambda: ada.save_conversation({"id": "c-1", "title": "U"}),
        lambda: ada.clear_conversation("c-1"),
        lambda: ada.delete_conversation("c-1"),
        lambda: ada.restore_conversation("c-1"),
        lambda: ada.prune(),
        lambda: ada.claim("guest:1"),
        lambda: bob.conversation_exists(chat["id"]),
    ]
    for call in calls:
        call()
        assert in_use(app) == 0
    for call in (lambda: bob.save_message(chat["id"], "user", "x"), lambda: ada.get_messages(NEVER)):
        with pytest.raises(NotFound):
            call()
        assert in_use(app) == 0


def test_from_many_threads(app, ada, bob, threads):
    """One service object serves any number of threads."""
    chat = ada.create_conversation()
    threads(6, lambda i: ada.save_message(chat["id"], "user", str(i)))
    assert sorted(contents(ada, chat["id"])) == list("012345")
    assert in_use(app) == 0
    check_invisible(bob, chat["id"])


def test_from_a_thread_of_a_request(app, conversations, http):
    """A worker thread started in a request uses the identity it was given, without the request's context."""

    @app.post("/work")
    def work():
        service = conversations.as_user(current_conversations.identity, app=app)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            return pool.submit(service.create_conversation, "from a thread").result()

    made = http("ada").post("/work").get_json()
    assert (made["user_id"], made["title"]) == ("ada", "from a thread")
    assert in_use(app) == 0


def test_from_a_generator(app, conversations, http):
    """A streamed response saves while it streams, after the request's context is gone."""
    chat = conversations.as_user("ada", app=app).create_conversation()

    @app.get("/stream")
    def stream():
        service = conversations.as_user("ada", app=app)

        def chunks():
            for text in "abc":
                service.save_message(chat["id"], "assistant", text)
                assert in_use(app) == 0
                yield text

        return app.response_class(chunks())

    assert http("ada").get("/stream").get_data(as_text=True) == "abc"
    assert contents(conversations.as_user("ada", app=app), chat["id"]) == ["a", "b", "c"]
    assert in_use(app) == 0


def test_an_abandoned_generator_leaves_nothing_open(app, ada):
    """A stream that is not read to its end holds no connection."""
    chat = ada.create_conversation(messages=[{"role": "user", "content": str(n)} for n in range(5)])

    def pages():
        place = None
        while True:
            page = ada.get_messages(chat["id"], limit=1, before=place)
            yield page
            place = page["next_cursor"]

    running = pages()
    next(running)
    next(running)
    assert in_use(app) == 0
    running.close()


def test_inside_a_request_it_has_a_session_of_its_own(app, conversations):
    """A service with app= neither commits nor closes the session of the context it is called in."""
    with app.app_context():
        session = app.db.session
        session.execute(app.db.text("SELECT 1"))
        conversations.as_user("ada", app=app).create_conversation()
        assert session().in_transaction()
        assert in_use(app) == 1
    assert in_use(app) == 0


def test_as_user_takes_an_identity_or_an_id(app, conversations):
    """An Identity is taken as it is; blank and other unsafe ids are refused."""
    service = conversations.as_user(Identity("ada", org_id="acme"), app=app)
    assert service.create_conversation()["org_id"] == "acme"
    for bad in ("", " ", None, 7, b"ada", "a\x00", "a\n", "x" * 256, "\ud800"):
        with pytest.raises(ValueError, match="user_id"):
            conversations.as_user(bad, app=app)
    for bad in ("", " ", 7, "\x00"):
        with pytest.raises(ValueError, match="org_id"):
            conversations.as_user("ada", bad, app=app)


# -- asynchronous code ------------------------------------------------------------------------------------------------


def test_every_call_as_a_coroutine(app, ada, bob):
    """From a running event loop service.aio offers the same calls, with the same results and errors."""

    async def talk():
        chat = await ada.aio.create_conversation("T")
        saved = await ada.aio.save_message(chat["id"], "user", "a", client_id="k")
        assert await ada.aio.get_messages(chat["id"]) == ada.get_messages(chat["id"])
        assert await ada.aio.get_conversation_history(chat["id"], 5) == [{"role": "user", "content": "a"}]
        with pytest.raises(NotFound):
            await bob.aio.get_message(chat["id"], saved["id"])
        assert await ada.aio.conversation_exists(NEVER) is False
        return chat["id"]

    chat_id = asyncio.run(talk())
    assert contents(ada, chat_id) == ["a"]
    assert in_use(app) == 0


def test_coroutines_run_side_by_side(app, ada):
    """Many coroutines at once store everything, and the loop is not blocked meanwhile."""
    chat = ada.create_conversation()

    async def talk():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        clock = asyncio.ensure_future(tick())
        await asyncio.gather(*(ada.aio.save_message(chat["id"], "user", str(n)) for n in range(10)))
        clock.cancel()
        return ticks

    assert asyncio.run(talk()) > 10
    assert sorted(contents(ada, chat["id"])) == list("0123456789")
    assert check(ada, chat["id"])["version"] == 11
    assert in_use(app) == 0


def test_aio_within_a_request(app, http):
    """In an async view current_conversations.aio works for the identity of the request."""

    @app.post("/async")
    async def view():
        chat = await current_conversations.aio.create_conversation("async")
        await current_conversations.aio.save_message(chat["id"], "user", "a")
        return await current_conversations.aio.get_conversation(chat["id"])

    made = http("ada").post("/async").get_json()
    assert (made["user_id"], made["message_count"]) == ("ada", 1)
    assert http("bob").get(f"/api/conversations/{made['id']}").status_code == 404
    assert in_use(app) == 0


def test_a_cancelled_coroutine_leaves_nothing_open(app, ada):
    """A coroutine that is given up ends in its thread, and its connection comes back."""
    chat = ada.create_conversation()

    async def impatient():
        task = asyncio.ensure_future(ada.aio.save_message(chat["id"], "user", "a"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(impatient())
    assert len(everything(ada, chat["id"])) in (0, 1)
    check(ada, chat["id"])
    assert in_use(app) == 0


def test_what_is_no_call_has_no_coroutine(ada):
    """Unknown names, and blocks that need the caller's own thread, say so."""
    for name in ("nonsense", "transaction", "joined", "_write"):
        with pytest.raises(AttributeError):
            getattr(ada.aio, name)
