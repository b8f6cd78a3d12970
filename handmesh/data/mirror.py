"""The mirror image of a labelled picture: the flip of augmentation.

The network knows right hands only, and `crop` mirrors a left one. A flipped right hand is thus
labelled as the left hand that it has become, seen by the mirrored camera, and not as a right hand
with mirrored labels; its training crop is the original's.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from handmesh import crop
from handmesh.data.training_crops import Labelled
from handmesh.structs import Box


def mirrored(item: Labelled) -> Labelled:
    """The item as a mirror shows it: picture, mask, camera and labels flipped, the hand the other side's."""
    last = item.image.shape[1] - 1  # the column that column 0 becomes
    (x, y), camera = item.box.centre_px, item.camera
    return Labelled(
        image=np.ascontiguousarray(item.image[:, ::-1]),
        box=Box((last - x, y), item.box.size_px, -item.box.angle_rad),
        joints_px=None if item.joints_px is None else item.joints_px * (-1, 1) + (last, 0),
        side="left" if item.side == "right" else "right",
        joints_m=None if item.joints_m is None else crop.mirror_points_m(item.joints_m),
        rotations=None if item.rotations is None else crop.mirror_rotations(item.rotations),
        shape=item.shape,
        camera=None if camera is None else replace(camera, cx=last - camera.cx),
        vertices_m=None if item.vertices_m is None else crop.mirror_points_m(item.vertices_m),
        mask=None if item.mask is None else np.ascontiguousarray(item.mask[:, ::-1]),
        rough=item.rough,
    )
