"""What to make and with which settings; the command line of `scripts/make_synthetic.py`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from handmesh.assets import OPEN_HAND
from handmesh.data.synthetic.backgrounds import Split
from handmesh.data.synthetic.challenges import Difficulty
from handmesh.data.synthetic.freihand_layout import LAYOUT_VERSION
from handmesh.data.synthetic.generator import Sources
from handmesh.data.synthetic.materials import Materials, backgrounds_of

VERSION = 3
"""Of the generator: a change of what a seed gives raises it, so that old and new are not mixed."""

SETTINGS_FILE = "settings.json"

Layout = Literal["shards", "freihand"]

_LEAST = {"count": 1, "size": 16, "evaluation_count": 0, "workers": 1, "shard_size": 1, "seed": 0}


@dataclass(frozen=True)
class Order:
    """Make synthetic pictures of right hands with exact labels.

    Whatever ingredient is not given is made procedurally. An interrupted run is taken up again by
    the same command; finished shards are kept. With --sheet one picture of the crops is made instead.
    """

    out: Path
    """Folder to write to; with --sheet the .jpg file."""
    count: int = 10_000
    """How many samples; of `freihand`, rows of the training set, each drawn in four versions."""
    size: int | None = None
    """Width and height of each picture, in pixels; by default 160, and 224 for `freihand`, as the real set has."""
    layout: Layout = "shards"
    """`shards`: WebDataset tars of .jpg, .png mask and .json. `freihand`: FreiHAND's folders and lists."""
    evaluation_count: int = 0
    """Rows of the evaluation set; `freihand` only."""
    sheet: bool = False
    """Write no data set but one picture of the `count` crops that a network sees, to look at."""
    seed: int = 0
    """Equal seeds give equal samples, whatever the number of workers."""
    workers: int = 1
    """Processes."""
    shard_size: int = 1000
    """Samples in a shard, and the grain at which a run is resumed."""
    skins: Path | None = None
    """Folder of skin textures (.png, .jpg) for the hand's UVs."""
    painted_skins: int = 16
    """How many skins to paint; with a folder of skins, about as often used as those."""
    backgrounds: Path | None = None
    """Folder of photographs without hands."""
    backgrounds_split: Split = "all"
    """`val` takes the files whose name's SHA-1 is divisible by 10, `train` the others."""
    materials: Materials = "all"
    """`train` or `test`: two halves of the world. They share no painted skin, no shape of an object, no seed and
    no file: `test` has the backgrounds of the split `val` and, of skins and environments, the files whose name's
    SHA-1 is divisible by 5; where there is none, painted skins and procedural light alone."""
    difficulty: Difficulty = "ordinary"
    """`hard`: each sample is, in turn, a grasp of an object, two hands that touch, a hand seen edge-on, cut off by
    the border, or with its fingers towards the camera; its label says which (`challenge`)."""
    environments: Path | None = None
    """Folder of equirectangular .hdr panoramas to light with."""
    hand_model: Path | None = None
    """Hand model in MANO's layout (.npz); the bundled open hand without one."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
        if self.evaluation_count and self.layout != "freihand":
            raise ValueError("--evaluation-count goes with --layout freihand: shards have no evaluation set")
        if self.difficulty != "ordinary" and self.layout == "freihand":
            raise ValueError("--difficulty hard goes with --layout shards: FreiHAND's layout cannot say what is hard")

        backgrounds_of(self.materials, self.backgrounds_split)

    @property
    def picture_size(self) -> int:
        """Pixels a side, the layout's default included."""
        return self.size or (224 if self.layout == "freihand" else 160)

    @property
    def sources(self) -> Sources:
        """Where the generator takes its ingredients from."""
        folders = self.skins, self.backgrounds, self.backgrounds_split, self.environments
        return Sources(self.hand_model, *folders, self.painted_skins, self.materials, self.difficulty)

    def settings(self) -> dict[str, object]:
        """What the files depend on: not the workers, nor where the ingredients lie."""
        folders = {name: _contents(getattr(self, name)) for name in ("skins", "backgrounds", "environments")}
        model = hashlib.sha1((self.hand_model or OPEN_HAND).read_bytes()).hexdigest()
        plain = {k: v for k, v in asdict(self).items() if k not in ("out", "workers", "evaluation_count", "sheet")}
        fixed = {"size": self.picture_size, "hand_model": model, "version": VERSION}
        if self.layout == "freihand":
            fixed |= {"evaluation_count": self.evaluation_count, "layout_version": LAYOUT_VERSION}
        return {**plain, **folders, **fixed}


def _contents(folder: Path | None) -> str | None:
    """A hash of the names and sizes of the files in a folder."""
    if folder is None:
        return None
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    listing = sorted((path.name, path.stat().st_size) for path in folder.iterdir() if path.is_file())
    return hashlib.sha1(json.dumps(listing).encode()).hexdigest()


class SettingsMismatchError(ValueError):
    """A folder holds samples made with other settings."""


def check_settings(order: Order) -> None:
    """Write the settings into the order's folder, or compare with those that it was begun with.

    Raises SettingsMismatchError where they differ, FileNotFoundError where an ingredient is missing.
    """
    file, settings = order.out / SETTINGS_FILE, order.settings()
    if not file.exists():
        file.write_text(json.dumps(settings, indent=1))
        return
    begun = json.loads(file.read_text())
    differ = [name for name in settings if begun.get(name) != settings[name]]
    if differ:
        details = ", ".join(f"{name} {begun.get(name)} there, {settings[name]} now" for name in differ)
        raise SettingsMismatchError(f"{order.out} was begun with other settings ({details}); choose another --out")
