"""How the hand is found in a FreiHAND picture before its crop is taken: a figure is nothing without it."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from handmesh.structs import Box

CropProtocol = Literal["gt-keypoints", "centre-130", "detected"]
"""`gt-keypoints`: an upright square around the labelled points. `centre-130`: the 130 pixels in the
picture's middle, known without labels. `detected`: wherever the tracker's own detector finds the hand."""

CENTRE_PX = 130.0


def crop_box(protocol: CropProtocol, joints_px: np.ndarray | None, width: int, height: int, scale: float) -> Box:
    """The upright box that the crop is taken of, under a protocol that needs no detector.

    joints_px: (21, 2) labelled points, for `gt-keypoints`, whose tight square is made `scale` times
    as large. It is not turned with the hand: that would tell the network a part of the pose.
    Raises ValueError for `detected`, for a protocol that does not exist and where labels are missing.

    >>> crop_box("centre-130", None, 224, 224, 1.5)
    Box(centre_px=(111.5, 111.5), size_px=130.0, angle_rad=0.0)
    """
    if protocol == "gt-keypoints":
        if joints_px is None:
            raise ValueError("the crop protocol gt-keypoints needs labelled points; without labels take centre-130")
        return Box.around(joints_px, scale, turn=False)
    if protocol == "centre-130":
        return Box(((width - 1) / 2, (height - 1) / 2), CENTRE_PX)
    if protocol == "detected":
        raise ValueError("the crop protocol detected takes its boxes from the detector, not from here")
    raise ValueError(f"unknown crop protocol {protocol!r}; valid: {', '.join(get_args(CropProtocol))}")
