"""How far one runtime's numbers are from another's, on noise and on images of hands."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch

from handmesh.assets import DEMO_CLIP, detector_path
from handmesh.crop import crop_affine, letterbox, warp
from handmesh.detection import Detector
from handmesh.tracking.backends import METADATA_KEY, Kind, open_session, split_outputs
from handmesh.video.sources import open_source

Runner = Callable[[np.ndarray], Mapping[str, np.ndarray]]
"""(1, H, W, 3) uint8 RGB through a network: its outputs by name."""

NOISE, CLIP = "noise", "clip"
"""Where images come from: numbers at random, which are harder than any photograph, and the bundled clip."""

STEP, FRAMES = 25, 300


class ExportMismatch(RuntimeError):
    """What was exported does not give what it should; nothing was written."""


class Parity(NamedTuple):
    """The largest absolute difference of each output, by where the images came from."""

    differences: dict[str, dict[str, float]]  # by output, then by `NOISE` and `CLIP`
    images: dict[str, int]  # how many there were

    def worst(self, output: str) -> float:
        """The largest difference of an output on any image, in its own unit."""
        return max(self.differences[output].values())

    def table(self) -> str:
        """Lines to print: a row an output, a column for each kind of image. Metres become millimetres."""
        head = f"  {'output':<12}" + "".join(f"{f'{n} x {kind}':>16}" for kind, n in self.images.items())
        return "\n".join([head, *(self._row(name) for name in self.differences)])

    def _row(self, name: str) -> str:
        factor, unit = (1000, " mm") if name.endswith("_m") else (1, "")
        cells = "".join(f"{f'{factor * d:.5f}{unit}':>16}" for d in self.differences[name].values())
        return f"  {name.removesuffix('_m'):<12}{cells}"


def measure(expected: Runner, given: Runner, samples: Mapping[str, Sequence[np.ndarray]]) -> Parity:
    """Run both on all images. Outputs of `expected` that `given` lacks are a KeyError; others are ignored."""
    differences: dict[str, dict[str, float]] = {}
    for kind, images in samples.items():
        for image in images:
            found = given(image)
            for name, value in expected(image).items():
                worst = differences.setdefault(name, {})
                # Not Python's `max`: what is no number must stay.
                worst[kind] = float(np.maximum(worst.get(kind, 0.0), np.abs(found[name] - value).max()))
    return Parity(differences, {kind: len(images) for kind, images in samples.items()})


def torch_runner(of_unit: Callable[[torch.Tensor], Sequence[torch.Tensor]], outputs: Sequence[str]) -> Runner:
    """A torch function of (1, 3, H, W) float RGB between 0 and 1, whose outputs have these names."""

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            values = of_unit(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)
        return {name: value.numpy() for name, value in zip(outputs, values, strict=True)}

    return run


def check(parity: Parity, tolerance: Mapping[str, float], outputs: Collection[str] | None = None) -> None:
    """Raise ExportMismatch where an output differs by more than `tolerance` allows on its kind of images.

    outputs: the names of those to look at; None looks at all.
    """
    for name in parity.differences if outputs is None else outputs:
        for kind, difference in parity.differences[name].items():
            if not difference <= tolerance[kind]:  # true for what is no number, too
                raise ExportMismatch(
                    f"{name} differs by {difference:.5f} on {kind}, expected at most {tolerance[kind]}; "
                    "nothing was written"
                )


def images_for(kind: Kind, size: tuple[int, int], box_scale: float = 1.0) -> dict[str, list[np.ndarray]]:
    """What to compare a network on: (1, H, W, 3) uint8 RGB images by where they come from.

    size: (height, width) that the network takes. box_scale: of a mesh network, from its metadata.
    """
    numbers = np.random.default_rng(0)
    noise = [numbers.integers(0, 256, (1, *size, 3), np.uint8) for _ in range(4)]
    frames = clip_frames()
    if kind == "detector":
        return {NOISE: noise, CLIP: [letterbox(frame, *size).image[None] for frame in frames]}
    return {NOISE: noise, CLIP: _crops(frames, size[0], box_scale)}


def clip_frames() -> list[np.ndarray]:
    source = open_source(DEMO_CLIP)
    try:
        return [frame.image_rgb for frame in islice(source, 0, FRAMES, STEP)]
    finally:
        source.close()


def _crops(frames: Sequence[np.ndarray], size: int, box_scale: float) -> list[np.ndarray]:
    """Hands as the bundled detector finds them, left ones mirrored, as the tracker shows them to the network."""
    detector = Detector(open_session(detector_path(), "detector"))
    found = [(frame, detection) for frame in frames for detection in detector.detect(frame)]
    return [
        warp(frame, crop_affine(hand.box.scaled(box_scale), size, hand.side == "left"), size)[None]
        for frame, hand in found
    ]


# Exported .onnx files: what they say of themselves, and how they run.


class OnnxFile(NamedTuple):
    """A graph that `handmesh export` wrote, and its metadata."""

    proto: onnx.ModelProto
    metadata: dict[str, Any]

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the images that it takes."""
        dims = self.proto.graph.input[0].type.tensor_type.shape.dim
        return dims[1].dim_value, dims[2].dim_value

    @property
    def changing_outputs(self) -> list[str]:
        """The names of the outputs that differ from image to image."""
        return split_outputs(output.name for output in self.proto.graph.output)[0]

    def images(self) -> dict[str, list[np.ndarray]]:
        """What to compare it on: see `images_for`."""
        return images_for(self.metadata["kind"], self.input_size, self.metadata.get("box_scale", 1.0))

    def compared(self, given: Runner) -> Parity:
        """How far another runtime's numbers are from this file's in ONNX Runtime."""
        return measure(runner(self), given, self.images())


def read_onnx(path: Path) -> OnnxFile:
    """Read an exported file. ValueError where it is missing, damaged or not handmesh's."""
    if not path.is_file():
        raise ValueError(f"no model at {path}: expected an .onnx file that `handmesh export` wrote")
    try:
        proto = onnx.load(path)
        text = {entry.key: entry.value for entry in proto.metadata_props}.get(METADATA_KEY, "null")
        metadata = json.loads(text)
    except Exception as error:  # protobuf's errors share no base class with the others
        raise ValueError(f"{path} is not a readable ONNX model; export it again ({error})") from error
    if not isinstance(metadata, dict) or metadata.get("kind") not in ("mesh", "detector"):
        raise ValueError(f"{path} was not exported by handmesh; expected an .onnx file that `handmesh export` wrote")
    return OnnxFile(proto, metadata)


def worst_on_noise(reference: torch.nn.Module, proto: onnx.ModelProto, example: torch.Tensor) -> dict[str, float]:
    """The largest difference of each output between a torch graph and its export on four images like `example`.

    example: (1, H, W, 3) uint8. reference: takes such images and gives a NamedTuple with the outputs' names.
    """
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randint(0, 256, example.shape, generator=generator).to(torch.uint8).numpy() for _ in range(4)]

    def expected(image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.no_grad():
            return {name: value.numpy() for name, value in reference(torch.from_numpy(image))._asdict().items()}

    parity = measure(expected, runner(OnnxFile(proto, {})), {NOISE: noise})
    return {name: parity.worst(name) for name in parity.differences}


def runner(file: OnnxFile) -> Runner:
    """The file in ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data = file.proto.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    names = file.changing_outputs
    return lambda image: dict(zip(names, session.run(names, {"image": image}), strict=True))
