"""`report.html` of a robustness evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from handmesh.evaluation import page
from handmesh.evaluation.chart import Series, line_chart
from handmesh.evaluation.options import ErrorKind
from handmesh.evaluation.robustness.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from handmesh.evaluation.robustness.measure import Robustness, corruption_errors, mean_corruption_error

_METHOD = (
    "The 15 corruptions of ImageNet-C (Hendrycks and Dietterich, 2019) at five severities, on whole pictures, before "
    "the crop. mCE: for each corruption the error summed over severities, divided by the baseline's; then the mean of "
    "the 15. Frost is drawn here, not photographed; the elastic transform has no random affine, which would move the "
    "hand away from its labels."
)


@dataclass(frozen=True)
class RobustnessReport:
    """All that the page tells."""

    data: str
    setting: Mapping[str, str]
    kind: ErrorKind
    network: Robustness
    baselines: Sequence[Robustness]
    sample: np.ndarray  # (H, W, 3) uint8, shown under each corruption


def robustness_html(report: RobustnessReport) -> str:
    """The page."""
    network = report.network
    subtitle = f"{network.model} on {report.data}, {report.kind} in millimetres"
    return page.page(
        "Robustness to common corruptions",
        subtitle,
        _headline(report),
        page.section("All networks", _networks(report)),
        page.section(f"Error of {network.model} by severity", page.row(_severities(network), _kinds(report))),
        page.section("Error against severity", *_charts(report)),
        page.section("What the corruptions look like", page.strips(corruption_strips(report.sample))),
        page.section("How this was measured", page.paragraph(_METHOD), page.facts(report.setting)),
    )


def _headline(report: RobustnessReport) -> str:
    network = report.network
    values = [("clean pictures", f"{network.clean_mm:.2f}", "mm"), ("corrupted", f"{network.mean_mm:.2f}", "mm")]
    for baseline in report.baselines:
        mce = mean_corruption_error(network, baseline)
        values.append((f"mean corruption error against {baseline.model}", f"{mce:.1f}", "%"))
    return page.cards(values)


def _networks(report: RobustnessReport) -> str:
    all_networks = [report.network, *report.baselines]
    header = ["network", "clean, mm", "corrupted, mm", "corrupted / clean"]
    header += [f"mCE against {baseline.model}, %" for baseline in report.baselines]
    rows = [
        [one.model, f"{one.clean_mm:.2f}", f"{one.mean_mm:.2f}", f"{one.mean_mm / one.clean_mm:.2f}"]
        + [f"{mean_corruption_error(one, baseline):.1f}" for baseline in report.baselines]
        for one in all_networks
    ]
    note = "" if report.baselines else "Name a --baseline for the mean corruption error, which is relative to one."
    return page.table(header, rows, ours=[0]) + page.paragraph(note, "note")


def _kinds(report: RobustnessReport) -> str:
    """The corruption errors of each kind, against each baseline."""
    if not report.baselines:
        return ""
    errors = [corruption_errors(report.network, baseline) for baseline in report.baselines]
    header = ["corruption", *(f"error against {baseline.model}, %" for baseline in report.baselines)]
    return page.table(header, [[name, *(f"{each[name]:.1f}" for each in errors)] for name in CORRUPTIONS])


def _severities(network: Robustness) -> str:
    values = np.stack(list(network.corrupted_mm.values()))
    columns = [*(f"severity {k}" for k in SEVERITIES), "mean"]
    table = np.concatenate([values, values.mean(1, keepdims=True)], axis=1)
    limits = (network.clean_mm, float(values.max()))
    return page.heat_table(list(network.corrupted_mm), columns, table, 2, limits)


def _charts(report: RobustnessReport) -> list[str]:
    networks = [report.network, *report.baselines]
    highest = 1.02 * max(float(np.max(list(one.corrupted_mm.values()))) for one in networks)
    x = np.arange(len(SEVERITIES) + 1)
    mean = [Series(one.model, x, one.by_severity_mm) for one in networks]
    blocks = [line_chart(mean, "severity (0: clean), mean of all corruptions", f"{report.kind}, mm", size=(620, 300))]
    small = []
    for name in CORRUPTIONS:
        lines = [Series(one.model, x, np.concatenate([[one.clean_mm], one.corrupted_mm[name]])) for one in networks]
        chart = line_chart(lines, "severity", "mm", y_limits=(0, highest), size=(290, 190), legend=False)
        small.append(f"<h3>{name}</h3>{chart}")
    return [*blocks, page.row(*small)]


def corruption_strips(image: np.ndarray, size: int = 140) -> dict[str, np.ndarray]:
    """A picture as it is and at each severity, side by side, (S, 6 S, 3) uint8, by the corruption's name."""
    strips = {}
    for name in CORRUPTIONS:
        pictures = [image, *(corrupt(image, name, severity, seed=0) for severity in SEVERITIES)]
        small = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures]
        strips[name] = np.concatenate(small, axis=1)
    return strips
