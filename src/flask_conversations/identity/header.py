"""The identity from a header that a trusted proxy has set after it logged the user in."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import ClassVar

from flask import Flask, request

from ..config import Config
from ..errors import ConfigurationError
from .base import Identity, UnsafeIdentity
from .settings import current_config
from .source import has_cookie, has_explicit_authorization, note_cookie_borne

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class HeaderIdentity:
    """The user in *user_header*, if the request comes straight from a *trusted* address or network; otherwise None.

    *trusted* overrides `CONVERSATIONS_TRUSTED_PROXIES`. With *org_header* the proxy must send both. The proxy has to
    remove these headers from requests that it receives.
    """

    knows_source: ClassVar[bool] = True

    def __init__(
        self,
        user_header: str = "X-Forwarded-User",
        org_header: str | None = None,
        trusted: str | Sequence[str] | None = None,
    ) -> None:
        self.user_header = user_header
        self.org_header = org_header
        self.trusted = (trusted,) if isinstance(trusted, str) else trusted

    def check(self, app: Flask, config: Config) -> None:
        """Raise `ConfigurationError` unless the trusted proxies are configured."""
        if not self._networks(config):
            raise ConfigurationError(
                "HeaderIdentity would trust every client. Name the proxy: set CONVERSATIONS_TRUSTED_PROXIES to its addresses"
                " or networks, for example 127.0.0.1 or 10.0.0.0/8."
            )

    def __call__(self) -> Identity | None:
        if not self._is_trusted(immediate_peer()):
            return None
        user_id = _header(self.user_header)
        if user_id is None:
            return None
        # a proxy that logs browsers in by its own cookie passes that cookie on, and then a foreign page can use it
        note_cookie_borne(has_cookie() and not has_explicit_authorization())
        return Identity(user_id=user_id, org_id=self._org_id())

    def _org_id(self) -> str | None:
        if self.org_header is None:
            return None
        org_id = _header(self.org_header)
        if org_id is None:
            raise UnsafeIdentity("the proxy names a user without an organisation.")
        return org_id

    def _is_trusted(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks(current_config()))

    def _networks(self, config: Config) -> list[Network]:
        return [_network(one) for one in (config.trusted_proxies if self.trusted is None else self.trusted)]


def immediate_peer() -> str:
    """The address that really connected, not the one that `ProxyFix` has read from a header."""
    original = request.environ.get("werkzeug.proxy_fix.orig")
    peer = original["REMOTE_ADDR"] if original else request.environ.get("REMOTE_ADDR")
    return peer or ""


def _header(name: str) -> str | None:
    """The header as UTF-8 text. One with a comma may be two headers, the proxy's and the client's own: it is ambiguous."""
    value = request.headers.get(name)
    if value is None:
        return None
    if "," in value:
        raise UnsafeIdentity("the proxy's header has a comma, so that it may be two headers.")
    try:
        return value.encode("latin-1").decode("utf-8")  # WSGI hands bytes over as Latin-1
    except UnicodeError:
        raise UnsafeIdentity("the proxy's header is not UTF-8.") from None


def _network(text: str) -> Network:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ConfigurationError(
            f"CONVERSATIONS_TRUSTED_PROXIES names {text!r}, which is neither an address nor a network."
        ) from None
    if network.prefixlen == 0:
        raise ConfigurationError(f"CONVERSATIONS_TRUSTED_PROXIES names {text!r}: that is every address, not a proxy.")
    return network
