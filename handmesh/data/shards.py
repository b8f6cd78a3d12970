"""Tar shards in WebDataset's layout: synthetic samples, and labelled photographs."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import mmap
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track

from handmesh.data.photos import (
    Context,
    LabelledHand,
    Photo,
    Split,
    context_of,
    read_accepted,
    read_hand,
    read_photos,
    usable_hands,
    with_fits,
)
from handmesh.files import OutputError, atomic_write, parsed_json, remove_parts, write_json, write_npz
from handmesh.types import Camera

# Synthetic shards: tar files of `{key}.jpg`, `{key}.png`, `{key}.json` (WebDataset's layout).
#
# Labels are parsed once, stacked and kept in a cache beside each shard; images stay in the
# memory-mapped tars and are decoded one at a time.


LABELS: dict[str, tuple[int, ...]] = {
    "pose": (16, 3),
    "shape": (10,),
    "joints_m": (21, 3),
    "joints_px": (21, 2),
    "translation_m": (3,),
    "camera": (6,),
}
"""Each label and its shape for one sample."""

_CAMERA_FIELDS = ("fx", "fy", "cx", "cy", "width", "height")
_PARTS = ("jpg", "png", "json")
_CACHE_VERSION = 2
_TAR_BLOCK = 512


class ShardError(ValueError):
    """A shard that is damaged, incomplete or not in the layout; the message names the file."""


@dataclass(frozen=True, eq=False)
class ShardSet:
    """N synthetic samples of right hands: stacked labels, and images decoded on demand.

    May be shared with forked or spawned worker processes; each maps the files for itself.
    """

    files: tuple[Path, ...]
    keys: np.ndarray  # (N,) str
    seeds: np.ndarray  # (N,) int64
    pose: np.ndarray  # (N, 16, 3) float32 axis-angle, relative to the parent; the first to the camera
    shape: np.ndarray  # (N, 10) float32
    joints_m: np.ndarray  # (N, 21, 3) float32, camera frame, keypoint order
    joints_px: np.ndarray  # (N, 21, 2) float32
    translation_m: np.ndarray  # (N, 3) float32, added to the hand model's output
    camera: np.ndarray  # (N, 6) float32: fx, fy, cx, cy, width, height
    shard: np.ndarray  # (N,) int32, index into `files`
    jpg: np.ndarray  # (N, 2) int64, offset and length in the tar
    png: np.ndarray  # (N, 2) int64
    other_px: np.ndarray  # (N, 21, 2) float32, joints of another hand in the image, NaN where there is none
    other_left: np.ndarray  # (N,) bool, that one is a left hand
    knows_others: np.ndarray  # (N,) bool, whether the label says if there is another; shards of old do not
    _maps: dict[int, mmap.mmap] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_maps": {}}

    def decode(self, i: int) -> np.ndarray:
        """(S, S, 3) uint8 RGB image of sample `i`."""
        return self._decode(i, self.jpg, cv2.IMREAD_COLOR_RGB, "image")

    def mask(self, i: int) -> np.ndarray:
        """(S, S) uint8, 255 on the hand up to the wrist, 0 elsewhere."""
        return self._decode(i, self.png, cv2.IMREAD_GRAYSCALE, "mask")

    def hold(self) -> ShardSet:
        """Open every file now; this process can then read the images even when the files are deleted."""
        for shard in range(len(self.files)):
            self._map(shard)
        return self

    def camera_of(self, i: int) -> Camera:
        """The camera of sample `i`."""
        fx, fy, cx, cy, width, height = self.camera[i].tolist()
        return Camera(fx, fy, cx, cy, int(width), int(height))

    def _decode(self, i: int, spans: np.ndarray, mode: int, what: str) -> np.ndarray:
        offset, length = spans[i].tolist()
        data = np.frombuffer(self._map(int(self.shard[i])), np.uint8, length, offset)
        image = cv2.imdecode(data, mode)
        if image is None:
            raise ShardError(f"{self.files[self.shard[i]]}: the {what} of sample {self.keys[i]} does not decode")
        return image

    def _map(self, shard: int) -> mmap.mmap:
        if shard not in self._maps:
            with open(self.files[shard], "rb") as file:
                self._maps[shard] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[shard]


def read_shards(folder: Path | str, limit: int | None = None, progress: bool = False) -> ShardSet:
    """The samples of all `shard-*.tar` in `folder`, in the order of their names; the first `limit` of them.

    The first reading of a shard parses its labels (about 0.2 s per 1,000 samples) and writes
    `shard-*.labels.npz` beside it, where the folder is writable; later ones load that.
    Raises FileNotFoundError where there are no shards and ShardError where one is damaged.
    """
    files = sorted(Path(folder).glob("shard-*.tar"))
    if not files:
        raise FileNotFoundError(f"no shard-*.tar in {folder}: write some with `handmesh data synthetic`")
    return read_shard_files(files, limit, progress)


def read_shard_files(files: Sequence[Path], limit: int | None = None, progress: bool = False) -> ShardSet:
    """The samples of these tar files, whatever their names, in the order given; else as `read_shards`."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    tables: list[_Table] = []
    count = 0
    for file in track(files, "reading shards", disable=not progress, transient=True):
        tables.append(_read_table(file))
        count += len(tables[-1]["keys"])
        if limit is not None and count >= limit:
            break
    return _stack(files[: len(tables)], tables, limit)


_Table = dict[str, np.ndarray]


def _stack(files: Sequence[Path], tables: Sequence[_Table], limit: int | None) -> ShardSet:
    columns = {name: np.concatenate([table[name] for table in tables])[:limit] for name in tables[0]}
    shard = np.repeat(np.arange(len(tables), dtype=np.int32), [len(table["keys"]) for table in tables])
    return ShardSet(tuple(files), shard=shard[:limit], **columns)


def _read_table(file: Path) -> _Table:
    """The labels and spans of one shard, from its cache where that is of this very file."""
    cache = file.with_suffix(".labels.npz")
    stat = file.stat()
    stamp = np.array([_CACHE_VERSION, stat.st_size, stat.st_mtime_ns], np.int64)
    table = _load_cache(cache, stamp)
    if table is None:
        table = parse_shard(file)
        _write_cache(cache, {"stamp": stamp, **table})
    return table


def _load_cache(cache: Path, stamp: np.ndarray) -> _Table | None:
    try:
        with np.load(cache, allow_pickle=False) as stored:
            table = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return table if np.array_equal(table.pop("stamp", None), stamp) else None


def _write_cache(cache: Path, table: _Table) -> None:
    """Write in one step, so that a reader or a kill never sees half a cache; skip read-only folders."""
    with contextlib.suppress(OutputError):
        write_npz(cache, **table)


class Span(NamedTuple):
    """Where a part of a sample lies in its tar, bytes."""

    offset: int
    length: int


def parse_shard(file: Path) -> _Table:
    samples = tar_members(file, _PARTS)
    with open(file, "rb") as stream:
        labels = [_read_label(file, stream, key, parts["json"]) for key, parts in samples.items()]
    table = {name: np.stack([label[name] for label in labels]) for name in LABELS}
    table["other_px"] = np.stack([label["other_px"] for label in labels])
    for name in ("other_left", "knows_others"):
        table[name] = np.array([label[name] for label in labels])
    table["keys"] = np.array(list(samples))
    table["seeds"] = np.array([label["seed"] for label in labels], np.int64)
    for part in ("jpg", "png"):
        table[part] = np.array([parts[part] for parts in samples.values()], np.int64)
    return table


def tar_members(file: Path, parts: Sequence[str]) -> dict[str, dict[str, Span]]:
    """Key -> part -> where it lies in the tar.

    Folders are a part of keys, as WebDataset has it; what tar and macOS add to files is passed over: a leading `./`,
    entries of folders, `._*`. Raises ShardError where the tar is cut short or a sample lacks one of `parts`.
    """
    try:
        with tarfile.open(file, "r:") as tar:
            members = tar.getmembers()
    except tarfile.TarError as error:
        raise ShardError(f"{file}: truncated or not a tar ({error}); delete it and generate it again") from None
    _check_end(file, members)
    samples: dict[str, dict[str, Span]] = {}
    for member in filter(tarfile.TarInfo.isreg, members):
        path = PurePosixPath(member.name)
        if path.name.startswith("."):
            continue
        key, _, part = str(path).rpartition(".")
        samples.setdefault(key, {})[part] = Span(member.offset_data, member.size)
    if not samples:
        raise ShardError(f"{file}: holds no samples; delete it and generate it again")
    for key, found in samples.items():
        if not found.keys() >= set(parts):
            raise ShardError(f"{file}: sample {key!r} needs {', '.join(parts)} and has {', '.join(found)}")
    return samples


def _check_end(file: Path, members: Sequence[tarfile.TarInfo]) -> None:
    """`tarfile` takes a file that stops between two members for a whole one; a whole one ends in a zero block."""
    if not members:
        return
    last = members[-1]
    end = last.offset_data + -(-last.size // _TAR_BLOCK) * _TAR_BLOCK
    with open(file, "rb") as stream:
        stream.seek(end)
        if stream.read(_TAR_BLOCK) != bytes(_TAR_BLOCK):
            raise ShardError(f"{file}: truncated after {last.name}; delete it and generate it again")


def _read_label(file: Path, stream: BinaryIO, key: str, span: Span) -> dict[str, Any]:
    """The sample's labels as arrays in the shapes of `LABELS`, and its `seed`."""
    stream.seek(span.offset)
    try:
        label = parsed_json(stream.read(span.length), f"{key}.json")
        label["camera"] = [label["camera"][name] for name in _CAMERA_FIELDS]
        arrays = {name: np.array(label[name], np.float32) for name in LABELS}
        seed = int(label["seed"])
        others = _others(label.get("others"))
    except KeyError as error:
        raise ShardError(f"{file}: {key}.json lacks {error}") from None
    except (ValueError, TypeError) as error:
        raise ShardError(f"{file}: {key}.json is malformed: {error}") from None
    for name, array in arrays.items():
        if array.shape != LABELS[name] or not np.isfinite(array).all():
            raise ShardError(f"{file}: {key}.json: {name} must be {LABELS[name]} finite numbers, got {array.shape}")
    return {**arrays, "seed": seed, **others}


def _others(listed: list[dict[str, Any]] | None) -> dict[str, Any]:
    """What a label lists under `others`: at most one hand more, {"hand": its side, "uv": (21, 2) pixels}."""
    if not listed:
        nowhere = np.full((21, 2), np.nan, np.float32)
        return {"other_px": nowhere, "other_left": False, "knows_others": listed is not None}
    (other,) = listed
    joints_px = np.array(other["uv"], np.float32)
    if joints_px.shape != (21, 2) or not np.isfinite(joints_px).all():
        raise ValueError(f"the other hand's uv must be 21 x 2 finite numbers, got {joints_px.shape}")
    return {"other_px": joints_px, "other_left": other["hand"] == "left", "knows_others": True}


def write_tar(path: Path, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> None:
    """Write a tar of (key, part -> data) under a temporary name, then rename: a shard is whole or not there."""
    with atomic_write(path) as part_path, tarfile.open(part_path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for key, parts in samples:
            for part, data in parts.items():
                member = tarfile.TarInfo(f"{key}.{part}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


# Labelled photographs as shards: tar files of `{key}.jpg`, a hand's context, and `{key}.json`, its label.
#
# A label is that of a hand in `pseudo_labels.json`, in the pixels of the jpg, and the name of its photograph;
# `fit` holds the hand fitted to it, where there is one.


SETTINGS_FILE = "photo_shards.json"
_PHOTO_PARTS = ("jpg", "json")
_ORDER_SEED = 0


class PhotoShard(Sequence[Context]):
    """The contexts of one shard; the images stay in the memory-mapped tar, which may be deleted meanwhile."""

    def __init__(self, file: Path) -> None:
        """Raises ShardError where the file is damaged or not in the layout."""
        self.file, samples = file, tar_members(file, _PHOTO_PARTS)
        with open(file, "rb") as stream:
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        self._keys, self._spans = list(samples), [parts["jpg"] for parts in samples.values()]
        self._hands = [self._read(key, parts["json"]) for key, parts in samples.items()]

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, i: int) -> Context:
        span = self._spans[i]
        jpeg = np.frombuffer(self._map, np.uint8, span.length, span.offset)
        return Context(jpeg, self._hands[i], f"{self.file}: {self._keys[i]}.jpg")

    def hands(self) -> Sequence[LabelledHand]:
        """The labels of all, without their images."""
        return self._hands

    def _read(self, key: str, span: Span) -> LabelledHand:
        try:
            return read_hand(parsed_json(self._map[span.offset : span.offset + span.length], "it"))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else f"is malformed: {error}"
            raise ShardError(f"{self.file}: {key}.json {reason}") from None


class _Marked(NamedTuple):
    photo: Photo
    hand: LabelledHand


class _Job(NamedTuple):
    path: Path
    hands: Sequence[_Marked]
    first: int  # the first hand's number over all shards


def write_photo_shards(photos: Sequence[Photo], out: Path, shard_size: int = 1000) -> int:
    """Write the usable hands of `photos`, shuffled once and for all, as `out`/photos-*.tar; gives their number.

    Shards that are there are kept, so that an interrupted call can be repeated. Raises ValueError where
    `out` was begun with other photographs or another size, and as `Photo.load`.
    """
    if shard_size < 1:
        raise ValueError(f"a shard holds at least 1 hand, got {shard_size}")
    hands = _shuffled(photos)
    out.mkdir(parents=True, exist_ok=True)
    _check_settings(out, hands, shard_size)
    spans = ((k, hands[k : k + shard_size]) for k in range(0, len(hands), shard_size))
    jobs = [_Job(out / f"photos-{n:05d}.tar", part, first) for n, (first, part) in enumerate(spans)]
    missing = [job for job in jobs if not job.path.exists()]
    with Progress(TextColumn(out.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        left = sum(len(job.hands) for job in missing)
        bar = progress.add_task("", total=len(hands), completed=len(hands) - left)
        for job in missing:
            write_tar(job.path, _samples(job))
            progress.advance(bar, len(job.hands))
    return len(hands)


def _shuffled(photos: Sequence[Photo]) -> list[_Marked]:
    """The usable hands; those of one photograph stay together, so that it is decoded once."""
    order = np.random.default_rng(_ORDER_SEED).permutation(len(photos))
    hands = [_Marked(photos[k], hand) for k in order for hand in usable_hands(photos[k])]
    if not hands:
        raise ValueError("no usable labelled hand in the photographs (all too small, cut off or of low score)")
    return hands


def _check_settings(out: Path, hands: Sequence[_Marked], shard_size: int) -> None:
    listing = [
        (item.photo.path.name, item.hand.side, item.hand.joints_px.tolist())
        + (() if item.hand.fit is None else (item.hand.fit.residual,))
        for item in hands
    ]
    digest = hashlib.sha1(json.dumps(listing).encode(), usedforsecurity=False).hexdigest()
    settings, file = {"shard_size": shard_size, "hands": len(hands), "sha1": digest}, out / SETTINGS_FILE
    remove_parts(out)
    if not file.exists():
        write_json(file, settings)
    elif (begun := json.loads(file.read_text())) != settings:
        raise ValueError(
            f"{out} was begun with other photographs or sizes ({begun}, now {settings}); choose another --output"
        )


def _samples(job: _Job) -> Iterator[tuple[str, dict[str, bytes]]]:
    numbers = itertools.count(job.first)
    for photo, hands in itertools.groupby(job.hands, key=lambda item: item.photo):
        image = photo.load()
        for item in hands:
            context = context_of(image, item.hand, str(photo.path))
            label = _label(context.hand) | {"photo": photo.path.name}
            yield f"{next(numbers):08d}", {"jpg": context.jpeg.tobytes(), "json": json.dumps(label).encode()}


def _label(hand: LabelledHand) -> dict[str, Any]:
    """What `photos.read_hand` reads."""
    plain = {"hand": hand.side, "score": hand.score, "uv": hand.joints_px.tolist(), "xyz": hand.joints_m.tolist()}
    return plain if hand.fit is None else plain | {"fit": hand.fit.as_plain()}


@dataclass(frozen=True)
class PhotoShardOptions:
    """Pack labelled photographs into shards.

    Training streams them (data.stream.photos) where the photographs themselves would not fit on a disk. Usually only
    the training split is packed, so that the held-out photographs stay held out. Interrupted, the same command goes
    on from the last whole shard.
    """

    photos: tyro.conf.Positional[tuple[Path, ...]]
    """Folders with pseudo_labels.json."""
    output: Path
    """Folder for photos-*.tar."""
    shard_size: int = 1000
    """Hands in a shard."""
    split: Split = "train"
    """The files for training, the held-out ones (val), or all."""
    fits: tuple[Path, ...] = ()
    """Files of `handmesh data fit-photos`."""


def run(options: PhotoShardOptions) -> None:
    """`handmesh data photo-shards`: pack, and say how many hands there are."""
    if not options.photos:
        raise ValueError("no photographs: name at least one folder with pseudo_labels.json")
    photos = [photo for root in options.photos for photo in read_photos(root, options.split)]
    photos = with_fits(photos, read_accepted(options.fits))
    count = write_photo_shards(photos, options.output, options.shard_size)
    print(f"{options.output} holds {count} hands")
