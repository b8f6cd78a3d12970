"""The values that cross packages: a side, a box in an image, a camera, a hand, a frame of a source. NumPy only."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from handmesh import skeleton

if TYPE_CHECKING:
    import trimesh

    from handmesh import xr

# The values that cross modules: a box in an image, a camera, a hand. NumPy only.


Side = Literal["left", "right"]
OTHER_SIDE: dict[Side, Side] = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Box:
    """A square in an image that may be turned.

    `centre_px` is measured from the centre of the top-left pixel. `angle_rad` turns the square
    clockwise as seen in the image: at 0 its top side is up; the wrist of a hand that the box
    was put around lies towards its bottom side.
    """

    centre_px: tuple[float, float]
    size_px: float
    angle_rad: float = 0.0

    def scaled(self, factor: float) -> Box:
        """The same box with its side multiplied by `factor`."""
        return replace(self, size_px=self.size_px * factor)

    def corners_px(self) -> np.ndarray:
        """(4, 2) corners: top left, top right, bottom right, bottom left of the turned square."""
        c, s = math.cos(self.angle_rad), math.sin(self.angle_rad)
        unit = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
        return np.asarray(self.centre_px) + self.size_px * unit @ np.array([[c, s], [-s, c]])

    @staticmethod
    def around(joints_px: np.ndarray, scale: float = 1.0, rotation: bool = True) -> Box:
        """The box around (21, 2) labelled points, `scale` times as large as the tight one.

        With `rotation`, the direction from the wrist to the middle of the index, middle and ring
        knuckles points to the box's top; without, the box stands upright.
        """
        joints_px = np.asarray(joints_px, dtype=np.float64)
        angle = upright_angle_rad(joints_px) if rotation else 0.0
        c, s = math.cos(angle), math.sin(angle)
        to_image = np.array([[c, s], [-s, c]])
        rotated = joints_px @ to_image.T
        low, high = rotated.min(0), rotated.max(0)
        centre = (low + high) / 2 @ to_image
        return Box((float(centre[0]), float(centre[1])), float((high - low).max()) * scale, angle)


_KNUCKLES = [skeleton.KEYPOINTS.index(f"{finger}1") for finger in ("index", "middle", "ring")]


def upright_angle_rad(joints_px: np.ndarray) -> float:
    """The rotation, clockwise, from up in the image to the direction from wrist to knuckles of (21, 2) points."""
    x, y = np.asarray(joints_px)[_KNUCKLES].mean(0) - np.asarray(joints_px)[skeleton.WRIST]
    return math.atan2(x, -y)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera without distortion, in pixels; (0, 0) is the centre of the top-left pixel."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        """Raises ValueError where these are no numbers; whether they are a camera's, `checked_camera` says."""
        for name in ("fx", "fy", "cx", "cy"):
            checked_number(f"a camera's {name}", getattr(self, name))
        for name in ("width", "height"):
            checked_count(f"a camera's {name}", getattr(self, name), least=0)

    @staticmethod
    def from_fov(width: int, height: int, fov_deg: float = 60.0) -> Camera:
        """A camera whose longer image side spans `fov_deg` degrees."""
        width, height = (checked_count("an image's side", side, least=0) for side in (width, height))
        if not 1.0 < checked_number("the field of view", fov_deg) < 179.0:
            raise ValueError(f"the field of view must lie between 1 and 179 degrees, got {fov_deg}")
        focal = 0.5 * max(width, height) / math.tan(math.radians(fov_deg) / 2)
        return Camera(focal, focal, (width - 1) / 2, (height - 1) / 2, width, height)

    @staticmethod
    def from_matrix(K: np.ndarray, width: int, height: int) -> Camera:
        """The camera of a (3, 3) intrinsic matrix, as OpenCV calibrates it, for images of `width` x `height` pixels.

        Raises ValueError where it is none of a pinhole camera: another shape, no numbers, skew, focal lengths not
        above 0.
        """
        try:
            matrix = np.asarray(K, np.float64)
        except (TypeError, ValueError):
            matrix = np.empty(0)
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            got = " ".join(repr(K).split())[:60]
            raise ValueError(f"expected a (3, 3) intrinsic matrix of numbers, got {matrix.shape}: {got}")
        fx, fy, cx, cy = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        if not (min(fx, fy) > 0 and np.allclose(matrix, [[fx, 0, cx], [0, fy, cy], [0, 0, 1]])):
            raise ValueError(f"a camera's matrix is [[fx, 0, cx], [0, fy, cy], [0, 0, 1]], got {matrix.tolist()}")
        return Camera(fx, fy, cx, cy, width, height)

    @property
    def K(self) -> np.ndarray:
        """(3, 3) intrinsic matrix."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])


MIN_SCORE = 0.6
"""The least score of a hand that is newly found, unless another is asked for."""


@dataclass(frozen=True, eq=False)
class Hand:
    """One reconstructed hand.

    Metric fields are in the camera's frame: x right, y down, z forward, in metres. Without a
    known camera or hand size they are up to a common scale.
    """

    vertices_m: np.ndarray  # (V, 3) float32
    joints_m: np.ndarray  # (21, 3) float32, keypoint order
    joints_px: np.ndarray  # (21, 2) float32, pixels of the frame given
    side: Side  # the subject's own hand in an unmirrored image
    score: float  # 0..1, that this is a hand
    pose: np.ndarray  # (16, 3, 3) float32, relative to the parent joint; the first to the camera
    shape: np.ndarray  # (10,) float32
    faces: np.ndarray = field(repr=False)  # (F, 3) int32, outward for this side
    id: int = 0  # stable while the hand is followed
    joints_uncertainty_px: np.ndarray | None = None  # (21,) the mean error to expect of a joint's x and of its y
    joints_uncertainty_m: np.ndarray | None = None  # (21,) the same of x, y and z about the root joint; None: not told
    contact: np.ndarray | None = None  # (4,) float32 0..1, that the thumb touches the index, middle, ring, little
    # finger; of the frame that it was last seen in, not smoothed; None: not told
    visible_s: float = 0.0  # for how long it has been followed
    predicted: bool = False  # not seen in this frame, but carried on from those before

    @property
    def size_m(self) -> float:
        """From the wrist along the bones of the middle finger to its tip: the hand's length, however it is bent."""
        return hand_length_m(self.joints_m)

    def __repr__(self) -> str:
        carried = ", predicted" if self.predicted else ""
        away = f"{float(self.joints_m[:, 2].mean()):.2f} m away"
        return f"Hand({self.side}, id={self.id}, score={self.score:.2f}, {away}{carried})"

    def scaled(self, factor: float) -> Hand:
        """The hand `factor` times as large and as far away, which looks the same in the image."""
        spread_m = (
            self.joints_uncertainty_m
            if self.joints_uncertainty_m is None
            else self.joints_uncertainty_m * np.float32(factor)
        )
        return replace(
            self,
            vertices_m=self.vertices_m * np.float32(factor),
            joints_m=self.joints_m * np.float32(factor),
            joints_uncertainty_m=spread_m,
        )

    def to_dict(self, mesh: bool = False) -> dict[str, object]:
        """All of the hand but its mesh as plain numbers, strings and lists; the fields of docs/exports.md.

        mesh: with `vertices_m`, (V, 3), and `faces`, (F, 3), too.
        """
        fields = hand_record(vars(self))
        if mesh:
            fields |= {"vertices_m": _rounded(self.vertices_m, 6), "faces": self.faces.tolist()}
        return fields

    def to_json(self, mesh: bool = False) -> str:
        """`to_dict` as JSON, in one line."""
        return json.dumps(self.to_dict(mesh), allow_nan=False)

    def save(self, path: str | Path) -> None:
        """Write the mesh as a 3D file: .glb, .obj, .ply, .stl, or .usdz, which needs `pip install 'handmesh[usd]'`.

        Metres, y up, as seen from the camera, which is at the origin and looks along -z. Raises ValueError, with
        one clear line, for another suffix and for a path that cannot be written.
        """
        from handmesh.xr import mesh_files

        mesh_files.write_meshes(path, [self])

    def to_trimesh(self, frame: Literal["view", "camera"] = "view") -> trimesh.Trimesh:
        """A `trimesh.Trimesh` with normals and a skin's material.

        frame: 'view', that of `save` and `to_webxr`, y up; or 'camera', that of `vertices_m`, y down.
        """
        from handmesh.xr import mesh_files

        return mesh_files.to_trimesh(self, frame)

    def to_webxr(self) -> xr.XRHand:
        """The 25 joints of WebXR Hand Input: position, orientation, radius, in an OpenXR view's frame (y up)."""
        from handmesh import xr

        return xr.to_webxr(self)

    def to_openxr(self, previous: xr.XRHand | None = None, elapsed_s: float | None = None) -> xr.XRHand:
        """The 26 joints of OpenXR; with what this gave for the hand `elapsed_s` seconds before, velocities too."""
        from handmesh import xr

        return xr.to_openxr(self, previous, elapsed_s)

    def to_mediapipe(self, width: int, height: int) -> xr.MediaPipeHand:
        """The 21 landmarks of MediaPipe, for an image of `width` x `height` pixels."""
        from handmesh import xr

        return xr.to_mediapipe(self, width, height)


_DECIMALS = {
    **{"joints_m": 6, "joints_px": 2, "shape": 5, "joints_uncertainty_m": 6, "joints_uncertainty_px": 2},
    "contact": 4,
}


def hand_record(values: Mapping[str, Any]) -> dict[str, object]:
    """A hand as JSON can hold it, rotations as quaternions. values: the fields of `Hand` by their names."""
    from scipy.spatial.transform import Rotation

    scalars = {
        **{"id": int(values["id"]), "side": str(values["side"]), "score": round(float(values["score"]), 4)},
        **{"visible_s": round(float(values["visible_s"]), 4), "predicted": bool(values["predicted"])},
    }
    arrays = {name: _rounded(values[name], decimals) for name, decimals in _DECIMALS.items()}
    rotations = Rotation.from_matrix(values["pose"].astype(np.float64)).as_quat(canonical=True)
    return {**scalars, "pose_xyzw": _rounded(rotations, 6), **arrays}


def _rounded(values: np.ndarray | None, decimals: int) -> list | None:
    """The values as a list; None where they are unknown."""
    if values is None or np.isnan(values).any():
        return None
    return values.astype(np.float64).round(decimals).tolist()


def hand_length_m(joints_m: np.ndarray) -> float:
    """The length of the bones from the wrist to the tip of the middle finger; joints_m: (21, 3), any frame."""
    steps = np.diff(joints_m[list(skeleton.MIDDLE_CHAIN)], axis=0)
    return float(np.linalg.norm(steps, axis=1).sum())


# What all sources give and have in common.


class SourceError(ValueError):
    """A source that cannot be opened or gives no frames; the message is one line that names it."""


SKIPPED = "skipped: "
"""How the warning begins that stands for an image of a source."""


class Frame(NamedTuple):
    """One image of a source."""

    name: str  # the file's path below the source, or the frame's number
    time_s: float
    image_rgb: np.ndarray  # (H, W, 3) uint8
    shrink: int = 1  # pixels of the file, along each side, to one of `image_rgb`
    captured_s: float | None = None  # `time.perf_counter()` when it came in; None where it comes from a file


class TrackedFrame(NamedTuple):
    """A frame and what the tracker found in it."""

    frame: Frame  # its image straightened, as `camera` takes it
    hands: Sequence[Hand]
    camera: Camera


@runtime_checkable
class Source(Protocol):
    """What all sources have in common. Iterating over one gives its frames, once."""

    title: str
    live: bool  # frames come when they come, and those not taken in time are gone
    stills: bool  # frames have nothing to do with one another
    length: int | None  # how many frames there should be, where that is known
    fps: float
    warnings: list[str]  # a line for each thing that was skipped or went wrong on the way
    files: Mapping[str, Path]  # what is read, by the names of its frames; nothing may be written over it

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Give the camera or file back."""


# What users hand to the tracker, checked at the edge: numbers, images, cameras, times.


LARGEST_COUNT = 1_000_000


def checked_number(name: str, value: float) -> float:
    """`value` as a float if it is a real number that fits one, NaN and infinity included; ValueError otherwise."""
    try:
        if isinstance(value, numbers.Real):
            return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be a number, got one too large to reckon with") from None
    raise ValueError(f"{name} must be a number, got {value!r:.60}")


def checked_count(name: str, value: int, least: int = 1) -> int:
    """`value` if it is a whole number from `least` to `LARGEST_COUNT`; ValueError otherwise."""
    if not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, got {value!r:.60}")
    if not least <= value <= LARGEST_COUNT:
        got = value if abs(value) < 10**18 else "one too large to reckon with"
        raise ValueError(f"{name} must be at least {least} and at most {LARGEST_COUNT:,}, got {got}")
    return int(value)


SMALLEST_PX, LARGEST_PX = 16, 32766
"""Sides of an image that can be tracked; OpenCV warps nothing larger."""


def checked_frame(image: np.ndarray) -> np.ndarray:
    """`image` if it is (H, W, 3) uint8 of a size that can be tracked; ValueError otherwise."""
    if not isinstance(image, np.ndarray):
        raise ValueError(f"expected an image as a NumPy array (H, W, 3) uint8 RGB, got {type(image).__name__}")
    remedy = _remedy(image)
    if remedy:
        raise ValueError(f"expected an image (H, W, 3) uint8 RGB, got {image.shape} {image.dtype}: {remedy}")
    return np.ascontiguousarray(image)


def _remedy(image: np.ndarray) -> str:
    """What to do about an image that is not (H, W, 3) uint8 of a usable size; empty where it is."""
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return "repeat the grey channel three times"
    if image.ndim == 3 and image.shape[2] == 4:
        return "drop the alpha channel"
    if image.ndim != 3 or image.shape[2] != 3:
        return "give one image, colour last"
    if image.dtype != np.uint8:
        return "scale it to 0..255 and convert it to uint8"
    if not SMALLEST_PX <= min(image.shape[:2]) <= max(image.shape[:2]) <= LARGEST_PX:
        return f"its sides must be {SMALLEST_PX} to {LARGEST_PX} pixels"
    return ""


LONGEST_FOCAL, FARTHEST_CENTRE = 1000.0, 100.0
"""What cameras can have, in longer image sides: a telescope's focal length, the principal point of a far detail."""


def checked_camera(camera: Camera | None, image: np.ndarray) -> Camera:
    """`camera` if it is one for (H, W, 3) images of this size, a usual one if it is None; ValueError otherwise."""
    height, width = image.shape[:2]
    if camera is None:
        return Camera.from_fov(width, height)
    if not isinstance(camera, Camera):
        raise ValueError(f"expected a handmesh.Camera, got {type(camera).__name__}")
    if (camera.width, camera.height) != (width, height):
        raise ValueError(f"the camera is for {camera.width}x{camera.height} images, this one is {width}x{height}")
    side = max(width, height)
    focal_fits = all(side / LONGEST_FOCAL <= focal <= side * LONGEST_FOCAL for focal in (camera.fx, camera.fy))
    if not focal_fits or not max(abs(camera.cx), abs(camera.cy)) <= side * FARTHEST_CENTRE:  # false for NaN too
        raise ValueError(f"no camera has such focal lengths or such a centre, in pixels: {camera}")
    return camera


def checked_time(time_s: float) -> float:
    """`time_s` if it is a finite number; ValueError otherwise."""
    seconds = checked_number("time_s", time_s)
    if not math.isfinite(seconds):
        raise ValueError(f"time_s must be finite seconds, got {time_s!r}")
    return seconds
