"""The npm workspace of the web pages, for the tests that need what `npm ci` installs there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WEB = Path(__file__).parents[1] / "demo" / "web"
NODE_MODULES = WEB / "node_modules"


def require_packages() -> None:
    """Skip the test where node or the workspace's packages are missing."""
    if not (shutil.which("npx") and NODE_MODULES.is_dir()):
        pytest.skip("needs node 20.19 or newer, and `npm ci` in demo/web")


def npx(*command: str | Path) -> None:
    """Run a tool of the workspace, with this Python for what the build asks of one."""
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run(["npx", *map(str, command)], cwd=WEB, env=environment, check=True)


def build(page: str, folder: Path) -> None:
    """Build the page of this name into `folder`."""
    require_packages()
    npx("vite", "build", "--mode", page, "--outDir", folder, "--emptyOutDir", "--logLevel", "error")
