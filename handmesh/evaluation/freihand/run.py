"""A whole evaluation on FreiHAND: predictions, official and own figures, a report, and the server's file."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from handmesh.data.freihand import FreihandSet, read_freihand
from handmesh.evaluation.cache import ArrayCache
from handmesh.evaluation.files import write_csv, write_json, write_text
from handmesh.evaluation.freihand.cases import shown_cases
from handmesh.evaluation.freihand.predictions import Predictions, configuration, finder, predict
from handmesh.evaluation.freihand.report import Report, report_html
from handmesh.evaluation.freihand.score_run import OTHER_MESH, metrics_of, print_scores
from handmesh.evaluation.freihand.scores import Scores, official_scores, official_text, score_samples
from handmesh.evaluation.freihand.submission import OFFICIAL_COUNT, true_points, write_submission
from handmesh.evaluation.looks import Reader
from handmesh.evaluation.options import FreihandOptions, ReadingOptions
from handmesh.evaluation.predictor import Predictor, open_predictor


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation made, and of what."""

    options: FreihandOptions
    freihand: FreihandSet
    predictor: Predictor
    predictions: Predictions
    scores: Scores | None  # None: the set has no labels

    def setting(self) -> dict[str, str]:
        """How the figures came about, in words."""
        options, count = self.options, len(self.predictions)
        return {
            **reading_setting(options, self.freihand, self.predictor, count),
            "hand size": "the given bone length (scale.json)" if options.use_scale else "as the network says",
            "place in space": "closed form, from the joints in the picture and the camera K",
            "time": f"{1000 * self.predictions.seconds / count:.1f} ms a picture, reading and cropping included",
        }

    def notes(self) -> list[str]:
        """What a reader must know before the figures."""
        notes, predictions = [], self.predictions
        if self.scores is None:
            notes.append("Without evaluation_xyz.json and evaluation_verts.json nothing can be measured here.")
        elif self.scores.vertices_rooted_m is None:
            counts = {"predicted": predictions.vertices_m.shape[1], "true": self.freihand.verts.shape[1]}
            notes.append(OTHER_MESH.format(**counts))
        if missed := int((~predictions.located).sum()):
            notes.append(f"The detector found no hand in {missed} pictures; there the crop was centre-130.")
        if missed := int((~predictions.is_hand).sum()):
            notes.append(f"In {missed} pictures the network's numbers were no hand; zeros stand for them.")
        if self.options.submission and len(predictions) != OFFICIAL_COUNT:
            notes.append(f"pred.zip holds {len(predictions)} samples; FreiHAND's server takes {OFFICIAL_COUNT}.")
        return notes


def reading_setting(options: ReadingOptions, freihand: FreihandSet, predictor: Predictor, count: int) -> dict[str, str]:
    """What was looked at, and how, in words."""
    return {
        "data": f"{freihand.root.resolve().name}, evaluation split, {count:,} of {len(freihand):,} pictures",
        "model": f"{predictor.name} (SHA-256 {predictor.file_sha256[:12]})",
        "hand model": predictor.hand,
        **options.looks.described(predictor.box_scale),
        "crop size": f"{predictor.crop_size} x {predictor.crop_size} pixels",
        "batch": str(options.batch),
        "hardware": predictor.runs_on,
        "made with": f"handmesh {version('handmesh')}, {datetime.date.today().isoformat()}",
    }


def evaluate_freihand(options: FreihandOptions) -> Scores | None:
    """Evaluate as the options say; the scores, None where the set has no labels.

    Raises ValueError (FreihandError, CacheMismatch, ModelFileError ...) for what cannot be done.
    """
    freihand = open_set(options)
    predictor = open_predictor(options.model, options.hand_model, options.device, options.threads)
    predictions = _predictions(options, freihand, predictor)
    done = Evaluation(options, freihand, predictor, predictions, _score(freihand, predictions))
    _write(done)
    _print(Console(), done)
    return done.scores


def open_set(options: ReadingOptions) -> FreihandSet:
    """The evaluation split, with the labels that the crop protocol wants."""
    freihand = read_freihand(options.root, "evaluation")
    if options.looks.crop == "gt-keypoints":
        freihand.require("xyz")
    return freihand


def _predictions(options: FreihandOptions, freihand: FreihandSet, predictor: Predictor) -> Predictions:
    looks = options.looks
    kept = configuration(freihand, predictor, looks, options.use_scale)
    cache = ArrayCache(options.output / "predictions", kept, options.overwrite)
    reader = Reader(predictor, looks, finder(looks, options.device, options.threads))
    return predict(freihand, reader, cache, looks, options.use_scale, options.batch, options.limit)


def _score(freihand: FreihandSet, predictions: Predictions) -> Scores | None:
    if freihand.xyz is None or freihand.verts is None:
        return None
    # The set keeps float32; the lists themselves give the last digits that the server gives.
    joints, vertices = (
        islice(true_points(freihand.root, *of), len(predictions)) for of in (("xyz", 21), ("verts", None))
    )
    return score_samples(predictions.joints_m, predictions.vertices_m, np.stack(list(joints)), vertices, "scoring")


def _write(done: Evaluation) -> None:
    output, predictions, scores = done.options.output, done.predictions, done.scores
    if done.options.submission:
        write_submission(output / "pred.zip", predictions.joints_m, predictions.vertices_m)
    content = {"setting": done.setting(), "notes": done.notes(), "samples": len(predictions)}
    columns = {"sample": np.arange(len(predictions)), "is_hand": predictions.is_hand, "located": predictions.located}
    if scores is not None:
        content |= metrics_of(scores)
        columns |= scores.per_sample()
        write_text(output / "scores.txt", official_text(official_scores(scores.mesh)))
    write_json(output / "metrics.json", content)
    write_csv(output / "samples.csv", columns)
    write_text(output / "report.html", report_html(_report(done)))


def _report(done: Evaluation) -> Report:
    errors_mm = None if done.scores is None else done.scores.per_sample()["PA-MPJPE"]
    return Report(
        data=done.freihand.root.resolve().name,
        model=short_name(done.predictor.name),
        setting=done.setting(),
        scores=done.scores,
        notes=done.notes(),
        cases=shown_cases(done.freihand, done.predictions, errors_mm, done.predictor.faces),
    )


def short_name(model: str) -> str:
    """A model's name for a table: a run's weights are called by the run's folder."""
    path = Path(model)
    return path.resolve().parent.name if path.name == "weights.safetensors" else path.stem


def _print(console: Console, done: Evaluation) -> None:
    if done.scores is not None:
        print_scores(console, done.scores)
    for name, text in done.setting().items():
        console.print(f"[bold]{name}[/]: {text}", highlight=False)
    for note in done.notes():
        console.print(f"[yellow]{note}[/]", highlight=False)
    console.print(f"written to {done.options.output}: report.html, metrics.json, samples.csv and more")
