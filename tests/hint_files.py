"""A few images in HInt's layout (HInt_annotation_partial), with labels that agree: for tests of what reads the set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from drawn_hands import draw_hands, inside, random_hand

from handmesh.files import write_image
from handmesh.types import Camera, Hand

FOLDERS = ("TEST_newdays_img", "TEST_epick_img", "TEST_ego4d_img")


def write_hint(root: Path, images: int = 2) -> dict[str, Hand]:
    """Write `images` labelled hands, right and left in turn, to each folder; the hands by the path of their files.

    Of Ego4D there are labels alone, as in the archive that is given out: its images need a licence of their own.
    """
    rng = np.random.default_rng(17)
    truth = {}
    for folder in FOLDERS:
        for k in range(images):
            camera, side = Camera.from_fov(320, 240), ("right", "left")[k % 2]
            hand = random_hand(rng, camera, side, (160.0, 120.0 if k % 2 else 222.0), 0.5)
            stem = f"{folder}/P01_01_frame_{k:010d}_{side[0]}"
            image, _ = draw_hands([hand], camera, rng)
            if folder != "TEST_ego4d_img":
                write_image(root / f"{stem}.jpg", image)
            exists = inside(hand.joints_px, camera)
            low, high = hand.joints_px[exists].min(0), hand.joints_px[exists].max(0)
            pad = 0.12 * (high - low)  # the set's boxes are wider than its keypoints
            label = {
                "bbox": [[*(low - pad).tolist(), *(high + pad).tolist()]],
                "keypoints": np.where(exists[:, None], hand.joints_px, 0).tolist(),
                "existence": exists.astype(int).tolist(),
                "occlusion": (rng.random(21) < 0.4).astype(int).tolist(),
            }
            path = root / f"{stem}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps([label]))
            truth[stem] = hand
    return truth
