"""What a model is given: stored messages, as each provider's API takes them. No SQL, no identity."""

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
