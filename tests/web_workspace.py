"""The npm workspace of the web pages, for the tests that need what `npm ci` installs there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

WEB = Path(__file__).parents[1] / "demo" / "web"
NODE_MODULES = WEB / "node_modules"


def require_packages() -> None:
    """Skip the test where node or the workspace's packages are missing."""
    if not (shutil.which("npx") and NODE_MODULES.is_dir()):
        pytest.skip("needs node 20.19 or newer, and `npm ci` in demo/web")


def run(*command: str | Path) -> None:
    """Run a command in the workspace, with this Python for what the build asks of one."""
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([*map(str, command)], cwd=WEB, env=environment, check=True)


def npx(*command: str | Path) -> None:
    """Run a tool of the workspace."""
    run("npx", *command)


def build(page: str, folder: Path) -> None:
    """Build the page of this name into `folder`."""
    require_packages()
    npx("vite", "build", "--mode", page, "--outDir", folder, "--emptyOutDir", "--logLevel", "error")


class Site(ThreadingHTTPServer):
    """A folder, given out with the headers that `npm run preview` gives too; files can be held back and cut off."""

    daemon_threads = True

    def __init__(self, folder: Path, keeps: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), partial(_Files, directory=str(folder)))
        self.keeps = keeps
        self.address = f"http://127.0.0.1:{self.server_port}/"
        self.asked: list[str] = []
        """The paths that were asked for."""
        self.held: dict[str, Event] = {}
        """By the end of a path: the second half of the file waits for it."""
        self.cut: list[str] = []
        """Ends of paths: the next answer to each breaks off after half of the file."""

    def wait_for(self, ending: str, seconds: float = 90.0) -> None:
        """Wait until a path that ends so was asked for."""
        end_s = time.monotonic() + seconds
        while not any(path.endswith(ending) for path in self.asked):
            assert time.monotonic() < end_s, f"nobody asked for {ending}, only for {self.asked}"
            time.sleep(0.05)


class _Files(SimpleHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.path = self.path.partition("?")[0]
        self.server.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile) -> None:
        half = os.fstat(source.fileno()).st_size // 2
        outputfile.write(source.read(half))
        for ending in filter(self.path.endswith, self.server.cut):
            self.server.cut.remove(ending)
            self.close_connection = True
            return
        for ending in filter(self.path.endswith, self.server.held):
            self.server.held[ending].wait()
        super().copyfile(source, outputfile)

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        if self.server.keeps:
            is_page = self.path.endswith(("/", "offline.js"))
            self.send_header("Cache-Control", "no-cache" if is_page else "max-age=31536000, immutable")
        super().end_headers()

    def log_message(self, *_) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path, keeps: bool = False) -> Iterator[Site]:
    """A folder at an address of this machine; browsers may keep its files, all but the page itself, if it `keeps`."""
    with Site(folder, keeps) as site:
        Thread(target=site.serve_forever, daemon=True).start()
        try:
            yield site
        finally:
            site.shutdown()
