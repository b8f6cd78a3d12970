"""Results on FreiHAND's evaluation set as their authors published them, to stand beside ours."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """One row: aligned errors in millimetres and aligned F-scores; None where none was given."""

    method: str
    joints_mm: float
    vertices_mm: float
    f_5: float | None = None
    f_15: float | None = None
    crop: str = ""  # '' where it is not said
    note: str = ""


TABLE = (
    Published("FastMETRO-L", 6.5, 7.1),
    Published("MobRecon DenseStack", 6.9, 7.2),
    Published("METRO", 6.6, 6.7),
    Published("FastViT-MA36, simple MANO regression", 6.6, 6.7, note="84 FPS on a 2080 Ti"),
    Published("ReJSHand", 6.3, 6.4),
    Published("HaMeR", 6.0, 5.7, 0.785, 0.990, note="trained on 2.7 million pictures"),
    Published("simpleHand, FastViT-MA36", 5.7, 6.0, 0.772, 0.986, "gt-keypoints", "6.5 / 6.6 in others' reruns"),
    Published("WiLoR", 5.5, 5.1, 0.825, 0.993),
)
"""None of these uses test-time augmentation, as far as their authors say."""
