"""How a network bears corrupted images: ImageNet-C's corruptions on FreiHAND's evaluation split, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet
from handmesh.evaluation import html
from handmesh.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.freihand import PART, configuration, finder, view_of
from handmesh.evaluation.freihand_report import open_set, reading_setting, short_name
from handmesh.evaluation.html import Series, line_chart
from handmesh.evaluation.metrics import align, errors
from handmesh.evaluation.predictor import ErrorKind, Looks, Predictor, Reader, RobustnessOptions, open_predictor
from handmesh.files import write_json, write_text

# How much worse a network gets under the corruptions of ImageNet-C, and how much of that a baseline suffers.


CLEAN = "clean"


@dataclass(frozen=True, eq=False)
class Robustness:
    """The mean joint errors of one network, in millimetres."""

    model: str
    clean_mm: float
    corrupted_mm: dict[str, np.ndarray]  # (5,) at each severity, by the corruption's name

    @property
    def mean_mm(self) -> float:
        """The mean over all corruptions and severities."""
        return float(np.mean(list(self.corrupted_mm.values())))

    @property
    def by_severity_mm(self) -> np.ndarray:
        """(6,) means over the corruptions: of clean pictures, then of each severity."""
        return np.concatenate([[self.clean_mm], np.mean(list(self.corrupted_mm.values()), axis=0)])


def corruption_errors(network: Robustness, baseline: Robustness) -> dict[str, float]:
    """The corruption error of each kind, in per cent: the error summed over severities over the baseline's.

    Their mean is the mean corruption error, mCE, as Hendrycks and Dietterich (2019) define it; an
    error rate there is a joint error in millimetres here.
    """
    pairs = {name: (values.sum(), baseline.corrupted_mm[name].sum()) for name, values in network.corrupted_mm.items()}
    return {name: float(100 * own / other) for name, (own, other) in pairs.items()}


def mean_corruption_error(network: Robustness, baseline: Robustness) -> float:
    """The mean over the 15 kinds of `corruption_errors`, in per cent."""
    return float(np.mean(list(corruption_errors(network, baseline).values())))


def predict_corrupted(
    freihand: FreihandSet, reader: Reader, cache: ArrayCache, looks: Looks, batch: int, limit: int | None, what: str
) -> dict[str, np.ndarray]:
    """(S, N, 21, 3) joints in the camera's frame by the corruption's name, S severities; S is 1 for clean pictures.

    What the cache holds is not done again. what: to call the progress bar.
    """
    count = min(limit or len(freihand), len(freihand))
    joints: dict[str, np.ndarray] = {}
    with Progress(transient=True) as progress:
        task = progress.add_task(what, total=count * (1 + len(CORRUPTIONS) * len(SEVERITIES)))
        for name in (CLEAN, *CORRUPTIONS):
            severities = (0,) if name == CLEAN else SEVERITIES
            progress.update(task, description=f"{what}, {name}")
            kept = cache.get(_file_name(name))
            if kept is None or kept["joints_m"].shape[1] < count:
                values = [_predict(freihand, reader, looks, batch, count, name, severity) for severity in severities]
                kept = {"joints_m": np.stack(values)}
                cache.put(_file_name(name), **kept)
            joints[name] = kept["joints_m"][:, :count]
            progress.advance(task, count * len(severities))
    return joints


def _file_name(corruption: str) -> str:
    return corruption.replace(" ", "-").lower()


def _predict(
    freihand: FreihandSet, reader: Reader, looks: Looks, batch: int, count: int, name: str, severity: int
) -> np.ndarray:
    """(N, 21, 3) joints; zeros where the network's numbers are no hand."""
    joints = np.zeros((count, len(skeleton.KEYPOINTS), 3), np.float32)
    for start in range(0, count, PART):
        samples = range(start, min(start + PART, count))
        views = [view_of(freihand, i, looks.crop, _picture(freihand, i, name, severity)) for i in samples]
        for i, seen in zip(samples, reader.read(views, batch), strict=True):
            if seen.hand is not None:
                joints[i] = seen.hand.joints_m
    return joints


def _picture(freihand: FreihandSet, i: int, name: str, severity: int) -> np.ndarray:
    image = freihand.image(i)
    return image if name == CLEAN else corrupt(image, name, severity, seed=i)


def measure(model: str, joints: Mapping[str, np.ndarray], true_joints_m: np.ndarray, kind: ErrorKind) -> Robustness:
    """Score what `predict_corrupted` gave against (N, 21, 3) true joints."""
    means = {
        name: np.array([_mean_error_mm(one, true_joints_m, kind) for one in each]) for name, each in joints.items()
    }
    return Robustness(model, float(means.pop(CLEAN)[0]), means)


def _mean_error_mm(joints_m: np.ndarray, true_joints_m: np.ndarray, kind: ErrorKind) -> float:
    if kind == "PA-MPJPE":
        return 1000 * float(errors(align(joints_m, true_joints_m), true_joints_m).mean())
    root = slice(skeleton.ROOT, skeleton.ROOT + 1)
    return 1000 * float(errors(joints_m - joints_m[:, root], true_joints_m - true_joints_m[:, root]).mean())


# `report.html` of a robustness evaluation.


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
    return html.page(
        "Robustness to common corruptions",
        subtitle,
        _headline(report),
        html.section("All networks", _networks(report)),
        html.section(f"Error of {network.model} by severity", html.row(_severities(network), _kinds(report))),
        html.section("Error against severity", *_charts(report)),
        html.section("What the corruptions look like", html.strips(corruption_strips(report.sample))),
        html.section("How this was measured", html.paragraph(_METHOD), html.facts(report.setting)),
    )


def _headline(report: RobustnessReport) -> str:
    network = report.network
    values = [("clean pictures", f"{network.clean_mm:.2f}", "mm"), ("corrupted", f"{network.mean_mm:.2f}", "mm")]
    for baseline in report.baselines:
        mce = mean_corruption_error(network, baseline)
        values.append((f"mean corruption error against {baseline.model}", f"{mce:.1f}", "%"))
    return html.cards(values)


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
    return html.table(header, rows, ours=[0]) + html.paragraph(note, "note")


def _kinds(report: RobustnessReport) -> str:
    """The corruption errors of each kind, against each baseline."""
    if not report.baselines:
        return ""
    errors = [corruption_errors(report.network, baseline) for baseline in report.baselines]
    header = ["corruption", *(f"error against {baseline.model}, %" for baseline in report.baselines)]
    return html.table(header, [[name, *(f"{each[name]:.1f}" for each in errors)] for name in CORRUPTIONS])


def _severities(network: Robustness) -> str:
    values = np.stack(list(network.corrupted_mm.values()))
    columns = [*(f"severity {k}" for k in SEVERITIES), "mean"]
    table = np.concatenate([values, values.mean(1, keepdims=True)], axis=1)
    limits = (network.clean_mm, float(values.max()))
    return html.heat_table(list(network.corrupted_mm), columns, table, 2, limits)


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
    return [*blocks, html.row(*small)]


def corruption_strips(image: np.ndarray, size: int = 140) -> dict[str, np.ndarray]:
    """A picture as it is and at each severity, side by side, (S, 6 S, 3) uint8, by the corruption's name."""
    strips = {}
    for name in CORRUPTIONS:
        pictures = [image, *(corrupt(image, name, severity, seed=0) for severity in SEVERITIES)]
        small = [cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA) for picture in pictures]
        strips[name] = np.concatenate(small, axis=1)
    return strips


# A whole robustness evaluation: networks on clean and corrupted pictures, their errors, a report.


def evaluate_robustness(options: RobustnessOptions) -> list[Robustness]:
    """Evaluate the model and the baselines; their errors, the model's first.

    Raises ValueError where the set has no labels, and for what cannot be opened.
    """
    freihand = open_set(options)
    freihand.require("xyz")
    predictors = [
        open_predictor(model, options.hand_model, options.device, options.threads)
        for model in dict.fromkeys((options.model, *options.baseline))
    ]
    results = [_measure(options, freihand, *pair) for pair in zip(predictors, _names(predictors), strict=True)]
    count = min(options.limit or len(freihand), len(freihand))
    setting = reading_setting(options, freihand, predictors[0], count)
    network, baselines = results[0], _baselines(options, results)
    _write(options, setting, network, baselines, freihand)
    _print(Console(), options, network, baselines)
    return results


def _baselines(options: RobustnessOptions, results: list[Robustness]) -> list[Robustness]:
    """In the order they were named; a network may be its own baseline."""
    names = list(dict.fromkeys((options.model, *options.baseline)))
    return [results[names.index(model)] for model in options.baseline]


def _names(predictors: list[Predictor]) -> list[str]:
    """The shortest names that tell the networks apart."""
    whole = [predictor.name for predictor in predictors]
    for name_of in (short_name, lambda model: Path(model).name):
        names = [name_of(model) for model in whole]
        if len(set(names)) == len(names):
            return names
    return whole


def _measure(options: RobustnessOptions, freihand: FreihandSet, predictor: Predictor, name: str) -> Robustness:
    looks = options.looks
    folder = options.output / "predictions" / f"{short_name(predictor.name)}-{predictor.file_sha256[:8]}"
    cache = ArrayCache(folder, configuration(freihand, predictor, looks, use_scale=False), options.overwrite)
    reader = Reader(predictor, looks, finder(looks, options.device, options.threads))
    joints = predict_corrupted(freihand, reader, cache, looks, options.batch, options.limit, name)
    return measure(name, joints, freihand.xyz[: joints["clean"].shape[1]], options.error)


def _write(
    options: RobustnessOptions,
    setting: dict[str, str],
    network: Robustness,
    baselines: list[Robustness],
    freihand: FreihandSet,
) -> None:
    against = {
        baseline.model: {
            "mCE, %": mean_corruption_error(network, baseline),
            "corruption errors, %": corruption_errors(network, baseline),
        }
        for baseline in baselines
    }
    networks = {one.model: _as_json(one) for one in (network, *baselines)}
    content = {"setting": setting, "error": options.error, "model": network.model}
    write_json(options.output / "metrics.json", content | {"networks": networks, "against": against})
    data = freihand.root.resolve().name
    report = RobustnessReport(data, setting, options.error, network, baselines, freihand.image(0))
    write_text(options.output / "report.html", robustness_html(report))


def _as_json(network: Robustness) -> dict[str, object]:
    by_kind = {name: values.tolist() for name, values in network.corrupted_mm.items()}
    return {"clean_mm": network.clean_mm, "corrupted_mm": network.mean_mm, "by_severity_mm": by_kind}


def _print(console: Console, options: RobustnessOptions, network: Robustness, baselines: list[Robustness]) -> None:
    table = Table("corruption", title=f"{network.model}, {options.error} in mm; clean {network.clean_mm:.2f}")
    for name in ("1", "2", "3", "4", "5"):
        table.add_column(name, justify="right")
    for baseline in baselines:
        table.add_column(f"CE, % of {baseline.model}", justify="right")
    errors = [corruption_errors(network, baseline) for baseline in baselines]
    for name, values in network.corrupted_mm.items():
        table.add_row(name, *(f"{value:.2f}" for value in values), *(f"{each[name]:.1f}" for each in errors))
    means = network.by_severity_mm[1:]
    mces = [mean_corruption_error(network, baseline) for baseline in baselines]
    table.add_section()
    table.add_row("mean", *(f"{value:.2f}" for value in means), *(f"{mce:.1f}" for mce in mces))
    console.print(table)
    console.print(f"mean over corruptions and severities {np.mean(means):.2f} mm; written to {options.output}")
