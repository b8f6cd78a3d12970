"""What a photograph's file says of the camera that took it."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import ExifTags, Image

FILM_DIAGONAL_MM = math.hypot(36, 24)


def fov_deg_of(path: Path) -> float | None:
    """The angle that the longer side of a photograph spans; None where its file does not tell, or it was cropped.

    EXIF's `FocalLengthIn35mmFilm` is the focal length with which film of 36x24 mm would have had the same angle
    along the diagonal (CIPA's guideline DCG-001), hence focal length in pixels = its millimetres * diagonal in
    pixels / 43.27 mm. It is written in whole millimetres: 2 % of a usual one.
    """
    try:
        with Image.open(path) as picture:
            tags = picture.getexif().get_ifd(ExifTags.IFD.Exif)
            width, height = picture.size
    except Exception:  # whoever reads the picture itself says what is wrong with the file
        return None
    focal_mm = _positive(tags.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if focal_mm is None or _is_cropped(tags, width, height):
        return None
    focal_px = focal_mm * math.hypot(width, height) / FILM_DIAGONAL_MM
    return 2 * math.degrees(math.atan(max(width, height) / 2 / focal_px))


def _is_cropped(tags: dict, width: int, height: int) -> bool:
    """Whether the picture had another shape when it was taken."""
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
