"""How a network bears corrupted images: ImageNet-C's corruptions on FreiHAND's evaluation split, and a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress

from handmesh import skeleton
from handmesh.data.freihand import FreihandSet
from handmesh.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.freihand import PART, configuration, finder, predict_part
from handmesh.evaluation.freihand_report import open_set, reading_setting, short_name
from handmesh.evaluation.metrics import align, errors
from handmesh.evaluation.predictor import (
    CropPredictor,
    ErrorKind,
    PredictOptions,
    Predictor,
    RobustnessOptions,
    open_predictor,
)
from handmesh.evaluation.report import COLOURS, Headline, Image, Report, Section, Table
from handmesh.evaluation.sheets import strip

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
        """(6,) means over the corruptions: of clean images, then of each severity."""
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
    freihand: FreihandSet,
    reader: CropPredictor,
    cache: ArrayCache,
    predict_options: PredictOptions,
    batch: int,
    limit: int | None,
    what: str,
) -> dict[str, np.ndarray]:
    """(S, N, 21, 3) joints in the camera's frame by the corruption's name, S severities; S is 1 for clean images.

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
                values = [
                    _predict(freihand, reader, predict_options, batch, count, name, severity) for severity in severities
                ]
                kept = {"joints_m": np.stack(values)}
                cache.put(_file_name(name), **kept)
            joints[name] = kept["joints_m"][:, :count]
            progress.advance(task, count * len(severities))
    return joints


def _file_name(corruption: str) -> str:
    return corruption.replace(" ", "-").lower()


def _predict(
    freihand: FreihandSet,
    reader: CropPredictor,
    predict_options: PredictOptions,
    batch: int,
    count: int,
    name: str,
    severity: int,
) -> np.ndarray:
    """(N, 21, 3) joints; zeros where the network's numbers are no hand."""

    def image_of(i: int) -> np.ndarray:
        image = freihand.image(i)
        return image if name == CLEAN else corrupt(image, name, severity, seed=i)

    starts = range(0, count, PART)
    parts = [range(start, min(start + PART, count)) for start in starts]
    return np.concatenate(
        [predict_part(freihand, reader, predict_options, batch, one, image_of)["joints_m"] for one in parts]
    )


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


# The report of a robustness evaluation.


_METHOD = (
    "The 15 corruptions of ImageNet-C (Hendrycks and Dietterich, 2019) at five severities, on whole images, before "
    "the crop. mCE: for each corruption the error summed over severities, divided by the baseline's; then the mean of "
    "the 15. Frost is drawn here, not photographed; the elastic transform has no random affine, which would move the "
    "hand away from its labels."
)


def _networks_table(networks: Sequence[Robustness], baselines: Sequence[Robustness]) -> Table:
    columns = ["network", "clean, mm", "corrupted, mm", "corrupted / clean"]
    columns += [f"mCE against {baseline.model}, %" for baseline in baselines]
    rows = [
        [one.model, f"{one.clean_mm:.2f}", f"{one.mean_mm:.2f}", f"{one.mean_mm / one.clean_mm:.2f}"]
        + [f"{mean_corruption_error(one, baseline):.1f}" for baseline in baselines]
        for one in networks
    ]
    note = "" if baselines else "Name a --baseline for the mean corruption error, which is relative to one."
    return Table("", columns, rows, note=note, marked=[0])


def _severity_table(network: Robustness, baselines: Sequence[Robustness], kind: ErrorKind) -> Table:
    """A row for each corruption: errors by severity, their mean, and the corruption error against each baseline."""
    columns = ["corruption", *map(str, SEVERITIES), "mean", *(f"CE, % of {baseline.model}" for baseline in baselines)]
    relative = [corruption_errors(network, baseline) for baseline in baselines]
    rows = [
        [name, *(f"{value:.2f}" for value in (*values, values.mean())), *(f"{each[name]:.1f}" for each in relative)]
        for name, values in network.corrupted_mm.items()
    ]
    means = [f"{value:.2f}" for value in (*network.by_severity_mm[1:], network.mean_mm)]
    rows.append(["mean", *means, *(f"{mean_corruption_error(network, baseline):.1f}" for baseline in baselines)])
    title = f"{network.model}, {kind} in mm by severity; clean {network.clean_mm:.2f}"
    return Table(title, columns, rows, marked=[len(rows) - 1], ends=[len(rows) - 2])


def _curves(networks: Sequence[Robustness], kind: ErrorKind) -> Figure:
    """Error against severity: the mean of all corruptions, then each of them, on one scale."""
    names = ("mean of all", *CORRUPTIONS)
    rows = -(-len(names) // 4)
    figure = Figure(figsize=(11, 2.5 * rows), layout="constrained")
    for axes, name in zip(figure.subplots(rows, 4, sharex=True, sharey=True).flat, names, strict=False):
        for network, colour in zip(networks, cycle(COLOURS), strict=False):
            own = network.by_severity_mm[1:] if name == "mean of all" else network.corrupted_mm[name]
            axes.plot([0, *SEVERITIES], [network.clean_mm, *own], color=colour, marker=".", label=network.model)
        axes.set_title(name, fontsize=9)
        axes.grid(color="#eeeeee")
    figure.axes[0].set_ylim(0, 1.05 * max(float(np.max(list(one.corrupted_mm.values()))) for one in networks))
    figure.axes[0].legend(fontsize=8)
    figure.supxlabel("severity (0: clean)", fontsize=9)
    figure.supylabel(f"{kind}, mm", fontsize=9)
    return figure


def corruption_sheet(image: np.ndarray, size: int = 120) -> np.ndarray:
    """(H, 6 size, 3) uint8: an image (H, W, 3) as it is and at each severity, a captioned row for each corruption."""
    rows = []
    for name in CORRUPTIONS:
        images = [image, *(corrupt(image, name, severity, seed=0) for severity in SEVERITIES)]
        small = [cv2.resize(one, (size, size), interpolation=cv2.INTER_AREA) for one in images]
        rows += [strip(name, len(images) * size), np.concatenate(small, axis=1)]
    return np.concatenate(rows)


def _report(
    options: RobustnessOptions,
    setting: Mapping[str, str],
    network: Robustness,
    baselines: Sequence[Robustness],
    freihand: FreihandSet,
) -> Report:
    networks = list({one.model: one for one in (network, *baselines)}.values())
    curves = Image.of_figure("severities", _curves(networks, options.error))
    corruptions = Image.of_image("corruptions", corruption_sheet(freihand.image(0)), "clean, then severity 1 to 5")
    return Report(
        title="Robustness to common corruptions",
        subtitle=f"{network.model} on {freihand.root.resolve().name}, {options.error} in millimetres",
        setting=setting,
        sections=[
            Section("All networks", [_networks_table(networks, baselines)]),
            Section("Error by corruption", [_severity_table(network, baselines, options.error)]),
            Section("Error against severity", (), [curves]),
            Section("What the corruptions look like", (), [corruptions]),
        ],
        headline=[
            Headline("clean images", f"{network.clean_mm:.2f}", "mm"),
            Headline("corrupted", f"{network.mean_mm:.2f}", "mm"),
            *(
                Headline(
                    f"mean corruption error against {one.model}", f"{mean_corruption_error(network, one):.1f}", "%"
                )
                for one in baselines
            ),
        ],
        notes=[_METHOD],
    )


# A whole robustness evaluation: networks on clean and corrupted images, their errors, a report.


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
    report = _report(options, setting, network, baselines, freihand)
    report.write(options.output, {"metrics.json": _as_json(options, setting, network, baselines)})
    report.print(Console())
    Console().print(f"written to {options.output}: report.html, report.md, metrics.json")
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
    predict_options = options.predict_options
    folder = options.output / "predictions" / f"{short_name(predictor.name)}-{predictor.file_sha256[:8]}"
    cache = ArrayCache(folder, configuration(freihand, predictor, predict_options, use_scale=False), options.overwrite)
    reader = CropPredictor(predictor, predict_options, finder(predict_options, options.device, options.threads))
    joints = predict_corrupted(freihand, reader, cache, predict_options, options.batch, options.limit, name)
    return measure(name, joints, freihand.xyz[: joints["clean"].shape[1]], options.error)


def _as_json(
    options: RobustnessOptions, setting: Mapping[str, str], network: Robustness, baselines: Sequence[Robustness]
) -> dict[str, object]:
    against = {
        baseline.model: {
            "mCE, %": mean_corruption_error(network, baseline),
            "corruption errors, %": corruption_errors(network, baseline),
        }
        for baseline in baselines
    }
    networks = {
        one.model: {"clean_mm": one.clean_mm, "corrupted_mm": one.mean_mm, "by_severity_mm": one.corrupted_mm}
        for one in (network, *baselines)
    }
    content = {"setting": setting, "error": options.error, "model": network.model}
    return content | {"networks": networks, "against": against}
