"""One function from crops to hands in metres, whether an exported graph or trained weights stand behind it; crop
protocols and test-time augmentation; and prediction files as FreiHAND's server takes them.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import tyro

from handmesh import skeleton
from handmesh.assets import OPEN_HAND, Device, model_path
from handmesh.crop import warp
from handmesh.data.freihand import CENTRE_PX, CropProtocol, crop_box, read_rows
from handmesh.export.onnx import MeshGraph
from handmesh.files import atomic_write, sha256_of
from handmesh.hand.model import HandModel
from handmesh.machine import import_onnxruntime, machine
from handmesh.models.checkpoint import load_trained
from handmesh.tracking.backends import default_threads, open_session
from handmesh.tracking.estimator import Crop, image_joints_px, to_camera_frame
from handmesh.types import Box, Camera, Hand, Side

onnxruntime = import_onnxruntime()

Outputs = dict[str, np.ndarray]
"""The mesh network's outputs by name, B hands of each (see `backends.MESH_OUTPUTS`), without the faces."""


@dataclass(frozen=True)
class Predictor:
    """A mesh network, ready to look at crops."""

    name: str  # of the model, for people
    file_sha256: str
    hand: str  # which hand model gives the mesh, for people
    hand_sha256: str  # '' where it is a part of the file
    crop_size: int
    box_scale: float  # a crop's side in sides of the tight box, as in training
    faces: np.ndarray  # (F, 3) int32, outward
    num_vertices: int
    runs_on: str  # machine, runtime and device, for people
    run: Callable[[np.ndarray], Outputs]  # (B, S, S, 3) uint8, S = crop_size, any B

    def __call__(self, crops: np.ndarray, batch: int) -> Outputs:
        """(M, S, S, 3) uint8 RGB crops, at most `batch` of them at a time, to the outputs of all."""
        parts = [self.run(crops[start : start + batch]) for start in range(0, len(crops), batch)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def each(outputs: Outputs) -> Iterator[Outputs]:
    """The outputs of one hand after the other, as batches of one."""
    count = len(next(iter(outputs.values())))
    return ({name: value[i : i + 1] for name, value in outputs.items()} for i in range(count))


def open_predictor(
    model: str, hand_model: Path | None = None, device: Device = "auto", threads: int | None = None
) -> Predictor:
    """A bundled network by name, an exported .onnx, or weights.safetensors of a run.

    hand_model: a converted MANO .npz in place of the hand that the weights were trained with; an
    exported graph has its hand inside. Raises ValueError (or FileNotFoundError) for what cannot be
    opened, ImportError where weights need torch.
    """
    if Path(model).suffix == ".safetensors":
        return open_weights(Path(model), hand_model, device, threads)
    if hand_model is not None:
        raise ValueError(f"--hand-model is for weights (.safetensors): {model} is an exported graph with its own hand")
    path = model_path(model)
    session = open_session(path, "mesh", threads, device)
    height, width = session.input_size
    if height != width:
        raise ValueError(f"{path} takes {height}x{width} crops; expected a square")
    runtime = f"ONNX Runtime {onnxruntime.__version__}, {session.provider}, {threads or default_threads()} threads"

    def run(crops: np.ndarray) -> Outputs:
        parts = [session.run(crop[None]) for crop in crops]  # an exported graph takes one crop at a time
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return Predictor(
        name=str(model),
        file_sha256=sha256_of(path),
        hand="inside the exported graph",
        hand_sha256="",
        crop_size=height,
        box_scale=float(session.metadata["box_scale"]),
        faces=session.constants["faces"],
        num_vertices=len(session.constants["hand_template"]),
        runs_on=f"{machine()}; {runtime}",
        run=run,
    )


def open_weights(path: Path, hand_model: Path | None, device: Device, threads: int | None) -> Predictor:
    """The network of a weights file, its branches merged, with `hand_model` or the hand it was trained with."""
    network, config = load_trained(path)
    hand_file = hand_model or (Path(config["hand_model"]) if config.get("hand_model") else None)
    hand, position = HandModel.load(hand_file), torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    graph = MeshGraph(network.reparameterised(), hand).eval().to(position)
    on_gpu = position.type == "cuda"
    where = torch.cuda.get_device_name(position) if on_gpu else f"cpu, {torch.get_num_threads()} threads"

    def run(crops: np.ndarray) -> Outputs:
        with torch.inference_mode():
            outputs = graph(torch.from_numpy(crops).to(position))
        return {name: value.float().cpu().numpy() for name, value in zip(graph.outputs, outputs, strict=True)}

    return Predictor(
        name=str(path),
        file_sha256=sha256_of(path),
        hand=f"{hand_file or 'the bundled open hand'}, {hand.num_vertices} vertices",
        hand_sha256=sha256_of(hand_file or OPEN_HAND),
        crop_size=config["run"]["schedule"][-1][1],
        box_scale=float(config["box_scale"]),
        faces=hand.faces,
        num_vertices=hand.num_vertices,
        runs_on=f"{machine()}; torch {torch.__version__}, {where}, float32",
        run=run,
    )


def torch_device(device: Device) -> torch.device:
    """The device of that name; 'auto' takes a GPU where there is one. ValueError where torch has none."""
    has_gpu = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if has_gpu else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not has_gpu):
        offered = "auto, cpu, cuda" if has_gpu else "auto, cpu"
        raise ValueError(f"weights run on {offered} here, not on {device!r}; for others export them to .onnx first")
    return torch.device(device)


TTA_SPREAD_RAD = np.radians(30.0)
"""Test-time augmentation turns the crops by up to so much either way."""

MOST_CROPS = 1024
"""Crops held in memory at a time."""

Finder = Callable[[np.ndarray], Box | None]
"""(H, W, 3) uint8 RGB to the tight box of the one hand in it."""


@dataclass(frozen=True)
class PredictOptions:
    """How an image is looked at. All of it belongs to a figure."""

    crop: CropProtocol = "gt-keypoints"
    """Where the crop is taken: an upright square around the labelled keypoints, or around the box that the data set
    gives, the 130 pixels in the image's middle, or where the tracker's detector finds the hand."""
    passes: int = 1
    """Estimates of each hand. Every further one is at a turned box around the joints of the one before,
    as the tracker does; it needs no labels."""
    tta: int = 1
    """Test-time augmentation: so many crops, turned evenly between -30 and 30 degrees, whose
    meshes are averaged in the camera's frame; 1 is none. There is no mirrored crop: the network knows right hands
    only, and the mirror image of a mirrored crop is the crop itself."""

    def __post_init__(self) -> None:
        for name in ("passes", "tta"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def described(self, box_scale: float) -> dict[str, str]:
        """Protocol and augmentation in words."""
        where = {
            "gt-keypoints": f"upright square around the labelled keypoints x {box_scale:g}",
            "given-box": f"upright square around the data set's own box x {box_scale:g}",
            "centre-130": f"the {CENTRE_PX:.0f} pixels in the image's middle",
            "detected": f"the bundled detector's box x {box_scale:g}; where it finds none, as centre-130",
        }[self.crop]
        name = self.crop if self.passes == 1 else f"{self.crop}, {self.passes} passes"
        again = "" if self.passes == 1 else "; every further pass turned, around the joints of the one before"
        rotations = f"{self.tta} crops turned by up to 30 degrees, meshes averaged" if self.tta > 1 else "none"
        return {"crop protocol": f"{name}: {where}{again}", "test-time augmentation": rotations}


class View(NamedTuple):
    """An image, its camera, and what the crop protocol wants of its labels."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    camera: Camera
    around_px: np.ndarray | None = None  # (K, 2): the labelled points, or two corners of the given box
    side: Side = "right"


class CropPrediction(NamedTuple):
    """What was made of one image."""

    hand: Hand | None  # None: the network's numbers are no hand
    located: bool  # whether the crop protocol found a place of its own


class CropPredictor:
    """A network with a way of looking: images in, one hand each out, in the camera's frame."""

    def __init__(
        self, predictor: Predictor, options: PredictOptions, find: Finder | None = None, batch: int = 32
    ) -> None:
        """find: for the protocol 'detected', and only for it; batch: crops that the network takes at a time."""
        if (options.crop == "detected") != (find is not None):
            raise ValueError("a finder belongs to the crop protocol 'detected', and to no other")
        self._predictor, self._options, self._find, self._batch = predictor, options, find, batch
        spread = np.linspace(-TTA_SPREAD_RAD, TTA_SPREAD_RAD, options.tta)
        self._rotations = spread.tolist() if options.tta > 1 else [0.0]

    @property
    def num_vertices(self) -> int:
        """Vertices of the meshes that it gives."""
        return self._predictor.num_vertices

    def read(self, views: Sequence[View]) -> list[CropPrediction]:
        """The hand in each image."""
        step = max(1, MOST_CROPS // len(self._rotations))
        return [seen for k in range(0, len(views), step) for seen in self._read(views[k : k + step])]

    def _read(self, views: Sequence[View]) -> list[CropPrediction]:
        boxes, located = zip(*map(self._box, views), strict=True)
        for _ in range(self._options.passes - 1):
            seen = self._outputs(views, boxes)
            boxes = [Box.around(image_joints_px(one, crop), self._predictor.box_scale) for one, crop in seen]
        count = len(self._rotations)
        turned = [replace(box, angle_rad=box.angle_rad + angle) for box in boxes for angle in self._rotations]
        rotated = [view for view in views for _ in self._rotations]
        hands = [
            to_camera_frame(one, crop, view.camera, self._predictor.faces)
            for (one, crop), view in zip(self._outputs(rotated, turned), rotated, strict=True)
        ]
        means = [mean_hand(hands[k : k + count]) for k in range(0, len(hands), count)]
        return [CropPrediction(*pair) for pair in zip(means, located, strict=True)]

    def _box(self, view: View) -> tuple[Box, bool]:
        """Where to take the crop, and whether the protocol found it there."""
        scale, (height, width) = self._predictor.box_scale, view.image.shape[:2]
        if self._find is None:
            return crop_box(self._options.crop, view.around_px, width, height, scale), True
        box = self._find(view.image)
        if box is None:
            return crop_box("centre-130", None, width, height, scale), False
        return box.scaled(scale), True

    def _outputs(self, views: Sequence[View], boxes: Sequence[Box]) -> Iterator[tuple[Outputs, Crop]]:
        """What the network makes of each view in its box."""
        crops = [Crop(box, view.side, self._predictor.crop_size) for view, box in zip(views, boxes, strict=True)]
        pixels = [warp(view.image, crop.affine, crop.size) for view, crop in zip(views, crops, strict=True)]
        return zip(each(self._predictor(np.stack(pixels), self._batch)), crops, strict=True)


def mean_hand(hands: Sequence[Hand | None]) -> Hand | None:
    """The first hand with the mean vertices, joints and score of all that are there; None where none is.

    Its pose and shape stay the first one's own.
    """
    there = [hand for hand in hands if hand is not None]
    if len(there) < 2:
        return there[0] if there else None
    names = ("vertices_m", "joints_m", "joints_px")
    means = {name: np.mean([getattr(hand, name) for hand in there], axis=0) for name in names}
    return replace(there[0], **means, score=float(np.mean([hand.score for hand in there])))


def with_bone_length(hand: Hand, length_m: float, bone: tuple[int, int]) -> Hand:
    """The hand made larger or smaller about the camera, so that the bone between two joints has that length.

    It looks the same from the camera: the hand is as much farther away as it is larger.
    """
    ratio = length_m / float(np.linalg.norm(hand.joints_m[bone[1]] - hand.joints_m[bone[0]]))
    return hand.scaled(ratio)


@dataclass(frozen=True)
class ReadingOptions:
    """What evaluations of one hand an image look at, and how."""

    root: Path
    """FreiHAND's folder, which holds evaluation_K.json and evaluation/rgb."""
    model: str = "balanced"
    """A bundled network by name, an exported .onnx, or weights.safetensors of a training run."""
    hand_model: Path | None = None
    """A converted MANO .npz for weights. Default: the hand they were trained with."""
    predict_options: tyro.conf.OmitArgPrefixes[PredictOptions] = field(default_factory=PredictOptions)
    batch: int = 32
    """Crops that the network takes at a time; an exported graph takes one by one."""
    device: Device = "auto"
    threads: int | None = None
    """Cores that the network may use. Default: the runtime's own choice."""
    limit: int | None = None
    """Take the first so many samples. Default: all."""
    overwrite: bool = False
    """Do again what the output folder already holds."""

    def __post_init__(self) -> None:
        for name in ("batch", "limit", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"--{name} must be at least 1, got {value}")


# Prediction files as FreiHAND's server takes them: `[joints, vertices]`, N x 21 x 3 and N x V x 3, JSON or zipped.

FORMAT = "expected [N x 21 x 3 joints, N x V x 3 vertices], metres in the camera's frame"

_NAME_IN_ZIP = "pred.json"
_SPACE = re.compile(r"\s*")
_decode = json.JSONDecoder().raw_decode


LARGEST_PREDICTIONS = 600_000_000
"""Bytes of an unpacked file; FreiHAND's whole evaluation set, with all digits, has 230 million."""


class PredictionError(ValueError):
    """A prediction file, or the truth that it is compared with, that cannot be scored; the message says why."""


class PredictionFile:
    """A prediction file: its joints at once, its meshes one by one, so that they are never all in memory."""

    def __init__(self, path: Path) -> None:
        """Read the joints. Raises PredictionError where the file is not of the format."""
        self.path, self._text, self._at = path, _text(path), 0
        self._expect("[", "a list of two")
        joints = list(self._rows("joints", len(skeleton.KEYPOINTS)))
        self._expect(",", "the list of vertices behind that of joints")
        if not joints:
            raise self._error("it holds no samples")
        self.joints_m = np.stack(joints)  # (N, 21, 3) float64

    def vertices(self) -> Iterator[np.ndarray]:
        """The (V, 3) float64 mesh of each sample, once."""
        yield from self._rows("vertices", None)
        self._expect("]", "the end behind the list of vertices")
        if self._at < len(self._text):
            raise self._error("there is more behind the two lists")

    def _rows(self, what: str, count: int | None) -> Iterator[np.ndarray]:
        """The samples of one of the two lists, (count, 3) each."""
        self._expect("[", f"the list of {what}")
        sample = 0
        while not self._finds("]"):
            row = f"the {what} of sample {sample}"
            if sample:
                self._expect(",", row)
            try:
                value, self._at = _decode(self._text, self._skip())
            except ValueError:
                cut = f"{row} are not JSON, or the file ends in the middle of them; write or copy it again"
                raise self._error(cut) from None
            try:
                yield points_of(value, count)
            except ValueError as error:
                raise self._error(f"{row}: {error}") from None
            sample += 1

    def _expect(self, sign: str, what: str) -> None:
        if not self._finds(sign):
            found = self._text[self._at : self._at + 12]
            where = f"found {found!r}" if found else "the file ends there; write or copy it again"
            raise self._error(f"{what} should follow, {where}")

    def _finds(self, sign: str) -> bool:
        """Whether `sign` comes next; then it is passed."""
        found = self._text.startswith(sign, self._skip())
        self._at += len(sign) if found else 0
        self._skip()
        return found

    def _skip(self) -> int:
        self._at = _SPACE.match(self._text, self._at).end()
        return self._at

    def _error(self, reason: str) -> PredictionError:
        return PredictionError(f"{self.path}: {reason} ({FORMAT})")


def points_of(value: Any, count: int | None) -> np.ndarray:
    """(K, 3) float64 of one sample's JSON. ValueError where it is not `count` (or any positive number of) points."""
    try:
        points = np.array(value)
    except ValueError:  # rows of unequal length
        points = np.array(None)
    if points.dtype.kind not in "fi" or points.ndim != 2 or points.shape[1] != 3 or count not in (None, len(points)):
        wanted = "V" if count is None else count
        found = f"shape {'x'.join(map(str, points.shape))}" if points.dtype.kind in "fi" else "something else"
        raise ValueError(f"expected {wanted} x 3 numbers, found {found}")
    if not np.isfinite(points).all():
        raise ValueError(f"point {int(np.argmin(np.isfinite(points).all(1)))} is not finite")
    return points.astype(np.float64)


def _text(path: Path) -> str:
    """The JSON text of a file, or of the only JSON in a zip."""
    if not path.is_file():
        raise PredictionError(f"no prediction file at {path}")
    try:
        if not zipfile.is_zipfile(path):
            return path.read_bytes().decode("utf-8-sig")
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json") and not name.startswith("__MACOSX")]
            names = [_NAME_IN_ZIP] if _NAME_IN_ZIP in names else names
            if len(names) != 1:
                raise PredictionError(f"{path} holds {names or 'no JSON file'}; expected one, {_NAME_IN_ZIP}")
            if (size := archive.getinfo(names[0]).file_size) > LARGEST_PREDICTIONS:
                raise PredictionError(f"{path}: {names[0]} has {size:,} bytes, more than {LARGEST_PREDICTIONS:,}")
            return archive.read(names[0]).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PredictionError(f"{path} is neither JSON nor a zip with JSON in it ({FORMAT})") from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        raise PredictionError(f"{path} is a damaged or locked zip ({error}); write it again") from None


def true_points(folder: Path, name: str, count: int | None) -> Iterator[np.ndarray]:
    """The rows of `evaluation_{name}.json` in `folder`, each (K, 3) float64, one by one.

    Raises PredictionError where the list is missing, cut off or of another kind.
    """
    path = folder / f"evaluation_{name}.json"
    if not path.is_file():
        raise PredictionError(
            f"no {path.name} in {folder}: unpack FreiHAND's evaluation archive (FreiHAND_pub_v2_eval.zip) there"
        )
    rows = 0
    try:
        with path.open(encoding="utf-8") as stream:
            for value in read_rows(stream):
                yield points_of(value, count)
                rows += 1
    except EOFError:
        raise PredictionError(f"{path} ends in the middle, after {rows} rows; unpack it again") from None
    except ValueError as error:
        raise PredictionError(f"{path}, row {rows}: {error}; unpack it again") from None


def write_submission(path: Path, joints_m: np.ndarray, vertices_m: Iterable[np.ndarray]) -> None:
    """Write (N, 21, 3) joints and N meshes (V, 3) as the zip that the server takes. Replaces the file in one step."""
    with (
        atomic_write(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open(_NAME_IN_ZIP, "w", force_zip64=True) as file,
    ):
        for before, samples in ((b"[[", joints_m), (b"], [", vertices_m)):
            file.write(before)
            for i, points in enumerate(samples):
                file.write((b", " if i else b"") + json.dumps(rounded(points).tolist()).encode())
        file.write(b"]]")


def rounded(points_m: np.ndarray) -> np.ndarray:
    """(..., 3) points to a tenth of a micrometre, far below what can be measured: the file is half as large."""
    return np.round(np.asarray(points_m, np.float64), 7)
