"""Data larger than a disk: remote shards of a long list, a window of them at a time, fetched as training goes on."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import itertools
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import fsspec
import numpy as np
from filelock import FileLock, Timeout

from handmesh.files import atomic_write, remove_parts

# Remote shards, a few at a time on disk: fetched whole or not at all, shared by the processes of a node.


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
        remove_parts(self.folder, f"{self._keys[url]}.")
        with atomic_write(self.path(url)) as part:
            download(url, part)

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


# Data larger than a disk: shards of a long list, a window of them at a time, fetched as training goes on.
#
# The list is shuffled anew in each epoch; the epochs, end to end, are cut into windows, and a window
# serves a fixed number of steps. So what is drawn from depends on the seed and the step alone: every
# process of every node sees the same windows, and a resumed run those of an undisturbed one.


Item = TypeVar("Item")

_BRACES = re.compile(r"\{([^{}]*)\}")
_ORDER = 0x5348415244  # keeps the shuffling of shards apart from other uses of the seed


@dataclass(frozen=True)
class StreamConfig:
    """Shards that need not be on disk, or not all at once.

    Patterns are addresses or paths with braces, as in WebDataset: `https://host/shard-{00000..00099}.tar`,
    `s3://bucket/{a,b}.tar`, or local paths and globs, whose files are read where they are.
    """

    shards: tuple[str, ...] = ()
    """Patterns of synthetic shards (`handmesh data synthetic`)."""
    photos: tuple[str, ...] = ()
    """Patterns of shards of labelled photographs (`handmesh data photo-shards`)."""
    cache: Path = Path("runs/stream")
    """Folder for fetched shards, on a disk of each node; one folder a run. It holds three windows at most."""
    window: int = 8
    """Shards of each kind that are drawn from at a time."""
    steps: int = 500
    """Training steps that a window serves; at least six for each loader worker, or some shards are fetched twice."""

    def __post_init__(self) -> None:
        for name in ("window", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.stream.{name} must be at least 1, got {getattr(self, name)}")


class Window(Generic[Item]):
    """The samples of several shards, to draw from alike."""

    def __init__(self, shards: Sequence[Sequence[Item]]) -> None:
        self.shards = shards
        self._starts = np.cumsum([0, *map(len, shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, i: int) -> Item:
        shard = int(np.searchsorted(self._starts, i, side="right")) - 1
        return self.shards[shard][i - int(self._starts[shard])]

    def draw(self, rng: np.random.Generator) -> Item:
        return self[int(rng.integers(len(self)))]


class Stream(Generic[Item]):
    """A source whose samples at a step are those of the step's window of shards.

    The shards of the windows beside the present one stay on disk: the former because other loader
    workers and processes may be some steps behind, the next because it is fetched ahead.
    """

    def __init__(
        self, patterns: Sequence[str], config: StreamConfig, open_shard: Callable[[Path], Sequence[Item]], seed: int
    ) -> None:
        """open_shard: reads a shard's samples so that its file can then be deleted; ValueError where it is damaged.

        Raises ValueError or FileNotFoundError for patterns that name nothing, or nothing that can be fetched.
        """
        self.shards = list_shards(patterns)
        self.window, self.steps, self.seed = min(config.window, len(self.shards)), config.steps, seed
        self.open_shard = open_shard
        self.fetched = FetchedShards(filter(is_remote, self.shards), config.cache, open_shard)
        self.__dict__ |= _closed()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | _closed()

    def at(self, step: int) -> Window[Item]:
        """The samples that step `step` draws from, fetched if need be. Raises FetchError."""
        number = step // self.steps
        if number != self._number:
            self._enter(number)
        return self._window

    def shards_of(self, number: int) -> list[str]:
        """The shards of window `number`; where two epochs meet, one may be there twice."""
        first = number * self.window
        return [self._nth(position) for position in range(first, first + self.window)]

    def _nth(self, position: int) -> str:
        epoch, k = divmod(position, len(self.shards))
        return self.shards[_order(self.seed, epoch, len(self.shards))[k]]

    def _enter(self, number: int) -> None:
        """Open a window, forget the one before, and begin to fetch the one after."""
        self.fetched.keep_only(self._remote(range(max(0, number - 1), number + 2)))
        self.fetched.fetch_idle(url for url in self._remote([number]) if url not in self._open)
        shards = self.shards_of(number)
        self._open = {shard: self._opened(shard) for shard in shards}
        self._window, self._number = Window([self._open[shard] for shard in shards]), number
        urls = self._remote([number + 1])
        self._ahead = threading.Thread(target=self._fetch_ahead, args=(urls,), name="fetch ahead", daemon=True)
        self._ahead.start()

    def _remote(self, numbers: Sequence[int]) -> list[str]:
        shards = itertools.chain.from_iterable(map(self.shards_of, numbers))
        return [shard for shard in dict.fromkeys(shards) if is_remote(shard)]

    def _opened(self, shard: str) -> Sequence[Item]:
        if shard in self._open:
            return self._open[shard]
        return self.fetched.open(shard) if is_remote(shard) else self.open_shard(Path(shard))

    def _fetch_ahead(self, urls: Sequence[str]) -> None:
        try:
            self.fetched.fetch_idle(urls)
        except OSError as error:  # FetchError too
            warnings.warn(f"fetching ahead failed, to be tried again when needed: {error}", stacklevel=2)


def _closed() -> dict[str, Any]:
    """The state of a stream that has opened no window; an open one stays in its process."""
    return {"_number": -1, "_window": None, "_open": {}, "_ahead": None}


@lru_cache(maxsize=8)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    """The order of an epoch's shards."""
    return np.random.default_rng([seed, epoch, _ORDER]).permutation(count).tolist()


def list_shards(patterns: Sequence[str]) -> list[str]:
    """The addresses and local paths that patterns name, in their order, each once.

    Raises FileNotFoundError where a local pattern names nothing and ValueError for wrong braces.
    """
    if not patterns:
        raise ValueError("a stream needs at least one pattern of shards")
    expanded = itertools.chain.from_iterable(map(expand_braces, patterns))
    found = (([name] if is_remote(name) else _local(name)) for name in expanded)
    return list(dict.fromkeys(itertools.chain.from_iterable(found)))


def expand_braces(pattern: str) -> list[str]:
    """Every name that braces stand for; a range keeps its leading zeros.

    >>> expand_braces("s3://b/{08..10}.tar")
    ['s3://b/08.tar', 's3://b/09.tar', 's3://b/10.tar']
    >>> expand_braces("{a,b}-{0..1}")
    ['a-0', 'a-1', 'b-0', 'b-1']
    """
    found = _BRACES.search(pattern)
    if not found:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    return [name for choice in _choices(found[1], pattern) for name in expand_braces(head + choice + tail)]


def _choices(inside: str, pattern: str) -> Iterator[str]:
    if "," in inside:
        yield from inside.split(",")
        return
    ends = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if not ends or int(ends[1]) > int(ends[2]):
        raise ValueError(
            f"braces hold a range such as 00000..00099 or a list such as a,b; got {{{inside}}} in {pattern}"
        )
    width = max(map(len, ends.groups())) if any(re.match("0.", end) for end in ends.groups()) else 0
    yield from (f"{number:0{width}d}" for number in range(int(ends[1]), int(ends[2]) + 1))


def _local(pattern: str) -> list[str]:
    path = Path(pattern.removeprefix("file://")).expanduser()
    found = [str(path)] if path.is_file() else sorted(glob.glob(str(path), recursive=True))
    files = [name for name in found if Path(name).is_file()]
    if not files:
        raise FileNotFoundError(
            f"no shards at {pattern}: expected tar files, such as FOLDER/shard-{{00000..00009}}.tar"
        )
    return files
