"""What to generate: the train and test halves of all ingredients, settings of a data set, and the hard cases."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from handmesh.assets import OPEN_HAND
from handmesh.data.photos import Split
from handmesh.files import remove_parts, write_json
from handmesh.hand import poses

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


# What to generate: settings of a data set, sources of its ingredients, and the hard cases.


# The hard set: each sample has one of the situations in which hand trackers fail, in turn.


Difficulty = Literal["ordinary", "hard", "two-hands", "bowls", "gestures", "signs"]

HardCase = Literal[
    "grasp", "hands touching", "edge-on", "cut off", "fingers first", "two hands", "bowl", "gesture", "sign"
]
TWO_HANDS: HardCase = "two hands"
BOWL: HardCase = "bowl"
GESTURE: HardCase = "gesture"
SIGN: HardCase = "sign"
_ONLY_CASE: dict[Difficulty, HardCase] = {"two-hands": TWO_HANDS, "bowls": BOWL, "gestures": GESTURE, "signs": SIGN}
HARD_CASES: tuple[HardCase, ...] = tuple(case for case in get_args(HardCase) if case not in _ONLY_CASE.values())

_GRASPS = ("grasp", "grasp", "fist", "claw", "pinch", "relaxed")

_GESTURES = {
    **{"pinch": 0.34, "almost pinch": 0.16, "fist": 0.06, "thumb up": 0.06, "point": 0.06, "open": 0.06},
    **{"count": 0.08, "signs": 0.08, "single": 0.05, "letters": 0.05},
}
"""How often each is drawn of `gestures`: what hands are told by, and what is told apart least easily."""

_SIGNS = {
    **{"count": 0.22, "signs": 0.2, "letters": 0.18, "single": 0.07, "anything": 0.07, "fist": 0.1, "thumb up": 0.04},
    **{"victory": 0.03, "crossed": 0.02, "open": 0.07},
}
"""How often each is drawn of `signs`, which people show to somebody."""


@dataclass(frozen=True)
class SceneProbabilities:
    """How often things appear."""

    sleeve: float = 0.5
    band: float = 0.12
    glove: float = 0.03
    torso: float = 0.17
    head: float = 0.07
    held: float = 0.2
    occluder: float = 0.13
    second_hand: float = 0.16
    touching: float = 0.45
    """Of second hands."""
    cut_off: float = 0.07


FREIHAND_PROBABILITIES = SceneProbabilities(glove=0, torso=0, head=0, second_hand=0, cut_off=0)
"""As in the real set: one bare hand, whole, before nothing but the screen."""


def hard_case_of(difficulty: Difficulty, index: int) -> HardCase | None:
    """What the sample `index` is hard by: each in turn, so that all have equal shares."""
    return HARD_CASES[index % len(HARD_CASES)] if difficulty == "hard" else _ONLY_CASE.get(difficulty)


def harder(probabilities: SceneProbabilities, hard_case: HardCase | None) -> SceneProbabilities:
    """`probabilities` with what the hard case needs made certain."""
    if hard_case == "grasp":
        return replace(probabilities, held=1.0)
    if hard_case == "hands touching":
        return replace(probabilities, second_hand=1.0, touching=1.0)
    if hard_case in (TWO_HANDS, BOWL):
        return replace(probabilities, second_hand=1.0, touching=0.6, torso=0.45, head=0.4, held=0.03, occluder=0.03)
    if hard_case == SIGN:
        return replace(probabilities, torso=0.55, head=0.45, held=0.02, occluder=0.04, second_hand=0.12)
    return replace(probabilities, cut_off=1.0) if hard_case == "cut off" else probabilities


def sample_view(rng: np.random.Generator, hard_case: HardCase | None) -> np.ndarray:
    """(3, 3) rotation from the canonical frame to the camera's that suits the hard case."""
    if hard_case == "edge-on":
        return poses.edge_on_view(rng)
    if hard_case == SIGN:
        return poses.shown_view(rng)
    return poses.fingers_first_view(rng) if hard_case == "fingers first" else poses.sample_view(rng)


def sample_fingers(rng: np.random.Generator, sampler: poses.PoseSampler, hard_case: HardCase | None) -> np.ndarray:
    """(15, 3, 3) rotations of the fingers that suit the hard case."""
    if hard_case == "grasp":
        return sampler.sample(rng, _GRASPS[rng.integers(len(_GRASPS))])
    if fractions := {GESTURE: _GESTURES, SIGN: _SIGNS}.get(hard_case):
        return sampler.sample(rng, str(rng.choice(list(fractions), p=list(fractions.values()))))
    return sampler.sample(rng)


@dataclass(frozen=True)
class Sources:
    """Where images take their ingredients from; what is not given is made procedurally."""

    hand_model: Path | None = None  # .npz in MANO's layout; the bundled open hand without one
    skins: Path | None = None  # folder of textures for the hand's UVs
    backgrounds: Path | None = None  # folder of photographs without hands
    backgrounds_split: Split = "all"
    environments: Path | None = None  # folder of .hdr panoramas
    painted_skins: int = 16  # how many skins to make here, beside those given
    materials: Materials = "all"
    difficulty: Difficulty = "ordinary"


LAYOUT_VERSION = 2
"""Of what is drawn and written for this layout alone; 2 has four versions of a row and an evaluation set."""


# What to make and with which settings; the options of `handmesh data synthetic`.


VERSION = 6
"""Of the generator: a change of what a seed gives raises it, so that old and new are not mixed."""

SETTINGS_FILE = "settings.json"

Layout = Literal["shards", "freihand"]

_LEAST = {"count": 1, "size": 16, "evaluation_count": 0, "workers": 1, "shard_size": 1, "seed": 0}


@dataclass(frozen=True)
class GenerateConfig:
    """Make synthetic images of right hands with exact labels.

    Whatever ingredient is not given is made procedurally. An interrupted run is taken up again by
    the same command; finished shards are kept. With --sheet one image of the crops is made instead.
    """

    output: Path
    """Folder to write to; with --sheet the .jpg file."""
    count: int = 10_000
    """How many samples; of `freihand`, rows of the training set, each drawn in four versions."""
    size: int | None = None
    """Width and height of each image, in pixels. Default: 160, or 224 for `freihand`, as the real set has."""
    layout: Layout = "shards"
    """`shards`: WebDataset tars of .jpg, .png mask and .json. `freihand`: FreiHAND's folders and lists."""
    evaluation_count: int = 0
    """Rows of the evaluation set; `freihand` only."""
    sheet: bool = False
    """Write no data set but one image of the `count` crops that a network sees, to look at."""
    seed: int = 0
    """Equal seeds give equal samples, whatever the number of workers."""
    workers: int = 1
    """Processes."""
    shard_size: int = 1000
    """Samples in a shard, and the grain at which a run is resumed."""
    skins: Path | None = None
    """Folder of skin textures (.png, .jpg) for the hand's UVs. Default: painted ones only."""
    painted_skins: int = 16
    """How many skins to paint; with a folder of skins, about as often used as those."""
    backgrounds: Path | None = None
    """Folder of photographs without hands. Default: procedural backgrounds."""
    backgrounds_split: Split = "all"
    """`val` takes the files whose name's SHA-1 is divisible by 10, `train` the others."""
    materials: Materials = "all"
    """`train` or `test`: two halves of the world. They share no painted skin, no shape of an object, no seed and
    no file: `test` has the backgrounds of the split `val` and, of skins and environments, the files whose name's
    SHA-1 is divisible by 5; where there is none, painted skins and procedural light alone."""
    difficulty: Difficulty = "ordinary"
    """`hard`: each sample is, in turn, a grasp of an object, two hands that touch, a hand seen edge-on, cut off by
    the border, or with its fingers towards the camera; its label says which (`challenge`). `two-hands`: both hands of
    one person, near or on one another, half of them in one gesture, before the body and the face more often. `bowls`:
    both held out to the camera as a bowl, little finger by little finger, and both in view.
    `gestures`: single hands that pinch, almost pinch, point, count and sign, which are rare among ordinary ones.
    `signs`: letters, numbers and other signs that somebody shows to the camera, before face and chest."""
    environments: Path | None = None
    """Folder of equirectangular .hdr panoramas to light with. Default: procedural light."""
    hand_model: Path | None = None
    """Hand model in MANO's layout (.npz). Default: the bundled open hand."""

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
        if self.evaluation_count and self.layout != "freihand":
            raise ValueError("--evaluation-count goes with --layout freihand: shards have no evaluation set")
        if self.difficulty != "ordinary" and self.layout == "freihand":
            raise ValueError(
                f"--difficulty {self.difficulty} goes with --layout shards: FreiHAND's layout cannot say what is hard"
            )

        backgrounds_of(self.materials, self.backgrounds_split)

    @property
    def image_size(self) -> int:
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
        plain = {k: v for k, v in asdict(self).items() if k not in ("output", "workers", "evaluation_count", "sheet")}
        fixed = {"size": self.image_size, "hand_model": model, "version": VERSION}
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


def check_settings(order: GenerateConfig) -> None:
    """Write the settings into the order's folder, or compare with those that it was begun with.

    Raises SettingsMismatchError where they differ, FileNotFoundError where an ingredient is missing.
    """
    file, settings = order.output / SETTINGS_FILE, order.settings()
    remove_parts(order.output)
    if not file.exists():
        write_json(file, settings)
        return
    begun = json.loads(file.read_text())
    differ = [name for name in settings if begun.get(name) != settings[name]]
    if differ:
        details = ", ".join(f"{name} {begun.get(name)} there, {settings[name]} now" for name in differ)
        raise SettingsMismatchError(f"{order.output} has other settings ({details}); choose another --output")
