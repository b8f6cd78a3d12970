"""OneHand10K (Wang et al., Mask-pose cascaded CNN, TCSVT 2019): photographs of one hand, labelled in two dimensions.

The labels are read as MMPose distributes them, COCO-style: 21 points in keypoint order as x, y, v, three zeros where a
point is hidden and so not labelled. Which hand it is nobody says: it teaches where joints are, and no side.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from handmesh.data.sets.coco_wholebody import flat_columns
from handmesh.data.sets.labels_json import read_labels, without
from handmesh.data.sets.table import HandSet, HandTable, SetError, cached_table


def read_onehand10k(root: Path, split: str) -> HandTable:
    """The hands that `annotations/onehand10k_SPLIT.json` lists, in its order."""
    path = root / "annotations" / f"onehand10k_{split}.json"
    if not path.is_file():
        raise SetError(f"{root} lacks {path.relative_to(root)}; {ONEHAND10K.help()}")
    table = partial(HandTable, f"OneHand10K {split}", root, sides=False)
    return cached_table(table, root, f"onehand10k_{split}", [path], partial(_columns, path))


def _columns(path: Path) -> dict[str, np.ndarray]:
    content = read_labels(path, without("segmentation"))
    try:
        hands = [(hand["image_id"], "right", hand["keypoints"], hand["bbox"]) for hand in content["annotations"]]
        return flat_columns(hands, {image["id"]: image for image in content["images"]}, "")
    except (KeyError, TypeError, ValueError) as error:
        raise SetError(f"{path} is not OneHand10K's ({error}): unpack it again") from None


ONEHAND10K = HandSet(
    title="OneHand10K",
    page="https://www.yangangwang.com/papers/WANG-MCC-2018-10.html",
    licence="for research, on the terms of its page; labels: MMPose's onehand10k_annotations.tar",
    labels="21 joints in 2D, hidden ones left out; no side",
    splits=("train", "test"),
    layout="annotations/onehand10k_{train,test}.json, Train/source and Test/source",
    read=read_onehand10k,
)
