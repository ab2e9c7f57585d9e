"""A responder for any endpoint that speaks OpenAI's chat completions: streaming, with tools.

    conversations.responder(OpenAIResponder("http://localhost:11434/v1", "llama3.2"))

Needs httpx: `pip install "flask-conversations[openai]"`.
"""

from __future__ import annotations

try:
    import httpx  # noqa: F401
except ImportError as error:
    raise ImportError('The responder needs httpx: pip install "flask-conversations[openai]"') from error

from .responder import OpenAIResponder
from .tools import Tool

__all__ = ["OpenAIResponder", "Tool"]
