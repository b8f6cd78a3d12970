"""Writes src/common/constants.ts, so that no number stands in Python and in TypeScript by hand.

    python demo/web/write_constants.py

Add a name to `SOURCES` to have it in TypeScript. A test fails while the file is not what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "src" / "common" / "constants.ts"

SOURCES = {
    "handmesh.skeleton": "KEYPOINTS MANO_JOINTS KEYPOINT_OF_MANO PARENTS BONES WRIST ROOT BACK_OF_HAND THUMBNAIL",
    "handmesh.types": "_KNUCKLES",
    "handmesh.geometry": (
        "LEAST_RAY_SPREAD=_LEAST_SPREAD _LEAST_VARIANCE SUREST _RELIABILITY NEAREST_M FARTHEST_M DISTANCE_BAND"
    ),
    "handmesh.detection": "STRIDE THRESHOLD _SAME_HAND _LARGEST_LOG_SIZE",
    "handmesh.crop": "PADDING",
    "handmesh.gestures": (
        "PINCH_BEGINS PINCH_ENDS PINCH_MOST_DEG CONTACT_EVEN CONTACT_LENGTH CONTACT_HELD THUMB_LAST=_THUMB "
        "FINGER_CHAINS=_CHAINS"
    ),
    "handmesh.tracking.estimator": (
        "BARE_CONFIDENCE=_BARE SMALLEST_M LARGEST_OUTPUTS=_LARGEST _LEAST_AHEAD SURE_HANDEDNESS SURE_SIDE "
        "DETECTOR_SIDE_WEIGHT EXPECTED_ERROR_WEIGHT DOUBTED_LEAD TURNED_RAD OPPOSITE_SIDES COMPANION COMPANION_SIZES "
        "HOPELESS STAGES"
    ),
    "handmesh.tracking.alignment": (
        "ALIGN FINGER_RAD WRIST_RAD LEAST_UNCERTAINTY TOUCHING_M TOUCH_M LEAST_CONTACT MOST_DEVIATIONS=_MOST "
        "_POSITION_M"
    ),
    "handmesh.tracking.association": (
        "TRACKER_CONFIG=TrackerConfig LONGEST_GAP_S SHORTEST_GAP_S LONGEST_STEP_M SAME_POSITION_OVERLAP MOST_COVERED"
    ),
    "handmesh.tracking.smoothing": "PRESETS SHAPE_AVERAGE_S D_CUTOFF_HZ",
    "handmesh.tracking.backends": "FORMAT METADATA_KEY",
    "handmesh.assets": "MODELS=bundled_models DEFAULT_MODEL=DEFAULT",
    "handmesh.render.overlay": "SIDE_COLOURS OPACITY=Style.opacity _TRANSLUCENT",
    "handmesh.render.rasterizer": "KEY_LIGHT=KEY _LIGHT_WITHIN",
    "handmesh.streaming.protocol": (
        "STREAM_VERSION=VERSION STREAM_MAGIC=MAGIC HEADER_BYTES=_HEADER.size HAND_BYTES=_HAND.size "
        "JOINT_FLOATS=_JOINT_FLOATS SIDES=_SIDES"
    ),
    "handmesh.xr.joints": "WEBXR_JOINTS METACARPALS=_METACARPALS LITTLE_TWIST_DEG",
    "handmesh.xr.poses": (
        "SMALLEST_RADIUS_M=SMALLEST_M LARGEST_RADIUS_M=LARGEST_M _NEAREST_FRACTION _TIP_INSIDE "
        "DEFAULT_RADII_M=DEFAULT_M"
    ),
}
"""The names that TypeScript needs, by module: as they are without a leading underscore, or `OTHER_NAME=name`."""

WIDTH = 120


def constants() -> str:
    """The text of the file."""
    lines = ["// Written by demo/web/write_constants.py: change the numbers in Python, and write them anew."]
    for module, names in SOURCES.items():
        lines += ["", f"// {module}", *_lines(module, names)]
    return "\n".join(lines) + "\n"


def _lines(module: str, names: str) -> Iterator[str]:
    for entry in names.split():
        name, _, attribute = entry.rpartition("=")
        plain = _plain(attrgetter(attribute)(import_module(module)))
        head = f"export const {name or attribute.removeprefix('_')} = "
        tail = " as const;" if isinstance(plain, (dict, list)) else ";"
        yield head + _literal(plain, len(head + tail)) + tail


def _plain(value: object) -> object:
    """Numbers, strings, lists and dictionaries; a class of settings is its defaults, its fields in camel case."""
    value = value() if callable(value) else value
    if is_dataclass(value):
        return {_camel_case(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list, bytes, np.ndarray)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return float(str(value))
    return value


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def _literal(value: object, taken: int = 0, indent: str = "") -> str:
    """A value in TypeScript; on one line where `taken` columns leave room for it."""
    if isinstance(value, dict):
        line = f"{{ {', '.join(f'{key}: {_literal(entry)}' for key, entry in value.items())} }}"
    elif isinstance(value, list):
        line = f"[{', '.join(map(_literal, value))}]"
    else:
        return _scalar(value)
    if taken + len(line) <= WIDTH:
        return line
    inner = indent + "  "
    if isinstance(value, list):
        return "\n".join(["[", *_filled([_literal(entry) for entry in value], inner), f"{indent}]"])
    entries = [f"{inner}{key}: {_literal(entry, len(inner) + len(key) + 3, inner)}," for key, entry in value.items()]
    return "\n".join(["{", *entries, f"{indent}}}"])


def _filled(parts: list[str], indent: str) -> list[str]:
    """Lines of as many parts as there is room for."""
    lines = [indent + parts[0] + ","]
    for part in parts[1:]:
        if len(lines[-1]) + len(part) + 2 <= WIDTH:
            lines[-1] += f" {part},"
        else:
            lines.append(f"{indent}{part},")
    return lines


def _scalar(value: object) -> str:
    if isinstance(value, str):
        return f"'{value}'"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if value == float("inf"):
        return "Infinity"
    return repr(int(value) if value == int(value) else value)


if __name__ == "__main__":
    FILE.write_text(constants())
