"""Draw docs/demo.webp: the bundled clip with the meshes that the bundled networks find in it, over it and alone.

python scripts/draw_film.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro
from PIL import Image

import handmesh
from handmesh.assets import DEFAULT, DEMO_CLIP
from handmesh.files import atomic_write
from handmesh.render.overlay import Style, overlay
from handmesh.types import Camera
from handmesh.video.sources import Video

THROUGH, SOLID = Style(opacity=0.55), Style(opacity=1.0)
GROUND_RGB = (24, 26, 32)


@dataclass(frozen=True)
class Options:
    """The clip with its meshes, as an animated WebP."""

    output: Path = Path("docs/demo.webp")
    source: Path = DEMO_CLIP
    model: str = DEFAULT
    step: int = 3
    """Every which frame is shown; all are tracked."""
    width: int = 400
    """Pixels of each of the two views."""
    quality: int = 62


def main(options: Options) -> None:
    """Track, draw and write."""
    clip, images = Video(options.source), []
    with handmesh.HandTracker.load(options.model) as tracker:
        for k, frame in enumerate(clip):
            hands = tracker.track(frame.image_rgb, frame.time_s)
            if k % options.step == 0:
                images.append(Image.fromarray(views(frame.image_rgb, hands, options.width)))
    with atomic_write(options.output) as part:
        images[0].save(
            *(part, "WEBP"),
            save_all=True,
            append_images=images[1:],
            duration=round(1000 * options.step / clip.fps),
            quality=options.quality,
            loop=0,
        )
    print(f"wrote {options.output} ({options.output.stat().st_size / 1e6:.2f} MB, {len(images)} images)")


def views(image: np.ndarray, hands: Sequence[handmesh.Hand], width: int) -> np.ndarray:
    """(H, 2 * width, 3): the image with the meshes shining through, and the meshes alone."""
    camera = Camera.from_fov(image.shape[1], image.shape[0], 60)  # what the tracker assumed
    both = [overlay(image, hands, camera, THROUGH), overlay(np.full_like(image, GROUND_RGB), hands, camera, SOLID)]
    height = round(width * image.shape[0] / image.shape[1])
    return np.concatenate([cv2.resize(view, (width, height), interpolation=cv2.INTER_AREA) for view in both], axis=1)


if __name__ == "__main__":
    main(tyro.cli(Options))
