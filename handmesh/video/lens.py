"""What takes the images: a measured camera and the files that hold it, or a field of view, told, read from EXIF or
assumed.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import ExifTags

from handmesh.files import open_image, parsed_json, write_json
from handmesh.types import Camera

# What a photograph's file says of the camera that took it.


FILM_DIAGONAL_MM = math.hypot(36, 24)


def fov_deg_of(path: Path) -> float | None:
    """The angle that the longer side of a photograph spans; None where its file does not tell, or it was cropped.

    EXIF's `FocalLengthIn35mmFilm` is the focal length with which film of 36x24 mm would have had the same angle
    along the diagonal (CIPA's guideline DCG-001), hence focal length in pixels = its millimetres * diagonal in
    pixels / 43.27 mm. It is written in whole millimetres: 2 % of a usual one.
    """
    try:
        with open_image(path) as image:
            tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
            width, height = image.size
    except Exception:  # whoever reads the image itself says what is wrong with the file
        return None
    focal_mm = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if focal_mm is None or _is_cropped(tags, width, height):
        return None
    focal_px = focal_mm * math.hypot(width, height) / FILM_DIAGONAL_MM
    return 2 * math.degrees(math.atan(max(width, height) / 2 / focal_px))


def _is_cropped(tags: dict, width: int, height: int) -> bool:
    """Whether the image had another shape when it was taken."""
    sides = [_positive(tags.get(tag)) for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)]
    if None in sides:
        return False
    return abs(max(sides) / min(sides) / (max(width, height) / min(width, height)) - 1) > 0.01


def _positive(value: object) -> float | None:
    """`value` as a positive, finite number; None for anything else, 0 standing for 'unknown' in EXIF."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None


# A measured camera: its numbers, checked.


COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6", "s1", "s2", "s3", "s4", "tx", "ty")
"""OpenCV's distortion coefficients in OpenCV's order (its documentation of `calib3d`)."""

COUNTS = (0, 4, 5, 8, 12, 14)
"""How many of them OpenCV takes."""


class LensError(ValueError):
    """A camera's numbers that cannot be right, or do not fit the image; the message is one line."""


@dataclass(frozen=True)
class Intrinsics:
    """What a calibration measured of a camera."""

    camera: Camera  # of the images that it was calibrated with
    distortion: tuple[float, ...] = ()  # as many of `COEFFICIENTS` as OpenCV takes
    error_px: float | None = None  # root mean square of the reprojection, in pixels of those images
    date: str = ""  # of the calibration

    def __post_init__(self) -> None:
        """Raises LensError for numbers that no camera has."""
        _check_camera(self.camera)
        if len(self.distortion) not in COUNTS:
            raise LensError(f"expected 4, 5, 8, 12 or 14 distortion coefficients, got {len(self.distortion)}")
        if not np.isfinite(self.distortion).all():
            raise LensError(f"expected finite distortion coefficients, got {self.distortion}")

    @property
    def bent(self) -> bool:
        """Whether the lens bends straight lines."""
        return any(self.distortion)


def _check_camera(camera: Camera) -> None:
    """Raise LensError unless the camera's numbers are possible ones, in pixels."""
    if camera.width < 1 or camera.height < 1:
        raise LensError(f"expected an image size in pixels, got {camera.width}x{camera.height}")
    if not np.isfinite(camera.K).all():
        raise LensError(f"expected finite focal lengths and centre, got {camera}")
    if camera.fx <= 0 or camera.fy <= 0:
        raise LensError(f"focal lengths must be positive, got {camera.fx:g} and {camera.fy:g}")
    longer = max(camera.width, camera.height)
    if not 0.05 * longer < min(camera.fx, camera.fy) <= max(camera.fx, camera.fy) < 50 * longer:
        raise LensError(
            f"focal lengths {camera.fx:g} and {camera.fy:g} do not go with images of {camera.width}x{camera.height}: "
            "give them in pixels of these images"
        )
    if not (-1 < camera.cx < camera.width and -1 < camera.cy < camera.height):
        raise LensError(
            f"the centre ({camera.cx:g}, {camera.cy:g}) lies outside images of {camera.width}x{camera.height}"
        )


def scaled_camera(camera: Camera, width: int, height: int) -> Camera:
    """The camera whose images of another size show the same view. Raises LensError for another shape.

    Pixels are points with (0, 0) at the centre of the first, hence the halves. One per cent of difference
    in shape is taken for rounding.
    """
    right, down = width / camera.width, height / camera.height
    if abs(right / down - 1) > 0.01:
        raise LensError(
            f"the camera was calibrated for {camera.width}x{camera.height} images, these are {width}x{height}, "
            "another shape, and what a camera crops cannot be known: set the camera to the same shape, "
            "calibrate it at this one, or give a field of view (--fov-deg)"
        )
    cx, cy = (camera.cx + 0.5) * right - 0.5, (camera.cy + 0.5) * down - 0.5
    return Camera(camera.fx * right, camera.fy * down, cx, cy, width, height)


def number(value: Any, name: str) -> float:
    """`value` as a finite number. Raises LensError where it is none."""
    with suppress(TypeError, ValueError, OverflowError):  # the last for integers that no float can hold
        if not isinstance(value, (bool, str)) and math.isfinite(value):
            return float(value)
    raise LensError(f"expected a number for {name}, got {reprlib.repr(value)}")


# Reads the camera files of OpenCV's calibration samples and of ROS (`camera_info`).


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
    width, height = (number(_number(nodes[name]), name) for name in ("image_width", "image_height"))
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
        raise LensError("the fisheye model is not supported: calibrate with `handmesh calibrate-camera --bend wide`")


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


# The file that holds a measured camera.


FORMAT = "handmesh camera 1"
"""What the key `format` of our own files says."""

_REMEDY = "write it with `handmesh calibrate-camera`"
_LARGEST_FILE, _MOST_PARTS = 1_000_000, 1000  # bytes; brackets, tags, keys and entries of lists in it


def write_intrinsics(path: Path, intrinsics: Intrinsics) -> None:
    """Write the file that `read_intrinsics` reads. Raises OutputError where that cannot be done."""
    record = {"format": FORMAT, **asdict(intrinsics.camera)}
    record["distortion"] = dict(zip(COEFFICIENTS, intrinsics.distortion, strict=False))
    record["reprojection_error_px"] = intrinsics.error_px
    record["date"] = intrinsics.date
    write_json(path, record)


def read_intrinsics(path: Path) -> Intrinsics:
    """The camera in a file: our own JSON, or YAML, XML or JSON as OpenCV's and ROS's calibrations write it.

    Raises LensError, with one line that names the file, where it is missing or holds no camera.
    """
    if not path.is_file():
        raise LensError(f"no camera file at {path}: {_REMEDY}")
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise LensError(f"{path}: more than {_LARGEST_FILE:,} bytes, too many for a camera: {_REMEDY}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LensError(f"{path} is not a text file that can be read: {_REMEDY}") from error
    try:
        _check_parts(text)
        ours = _parsed(text)
        return _from_record(ours) if ours else parsed(text)
    except LensError as error:
        raise LensError(f"{path}: {error}") from error


def _check_parts(text: str) -> None:
    """Raise LensError for a text with more parts than a camera has: parsers descend into them until the stack ends."""
    parts = len(re.findall(r"[\[{<]|[:-](?=[\s-])", text))
    if parts > _MOST_PARTS:
        raise LensError(f"{parts:,} brackets, keys and entries, more than a camera has: {_EXPECTED}")


def _parsed(text: str) -> dict[str, Any] | None:
    """The record of our own file, None for another kind. Raises LensError for broken JSON."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        record = parsed_json(text, "it")
    except ValueError as error:
        raise LensError(f"{error}: {_REMEDY}") from error
    return None if "camera_matrix" in map(str.lower, record) else record


def _from_record(record: dict[str, Any]) -> Intrinsics:
    names = ("fx", "fy", "cx", "cy", "width", "height")
    missing = [name for name in names if name not in record]
    if missing:
        raise LensError(f"no {', '.join(missing)} in it, expected {', '.join(names)}: {_REMEDY}")
    fx, fy, cx, cy, width, height = (number(record[name], name) for name in names)
    camera = Camera(fx, fy, cx, cy, int(width), int(height))
    error_px = record.get("reprojection_error_px")
    return Intrinsics(
        camera,
        _distortion(record.get("distortion") or {}),
        error_px if error_px is None else number(error_px, "reprojection_error_px"),
        str(record.get("date", "")),
    )


def _distortion(by_name: Any) -> tuple[float, ...]:
    """Named coefficients in OpenCV's order, those not named 0."""
    if not isinstance(by_name, dict):
        raise LensError(f"expected distortion as names and numbers, got {by_name!r}")
    unknown = [name for name in by_name if name not in COEFFICIENTS]
    if unknown:
        raise LensError(f"unknown distortion {', '.join(unknown)}; known are {', '.join(COEFFICIENTS)}")
    needed = max((COEFFICIENTS.index(name) + 1 for name in by_name), default=0)
    count = next(count for count in COUNTS if count >= needed)
    return tuple(number(by_name.get(name, 0.0), name) for name in COEFFICIENTS[:count])


# What takes the images: a camera that was measured, or one of which a field of view is told or assumed.


USUAL_FOV_DEG = 60.0
"""Assumed where nothing is known: in the middle of what webcams have."""

HandSize = Literal["unknown", "given", "calibrated"]
"""What is known of the hand's size: nothing, its length, or what was measured through this lens at a known distance."""

_KEPT_MAPS = 4


class Lens:
    """Gives the `Camera` of images of any size, and straightens images that the lens has bent."""

    def __init__(self, fov_deg: float, intrinsics: Intrinsics | None, origin: str) -> None:
        """Use `from_fov` or `from_file`."""
        self._fov_deg, self._intrinsics, self._origin = fov_deg, intrinsics, origin
        self._maps: OrderedDict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = OrderedDict()

    @staticmethod
    def from_fov(fov_deg: float = USUAL_FOV_DEG, told_by: str = "") -> Lens:
        """A lens without distortion whose images' longer side spans `fov_deg` degrees.

        told_by: who says so ('--fov-deg', 'EXIF'); empty where it is assumed. Raises ValueError for an
        impossible angle.
        """
        Camera.from_fov(2, 2, fov_deg)
        return Lens(fov_deg, None, told_by)

    @staticmethod
    def from_file(path: str | Path) -> Lens:
        """The lens in a file (see `read_intrinsics`). Raises LensError, with one line that names the file."""
        return Lens.measured(read_intrinsics(Path(path)), Path(path).name)

    @staticmethod
    def measured(intrinsics: Intrinsics, origin: str = "calibration") -> Lens:
        """The lens that a calibration gave."""
        return Lens(0.0, intrinsics, origin)

    @property
    def known(self) -> bool:
        """Whether the camera is measured or told, not assumed."""
        return bool(self._intrinsics or self._origin)

    def camera_for(self, width: int, height: int) -> Camera:
        """The camera of images of this size, once they are `rectified`.

        Raises LensError for images of another shape than those that the camera was calibrated with.
        """
        if self._intrinsics is None:
            return Camera.from_fov(width, height, self._fov_deg)
        return scaled_camera(self._intrinsics.camera, width, height)

    def rectified(self, image_rgb: np.ndarray) -> np.ndarray:
        """(H, W, 3) as the pinhole camera of `camera_for` would have seen it; the same array where nothing is bent.

        Beyond what the lens saw it is black. Raises LensError as `camera_for` does.
        """
        if self._intrinsics is None or not self._intrinsics.bent:
            return image_rgb
        return cv2.remap(image_rgb, *self._maps_for(image_rgb.shape[1], image_rgb.shape[0]), cv2.INTER_LINEAR)

    def _maps_for(self, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each rectified pixel comes from, in OpenCV's fixed-point form, made once for a size."""
        size = (width, height)
        if size not in self._maps:
            K, bends = self.camera_for(width, height).K, np.array(self._intrinsics.distortion)
            self._maps[size] = cv2.initUndistortRectifyMap(K, bends, None, K, size, cv2.CV_16SC2)
            while len(self._maps) > _KEPT_MAPS:
                self._maps.popitem(last=False)
        return self._maps[size]

    def describe(self, hand_size: HandSize = "unknown") -> str:
        """One line: which camera is used, and what of the result is in true metres."""
        return f"{self._camera_line()}: {_metric_line(self.known, hand_size)}"

    def _camera_line(self) -> str:
        if self._intrinsics is None:
            return f"field of view of {self._fov_deg:.3g} degrees " + (
                f"({self._origin})" if self._origin else "assumed"
            )
        found, camera = self._intrinsics, self._intrinsics.camera
        error = "" if found.error_px is None else f", reprojection error {found.error_px:.2f} px"
        date = f", {found.date}" if found.date else ""
        return (
            f"camera of {self._origin} (focal length {camera.fx:.0f} px at {camera.width}x{camera.height}{error}{date})"
        )


def _metric_line(known: bool, hand_size: HandSize) -> str:
    """What of the result is in true metres.

    A size seen through a focal length that is wrong by a factor gives a distance that is wrong by that
    factor. Measured at a known distance, the size takes up the factor and the distance is free of it.
    """
    if hand_size == "unknown":
        return "sizes and distances are up to scale" + (", that of a usual hand" if known else "")
    if known:
        return "sizes and distances are in metres"
    if hand_size == "given":
        return "sizes are as given, distances are up to scale"
    return "distances are in metres, sizes are up to scale"


def chosen_lens(intrinsics: Path | None, fov_deg: float | None, photo: Path | None = None) -> Lens:
    """The lens that options describe; without any, what a photograph's file says of it, or a usual one.

    Raises LensError for a camera file that cannot be read, ValueError for an impossible field of view or two lenses.
    """
    if intrinsics and fov_deg is not None:
        raise ValueError("--intrinsics says more than --fov-deg: give one of them")
    if intrinsics:
        return Lens.from_file(intrinsics)
    if fov_deg is not None:
        return Lens.from_fov(fov_deg, "--fov-deg")
    exif_deg = fov_deg_of(photo) if photo else None
    return Lens.from_fov() if exif_deg is None else Lens.from_fov(exif_deg, "of the focal length in its EXIF")
