"""Real servers, with the figures of the chaos tests."""

from tests.chaos.conftest import figure

__all__ = ["figure"]
