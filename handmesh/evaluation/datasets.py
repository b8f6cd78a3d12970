"""The images to be scored on, from each kind of data; what is predicted for them, and a cache of it."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, get_args

import cv2
import numpy as np
from rich.progress import track
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.data.photos import MIN_SCORE, LabelledHand, Photo, PhotoError, Split
from handmesh.data.shards import ShardSet, tar_members
from handmesh.evaluation.beside import MediaPipe
from handmesh.evaluation.metrics import errors_2d, match_joints
from handmesh.files import ImageError, read_image, write_json, write_npz
from handmesh.tracking.association import TrackerConfig
from handmesh.tracking.estimator import Estimator
from handmesh.tracking.tracker import HandTracker
from handmesh.types import Camera, Hand

HAND_SCORE = TrackerConfig().new_track_threshold
"""With given boxes, a hand counts as found from this score on, as in the tracker."""


class Example(NamedTuple):
    """An image to be looked at, and the hands known to be in it."""

    name: str
    load: Callable[[], np.ndarray]  # gives (H, W, 3) uint8 RGB
    hands: Sequence[LabelledHand] = ()
    camera: Camera | None = None  # None: unknown


class Prediction(NamedTuple):
    """What was said of one labelled hand."""

    hand: Hand | LabelledHand | None = None  # ours with a mesh, or another program's with joints alone
    found: bool = False
    side_correct: bool = False


class Predictions(NamedTuple):
    """What was said of one image."""

    of_labels: list[Prediction]
    extra: list[Hand | LabelledHand] | None  # hands that nobody labelled; None: not looked for
    time_ms: float = 0.0


Predict = Callable[[np.ndarray, Example], Predictions]


def camera_of(example: Example, image: np.ndarray) -> Camera:
    """The camera of an (H, W, 3) image; where it is unknown, the one that the tracker assumes."""
    return example.camera or Camera.from_fov(image.shape[1], image.shape[0])


def with_given_boxes(estimator: Estimator) -> Predict:
    """Every labelled hand is looked at in the box around its own labelled joints, told which side it is.

    All get an answer, unless the network's numbers are no hand. `found` is what the network
    itself says: a score of at least HAND_SCORE; so is `side_correct`.
    """

    def predict_one(image: np.ndarray, camera: Camera, label: LabelledHand) -> Prediction:
        estimate = estimator.estimate(image, camera, label.box(), label.side)
        if estimate is None:
            return Prediction()
        return Prediction(estimate.hand, estimate.hand.score >= HAND_SCORE, estimate.handedness_probability >= 0.5)

    def answer(image: np.ndarray, example: Example) -> Predictions:
        begin = time.perf_counter()
        camera = camera_of(example, image)
        of_labels = [predict_one(image, camera, label) for label in example.hands]
        return Predictions(of_labels, None, 1000 * (time.perf_counter() - begin))

    return answer


def with_detected_boxes(tracker: HandTracker) -> Predict:
    """The whole pipeline on the whole image; what it finds is then matched to the labels."""

    def answer(image: np.ndarray, example: Example) -> Predictions:
        begin = time.perf_counter()
        hands = tracker.detect(image, camera_of(example, image))
        time_ms = 1000 * (time.perf_counter() - begin)
        return match(hands, example.hands)._replace(time_ms=time_ms)

    return answer


def with_mediapipe(mediapipe: MediaPipe) -> Predict:
    """MediaPipe Hands on the whole image; the time is its own, without the way to its process and back."""

    def answer(image: np.ndarray, example: Example) -> Predictions:
        seen = mediapipe.see(image)
        return match(seen.hands, example.hands)._replace(time_ms=seen.wall_ms)

    return answer


def match(hands: Sequence[Hand | LabelledHand], labels: Sequence[LabelledHand]) -> Predictions:
    """Pair predicted and labelled hands; see `match_joints`."""
    hand_of = match_joints([hand.joints_px for hand in hands], [label.joints_px for label in labels])
    of_labels = [
        Prediction(hands[hand_of[i]], True, hands[hand_of[i]].side == label.side) if i in hand_of else Prediction()
        for i, label in enumerate(labels)
    ]
    return Predictions(of_labels, [hand for k, hand in enumerate(hands) if k not in hand_of.values()])


def mean_error(hand: Hand | LabelledHand, label: LabelledHand) -> float:
    """The mean 2D error, of the longer side of the labelled box."""
    return float(errors_2d(hand.joints_px[None], label.joints_px[None]).mean())


class Case(NamedTuple):
    """One labelled hand and what was said of it."""

    example: Example
    index: int  # among the hands of the image
    answer: Prediction

    @property
    def label(self) -> LabelledHand:
        """The labelled hand."""
        return self.example.hands[self.index]


@dataclass(frozen=True)
class Run:
    """All that was said of a set of images."""

    said: list[tuple[Example, Predictions]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # names of images that do not decode

    @property
    def cases(self) -> list[Case]:
        """The labelled hands."""
        return [Case(example, i, one) for example, answers in self.said for i, one in enumerate(answers.of_labels)]

    @property
    def false_positives(self) -> list[tuple[Example, Hand | LabelledHand]]:
        """The hands that nobody labelled."""
        return [(example, hand) for example, answers in self.said for hand in answers.extra or ()]


def joined(runs: Sequence[Run]) -> Run:
    """Several runs as one."""
    return Run([one for run in runs for one in run.said], [name for run in runs for name in run.unreadable])


def without_unsure_labels(run: Run) -> Run:
    """The run without labels that score below MIN_SCORE; hands found on those are not extra hands either."""

    def sure(example: Example, answers: Predictions) -> tuple[Example, Predictions]:
        kept = [i for i, hand in enumerate(example.hands) if hand.score >= MIN_SCORE]
        hands, of_labels = [example.hands[i] for i in kept], [answers.of_labels[i] for i in kept]
        return example._replace(hands=hands), answers._replace(of_labels=of_labels)

    return Run([sure(*one) for one in run.said], run.unreadable)


RECOLOURINGS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "in grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
    "with red and blue swapped": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
}
"""Images without the colour of skin, and with a false one: (H, W, 3) uint8 to the same."""


def recoloured(example: Example, recolouring: str) -> Example:
    """The image in other colours, one of RECOLOURINGS."""
    return example._replace(load=lambda: RECOLOURINGS[recolouring](example.load()))


def from_photos(photos: Iterable[Photo]) -> list[Example]:
    """Labelled photographs; their cameras are unknown."""
    return [
        Example(photo.path.name, photo.load, photo.hands, Camera.from_fov(photo.width, photo.height))
        for photo in photos
    ]


def from_files(files: Iterable[Path]) -> list[Example]:
    """Images without any hand."""
    return [Example(file.name, partial(read_image, file)) for file in files]


def from_shards(shards: ShardSet) -> list[Example]:
    """Synthetic right hands with their true cameras; `joints_m` of the labels is about the root."""
    about_root_m = shards.joints_m - shards.joints_m[:, [skeleton.ROOT]]
    labels = [LabelledHand("right", 1.0, *points) for points in zip(shards.joints_px, about_root_m, strict=True)]
    return [
        Example(str(key), partial(shards.decode, i), [label], shards.camera_of(i))
        for i, (key, label) in enumerate(zip(shards.keys, labels, strict=True))
    ]


def hard_cases_of(shards: ShardSet) -> dict[str, str]:
    """What the samples of a hard set are hard by, by the names that `from_shards` gives; empty for other sets."""
    found: dict[str, str] = {}
    for path in shards.files:
        with path.open("rb") as file:
            for key, parts in tar_members(path, ["json"]).items():
                file.seek(parts["json"].offset)
                label = json.loads(file.read(parts["json"].length))
                found |= {key: label["challenge"]} if "challenge" in label else {}
    return found


def folder_names(folders: Sequence[Path]) -> list[str]:
    """What data sets in these folders are called: after the folder, and its parent where that says too little."""
    paths = [folder.resolve() for folder in folders]
    bases = [path.name for path in paths]
    vague = {name for name in bases if bases.count(name) > 1 or name in get_args(Split)}
    return [f"{path.parent.name}-{path.name}" if path.name in vague else path.name for path in paths]


def ask(answer: Predict, examples: Sequence[Example], what: str = "") -> Run:
    """Ask about every image, with a progress bar called `what`; those that cannot be read are named."""
    run = Run()
    for example, image in opened(examples, what, run.unreadable):
        run.said.append((example, answer(image, example)))
    return run


def opened(examples: Sequence[Example], what: str, unreadable: list[str]) -> Iterator[tuple[Example, np.ndarray]]:
    """The images with their (H, W, 3) pixels, one by one; names of those that cannot be read go to `unreadable`."""
    for example in track(examples, what or "evaluating", disable=not what, transient=True):
        try:
            image = example.load()
        except (ImageError, PhotoError):
            unreadable.append(example.name)
        else:
            yield example, image


# The true meshes of synthetic samples, posed from their labels. The one place here that needs torch.


TOLERANCE_M = 0.001


class Mesh(NamedTuple):
    """A hand about its root joint, in metres, in the camera's axes."""

    joints_m: np.ndarray  # (21, 3)
    vertices_m: np.ndarray  # (V, 3)


def about_root(joints_m: np.ndarray, vertices_m: np.ndarray) -> Mesh:
    """A hand of (21, 3) joints and (V, 3) vertices moved so that its root joint lies at the origin."""
    root = joints_m[skeleton.ROOT]
    return Mesh(joints_m - root, vertices_m - root)


def true_meshes(shards: ShardSet, chunk: int = 256) -> dict[str, Mesh]:
    """The mesh of each sample by its key.

    Raises ImportError where torch is not installed, and ValueError where the bundled hand, posed
    as labelled, does not have the labelled joints.
    """
    try:
        import torch

        from handmesh.hand.model import HandModel
    except ImportError as error:
        raise ImportError(f"true meshes need the training extra: pip install 'handmesh[train]' ({error})") from None
    model = HandModel.load()
    meshes: dict[str, Mesh] = {}
    for start in range(0, len(shards), chunk):
        part = slice(start, start + chunk)
        rotations = Rotation.from_rotvec(shards.pose[part].reshape(-1, 3)).as_matrix().reshape(-1, 16, 3, 3)
        with torch.inference_mode():
            posed = model(torch.from_numpy(rotations).float(), torch.from_numpy(shards.shape[part]))
        joints, vertices = posed.joints.numpy(), posed.vertices.numpy()
        apart = joints + shards.translation_m[part, None] - shards.joints_m[part]
        if (farthest := float(np.linalg.norm(apart, axis=-1).max())) > TOLERANCE_M:
            raise ValueError(
                f"these shards were made with another hand: posed as labelled, the bundled one has joints up to "
                f"{1000 * farthest:.1f} mm from the labels; generate the shards again"
            )
        meshes |= dict(zip(shards.keys[part].tolist(), map(about_root, joints, vertices), strict=True))
    return meshes


# Arrays kept beside the configuration that they came from, so that a killed run goes on and no other is mixed in.


class CacheMismatch(ValueError):
    """A folder holds results of another configuration."""


class ArrayCache:
    """Named groups of arrays in a folder that belongs to one configuration."""

    def __init__(self, folder: Path, configuration: Mapping[str, object], overwrite: bool = False) -> None:
        """Open or begin the cache in `folder`.

        configuration: all that the arrays depend on, of plain JSON values. overwrite: forget what
        another one left there. Raises CacheMismatch, naming what differs, where it is not to be forgotten.
        """
        self._folder, record = folder, folder / "configuration.json"
        given, kept = json.loads(json.dumps(configuration)), None
        with suppress(OSError, ValueError):
            kept = json.loads(record.read_text(encoding="utf-8"))
        is_another = kept not in (None, given) or (kept is None and any(folder.glob("*.npz")))
        if is_another and not overwrite:
            kept = kept or {}
            names = [name for name in dict.fromkeys([*kept, *given]) if kept.get(name) != given.get(name)]
            differences = "; ".join(f"{name} was {kept.get(name)!r}, is now {given.get(name)!r}" for name in names)
            raise CacheMismatch(
                f"{folder} holds results of another configuration ({differences}); take another --output, "
                "or --overwrite to do them again"
            )
        if overwrite and folder.exists():
            shutil.rmtree(folder)
        write_json(record, given)

    def get(self, name: str) -> dict[str, np.ndarray] | None:
        """The arrays kept under `name`; None where there are none, or where the file is damaged."""
        try:
            with np.load(self._folder / f"{name}.npz", allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            return None

    def put(self, name: str, **arrays: np.ndarray) -> None:
        """Keep arrays under `name`."""
        write_npz(self._folder / f"{name}.npz", **arrays)
