"""Reads the camera files of OpenCV's calibration samples and of ROS (`camera_info`)."""

from __future__ import annotations

import re

import cv2
import numpy as np

from handmesh.runtime.optics.intrinsics import Intrinsics, LensError
from handmesh.structs import Camera

_EXPECTED = "expected camera_matrix, distortion_coefficients, image_width, image_height as OpenCV and ROS write them"
_FISHEYE = ("fisheye", "equidistant", "kannala_brandt")


def parsed(text: str) -> Intrinsics:
    """The camera in the text of a YAML, XML or JSON file. Raises LensError where there is none."""
    storage = _opened(text)
    try:
        return _intrinsics({name.lower(): storage.getNode(name) for name in storage.root().keys()})  # noqa: SIM118
    except cv2.error as error:
        raise LensError(f"numbers that OpenCV cannot read ({error.err}): {_EXPECTED}") from error
    finally:
        storage.release()


def _opened(text: str) -> cv2.FileStorage:
    """OpenCV's reader on a text, which gets the header without which it takes no YAML. Raises LensError."""
    if not text.lstrip().startswith(("<", "{", "%YAML")):
        text = "%YAML:1.0\n---\n" + re.sub(r"\A\s*---.*\n", "", text)
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
    except (cv2.error, SystemError) as error:
        raise LensError(f"neither YAML, XML nor JSON of a camera: {_EXPECTED}") from error
    if not storage.isOpened() or not storage.root().isMap():
        raise LensError(f"neither YAML, XML nor JSON of a camera: {_EXPECTED}")
    return storage


def _intrinsics(nodes: dict[str, cv2.FileNode]) -> Intrinsics:
    """nodes: the file's entries by name in lower case, since OpenCV's own samples differ in case."""
    _refuse_fisheye(nodes)
    missing = [name for name in ("camera_matrix", "image_width", "image_height") if name not in nodes]
    if missing:
        raise LensError(f"no {', '.join(missing)} in it: {_EXPECTED}")
    K = _numbers(nodes["camera_matrix"])
    if K.size != 9:
        raise LensError(f"expected 9 numbers in camera_matrix, got {K.size}")
    fx, _, cx, _, fy, cy = K[:6].tolist()
    width, height = (_number(nodes[name]) for name in ("image_width", "image_height"))
    bends = nodes.get("distortion_coefficients")
    error = nodes.get("avg_reprojection_error")
    date = nodes.get("calibration_time")
    return Intrinsics(
        Camera(fx, fy, cx, cy, int(width), int(height)),
        () if bends is None else tuple(_numbers(bends).tolist()),
        None if error is None else _number(error),
        "" if date is None else date.string().strip(),
    )


def _refuse_fisheye(nodes: dict[str, cv2.FileNode]) -> None:
    model = nodes.get("distortion_model")
    named = model is not None and model.isString() and model.string() in _FISHEYE
    flagged = "fisheye_model" in nodes and nodes["fisheye_model"].real() == 1
    if named or flagged:
        raise LensError("the fisheye model is not supported: calibrate with scripts/calibrate_camera.py --bend wide")


def _numbers(node: cv2.FileNode) -> np.ndarray:
    """The numbers of a matrix as OpenCV or ROS writes it, or of a plain list."""
    if node.isMap():
        node = node.getNode("data")
    if not node.isSeq():
        raise LensError(f"{node.name() or 'a matrix'} holds no numbers: {_EXPECTED}")
    return np.array([_number(node.at(k)) for k in range(node.size())], np.float64)


def _number(node: cv2.FileNode) -> float:
    if not (node.isReal() or node.isInt()):  # of anything else OpenCV makes a huge number
        raise LensError(f"expected a number, got {node.string() if node.isString() else 'none'!r}: {_EXPECTED}")
    return node.real()
