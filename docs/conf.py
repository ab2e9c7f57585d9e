"""How Sphinx builds these pages: `make docs`, without network, every warning an error."""

from __future__ import annotations

import importlib.metadata
import logging

project = "Flask-Conversations"
author = "The Flask-Conversations developers"
copyright = "the Flask-Conversations developers"
release = version = importlib.metadata.version("flask-conversations")

# importing the package loads Alembic, which reports each of its plugins
logging.getLogger("alembic").setLevel(logging.WARNING)

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "settings.py"]

html_theme = "furo"
html_title = f"Flask-Conversations {release}"
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# docstrings are written for people: `name` is code there, as in Markdown
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_mock_imports = ["httpx"]  # of an extra: these pages need nothing but the package itself
autodoc_default_options = {"members": True, "show-inheritance": True}
