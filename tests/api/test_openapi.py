"""The OpenAPI description: current, valid, complete, and true in every spelling."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from flask_conversations import Conversations, api
from flask_conversations.api.ai_sdk import requests
from flask_conversations.api.case import camel, to_camel
from flask_conversations.api.description import STATIC, described
from flask_conversations.schemas import http_schemas, types
from tests.api.judge import closed
from tests.infra import services
from tests.infra.apps import identity_from_headers

DOCS = Path(__file__).parents[2] / "docs"
MODULES = (http_schemas, types, requests)
SHIPPED = json.loads((STATIC / "openapi.json").read_text("utf-8"))


@pytest.fixture
def generator() -> ModuleType:
    services.need_module("apispec")
    spec = importlib.util.spec_from_file_location("openapi_description", DOCS / "openapi.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def operations(document: dict[str, Any] = SHIPPED) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, one) for path, some in document["paths"].items() for method, one in some.items()]


def test_the_shipped_description_is_current(generator):
    """The file in the package is what the routes and schemas say today."""
    assert generator.description() == SHIPPED, "run: python docs/openapi.py"


@pytest.mark.parametrize("case", ["snake", "camel"])
def test_the_description_is_valid(case):
    """It is OpenAPI 3.1, and every schema in it is JSON Schema 2020-12."""
    validator = services.need_module("openapi_spec_validator")
    document = described("conversations", case, "/api")
    validator.OpenAPIV31SpecValidator(document).validate()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_route_is_described():
    """Method by method, under the name of its view."""
    ours = {
        (re.sub(r"<(\w+)>", r"{\1}", f"/conversations{r.path}"), r.method.lower(), r.name) for r in api.all_routes()
    }
    assert ours == {(path, method, one["operationId"]) for path, method, one in operations()}


def test_every_operation_says_what_can_go_wrong():
    """401, 403 and 503 wherever a login is asked for; the others where they can happen."""
    for path, method, one in operations():
        answers = set(one["responses"])
        if one.get("security") == []:
            assert not answers & {"401", "403"}
            continue
        expected = {"401", "403", "429", "500", "503"}
        expected |= {"404"} if "{" in path else set()
        expected |= {"400", "413", "415", "422"} if "requestBody" in one else set()
        assert expected <= answers, (method, path)
        assert ("If-Match" in header_names(one)) == ("412" in answers)
        assert ("If-None-Match" in header_names(one)) == ("304" in answers)
        assert ("Idempotency-Key" in header_names(one)) == (method == "post")


def header_names(operation: dict[str, Any]) -> set[str]:
    parameters = [
        SHIPPED["components"]["parameters"].get(one.get("$ref", "").rpartition("/")[2], one)
        for one in operation["parameters"]
    ]
    return {one["name"] for one in parameters if one["in"] == "header"}


def test_inputs_are_closed_and_outputs_are_open():
    """A client may send nothing unknown; a later version may answer more."""
    for name, schema in SHIPPED["components"]["schemas"].items():
        if name == "Part":
            continue
        kind = next(vars(module)[name] for module in MODULES if name in vars(module))
        assert schema.get("additionalProperties") is (False if issubclass(kind, http_schemas.Form) else None), name


def test_what_may_be_null_says_so():
    """In and out: `["string", "null"]`, and no type without a reason."""
    schemas = SHIPPED["components"]["schemas"]
    assert schemas["ConversationIn"]["properties"]["folder"]["type"] == ["string", "null"]
    assert schemas["Conversation"]["properties"]["folder"]["type"] == ["string", "null"]
    assert schemas["Message"]["properties"]["parts"]["type"] == ["array", "null"]
    assert schemas["Message"]["properties"]["tokens_used"]["type"] == ["integer", "null"]
    for schema in schemas.values():
        for member in schema["properties"].values():
            kinds = member.get("type", [])
            assert isinstance(kinds, str) or len(set(kinds)) == len(kinds)


@pytest.mark.parametrize("case", ["snake", "camel"])
def test_the_examples_are_true_to_the_schemas(case):
    """Every example of a schema and of a refusal."""
    document = closed(described("conversations", case, "/api"))
    components = document["components"]
    examples = [(schema, one) for schema in components["schemas"].values() for one in schema.get("examples", ())]
    problems = [content for answer in components["responses"].values() for content in answer["content"].values()]
    examples += [(content["schema"], content["example"]) for content in problems]
    assert len(examples) > 25
    for schema, example in examples:
        jsonschema.Draft202012Validator({**schema, "components": components}).validate(example)


@pytest.mark.parametrize("case", ["snake", "camel"])
def test_the_examples_of_inputs_are_accepted(make_app, case):
    """Sent to a mount in that spelling, they create what they say, and the answers look like their own examples."""
    app = make_app(CONVERSATIONS_JSON_CASE=case)
    client = app.test_client()
    ada = {"headers": {"X-Test-User": "ada"}}
    document = client.get("/api/conversations/openapi.json").get_json()
    schemas = document["components"]["schemas"]
    chat = client.post("/api/conversations", json=schemas["ConversationIn"]["examples"][0], **ada)
    assert chat.status_code == 201
    assert chat.get_json().keys() == schemas["Conversation"]["examples"][0].keys()
    path = f"/api/conversations/{chat.get_json()['id']}/messages"
    saved = client.post(path, json=schemas["MessageIn"]["examples"][0], **ada)
    assert saved.status_code == 201
    assert saved.get_json()[0].keys() == schemas["Message"]["examples"][0].keys()


def test_camel_case_reaches_every_name_of_ours():
    """Members, parameters, path variables, orders, names in texts; but no code, no operation id and nothing of the user's."""
    snake, document = described("conversations", "snake", "/api"), described("conversations", "camel", "/api")
    for name, schema in snake["components"]["schemas"].items():
        other = document["components"]["schemas"][name]
        assert [camel(member) for member in schema["properties"]] == list(other["properties"])
        assert [camel(member) for member in schema.get("required", ())] == other.get("required", [])
        assert to_camel(schema.get("examples")) == other.get("examples")
    assert "/conversations/{conversationId}/messages/{messageId}" in document["paths"]
    query = {one["name"]: one for one in document["paths"]["/conversations"]["get"]["parameters"] if "name" in one}
    assert query["order"]["schema"]["default"] == "-lastActivityAt"
    assert {"minVersion", "contextType", "limit"} <= query.keys()
    text = json.dumps(document)
    assert "`nextCursor`" in text
    assert "next_cursor" not in text
    assert '"opened_from": "sidebar"' in text, "what is inside metadata is the user's"
    assert '"version_conflict"' in text
    assert [one["operationId"] for *_, one in operations(document)] == [one["operationId"] for *_, one in operations()]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("mount", "url"),
    [
        ({"resource": "chat-threads", "url_prefix": "/v1"}, "/v1"),
        ({"resource": "contexts", "url_prefix": ""}, "/"),
        ({"resource": "chatbot/conversations", "url_prefix": "/api/v1"}, "/api/v1"),
    ],
)
def test_the_description_knows_where_it_is(make_app, mount, url):
    """Resource, prefix and what a proxy puts before it."""
    app = make_app()
    app.register_blueprint(app.conversations.create_blueprint("second", **mount))
    where = f"{mount['url_prefix']}/{mount['resource']}"
    document = app.test_client().get(f"{where}/openapi.json").get_json()
    assert document["servers"] == [{"url": url}]
    assert f"/{mount['resource']}/{{conversation_id}}" in document["paths"]
    behind = app.test_client().get(f"{where}/openapi.json", environ_overrides={"SCRIPT_NAME": "/chat"}).get_json()
    assert behind["servers"] == [{"url": "/chat" + (url if url != "/" else "")}]


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_public_files(app, subtests):
    """No login, kept by caches and asked for again, 304 when unchanged."""
    client = app.test_client()
    for path in ("openapi.json", "docs", "static/docs.js", "static/docs.css"):
        with subtests.test(path):
            first = client.get(f"/api/conversations/{path}")
            assert first.status_code == 200
            assert set(first.headers["Cache-Control"].split(", ")) == {"public", "no-cache"}
            assert "Vary" not in first.headers
            assert first.headers["X-Content-Type-Options"] == "nosniff"
            again = client.get(f"/api/conversations/{path}", headers={"If-None-Match": first.headers["ETag"]})
            assert (again.status_code, again.data) == (304, b"")
            assert client.head(f"/api/conversations/{path}").status_code == 200
            assert client.post(f"/api/conversations/{path}").status_code == 405


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_public_files_need_no_identity(make_app):
    """The identity resolver is not called for them."""

    def resolver() -> Any:
        raise AssertionError("asked")

    client = make_app(options={"identity": resolver}).test_client()
    for path in ("openapi.json", "docs", "static/docs.js"):
        assert client.get(f"/api/conversations/{path}").status_code == 200


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_only_files_of_the_folder_are_served(app):
    """No file elsewhere, no folder, nothing hidden."""
    client = app.test_client()
    for name in ("..", "../__init__.py", "%2e%2e%2f__init__.py", "x.js", "", ".", "docs.js/", "C:%5Cx", "%00"):
        assert client.get(f"/api/conversations/static/{name}").status_code == 404


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_types_of_modules_do_not_depend_on_the_machine(app, monkeypatch):
    """Browsers refuse a module that is served as text/plain."""
    import mimetypes

    monkeypatch.setattr(mimetypes, "guess_type", lambda *args, **kwargs: ("text/plain", None))
    client = app.test_client()
    assert client.get("/api/conversations/static/docs.js").mimetype == "text/javascript"
    assert client.get("/api/conversations/static/docs.css").mimetype == "text/css"
    assert client.get("/api/conversations/docs").mimetype == "text/html"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_two_mounts_describe_themselves(database):
    """One extension, mounted twice in different spellings, on an app that has no table yet."""
    from flask import Flask

    conversations = Conversations(identity=identity_from_headers)
    app = Flask(__name__)
    app.config.update(SECRET_KEY="x" * 32, CONVERSATIONS_DATABASE_URL=database.url)
    conversations.init_app(app)
    app.register_blueprint(conversations.create_blueprint("b", "chats", "/v1", "camel"))
    client = app.test_client()
    one = client.get("/api/conversations/openapi.json").get_json()
    other = client.get("/v1/chats/openapi.json").get_json()
    assert "next_cursor" in one["components"]["schemas"]["MessagePage"]["properties"]
    assert "nextCursor" in other["components"]["schemas"]["MessagePage"]["properties"]
