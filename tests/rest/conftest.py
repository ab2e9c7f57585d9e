"""Ada and Bob with a browser each: test clients on the REST API."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient


@pytest.fixture
def hers(http) -> FlaskClient:
    """Ada's client."""
    return http("ada")


@pytest.fixture
def his(http) -> FlaskClient:
    """Bob's client."""
    return http("bob")
