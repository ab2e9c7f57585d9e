"""The test infrastructure: real databases, apps on them, and the tools that tests of every part share."""
