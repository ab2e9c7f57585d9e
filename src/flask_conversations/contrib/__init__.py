"""Extras beside the core, which use its public API only."""
