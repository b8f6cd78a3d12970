"""A few samples in the layout of the Rendered Handpose Dataset (RHD_published_v2), with labels that agree."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
from drawn_hands import draw_hands, inside, random_hand

from handmesh.files import write_image
from handmesh.types import Camera, Hand

KEYPOINT_OF = [0, 4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17]
"""The keypoint that each of a hand's 21 points is, in the set's order; the left hand's come first."""
SIDE_PX = 320


def write_rhd(root: Path, samples: int = 3, split: str = "training") -> list[list[Hand]]:
    """Write `samples` images of a person's two hands; the hands of each, left first.

    In the last image the right hand lies wholly beside the image, as is usual in the set.
    """
    rng = np.random.default_rng(3)
    folder, annotations, truth = root / split, {}, []
    (folder / "mask").mkdir(parents=True)
    for k in range(samples):
        camera = Camera(*[float(rng.uniform(260, 310))] * 2, SIDE_PX / 2, SIDE_PX / 2, SIDE_PX, SIDE_PX)
        right_x = 210.0 if k < samples - 1 else 700.0
        hands = [random_hand(rng, camera, "left", (90.0, 150.0), 0.55), random_hand(rng, camera, "right",
                 (right_x, 190.0), 0.5)]  # fmt: skip
        image, owner = draw_hands(hands, camera, rng)
        write_image(folder / "color" / f"{k:05d}.png", image)
        mask = np.select([owner == 0, owner == 1], [2 + k, 18 + k], 1)  # parts of the left hand, of the right; a person
        cv2.imwrite(str(folder / "mask" / f"{k:05d}.png"), mask.astype(np.uint8))
        annotations[k] = _annotation(hands, camera)
        truth.append(hands)
    with (folder / f"anno_{split}.pickle").open("wb") as file:
        pickle.dump(annotations, file, protocol=2)
    return truth


def _annotation(hands: list[Hand], camera: Camera) -> dict[str, np.ndarray]:
    pixels = np.concatenate([hand.joints_px[KEYPOINT_OF] for hand in hands])
    visible = inside(pixels, camera).astype(float)
    return {
        "K": np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float32),
        "uv_vis": np.column_stack([pixels, visible]),
        "xyz": np.concatenate([hand.joints_m[KEYPOINT_OF] for hand in hands]).astype(np.float32),
    }
