"""The train and test halves of all ingredients: skins, files, shapes and seeds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from handmesh.data.photos import Split

Materials = Literal["all", "train", "test"]
"""`train` and `test` share no painted skin, no file of a folder, no shape of an object and no seed."""

TEST_SKINS_FROM = 10_000
"""Painted skins of the test are numbered from here on; those of training from 0."""

_HELD_OUT_EVERY = 5


def files_of(files: Sequence[Path], materials: Materials) -> list[Path]:
    """Those files that belong to `materials`: the test has those whose name's SHA-1 is divisible by 5."""
    return [file for file in files if materials == "all" or _held_out(file.name) == (materials == "test")]


def _held_out(name: str) -> bool:
    return int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(), 16) % _HELD_OUT_EVERY == 0


def painted_numbers(materials: Materials, count: int) -> range:
    """The numbers of the `count` skins to paint."""
    first = TEST_SKINS_FROM if materials == "test" else 0
    return range(first, first + count)


def seed_of(materials: Materials, seed: int, index: int) -> list[int]:
    """What starts a sample's random numbers: of the test never the same as of training."""
    return [seed, index, 1] if materials == "test" else [seed, index]


def backgrounds_of(materials: Materials, split: Split) -> Split:
    """The split of the backgrounds: `split` itself unless `materials` decides.

    Raises ValueError where the two contradict each other.
    """
    implied: dict[Materials, Split] = {"all": split, "train": "train", "test": "val"}
    if split not in ("all", implied[materials]):
        raise ValueError(
            f"--materials {materials} takes the backgrounds of the split {implied[materials]!r}, "
            f"got --backgrounds-split {split}: leave that out"
        )
    return implied[materials]
