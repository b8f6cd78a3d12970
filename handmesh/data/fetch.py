"""Remote shards, a few at a time on disk: fetched whole or not at all, shared by the processes of a node."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import fsspec
from filelock import FileLock, Timeout

PAUSES_S = (1.0, 4.0, 15.0)
"""Waits between the attempts to fetch a file."""
_SILENCE_S = 60.0
"""An HTTP server that sends nothing for so long has failed."""

Opened = TypeVar("Opened")


class FetchError(OSError):
    """A shard that cannot be fetched, or is damaged where it is served; the message names its address."""


def is_remote(address: str) -> bool:
    """Whether an address is of another machine, not a path or `file://` URL of this one."""
    return "://" in address and not address.startswith("file://")


class FetchedShards(Generic[Opened]):
    """Some of many remote tar files in one folder, which the processes of a node share.

    Several of these over the same folder, in whatever processes, agree by one lock file a shard.
    Names on disk come from the addresses alone; files with other names are never touched.
    """

    def __init__(self, urls: Iterable[str], folder: Path, open_shard: Callable[[Path], Opened]) -> None:
        """open_shard: reads a shard so that it can then be deleted; ValueError where the file is damaged.

        Raises ValueError where nothing installed can fetch from one of `urls`.
        """
        self.folder, self.open_shard = Path(folder), open_shard
        self._keys = {url: _key(url) for url in urls}
        for _, of_protocol in itertools.groupby(self._keys, lambda url: url.partition("://")[0]):
            _check_protocol(next(of_protocol))

    def path(self, url: str) -> Path:
        """Where the shard lies while it is on disk."""
        return self.folder / f"{self._keys[url]}.tar"

    def open(self, url: str) -> Opened:
        """The shard of `url`, fetched if need be; one that is damaged is fetched again once.

        Raises FetchError where that did not help.
        """
        with self._lock(url):
            return self._open(url)

    def fetch_idle(self, urls: Iterable[str]) -> None:
        """Fetch those that are neither here nor being fetched by somebody else. Raises FetchError."""
        for url in urls:
            with contextlib.suppress(Timeout), self._lock(url, wait=False):
                if not self.path(url).exists():
                    self._open(url)  # finds damage now, and parses the labels ahead of time

    def keep_only(self, urls: Iterable[str]) -> None:
        """Delete the other shards of this set that are on disk; one that somebody is busy with stays for now."""
        kept = {self._keys[url] for url in urls}
        present = {path.name.partition(".")[0] for path in self.folder.glob("*.*")} - kept
        for url in [url for url, key in self._keys.items() if key in present]:
            with contextlib.suppress(Timeout), self._lock(url, wait=False):
                self._delete(url)

    def _lock(self, url: str, wait: bool = True) -> FileLock:
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return FileLock(locks / f"{self._keys[url]}.lock", timeout=-1 if wait else 0)

    def _open(self, url: str) -> Opened:
        try:
            return self._open_once(url)
        except ValueError:  # damaged on its way, or on disk since
            self._delete(url)
        try:
            return self._open_once(url)
        except ValueError as error:
            self._delete(url)
            raise FetchError(f"{url} is damaged, also when fetched again: {error}") from error

    def _open_once(self, url: str) -> Opened:
        if not self.path(url).exists():
            self._fetch(url)
        return self.open_shard(self.path(url))

    def _fetch(self, url: str) -> None:
        partial = self.path(url).with_suffix(".tar.part")
        try:
            download(url, partial)
            os.replace(partial, self.path(url))
        finally:
            partial.unlink(missing_ok=True)

    def _delete(self, url: str) -> None:
        """The shard, its cached labels and what a killed process left of it."""
        for path in self.folder.glob(f"{self._keys[url]}.*"):
            with contextlib.suppress(PermissionError):  # Windows keeps a file that a process has open
                path.unlink(missing_ok=True)


def _key(url: str) -> str:
    """A name without dots that tells addresses apart."""
    stem = re.sub(r"[^\w-]", "_", PurePosixPath(urlsplit(url).path).stem, flags=re.ASCII)
    return f"{stem}-{hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()[:12]}"


def _check_protocol(url: str) -> None:
    try:
        fsspec.get_filesystem_class(url.partition("://")[0])
    except (ImportError, ValueError) as error:
        remedy = "for s3:// install s3fs, for gs:// gcsfs; http:// and https:// need aiohttp"
        raise ValueError(f"cannot fetch {url}: {error} ({remedy})") from error


def download(url: str, path: Path) -> None:
    """Fetch `url` to `path`, in several attempts with growing pauses. Raises FetchError after the last."""
    for pause_s in (*PAUSES_S, None):
        try:
            files, inner = fsspec.core.url_to_fs(url, **_options(url))
            files.get_file(inner, str(path))
            return
        except Exception as error:  # each protocol has errors of its own
            if pause_s is None:
                reason = f"{type(error).__name__}: {error}".rstrip(": ")
                attempts = 1 + len(PAUSES_S)
                raise FetchError(
                    f"cannot fetch {url} in {attempts} attempts ({reason}); check the address and the network"
                ) from error
            time.sleep(pause_s)


def _options(url: str) -> dict[str, Any]:
    """For HTTP: the environment's proxies, and a limit on silence instead of aiohttp's on the whole, 5 minutes."""
    if not url.startswith(("http://", "https://")):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENCE_S, sock_read=_SILENCE_S)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}
