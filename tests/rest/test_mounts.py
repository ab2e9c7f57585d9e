"""The API under other names and spellings: the clients that hosts already have find what they call."""

from __future__ import annotations

import pytest

from flask_conversations.errors import ConfigurationError
from tests.infra.apps import client_of

from .tools import NOBODYS_UUID, URL, created, problem

SEEDS = {
    "000": ("chatbot", "conversations", "/api/v1/chatbot", "camel"),
    "001": ("plain", "conversations", "/api", "snake"),
    "002": ("threads", "chat-threads", "/api/v1", "snake"),
    "004": ("contexts", "contexts", "", "snake"),
}


@pytest.fixture
def app(make_app):
    """One host that serves four clients from four documents, side by side."""
    app = make_app(CONVERSATIONS_REGISTER_BLUEPRINT=False)
    for name, resource, prefix, case in SEEDS.values():
        app.register_blueprint(
            app.conversations.create_blueprint(name=name, resource=resource, url_prefix=prefix, json_case=case)
        )
    return app


# -- document 000: use-conversation-history.ts, page.tsx -------------------------------------------------------------------
CHATBOT = "/api/v1/chatbot/conversations"


def test_the_hook_of_document_000_loads_its_conversations(hers, his):
    """`data.conversations.map(conv => ({id, title, messages?, createdAt, updatedAt}))`, all a date can be made of."""
    hers.post(CHATBOT, json={"title": "Test Conversation"})
    his.post(CHATBOT, json={"title": "his"})
    data = hers.get(f"{CHATBOT}?limit=100").json
    (conv,) = data["conversations"]
    assert conv["title"] == "Test Conversation"
    assert conv["createdAt"].endswith("Z")
    assert conv["updatedAt"].endswith("Z")
    assert (data["nextCursor"], data["hasMore"]) == (None, False)
    assert "created_at" not in hers.get(f"{CHATBOT}?limit=100").text


def test_the_page_of_document_000_sends_a_message(hers, his):
    """`const [userResp, assistantResp] = data`: an array; without a responder the second is not there."""
    conv = hers.post(CHATBOT, json={"title": "Test Conversation"}).json
    response = hers.post(f"{CHATBOT}/{conv['id']}/messages", json={"content": "Hello, AI!"})
    (user,) = response.json
    assert (response.status_code, user["role"].lower(), user["content"]) == (201, "user", "Hello, AI!")
    assert user["conversationId"] == conv["id"]
    opened = hers.get(f"{CHATBOT}/{conv['id']}").json
    assert [(one["id"], one["content"], one["createdAt"]) for one in opened["messages"]] == [
        (user["id"], "Hello, AI!", user["createdAt"])
    ]
    assert his.get(f"{CHATBOT}/{conv['id']}").status_code == 404


def test_the_list_of_document_000_can_bring_the_messages(hers):
    """`conv.messages?.map(msg => msg.conversationId, msg.role, msg.createdAt, metadata)`."""
    conv = hers.post(CHATBOT, json={"messages": [{"role": "user", "content": "x", "actionType": "open"}]}).json
    (found,) = hers.get(f"{CHATBOT}?limit=100&include=messages").json["conversations"]
    (message,) = found["messages"]
    assert (message["conversationId"], message["actionType"]) == (conv["id"], "open")


def test_document_000_archives_and_deletes(hers):
    """`POST .../archive`, `DELETE .../:id`."""
    conv = hers.post(CHATBOT, json={}).json
    assert hers.post(f"{CHATBOT}/{conv['id']}/archive").json["archivedAt"] is not None
    assert hers.delete(f"{CHATBOT}/{conv['id']}").json["success"] is True
    assert hers.get(f"{CHATBOT}/{conv['id']}").status_code == 404


# -- document 001: conversation-context.tsx ----------------------------------------------------------------------------
def test_the_context_of_document_001_creates_selects_and_loads(hers, his):
    """`{id}` of the POST, `{messages}` of the GET, `data.conversations` with id, title, updated_at and preview."""
    first = hers.post(URL, json={"title": "New Conversation"}).json["id"]
    hers.post(f"{URL}/{first}/messages", json={"content": "hi there"})
    messages = hers.get(f"{URL}/{first}").json["messages"]
    assert [(one["role"], one["content"]) for one in messages] == [("user", "hi there")]
    (listed,) = hers.get(URL).json["conversations"]
    assert (listed["id"], listed["title"], listed["preview"]) == (first, "hi there", "hi there")
    assert listed["updated_at"].endswith("Z")
    assert his.get(URL).json["conversations"] == []


# -- document 002: chatService.ts --------------------------------------------------------------------------------------
THREADS = "/api/v1/chat-threads"


def test_the_chat_service_of_document_002(hers, his):
    """create(title, messages), list(limit, offset), get, update(title, messages), add, delete."""
    messages = [{"role": "user", "content": "q"}]
    thread = hers.post(THREADS, json={"title": "t", "messages": messages}).json
    listed = hers.get(f"{THREADS}?limit=20&offset=0").json["conversations"]
    assert [one["id"] for one in listed] == [thread["id"]]
    messages.append({"role": "assistant", "content": "a"})
    updated = hers.put(f"{THREADS}/{thread['id']}", json={"title": "q", "messages": messages})
    assert (updated.status_code, updated.json["title"]) == (200, "q")
    hers.post(f"{THREADS}/{thread['id']}/messages", json={"role": "user", "content": "more"})
    opened = hers.get(f"{THREADS}/{thread['id']}").json
    assert [one["content"] for one in opened["messages"]] == ["q", "a", "more"]
    assert his.put(f"{THREADS}/{thread['id']}", json={"messages": messages}).status_code == 404
    assert hers.delete(f"{THREADS}/{thread['id']}").status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_statuses_of_document_002(hers, http):
    """401 without a token, 404 for what is not there, 422 for invalid data."""
    assert http(None).get(THREADS).status_code == 401
    assert hers.get(f"{THREADS}/{NOBODYS_UUID}").status_code == 404
    assert hers.post(THREADS, json={"title": 7}).status_code == 422


def test_document_002_can_have_its_403(make_app):
    """Its "403 Forbidden - user accessing another user's threads" is `CONVERSATIONS_FOREIGN_STATUS = 403`."""
    app = make_app(
        CONVERSATIONS_FOREIGN_STATUS=403, CONVERSATIONS_URL_PREFIX="/api/v1", CONVERSATIONS_RESOURCE="chat-threads"
    )
    thread = client_of(app, "ada").post(THREADS, json={}).json
    for ask in (client_of(app, "bob").get, client_of(app, "bob").delete):
        problem(ask(f"{THREADS}/{thread['id']}"), 403, "forbidden")


# -- document 004: BackendContextService.ts ----------------------------------------------------------------------------
def test_the_contexts_of_document_004_are_at_the_root(hers, his):
    """`${baseUrl}/contexts/${id}`: no prefix, another resource name; its actions and state come with turns."""
    context = hers.post("/contexts", json={"id": NOBODYS_UUID}).json
    assert context["id"] == NOBODYS_UUID
    hers.post(f"/contexts/{NOBODYS_UUID}/messages", json={"content": "x"})
    assert hers.get(f"/contexts/{NOBODYS_UUID}").json["messages"][0]["content"] == "x"
    assert his.get(f"/contexts/{NOBODYS_UUID}").status_code == 404


# -- several at once ---------------------------------------------------------------------------------------------------
def test_all_mounts_show_the_same_conversations(hers):
    """Under any name the list's key is `conversations`, and Location stays within the mount that was asked."""
    made = hers.post(THREADS, json={"title": "t"})
    assert made.headers["Location"].endswith(f"{THREADS}/{made.json['id']}")
    for url in (CHATBOT, URL, THREADS, "/contexts"):
        assert [one["id"] for one in hers.get(url).json["conversations"]] == [made.json["id"]]
        assert hers.post(url, json={}).headers["Location"].startswith(url)
        hers.delete(f"{url}/{hers.get(url).json['conversations'][0]['id']}")


def test_camel_case_is_ours_and_not_the_users(hers):
    """Our members are spelled in camelCase, in and out, in queries and errors; what users put in stays as it is."""
    body = {"contextType": "a_b", "pageContext": "p", "metadata": {"snake_key": {"camelKey": 1}}, "tags": ["a_b"]}
    conv = hers.post(CHATBOT, json=body).json
    assert {name: conv[name] for name in body} == body
    content = [{"type": "my_part", "some_key": 1}]
    message = {"content": content, "clientId": "m_1", "actionParams": {"a_b": 1}, "metadata": {"c_d": 1}}
    (saved,) = hers.post(f"{CHATBOT}/{conv['id']}/messages", json=message).json
    assert {name: saved[name] for name in message} == message
    assert len(hers.get(f"{CHATBOT}?contextType=a_b&order=-updatedAt").json["conversations"]) == 1
    errors = hers.post(CHATBOT, json={"contextType": 7}).json["errors"]
    assert set(errors) == {"contextType"}
    conflict = hers.patch(f"{CHATBOT}/{conv['id']}", json={"title": "x", "expectedVersion": 77})
    assert conflict.json["current"]["contextType"] == "a_b"
    assert "requestId" in conflict.json


def test_an_idempotency_key_holds_within_its_mount(hers):
    """The kept answer is in the spelling of the mount that gave it."""
    key = {"Idempotency-Key": "k"}
    first = hers.post(CHATBOT, json={"title": "t"}, headers=key)
    assert hers.post(CHATBOT, json={"title": "t"}, headers=key).data == first.data
    problem(hers.post(URL, json={"title": "t"}, headers=key), 422, "idempotency_key_reused")


# -- what cannot be mounted --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_url_that_the_host_already_answers_is_a_start_up_error(make_app):
    """Not a silent loss of one of the two; the sentence names the setting."""
    app = make_app(CONVERSATIONS_REGISTER_BLUEPRINT=False)
    app.add_url_rule("/api/conversations/<cid>", "hosts_own", lambda cid: "")
    with pytest.raises(ConfigurationError, match="CONVERSATIONS_URL_PREFIX"):
        app.register_blueprint(app.conversations.create_blueprint())


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_same_blueprint_twice_is_an_error(make_app):
    """Another name at the same address is too."""
    app = make_app()
    with pytest.raises(ConfigurationError, match="also answered"):
        app.register_blueprint(app.conversations.create_blueprint(name="again"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_route_that_the_host_adds_later_breaks_nothing(make_app, caplog):
    """Whichever of the two answers: it is logged, once, and every other route of the app goes on."""
    app = make_app()
    app.add_url_rule("/api/conversations/<cid>", "hosts_own", lambda cid: "")
    app.add_url_rule("/elsewhere", "elsewhere", lambda: "fine")
    client = client_of(app, "ada")
    assert client.get("/elsewhere").text == "fine"
    assert caplog.records == []
    for _ in range(2):
        assert client.get(URL).status_code == 200
    (record,) = caplog.records
    assert "/api/conversations/<cid> is also answered by 'hosts_own'" in record.getMessage()


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_host_does_not_notice_us(make_app):
    """Nothing of ours runs before its own requests, and each address of ours is one rule for each method."""
    app = make_app()
    assert None not in app.before_request_funcs
    ours = [rule for rule in app.url_map.iter_rules() if rule.endpoint.startswith("flask_conversations.")]
    assert sum(len(rule.methods - {"HEAD"}) == 1 for rule in ours) == len(ours) - 1, "but for the one that refuses"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_hosts_route_beside_ours_is_fine(make_app):
    """Another method or another path clashes with nothing."""
    app = make_app(CONVERSATIONS_REGISTER_BLUEPRINT=False)
    app.add_url_rule("/api/conversations/<cid>/summary", "summary", lambda cid: f"of {cid}")
    app.register_blueprint(app.conversations.create_blueprint())
    made = created(client_of(app, "ada"))
    assert app.test_client().get(f"{URL}/{made['id']}/summary").text == f"of {made['id']}"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_cannot_be_mounted_says_why(make_app, subtests):
    """At start-up, with the name of the argument."""
    wrong = [("json_case", "kebab"), ("resource", ""), ("resource", "a b"), ("resource", "/x"), ("resource", "<x>")]
    conversations = make_app().conversations
    for name, value in wrong:
        with subtests.test(name, value=value), pytest.raises(ConfigurationError, match=name):
            conversations.create_blueprint(name="other", **{name: value})
