"""Turns: a question, the one who answers it, and the states between, each of them saved before the next begins."""

from .verbs import TurnVerbs

__all__ = ["TurnVerbs"]
