"""The viewer's files, read once at the start: nothing that a request says is ever a path."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}

SAFETY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Of every answer: the page loads nothing from elsewhere, and tells no one else its address, which may hold a token."""


class Page(NamedTuple):
    """One file as it is served."""

    content_type: str
    body: bytes


def read_pages(folder: Path) -> dict[str, Page]:
    """The files right in `folder` by their path in a URL; index.html is also '/'.

    Files of a type that is not in `TYPES` are left out. Raises FileNotFoundError without an index.html.
    """
    files = [file for file in sorted(folder.glob("*")) if file.suffix in TYPES and file.is_file()]
    pages = {f"/{file.name}": Page(TYPES[file.suffix], file.read_bytes()) for file in files}
    if "/index.html" not in pages:
        raise FileNotFoundError(f"no index.html in {folder}; build the viewer: npm ci && npm run build in its folder")
    return {"/": pages["/index.html"], **pages}
