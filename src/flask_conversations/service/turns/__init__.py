"""Turns: a question, the execution that answers it, and the states between, each of them saved before the next begins."""
