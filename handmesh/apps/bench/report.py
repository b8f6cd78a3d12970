"""What was measured, as tables to read and as JSON to keep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.box import SIMPLE
from rich.table import Table

from handmesh.apps.bench.contenders import MEDIAPIPE, TRACK
from handmesh.apps.bench.paced import Pace
from handmesh.apps.bench.turns import DRAWN, FRAME, PROCESSOR, Case, Figures, Measured, Times

_SUMS = (TRACK, DRAWN, FRAME, PROCESSOR)
_ORDER = ("capture", "resize", "colour", "detect", "crop", "network", "lift", "smooth", TRACK, "overlay", DRAWN)


class Ratio(NamedTuple):
    """A median divided by another, of one stage."""

    what: str
    stage: str
    ms: float
    to_ms: float

    @property
    def value(self) -> float:
        """NaN where there is nothing to divide by."""
        return self.ms / self.to_ms if self.to_ms else math.nan


def stage_table(measured: Measured, name: str, busy: bool = False) -> Table:
    """The stages of one contender, a column a case: median, 90th and 99th percentile in milliseconds."""
    columns = {
        case: figures for (case, was_busy), figures in measured.items() if case.name == name and was_busy == busy
    }
    table = _table(f"{name}{', cores kept busy' if busy else ''}: milliseconds at the median, 90 and 99 %")
    table.add_column("stage")
    for case in columns:
        table.add_column(_heading(case), justify="right")
    for stage in _stages(columns.values()):
        cells = (_spread(figures.stages_ms.get(stage)) for figures in columns.values())
        table.add_row(stage, *cells, style="bold" if stage in _SUMS else None)
    table.add_row("hands found", *(f"{figures.hands_per_frame:.2f} a frame" for figures in columns.values()))
    return table


def _heading(case: Case) -> str:
    return f"{case.scene.name},\nnum_hands {case.num_hands}"


def _stages(columns: Iterable[Figures]) -> list[str]:
    """All stages, in the order in which they come."""
    known = list(dict.fromkeys(stage for figures in columns for stage in figures.stages_ms))
    first = [stage for stage in _ORDER if stage in known]
    return first + [stage for stage in known if stage not in first]


def _spread(times: Times | None) -> str:
    return "-" if times is None else " ".join(f"{_digits(ms):>5}" for ms in times)


def _digits(ms: float) -> str:
    """Three digits: 0.33, 6.18, 37.6, 145."""
    return f"{ms:.{2 if ms < 9.995 else 1 if ms < 99.95 else 0}f}"


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=SIMPLE, show_edge=False)


def against_mediapipe(measured: Measured) -> list[Ratio]:
    """Our medians beside MediaPipe's in the same setting: `track`, with our drawing, and the processor's time."""
    ratios = []
    for (case, busy), ours in measured.items():
        theirs = measured.get((case._replace(name=MEDIAPIPE), busy))
        if case.name != MEDIAPIPE and not busy and theirs is not None:
            pairs = ((TRACK, TRACK), (DRAWN, TRACK), (PROCESSOR, PROCESSOR))
            ratios += [Ratio(_label(case), a, ours.median(a), theirs.median(b)) for a, b in pairs]
    return ratios


def two_against_one(measured: Measured) -> list[Ratio]:
    """What following two hands costs, beside following one that was asked for alone."""
    ones = {case.name: one for (case, busy), one in measured.items() if not busy and _is_full(case, 1)}
    twos = {case.name: two for (case, busy), two in measured.items() if not busy and _is_full(case, 2)}
    names = [name for name in twos if name in ones]
    return [Ratio(name, stage, twos[name].median(stage), ones[name].median(stage)) for name in names for stage in _BOTH]


def _is_full(case: Case, hands: int) -> bool:
    return case.num_hands == case.scene.hands_in_view == hands


def busy_against_idle(measured: Measured) -> list[Ratio]:
    """What a busy machine does."""
    busy = [case for case, was_busy in measured if was_busy]
    both = [(case, measured[case, True], measured[case, False]) for case in busy]
    return [Ratio(_label(case), TRACK, slow.median(), fast.median()) for case, slow, fast in both]


_BOTH = (TRACK, PROCESSOR)


def _label(case: Case) -> str:
    return f"{case.name}, {case.scene.name}, {case.num_hands} asked for"


def ratio_table(title: str, ratios: Sequence[Ratio], over: str, under: str) -> Table:
    """Ratios, a row a setting and a column a stage; the milliseconds that the first stage's are made of."""
    table = _table(title)
    table.add_column("medians")
    rows = {what: [ratio for ratio in ratios if ratio.what == what] for what in dict.fromkeys(r.what for r in ratios)}
    first = ratios[0].stage
    headings = [f"{first},\n{over}", f"{first},\n{under}", *(f"{r.stage},\nratio" for r in rows[ratios[0].what])]
    for heading in headings:
        table.add_column(heading, justify="right")
    for what, row in rows.items():
        table.add_row(what, _digits(row[0].ms), _digits(row[0].to_ms), *(f"{ratio.value:.2f}" for ratio in row))
    return table


def pace_line(case: Case, pace: Pace, cores: int) -> str:
    """One line on a camera of 30 frames a second."""
    each = f" ({100 * pace.cores_used / cores:.0f} % of each)"
    others = ", ".join(f"{100 * share:.0f} %" for share in pace.cores_busy)
    told = f"; all programs together: {others}" if others else ""
    return (
        f"{_label(case)}: {pace.fps:.1f} of 30 FPS, drawn {pace.age_ms.median:.0f} ms after capture "
        f"(99 %: {pace.age_ms.p99:.0f}), {pace.cores_used:.2f} of {cores} cores{each}{told}"
    )


def as_json(setting: Mapping[str, object], measured: Measured, paces: Mapping[Case, Pace]) -> dict[str, object]:
    """All of it, for `json.dump`."""
    return {
        "setting": dict(setting),
        "cases": [_case_json(case, figures, busy) for (case, busy), figures in measured.items()],
        "against_mediapipe": _ratios_json(against_mediapipe(measured)),
        "two_against_one": _ratios_json(two_against_one(measured)),
        "busy_against_idle": _ratios_json(busy_against_idle(measured)),
        "paced": [{**_named(case), **pace._asdict(), "age_ms": pace.age_ms._asdict()} for case, pace in paces.items()],
    }


def _named(case: Case) -> dict[str, object]:
    return {"name": case.name, "num_hands": case.num_hands, "scene": case.scene.name}


def _case_json(case: Case, figures: Figures, busy: bool) -> dict[str, object]:
    stages = {stage: times._asdict() for stage, times in figures.stages_ms.items()}
    counts = {"busy": busy, "frames": figures.frames, "hands_per_frame": figures.hands_per_frame}
    return {**_named(case), **counts, "stages_ms": stages}


def _ratios_json(ratios: Iterable[Ratio]) -> list[dict[str, object]]:
    return [{**ratio._asdict(), "ratio": None if math.isnan(ratio.value) else ratio.value} for ratio in ratios]
