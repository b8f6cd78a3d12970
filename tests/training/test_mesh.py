"""Training crops that lie where an exported network sees the hand."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lightning_fabric", reason="training needs the training extra")

from handmesh import HandTracker
from handmesh.assets import DEMO_CLIP, model_path
from handmesh.training.config import MeshConfig
from handmesh.training.mesh import Looker, MeshTask
from handmesh.types import Box
from handmesh.video.sources import Video


@pytest.mark.parametrize("mirror", [False, True])
def test_a_look_sees_the_joints_in_pixels_of_the_image_in_any_process(mirror):
    image = next(iter(Video(DEMO_CLIP))).image_rgb
    image = np.ascontiguousarray(image[:, ::-1]) if mirror else image
    with HandTracker.load("fast") as tracker:
        hand = tracker.detect(image)[0]
    box, look = Box.around(hand.joints_px).scaled(1.4), Looker(model_path("fast"))
    seen_px = look(image, box, hand.side == "left")
    assert np.linalg.norm(seen_px - hand.joints_px, axis=1).mean() < 0.03 * box.size_px
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(look))(image, box, hand.side == "left"), seen_px)


def test_looked_crops_and_who_looks_belong_together():
    for config in (MeshConfig(looker=model_path("fast")), _looked()):
        with pytest.raises(ValueError, match="belong together"):
            MeshTask(config)


def _looked() -> MeshConfig:
    config = MeshConfig()
    return replace(config, data=replace(config.data, augment=replace(config.data.augment, looked=0.5)))
