"""Who may connect: the checks that keep other people's web pages and machines away from a camera's hands, and the log
of what they refused.
"""

from __future__ import annotations

import hmac
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

from websockets.datastructures import Headers

# The log of what was refused: one line each, and no more lines than a person can read.


Note = Callable[[str], None]
"""Takes a line for the user."""

_LINES_A_SECOND = 5


class Notes:
    """Passes lines on, at most five in a second; then says how many there were more."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._second = 0
        self._lines = 0

    def __call__(self, line: str) -> None:
        """Say `line`, unless this second has had its share."""
        second = int(time.monotonic())
        if second != self._second:
            unsaid = self._lines - _LINES_A_SECOND
            if unsaid > 0:
                self._note(f"{unsaid} more lines like these within a second")
            self._second, self._lines = second, 0
        self._lines += 1
        if self._lines <= _LINES_A_SECOND:
            self._note(line)


# Who may connect: the checks that keep other people's web pages and machines away from a camera's hands.


_LONGEST_QUOTE = 80


class Refusal(NamedTuple):
    """Why a request is not answered; `reason` is one line."""

    status: HTTPStatus
    reason: str


@dataclass(frozen=True)
class Access:
    """The rules of one server.

    A browser says in `Origin` whose page asks; by default that must be a page of this server. `Host`
    must be an address or a name of this machine, or else a stranger's page could have its own name lead
    here (DNS rebinding) and pass as one of ours. Other programs send no `Origin`: only a token stops them.
    """

    host: str = "127.0.0.1"
    allow_origins: tuple[str, ...] = ()
    token: str | None = None

    def __post_init__(self) -> None:
        for origin in self.allow_origins:
            if origin not in ("*", "null") and not _parts(origin):
                raise ValueError(f"an origin is like http://localhost:5173, or * for any; got {origin!r}")
        if self.token is not None and not self.token.strip():
            raise ValueError("the token is empty; leave it out, or give one that is hard to guess")

    def refusal_of_page(self, headers: Headers) -> Refusal | None:
        """Why a plain HTTP request is refused; None where it is not."""
        hosts = headers.get_all("Host")
        if len(hosts) != 1:
            return Refusal(HTTPStatus.BAD_REQUEST, f"expected one Host header, got {len(hosts)}")
        if not self._is_own_name(hosts[0]):
            return Refusal(HTTPStatus.FORBIDDEN, f"host {quoted(hosts[0])} is not a name of this machine")
        return None

    def refusal_of_data(self, headers: Headers, url: SplitResult) -> Refusal | None:
        """Why a request for hands or their mesh is refused: what a page's is for, the origin, or the token."""
        return self.refusal_of_page(headers) or self._refusal_of_origin(headers) or self._refusal_of_token(headers, url)

    def _refusal_of_origin(self, headers: Headers) -> Refusal | None:
        origins = headers.get_all("Origin")
        if not origins or "*" in self.allow_origins:
            return None
        if len(origins) == 1:
            own = headers.get_all("Host")[0]
            allowed = (f"http://{own}", f"https://{own}", *self.allow_origins)
            asks = _parts(origins[0])
            if asks and asks in map(_parts, allowed):
                return None
        return Refusal(HTTPStatus.FORBIDDEN, f"cross-origin: {quoted(', '.join(origins))} (see --allow-origin)")

    def _refusal_of_token(self, headers: Headers, url: SplitResult) -> Refusal | None:
        if self.token is None:
            return None
        given = parse_qs(url.query).get("token", [])
        given += [value[len("Bearer ") :] for value in headers.get_all("Authorization") if value.startswith("Bearer ")]
        expected = self.token.encode()
        if len(given) == 1 and hmac.compare_digest(given[0].encode(errors="replace"), expected):
            return None
        return Refusal(HTTPStatus.UNAUTHORIZED, "wrong token" if given else "no token")

    def _is_own_name(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        own = {"localhost", self.host.lower(), *_machine_names()}
        own |= {urlsplit(origin).hostname or "" for origin in self.allow_origins}
        return name in own - {""} or _is_address(name)


def _parts(origin: str) -> tuple[str, ...] | None:
    """Scheme, host and port, equal for two spellings of one origin; this machine's own addresses are one name.

    None for what is no origin.
    """
    if origin == "null":
        return (origin,)
    try:
        url = urlsplit(origin.lower())
        port = url.port or _PORTS.get(url.scheme)
    except ValueError:
        return None
    if f"{url.scheme}://{url.netloc}" != origin.lower() or not url.hostname or "@" in url.netloc:
        return None
    host = "localhost" if url.hostname in ("127.0.0.1", "::1") else url.hostname
    return url.scheme, host, str(port)


_PORTS = {"http": 80, "https": 443}


def _machine_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, f"{name.split('.')[0]}.local"}


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def quoted(text: str) -> str:
    """A stranger's text, short and without control characters, fit for a line of a log."""
    short = text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "..."
    return ascii(short)
