"""The Lua scripts of the cache protocol, each atomic and on one key: sent by digest, or as text if the server lacks them."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any

from redis.client import NEVER_DECODE
from redis.exceptions import NoScriptError

from .clients import Client

_LUA = files(__package__).joinpath("lua")

_AS_BYTES = {NEVER_DECODE: True}
"""A host's own client may decode answers, but a corrupt entry may be no text."""


class Script:
    """One script of the protocol, behind the lines that all scripts share."""

    def __init__(self, name: str) -> None:
        common, own = (_LUA.joinpath(f"{part}.lua").read_text("utf-8") for part in ("common", name))
        self.name = name
        self.text = f"{common}\n{own}"
        # Redis names scripts by this digest; it protects nothing
        self.digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Client, key: str, *arguments: Any) -> Any:
        """Run the script in one round trip; in two if this server does not know it yet."""
        try:
            return client.execute_command("EVALSHA", self.digest, 1, key, *arguments, **_AS_BYTES)
        except NoScriptError:
            return client.execute_command("EVAL", self.text, 1, key, *arguments, **_AS_BYTES)


READ = Script("read")
POPULATE = Script("populate")
RESERVE = Script("reserve")
APPLY = Script("apply")
DROP = Script("drop")
UNRESERVE = Script("unreserve")
RELEASE = Script("release")
