"""Labelled photographs as shards: tar files of `{key}.jpg`, a hand's context, and `{key}.json`, its label.

A label is that of a hand in `pseudo_labels.json`, in the pixels of the jpg, and the name of its photograph;
`fit` holds the hand fitted to it, where there is one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from handmesh.data.contexts import Context, context_of, usable_hands
from handmesh.data.photos import LabelledHand, Photo, read_hand
from handmesh.data.shards import ShardError, Span, tar_members, write_tar

SETTINGS_FILE = "photo_shards.json"
_PARTS = ("jpg", "json")
_ORDER_SEED = 0


class PhotoShard(Sequence[Context]):
    """The contexts of one shard; the pictures stay in the memory-mapped tar, which may be deleted meanwhile."""

    def __init__(self, file: Path) -> None:
        """Raises ShardError where the file is damaged or not in the layout."""
        self.file, samples = file, tar_members(file, _PARTS)
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

    def _read(self, key: str, span: Span) -> LabelledHand:
        try:
            return read_hand(json.loads(self._map[span.offset : span.offset + span.length]))
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
    if not file.exists():
        file.write_text(json.dumps(settings, indent=1))
    elif (begun := json.loads(file.read_text())) != settings:
        raise ValueError(
            f"{out} was begun with other photographs or sizes ({begun}, now {settings}); choose another --out"
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
