"""The OpenAPI description over HTTP, and a page for it that works offline."""

from __future__ import annotations

from .routing import Routes

routes = Routes()
