"""Real servers, with the figures and the lengths of the chaos tests."""

from tests.chaos.conftest import figure, long

__all__ = ["figure", "long"]
