"""A few images in the layouts of COCO-WholeBody and of OneHand10K as MMPose distributes it, with labels that agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from drawn_hands import draw_hands, random_hand

from handmesh.files import write_image
from handmesh.types import Camera, Hand

UNLABELLED = {"right": (8, 12), "left": (4,)}
"""Keypoints that nobody labelled, by the side of the hand."""


def write_coco_wholebody(root: Path, split: str = "train", images: int = 2) -> list[list[Hand]]:
    """Write `images` images of one person's hands; the hands of each, right first.

    In the last one the left hand is not labelled (`lefthand_valid` is false).
    """
    rng = np.random.default_rng(8)
    content: dict[str, Any] = {"info": {"version": "1.0"}, "images": [], "annotations": []}
    truth = []
    for k in range(images):
        camera = Camera.from_fov(320, 240)
        hands = [random_hand(rng, camera, "right", (95.0, 130.0)), random_hand(rng, camera, "left", (225.0, 110.0))]
        hands = hands if k < images - 1 else hands[:1]
        number = 139 + 146 * k
        image, _ = draw_hands(hands, camera, rng)
        write_image(root / f"{split}2017" / f"{number:012d}.jpg", image)
        content["images"].append({"id": number, "file_name": f"{number:012d}.jpg", "width": 320, "height": 240,
                                  "license": 2, "date_captured": "2013-11-21 01:34:01"})  # fmt: skip
        content["annotations"].append(_person(900 + k, number, hands))
        truth.append(hands)
    folder = root / "annotations"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"coco_wholebody_{split}_v1.0.json").write_text(json.dumps(content))
    return truth


def _person(number: int, image: int, hands: list[Hand]) -> dict[str, Any]:
    """All fields of an entry; the body, the feet and the face are not labelled."""
    entry: dict[str, Any] = {
        "id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "area": 9000.0, "num_keypoints": 0,
        "bbox": [40.0, 20.0, 240.0, 200.0], "keypoints": [0] * 51, "segmentation": [[40, 20, 280, 20, 280, 220]],
        "face_box": [0.0] * 4, "face_kpts": [0.0] * 204, "face_valid": False, "foot_kpts": [0.0] * 18,
        "foot_valid": False,
    }  # fmt: skip
    for side in ("left", "right"):
        hand = next((hand for hand in hands if hand.side == side), None)
        numbers = [0.0] * 63 if hand is None else _flat(hand, 1.0, 0.31)
        low, high = (np.zeros(2),) * 2 if hand is None else (hand.joints_px.min(0), hand.joints_px.max(0))
        entry |= {f"{side}hand_valid": hand is not None, f"{side}hand_kpts": numbers,
                  f"{side}hand_box": [*low.tolist(), *(high - low).tolist()]}  # fmt: skip
    return entry


def write_onehand10k(root: Path, images: int = 2) -> list[Hand]:
    """Write `images` training images of one hand each, and test images of as many; the hands of the training images.

    Which side a hand is the set does not say.
    """
    truth = []
    for split, folder, seed in (("train", "Train", 21), ("test", "Test", 22)):
        rng = np.random.default_rng(seed)
        content: dict[str, Any] = {"info": {"description": "OneHand10K"}, "images": [], "annotations": []}
        for k in range(images):
            camera = Camera.from_fov(226, 339)
            hand = random_hand(rng, camera, ("right", "left")[k % 2], (113.0, 170.0))
            file = f"{folder}/source/{k}.jpg"
            image, _ = draw_hands([hand], camera, rng)
            write_image(root / file, image)
            low, high = hand.joints_px.min(0), hand.joints_px.max(0)
            content["images"].append({"file_name": file, "width": 226, "height": 339, "id": k})
            content["annotations"].append({
                "id": k, "image_id": k, "category_id": 1, "iscrowd": 0, "bbox": [*low.tolist(), *(high - low).tolist()],
                "area": float(np.prod(high - low)), "keypoints": _flat(hand, 1, 1), "segmentation": [],
            })  # fmt: skip
            truth += [hand] if split == "train" else []
        annotations = root / "annotations" / f"onehand10k_{split}.json"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        annotations.write_text(json.dumps(content))
    return truth


def _flat(hand: Hand, surest: float, least: float) -> list[float]:
    """x, y and how sure it is of each of the 21 points; three zeros where nobody labelled it."""
    sure = np.linspace(surest, least, 21)
    points = np.column_stack([hand.joints_px, sure])
    points[list(UNLABELLED[hand.side])] = 0
    return points.ravel().tolist()
