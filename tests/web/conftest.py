"""What several tests of the web pages need, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import web_workspace


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The tracker's page, built from its sources and with the networks of this package."""
    chromium = pytest.importorskip("chromium", reason="needs websockets: pip install 'handmesh[stream]'")
    if not chromium.CHROMIUM:
        pytest.skip("needs Chromium")
    folder = tmp_path_factory.mktemp("page")
    web_workspace.build("browser", folder)
    return folder
