"""A small web site that serves shards, and fails as told."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class ShardSite(ThreadingHTTPServer):
    """Serves `folder` on this machine; counts what is asked for."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()  # how many times yet a name answers with an error
        self.cuts: Counter[str] = Counter()  # how many times yet it comes cut short between two files
        self.stalled: set[str] = set()  # names that stop half-way

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: ShardSite

    def do_GET(self) -> None:
        site, name = self.server, self.path.strip("/")
        site.asked[name] += 1
        if site.refusals[name] > 0:
            site.refusals[name] -= 1
            self.send_error(503)
            return
        data = (site.folder / name).read_bytes()
        if site.cuts[name] > 0:
            site.cuts[name] -= 1
            data = data[:-10240].rstrip(b"\0")
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if name in site.stalled:
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            threading.Event().wait(60)
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(folder: Path) -> Iterator[ShardSite]:
    """The site of a folder, until the end of the block."""
    with ShardSite(folder) as site:
        thread = threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield site
        finally:
            site.shutdown()
            thread.join()
