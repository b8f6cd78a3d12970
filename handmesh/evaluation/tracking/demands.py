"""What is asked of a tracker on the sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handmesh.evaluation.tracking.footage import FPS

if TYPE_CHECKING:
    from handmesh.evaluation.tracking.report import Report


@dataclass(frozen=True)
class Demand:
    """One figure and the most that it may be."""

    smooth: str
    what: str
    most: float
    unit: str
    value: float

    @property
    def met(self) -> bool:
        """Whether it is; what was not measured is not met."""
        return self.value <= self.most


def demands(report: Report) -> list[Demand]:
    """Of each preset: every hand kept as itself; of `low` also little jitter and little lag. Only what was filmed."""
    made = []
    for smooth in report.options.smooth:
        scores = report.scores(smooth)
        made += [
            Demand(smooth, "id switches", 0, "", scores.counts.id_switches),
            Demand(smooth, "swaps of sides", 0, "", scores.counts.side_swaps),
            Demand(smooth, "lost frames while visible", 1, "%", scores.lost_percent),
            Demand(smooth, "the same in the worst sequence", 1, "%", _worst_lost_percent(report, smooth)),
        ]
        if smooth == "low":
            still, wave = report.scores(smooth, "still").means, report.scores(smooth, "fast wave").means
            lags = (
                (still.jitter_mm, "jitter on a still hand", 0.5, "mm"),
                *(
                    (value * FPS / 1000, f"lag at a fast wave, {where}", 1, "frames")
                    for value, where in ((wave.lag_picture_ms, "in the picture"), (wave.lag_place_ms, "in metres"))
                ),
            )
            made += [Demand(smooth, what, most, unit, value) for value, what, most, unit in lags]
    return [one for one in made if not math.isnan(one.value)]


def _worst_lost_percent(report: Report, smooth: str) -> float:
    return max(scores.lost_percent for _, one, scores in report.by_sequence() if one == smooth)
