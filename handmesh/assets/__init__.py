"""The files that ship with the package, the names of its networks, and what can run them. Nothing is loaded here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

# Where the files that ship with the package lie.


ASSETS = Path(__file__).parent

OPEN_HAND = ASSETS / "open_hand_right.npz"

DEMO_CLIP = ASSETS / "demo.mp4"

VIEWER = ASSETS / "viewer"
"""The built page of demo/web/src/viewer."""

POSE_LIBRARY = ASSETS / "pose_library.npz"
"""Finger angles of poses that people made; see `handmesh.hand.poses`."""


# The mesh networks that ship with the package, and what can run them: names and files, without loading any.


Backend = Literal["onnxruntime", "openvino"]
Device = Literal["auto", "cpu", "cuda", "coreml", "directml"]

DETECTOR = "detector"
"""The bundled file that is no mesh network."""

DEFAULT = "balanced"


class ModelFileError(ValueError):
    """A model file that is missing, unreadable, not exported by handmesh, or of another kind."""


class Size(NamedTuple):
    """What a bundled network costs."""

    crop_px: int  # side of the crop that it looks at
    latency_ms: int  # about, crop to vertices, one thread of a server's CPU: `handmesh benchmark sizes`


SIZES = {"fast": Size(112, 5), "balanced": Size(160, 7)}
"""The sizes, from the quickest to the largest: the same network on more and more pixels."""


def bundled_models() -> list[str]:
    """The names of the mesh networks in the package, from the quickest to the largest.

    Those that are none of `SIZES` come last, by name.
    """
    found = {path.stem for path in ASSETS.glob("*.onnx")} - {DETECTOR}
    return [*(name for name in SIZES if name in found), *sorted(found - SIZES.keys())]


def model_path(model: str | Path) -> Path:
    """The file of a bundled mesh network by name, or of an exported one by path.

    A bundled name wins over a file that happens to be called so. Raises ModelFileError,
    which lists the names, for what is neither.
    """
    return _network_path("model", model, bundled_models())


def detector_path(detector: str | Path = DETECTOR) -> Path:
    """The file of the bundled detector, or of an exported one by path; as for `model_path`."""
    return _network_path("detector", detector, [DETECTOR])


def _network_path(kind: str, network: str | Path, bundled: list[str]) -> Path:
    if not isinstance(network, (str, os.PathLike)):
        raise ModelFileError(f"a {kind} is a name or a path, got a {type(network).__name__}")
    if str(network) in bundled:
        return ASSETS / f"{network}.onnx"
    if Path(network).suffix == ".onnx" or Path(network).is_file():
        return Path(network)
    names = ", ".join(bundled) or "none"
    raise ModelFileError(f"unknown {kind} {str(network)!r}; bundled are: {names}; or give the path of an .onnx file")


def model_help() -> str:
    """What `--model` takes, for the help of the command line tools."""
    names = ", ".join(map(_described, bundled_models()))
    return f"A bundled network: {names}; times on one thread of a server's CPU. Or the path of an exported .onnx file."


def _described(name: str) -> str:
    size = SIZES.get(name)
    return name if size is None else f"{name} (crops of {size.crop_px} px, about {size.latency_ms} ms a hand)"
