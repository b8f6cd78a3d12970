"""Research data sets of hands beside FreiHAND: their readers by name."""

from __future__ import annotations

from pathlib import Path

from handmesh.data.sets.coco_wholebody import COCO_WHOLEBODY
from handmesh.data.sets.dexycb import DEXYCB
from handmesh.data.sets.hint import HINT
from handmesh.data.sets.ho3d import HO3D
from handmesh.data.sets.interhand import INTERHAND
from handmesh.data.sets.onehand10k import ONEHAND10K
from handmesh.data.sets.rhd import RHD
from handmesh.data.sets.table import HandSet, HandTable, SetError

SETS: dict[str, HandSet] = {
    "ho3d": HO3D,
    "dexycb": DEXYCB,
    "interhand": INTERHAND,
    "rhd": RHD,
    "coco_wholebody": COCO_WHOLEBODY,
    "onehand10k": ONEHAND10K,
    "hint": HINT,
}
"""Every set that can be read, by the name that configs and commands have for it."""


def read_set(name: str, root: Path, split: str = "") -> HandTable:
    """The hands of a split (default: the training one) of the set `name` in `root`.

    The first reading parses the set's files and keeps their labels in a cache. Raises SetError where the folder is not
    the set or lacks a part of it, ValueError for a set or split that does not exist.
    """
    if name not in SETS:
        raise ValueError(f"unknown data set {name!r}; known are {', '.join(SETS)}")
    known = SETS[name]
    split = split or known.splits[0]
    if split not in known.splits:
        raise ValueError(f"{known.title} has no split {split!r}; it has {', '.join(known.splits)}")
    if not root.is_dir():
        raise SetError(f"there is no folder {root}; {known.help()}")
    return known.read(root, split)
