"""What teachers see: features of a network that has seen many real hands, cached by crop, and the maps of another
detector, asked for as training goes on.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from handmesh import crop
from handmesh.data.samples import AugmentConfig, HandSample, Taught, jitter_box
from handmesh.files import parsed_json, write_json
from handmesh.machine import import_onnxruntime
from handmesh.types import Box

if TYPE_CHECKING:
    import onnx

# What a teacher sees in crops: features of a network that has seen many real hands, cached to be matched in training.
#
# A bank is a folder that belongs to one data set. Each of its rows is a view of one sample: the crop's box, whether
# it is mirrored the wrong way, and what the teacher made of the same view: its mean feature and its last map. Student
# and teacher must see the same image (function matching: Beyer et al., Knowledge distillation: a good teacher is
# patient and consistent, 2022), so training draws these boxes in place of random ones; colours may differ.
# `handmesh data cache-teacher` writes banks; nothing of them is needed where a network is used.


INFO_FILE, VIEWS_FILE, MEAN_FILE, MAP_FILE = "bank.json", "views.npy", "mean.npy", "map.npy"
MAPS = ("mean", "map")
"""Names of what is kept of the teacher's features."""

VIEWS = AugmentConfig(rotation_deg=14.0, any_rotation=0.0, scale=(0.85, 1.25), shift=0.07)
"""How views vary: within what a teacher that follows hands from frame to frame has learnt to bear."""

WRONG_SIDE = 0.25
"""Of the views of hands are mirrored the wrong way: the teacher tells sides apart, and shows the student how."""

STRETCHED, STRETCH = 0.35, 1.45
"""Of the views so many are drawn out along some direction and in across it, by up to so much each: hands and poses that
nobody photographed, of which the teacher still tells."""

_WIDEST = 6.0
"""Standard deviations that a teacher's features are held within."""

CELLS = 5
"""Side of the kept map, which covers the student's crop."""

LANDMARK_CROP_SIZE, LANDMARK_BOX_SCALE = 224, 2.0
"""What MediaPipe's landmark network is shown: a box of twice the side of the joints' box, upright."""


class TeacherFeatures(NamedTuple):
    """What a teacher makes of B crops of its own size."""

    mean: np.ndarray  # (B, P)
    map: np.ndarray  # (B, C, h, w)


@dataclass(frozen=True)
class Teacher:
    """A network that is asked for features."""

    run: Callable[[np.ndarray], TeacherFeatures]  # of (B, 3, S, S) float32 RGB, 0..1
    crop_size: int  # S
    box_scale: float  # side of its crop over the side of the hand's tight box
    name: str


def open_landmark_teacher(path: Path) -> Teacher:
    """The network with its mean feature, the last ReduceMean, and its last map, the last Add, as outputs.

    Raises ValueError where `path` holds no such network.
    """
    import onnx

    model = _read_onnx(path, "a hand landmark network")
    last = {node.op_type: node.output[0] for node in model.graph.node}
    if not {"ReduceMean", "Add"} <= last.keys():
        raise ValueError(f"{path}: expected residual sums (Add) and a mean over positions (ReduceMean)")
    outputs = [last["ReduceMean"], last["Add"]]
    model.graph.output.extend(onnx.helper.make_tensor_value_info(o, onnx.TensorProto.FLOAT, None) for o in outputs)
    ask = _asked_for(model, outputs)

    def run(crops: np.ndarray) -> TeacherFeatures:
        return TeacherFeatures(*ask(crops))

    return Teacher(run, LANDMARK_CROP_SIZE, LANDMARK_BOX_SCALE, path.stem)


def _read_onnx(path: Path, what: str) -> onnx.ModelProto:
    """A teacher's file. Raises ValueError where `path` holds no ONNX graph with one input."""
    import onnx

    if not path.is_file():
        raise ValueError(f"no teacher at {path}: expected {what} as .onnx")
    try:
        model = onnx.load(path)
    except Exception as error:
        raise ValueError(f"{path} is not a readable ONNX file ({error})") from error
    if len(model.graph.input) != 1:
        raise ValueError(f"{path}: expected one input (n, 3, height, width), got {len(model.graph.input)}")
    return model


def _asked_for(
    model: onnx.ModelProto, outputs: Sequence[str] | None = None
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """The network on one core: (n, 3, h, w) float32 RGB between 0 and 1 to these outputs; None: to all of them."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = model.graph.input[0].name
    return lambda images: session.run(outputs, {name: images})


def view_boxes(item: HandSample, count: int, seed: Sequence[int]) -> list[Box]:
    """`count` tight boxes about a labelled hand, moved, turned and scaled; equal seeds give equal boxes."""
    rng = np.random.default_rng(list(seed))
    return [jitter_box(item.box, VIEWS, rng) for _ in range(count)]


def view_stretches(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 2, 2) maps of views' crops about their middles, symmetric and of determinant 1; most change nothing."""
    along, turn = np.exp(rng.uniform(0, math.log(STRETCH), count)), rng.uniform(0, math.pi, count)
    axis = np.stack([np.cos(turn), np.sin(turn)], -1)
    maps = np.eye(2) / along[:, None, None] + (along - 1 / along)[:, None, None] * axis[:, :, None] * axis[:, None]
    return np.where((rng.random(count) < STRETCHED)[:, None, None], maps, np.eye(2))


def teach(
    item: HandSample, boxes: Sequence[Box], wrong_side: Sequence[bool], box_scale: float, teacher: Teacher,
    stretches: np.ndarray | None = None,
) -> TeacherFeatures:  # fmt: skip
    """The teacher's features of views of one hand, the map resampled to CELLS x CELLS over the student's crop."""
    size = teacher.crop_size
    stretches = np.tile(np.eye(2), (len(boxes), 1, 1)) if stretches is None else stretches
    mirrored = [(item.side == "left") != wrong for wrong in wrong_side]
    affines = (
        crop.stretched(crop.crop_affine(box.scaled(teacher.box_scale), size, mirror), stretch, size)
        for box, mirror, stretch in zip(boxes, mirrored, stretches, strict=True)
    )
    crops = np.stack([crop.warp(item.image, affine, size) for affine in affines])
    seen = teacher.run(crops.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    part = box_scale / teacher.box_scale  # of the teacher's crop that the student sees, about the same centre
    return TeacherFeatures(seen.mean, np.stack([_central(one, part) for one in seen.map]))


def _central(one: np.ndarray, part: float) -> np.ndarray:
    """(C, CELLS, CELLS) of the central `part` of a (C, h, w) map, bilinear."""
    height, width = one.shape[1:]
    centres = (1 - part) / 2 + part * (np.arange(CELLS, dtype=np.float32) + 0.5) / CELLS  # of the whole map's side
    maps = np.meshgrid((centres * width - 0.5).astype(np.float32), (centres * height - 0.5).astype(np.float32))
    layers = [cv2.remap(layer, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for layer in one]
    return np.stack(layers)


class Standard(NamedTuple):
    """Mean and standard deviation of each of K channels."""

    centre: np.ndarray  # (K,)
    spread: np.ndarray  # (K,)

    @staticmethod
    def measured(values: np.ndarray) -> Standard:
        """Those of (N, K, ...) features."""
        values, axes = values.astype(np.float32), (0, *range(2, values.ndim))
        return Standard(values.mean(axes), np.maximum(values.std(axes), 1e-2))

    def of(self, values: np.ndarray) -> np.ndarray:
        """(K, ...) features in standard deviations from the mean, as float32."""
        centre, spread = (each.reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32) for each in self)
        return ((values.astype(np.float32) - centre) / spread).clip(-_WIDEST, _WIDEST)


class View(NamedTuple):
    """A row of a bank."""

    item: int  # the sample's position in its data set
    box: Box  # tight
    wrong_side: bool  # mirrored the wrong way
    stretch: np.ndarray | None  # (2, 2) of its crop about the middle; None: none
    taught: Taught


def read_banks(folders: Sequence[Path]) -> list[Bank]:
    """Banks that are trained on together: their features are told on one scale, each bank weighing alike."""
    banks = [Bank(folder) for folder in folders]
    for name in MAPS if banks else ():
        centres, spreads = (
            np.stack([getattr(bank.standards[name], key) for bank in banks]) for key in Standard._fields
        )
        pooled = Standard(centres.mean(0), np.sqrt((spreads**2).mean(0) + centres.var(0)))
        for bank in banks:
            bank.standards[name] = pooled
    return banks


_PLAIN = [1.0, 0.0, 0.0, 1.0]


class Bank:
    """The cached views of one data set, their features read from disk as they are drawn."""

    def __init__(self, folder: Path | str) -> None:
        """Raises FileNotFoundError where `folder` holds no finished bank."""
        self.folder = Path(folder)
        path = self.folder / INFO_FILE
        if not path.is_file():
            raise FileNotFoundError(f"no {INFO_FILE} in {folder}: make a bank with `handmesh data cache-teacher`")
        self.info: dict[str, Any] = parsed_json(path.read_bytes(), path)
        self.views = np.load(self.folder / VIEWS_FILE)
        self.standards = {
            name: Standard(*(np.array(self.info[name][key]) for key in Standard._fields)) for name in MAPS
        }
        self._mean, self._map = None, None

    def __len__(self) -> int:
        return len(self.views)

    def __getitem__(self, row: int) -> View:
        if self._mean is None:  # opened late: workers open the files for themselves
            self._mean = np.load(self.folder / MEAN_FILE, mmap_mode="r")
            self._map = np.load(self.folder / MAP_FILE, mmap_mode="r")
        item, x, y, size, angle, wrong_side, *stretch = self.views[row].tolist()
        taught = Taught(self.standards["mean"].of(self._mean[row]), self.standards["map"].of(self._map[row]))
        stretched = None if stretch in ([], _PLAIN) else np.reshape(stretch, (2, 2))  # banks of old have none
        return View(int(item), Box((x, y), size, angle), bool(wrong_side), stretched, taught)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mean": None, "_map": None}


class TaughtSource:
    """A source of which a fraction of the draws are cached views, with what the teacher saw in them."""

    def __init__(self, source: Any, bank: Bank, fraction: float) -> None:
        """Raises ValueError where the bank was made of other samples."""
        made_of, found = bank.info["samples"], len(source)
        if made_of != found or np.abs(np.array(bank.info["probe"]) - _probe(source)).max() > _SAME_COLOUR:
            raise ValueError(
                f"{bank.folder} was made of {made_of} samples, {bank.info['source']} gives {found}, or other images: "
                "make the bank anew with `handmesh data cache-teacher`, with the training's backgrounds behind cutouts"
            )
        self.source, self.bank, self.fraction = source, bank, fraction

    def draw(self, rng: np.random.Generator) -> HandSample:
        if rng.random() >= self.fraction:
            return self.source.draw(rng)
        view = self.bank[int(rng.integers(len(self.bank)))]
        seen_as = {"view": view.box, "wrong_side": view.wrong_side, "stretch": view.stretch, "taught": view.taught}
        return self.source[view.item]._replace(**seen_as)


_SAME_COLOUR = 2.0
"""How far the mean colours of one image, decoded by two libraries, may be apart, of 255."""


def _probe(source: Any) -> np.ndarray:
    """(2, 3) mean colours of the first and the last sample, by which a source is known again."""
    return np.array([source[i].image.mean((0, 1)) for i in (0, len(source) - 1)]).round(2)


def write_bank(
    folder: Path, source: Any, name: str, teacher: Teacher, box_scale: float, views: int, limit: int | None,
    track: Callable[[Sequence[int]], Any],
) -> int:  # fmt: skip
    """Write the bank of `source` (with `len` and `[]`); gives its rows. A finished one of the same is left alone.

    A killed run begins its data set again; `bank.json` comes last.
    """
    info = {"source": name, "samples": len(source), "teacher": teacher.name, "box_scale": box_scale, "views": views}
    info |= {"wrong_side": WRONG_SIDE, "stretched": STRETCHED, "probe": _probe(source).tolist()}
    if (folder / INFO_FILE).is_file() and info.items() <= json.loads((folder / INFO_FILE).read_text()).items():
        return len(Bank(folder))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / INFO_FILE).unlink(missing_ok=True)
    positions = range(len(source))[:limit]
    rows, files, kept = [], {}, 0
    for position in track(positions):
        item = source[position]
        boxes = view_boxes(item, views, (position,))
        rng = np.random.default_rng([position, views])
        wrong_side, stretches = rng.random(views) < WRONG_SIDE, view_stretches(views, rng)
        seen = teach(item, boxes, wrong_side.tolist(), box_scale, teacher, stretches)
        for key, values in seen._asdict().items():
            if key not in files:
                shape = (len(positions) * views, *values.shape[1:])
                files[key] = np.lib.format.open_memmap(folder / f"{key}.npy", "w+", np.float16, shape)
            files[key][kept : kept + views] = values
        for box, wrong, stretch in zip(boxes, wrong_side, stretches, strict=True):
            rows.append((position, *box.centre_px, box.size_px, box.angle_rad, wrong, *stretch.ravel()))
        kept += views
    np.save(folder / VIEWS_FILE, np.array(rows))
    write_json(folder / INFO_FILE, info | {key: _statistics(values) for key, values in files.items()}, indent=None)
    return kept


def _statistics(values: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel, over at most 4,000 rows."""
    standard = Standard.measured(values[:: max(1, len(values) // 4000)])
    return {key: channels.round(5).tolist() for key, channels in standard._asdict().items()}


# What another detector makes of the images that ours is trained on: its maps, asked for as training goes on.
#
# Images are pasted together anew each time, so nothing is cached. A teacher that has seen many people
# says more of an image than where its hands are: what arms, faces and clothes look like. Both see the same
# pixels (function matching: Beyer et al., Knowledge distillation: a good teacher is patient and consistent, 2022).


class SceneTeacher:
    """A network whose maps are told in standard deviations of each channel."""

    def __init__(self, path: Path, samples: np.ndarray, fraction: float = 1.0) -> None:
        """path: an .onnx of (n, 3, height, width) RGB between 0 and 1 to maps (n, C, h, w).

        samples: (N, 3, H, W) uint8 images, from which the channels' means and deviations are taken.
        fraction: of the images of a batch that it is asked about, the first ones.
        Raises ValueError where `path` holds no such network.
        """
        self.path, self.fraction, self._run = path, fraction, None
        maps = self._maps(samples)
        flat = [one.ndim for one in maps if one.ndim != 4]
        if flat or not maps:
            raise ValueError(f"{path}: expected outputs of four axes (n, C, h, w), got {flat or 'none'}")
        self._standards = [Standard.measured(one) for one in maps]

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each of the maps."""
        return tuple(len(standard.centre) for standard in self._standards)

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The maps of the first K of B (3, H, W) uint8 images, (K, C, h, w) float32 each."""
        count = max(1, round(self.fraction * len(images)))
        maps = zip(self._maps(images[:count]), self._standards, strict=True)
        return [np.stack([standard.of(one) for one in each]) for each, standard in maps]

    def _maps(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self._run is None:  # opened late: workers open the network for themselves
            self._run = _asked_for(_read_onnx(self.path, "a detector"))
        each = [self._run(image[None].astype(np.float32) / 255) for image in images]
        return [np.concatenate(column) for column in zip(*each, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}
