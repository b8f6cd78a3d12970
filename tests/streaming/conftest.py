"""What the tests of the stream share."""

from __future__ import annotations

import pytest
from stream_clients import streaming


@pytest.fixture(scope="module")
def server():
    """A server at a free port; its `lines` are what it says."""
    with streaming() as (server, lines):
        server.lines = lines
        yield server
