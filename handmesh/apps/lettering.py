"""Text and small drawings on dark panels that stay legible over any picture."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

WHITE: Colour = (255, 255, 255)
GREY: Colour = (190, 195, 200)
_GROUND: Colour = (14, 16, 20)
_OPACITY = 190  # dark enough for white letters over a white picture


@lru_cache(maxsize=8)
def font(size_px: int) -> ImageFont.FreeTypeFont:
    """The letters that come with Pillow."""
    return ImageFont.load_default(size_px)


def text_width(text: str, size_px: int) -> int:
    """Pixels that a line takes."""
    return round(font(size_px).getlength(text))


def wrapped(text: str, size_px: int, width_px: int) -> list[str]:
    """`text` in lines no wider than `width_px`, broken between words; a word that is wider stays whole."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size_px) <= width_px:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Panel:
    """A dark, rounded rectangle to write on, and then to lay over pictures as often as wanted."""

    def __init__(self, width: int, height: int, opacity: int = _OPACITY) -> None:
        """opacity: of the ground, 0..255."""
        self._image = Image.new("RGBA", (width, height), (*_GROUND, 0))
        self._pen = ImageDraw.Draw(self._image)
        self._pen.rounded_rectangle((0, 0, width - 1, height - 1), 6, fill=(*_GROUND, opacity))
        self._layers: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self._image.size

    def text(self, x: float, y: float, text: str, size_px: int, colour: Colour = WHITE, anchor: str = "la") -> None:
        """Write a line. anchor: Pillow's; 'la' has (x, y) at the left of the letters' top, 'ra' at the right."""
        self._pen.text((x, y), text, fill=(*colour, 255), font=font(size_px), anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fill a rectangle, of whole pixels; nothing where it covers none."""
        left, top, right, bottom = round(x), round(y), round(x + width), round(y + height)
        if right > left and bottom > top:
            self._pen.rectangle((left, top, right - 1, bottom - 1), fill=(*colour, 255))

    def onto(self, picture: np.ndarray, x: int, y: int) -> None:
        """Lay the panel over (H, W, 3) uint8 `picture`, in place, from (x, y) on; what is outside is cut."""
        if self._layers is None:
            rgba = np.array(self._image)
            alpha = rgba[..., 3].astype(np.float32) / 255
            self._layers = np.ascontiguousarray(rgba[..., :3]), alpha
        colours, alpha = self._layers
        left, top = max(0, -x), max(0, -y)
        place = picture[y + top : max(0, y + colours.shape[0]), x + left : max(0, x + colours.shape[1])]
        if not place.size:
            return
        inside = slice(top, top + place.shape[0]), slice(left, left + place.shape[1])
        place[:] = cv2.blendLinear(colours[inside], np.ascontiguousarray(place), alpha[inside], 1 - alpha[inside])
