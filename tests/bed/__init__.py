"""The test bed: real databases, apps on them, and the tools that tests of every part share."""
