"""Results that others published, each with its source, to stand beside measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from handmesh.evaluation.report import UNKNOWN, Table


class Published(NamedTuple):
    """A result on a benchmark: aligned errors in millimetres and aligned F-scores; None: not given."""

    method: str
    joints_mm: float
    vertices_mm: float | None
    f_5: float | None = None
    f_15: float | None = None
    crop: str = ""  # '' where it is not said
    note: str = ""
    augmentation: str = "none"  # at test time
    source: str = ""  # '' for what was measured here
    read: bool = True  # whether the numbers were compared with the source itself when they were written down here


FREIHAND = (
    Published("MobRecon DenseStack", 6.9, None, crop="centre-130", source="github.com/SeanChenxy/HandMesh"),
    Published(
        "METRO, the released model", 6.6, 6.7, 0.721, 0.981,
        source="github.com/microsoft/MeshTransformer, docs/EXP.md",
    ),
    Published(
        "METRO, the released model", 6.2, 6.3, 0.743, 0.984, augmentation="scales and turns",
        source="github.com/microsoft/MeshTransformer, docs/EXP.md",
    ),
    Published("FastMETRO-L", 6.5, 7.1, source="arXiv:2207.13820", read=False),
    Published(
        "FastViT-MA36, simple MANO regression", 6.6, 6.7, note="84 FPS on a 2080 Ti", source="arXiv:2303.14189",
        read=False,
    ),
    Published("ReJSHand", 6.3, 6.4, 0.756, 0.984, "box x 1.25", source="arXiv:2503.05995"),
    Published(
        "HaMeR", 6.0, 5.7, 0.785, 0.990, "box x 2", "trained on 2.7 million images", source="arXiv:2312.05251",
        read=False,
    ),
    Published("simpleHand, HRNet", 5.8, 6.1, source="arXiv:2403.01813"),
    Published(
        "simpleHand, FastViT-MA36", 5.7, 6.0, 0.772, 0.986, "gt-keypoints",
        source="github.com/patienceFromZhou/simpleHand",
    ),
    Published("WiLoR", 5.5, 5.1, 0.825, 0.993, source="arXiv:2409.12259", read=False),
)  # fmt: skip
"""FreiHAND's evaluation set. Crops differ from method to method: there is no usual one."""


def published_table(rows: Sequence[Published], count: int, own: Published, measured: int, data: str) -> Table:
    """The published rows with our own in its place, the largest joint error first.

    count: images of the real benchmark. measured: images of `data` that our own row is of.
    """
    columns = ("method", "", "crops", "test-time augmentation", "note", "source",
               "PA-MPJPE, mm", "PA-MPVPE, mm", "F@5", "F@15")  # fmt: skip
    ranked = sorted([*rows, own], key=lambda row: -row.joints_mm)
    lines = [_line(row, 2 if row is own else 1) for row in ranked]
    note = (
        f"Published numbers are of {count:,} images; those marked (q) are quoted without having read the source anew."
    )
    if measured != count:
        note += f" The measured row is of {measured:,} images of {data}: not to be compared with them."
    return Table("", columns, lines, words=6, note=note, marked=[ranked.index(own)], on_screen=False)


def _line(row: Published, digits: int) -> list[str]:
    def told(value: float | None, places: int) -> str:
        return UNKNOWN if value is None else f"{value:.{places}f}"

    source = f"{row.source}{'' if row.read else ' (q)'}"
    words = [row.method, "published" if row.source else "measured", row.crop or "not said", row.augmentation, row.note]
    numbers = [told(row.joints_mm, digits), told(row.vertices_mm, digits), told(row.f_5, 3), told(row.f_15, 3)]
    return [*words, source, *numbers]
