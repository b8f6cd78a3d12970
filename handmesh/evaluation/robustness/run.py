"""A whole robustness evaluation: networks on clean and corrupted pictures, their errors, a report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from handmesh.data.freihand import FreihandSet
from handmesh.evaluation.cache import ArrayCache
from handmesh.evaluation.files import write_json, write_text
from handmesh.evaluation.freihand.predictions import configuration, finder
from handmesh.evaluation.freihand.run import open_set, reading_setting, short_name
from handmesh.evaluation.looks import Reader
from handmesh.evaluation.options import RobustnessOptions
from handmesh.evaluation.predictor import Predictor, open_predictor
from handmesh.evaluation.robustness.measure import (
    Robustness,
    corruption_errors,
    mean_corruption_error,
    measure,
    predict_corrupted,
)
from handmesh.evaluation.robustness.report import RobustnessReport, robustness_html


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
