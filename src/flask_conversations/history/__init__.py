"""Histories for models: stored messages in the format of each provider's API. No SQL, no identity."""

from .parsing import DENIED, UNSETTLED
from .rendering import LEADING, NAMED_FORMATS, render, system_prompt
from .summaries import SUMMARY
from .tokens import estimate_tokens

__all__ = [
    "DENIED",
    "LEADING",
    "NAMED_FORMATS",
    "SUMMARY",
    "UNSETTLED",
    "estimate_tokens",
    "render",
    "system_prompt",
]
