"""One function from crops to hands in metres, whichever graph or weights stand behind it; crop protocols, test-
time augmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import onnxruntime
import torch
import tyro

from handmesh.assets import OPEN_HAND, Device, model_path
from handmesh.crop import warp
from handmesh.data.freihand import CENTRE_PX, CropProtocol, crop_box
from handmesh.export.onnx import MeshGraph
from handmesh.files import sha256_of
from handmesh.hand.model import HandModel
from handmesh.machine import machine
from handmesh.models.checkpoint import load_trained
from handmesh.tracking.backends import Session, default_threads, open_session
from handmesh.tracking.estimator import Crop, image_joints_px, to_camera_frame
from handmesh.types import Box, Camera, Hand

# One function from crops to hands, whether an exported graph or trained weights stand behind it.


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
    return _open_graph(model, device, threads)


def _open_graph(model: str, device: Device, threads: int | None) -> Predictor:
    path = model_path(model)
    session = open_session(path, "mesh", threads, device)
    height, width = session.input_size
    if height != width:
        raise ValueError(f"{path} takes {height}x{width} crops; expected a square")
    runtime = f"ONNX Runtime {onnxruntime.__version__}, {session.provider}, {threads or default_threads()} threads"
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
        run=lambda crops: _run_graph(session, crops),
    )


def _run_graph(session: Session, crops: np.ndarray) -> Outputs:
    """An exported graph takes one crop at a time."""
    parts = [session.run(crop[None]) for crop in crops]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# Trained weights as a predictor, on the CPU or a GPU. Needs torch.


def open_weights(path: Path, hand_model: Path | None, device: Device, threads: int | None) -> Predictor:
    """The network of a weights file, its branches merged, with `hand_model` or the hand it was trained with."""
    network, config = load_trained(path)
    hand_file = hand_model or (Path(config["hand_model"]) if config.get("hand_model") else None)
    hand = HandModel.load(hand_file)
    position = torch_device(device)
    if threads:
        torch.set_num_threads(threads)
    graph = MeshGraph(network.reparameterised(), hand).eval().to(position)
    return Predictor(
        name=str(path),
        file_sha256=sha256_of(path),
        hand=f"{hand_file or 'the bundled open hand'}, {hand.num_vertices} vertices",
        hand_sha256=sha256_of(hand_file or OPEN_HAND),
        crop_size=config["run"]["schedule"][-1][1],
        box_scale=float(config["box_scale"]),
        faces=hand.faces,
        num_vertices=hand.num_vertices,
        runs_on=f"{machine()}; torch {torch.__version__}, {_described(position)}",
        run=lambda crops: _run_weights(graph, crops, position),
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


def _described(position: torch.device) -> str:
    if position.type == "cuda":
        return f"{torch.cuda.get_device_name(position)}, float32"
    return f"cpu, {torch.get_num_threads()} threads, float32"


def _run_weights(graph: MeshGraph, crops: np.ndarray, position: torch.device) -> Outputs:
    with torch.inference_mode():
        outputs = graph(torch.from_numpy(crops).to(position))
    return {name: value.float().cpu().numpy() for name, value in outputs._asdict().items() if value is not None}


# Hands in images that each show one right hand: from crop protocol and test-time augmentation to metres.


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
    """Where the crop is taken: an upright square around the labelled keypoints, the 130 pixels in
    the image's middle, or where the tracker's detector finds the hand."""
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
            "centre-130": f"the {CENTRE_PX:.0f} pixels in the image's middle",
            "detected": f"the bundled detector's box x {box_scale:g}; where it finds none, as centre-130",
        }[self.crop]
        name = self.crop if self.passes == 1 else f"{self.crop}, {self.passes} passes"
        again = "" if self.passes == 1 else "; every further pass turned, around the joints of the one before"
        rotations = f"{self.tta} crops turned by up to 30 degrees, meshes averaged" if self.tta > 1 else "none"
        return {"crop protocol": f"{name}: {where}{again}", "test-time augmentation": rotations}


class View(NamedTuple):
    """An image, its camera, and the labelled joints where the crop protocol wants them."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    camera: Camera
    joints_px: np.ndarray | None = None  # (21, 2)


class CropPrediction(NamedTuple):
    """What was made of one image."""

    hand: Hand | None  # None: the network's numbers are no hand
    located: bool  # whether the crop protocol found a place of its own


class CropPredictor:
    """A network with a way of looking: images in, one right hand each out, in the camera's frame."""

    def __init__(self, predictor: Predictor, options: PredictOptions, find: Finder | None = None) -> None:
        """find: for the protocol 'detected', and only for it."""
        if (options.crop == "detected") != (find is not None):
            raise ValueError("a finder belongs to the crop protocol 'detected', and to no other")
        self._predictor, self._options, self._find = predictor, options, find
        count = options.tta
        self._rotations = np.linspace(-TTA_SPREAD_RAD, TTA_SPREAD_RAD, count).tolist() if count > 1 else [0.0]

    def read(self, views: Sequence[View], batch: int) -> list[CropPrediction]:
        """The hand in each image. batch: crops that the network takes at a time."""
        step = max(1, MOST_CROPS // len(self._rotations))
        return [seen for k in range(0, len(views), step) for seen in self._read(views[k : k + step], batch)]

    @property
    def num_vertices(self) -> int:
        """Vertices of the meshes that it gives."""
        return self._predictor.num_vertices

    def _read(self, views: Sequence[View], batch: int) -> list[CropPrediction]:
        first = [self._box(view) for view in views]
        boxes = [box for box, _ in first]
        for _ in range(self._options.passes - 1):
            boxes = self._boxes_around_joints(views, boxes, batch)
        hands = self._look(views, boxes, batch)
        return [CropPrediction(hand, located) for hand, (_, located) in zip(hands, first, strict=True)]

    def _box(self, view: View) -> tuple[Box, bool]:
        """Where to take the crop, and whether the protocol found it there."""
        scale, (height, width) = self._predictor.box_scale, view.image.shape[:2]
        if self._find is None:
            return crop_box(self._options.crop, view.joints_px, width, height, scale), True
        box = self._find(view.image)
        if box is None:
            return crop_box("centre-130", None, width, height, scale), False
        return box.scaled(scale), True

    def _boxes_around_joints(self, views: Sequence[View], boxes: Sequence[Box], batch: int) -> list[Box]:
        crops = [self._crop(box) for box in boxes]
        outputs = each(self._predictor(self._pixels(views, crops), batch))
        return [
            Box.around(image_joints_px(one, crop), self._predictor.box_scale)
            for one, crop in zip(outputs, crops, strict=True)
        ]

    def _look(self, views: Sequence[View], boxes: Sequence[Box], batch: int) -> list[Hand | None]:
        """The mean over the turned crops of what is seen in each box."""
        crops = [
            self._crop(replace(box, angle_rad=box.angle_rad + rotation))
            for box in boxes
            for rotation in self._rotations
        ]
        rotated = [view for view in views for _ in self._rotations]
        outputs = each(self._predictor(self._pixels(rotated, crops), batch))
        hands = [
            to_camera_frame(one, crop, view.camera, self._predictor.faces)
            for one, crop, view in zip(outputs, crops, rotated, strict=True)
        ]
        return [mean_hand(hands[k : k + len(self._rotations)]) for k in range(0, len(hands), len(self._rotations))]

    def _crop(self, box: Box) -> Crop:
        return Crop(box, "right", self._predictor.crop_size)

    def _pixels(self, views: Sequence[View], crops: Sequence[Crop]) -> np.ndarray:
        return np.stack([warp(view.image, crop.affine, crop.size) for view, crop in zip(views, crops, strict=True)])


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


# What can be asked of evaluations on FreiHAND.


ErrorKind = Literal["PA-MPJPE", "RA-MPJPE"]


@dataclass(frozen=True)
class ReadingOptions:
    """What to look at, and how."""

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


@dataclass(frozen=True)
class FreihandOptions(ReadingOptions):
    """Official metrics and our own on FreiHAND's evaluation split, with a report to read."""

    use_scale: bool = False
    """Make each hand as large as the given length of its middle finger's first bone says."""
    submission: bool = False
    """Also write pred.zip for the server."""
    output: Path = Path("outputs/freihand")
    """Folder for the report, metrics.json, scores.txt, samples.csv and the predictions."""


@dataclass(frozen=True)
class RobustnessOptions(ReadingOptions):
    """Errors under the 15 corruptions of ImageNet-C at five severities, and the mean corruption error."""

    baseline: tuple[str, ...] = ()
    """Networks that the mean corruption error is relative to, each named as for --model."""
    error: ErrorKind = "PA-MPJPE"
    """The joint error that counts: after similarity alignment, or with the roots together."""
    output: Path = Path("outputs/robustness")
    """Folder for the report, metrics.json and the predictions."""


@dataclass(frozen=True)
class ScoreOptions:
    """Score a prediction file in the format of FreiHAND's server, as the server does."""

    gt: Path
    """Folder with evaluation_xyz.json and evaluation_verts.json."""
    pred: Path
    """pred.json, or a zip that holds it: [N x 21 x 3 joints, N x V x 3 vertices], metres."""
    output: Path = Path("outputs/score")
    """Folder for scores.txt (the server's twelve lines), metrics.json and scores.csv."""
