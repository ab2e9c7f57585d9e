"""The canonical form is one that a browser computes too: the code of docs/reference/checksum.md, in a real one."""

from __future__ import annotations

import random
import re
from pathlib import Path

from flask_conversations.ids import new_id
from flask_conversations.schemas.canonical import canonical, checksum

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "checksum.md"


def browser_code():
    block = re.search(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert block
    return block[1].replace("export async function", "async function")


def some_messages(rng):
    """Contents with every kind of JSON value that is hard to write the same way twice."""
    awkward = [0, -0.0, 1.0, 1e21, 123456789012345680000, 1e-7, 5e-324, 0.1, -1.5e300, 2**53 + 1, True, None]
    texts = ["", "Hello, AI!", '\u2028\u007f\u0001\t"\\/', "e\u0301 😀 天气", "</script>"]
    numbers = [rng.uniform(-1, 1) * 10 ** rng.randint(-8, 23) for _ in range(50)]
    return [
        *({"id": new_id(), "role": "user", "content": text} for text in texts),
        *(
            {
                "id": new_id(),
                "role": "assistant",
                "content": [{"type": "x", "\u20ac": value, "z": [value], "😀": {}, "a": "b"}],
            }
            for value in awkward + numbers
        ),
    ]


def test_the_browser_computes_the_same(page):
    """The checksum of awkward messages is the same in Python and in the browser."""
    messages = some_messages(random.Random(7))
    page.route("http://localhost/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto("http://localhost/blank")

    for message in messages:
        theirs = page.evaluate(f"(value) => {{ {browser_code()}; return canonical(value) }}", message["content"])
        assert theirs == canonical(message["content"])
    assert page.evaluate(
        f"async (messages) => {{ {browser_code()}; return checksum(messages) }}", messages
    ) == checksum(messages)


def test_a_changed_letter_shows():
    """The two agree by computing, not by accident: one letter makes another checksum."""
    before = [{"id": new_id(), "role": "user", "content": "a"}]
    after = [{**before[0], "content": "b"}]
    assert checksum(before) != checksum(after)
