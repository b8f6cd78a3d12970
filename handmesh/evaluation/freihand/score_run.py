"""Score anybody's prediction file as FreiHAND's server does, and beside it our own figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from handmesh import skeleton
from handmesh.evaluation.files import sha256_of, write_csv, write_json, write_text
from handmesh.evaluation.freihand.scores import Scores, official_scores, official_text, score_samples
from handmesh.evaluation.freihand.submission import PredictionError, PredictionFile, true_points
from handmesh.evaluation.report import figures_as_json

NOTE = (
    "official: FreiHAND's own definitions, means in centimetres. figures: means over samples with 95 % bootstrap "
    "intervals; PA- after similarity alignment, RA- with the roots (middle1) together, the rest in the camera's frame"
)
OTHER_MESH = (
    "The predicted mesh has {predicted} vertices, the true one {true}: there is no vertex error, and by the official "
    "rule the aligned F-score takes the joints' alignment without the prediction's own size, which shrinks the mesh; "
    "compare joints, not F-scores."
)


def score_file(truth: Path, predictions: Path, output: Path) -> Scores:
    """Score a prediction file against evaluation_xyz.json and evaluation_verts.json in the folder `truth`.

    Writes scores.txt (the server's twelve lines), metrics.json and scores.csv (a row a sample)
    into `output`. Raises PredictionError where either side cannot be scored; then nothing is written.
    """
    console = Console()
    with console.status(f"reading {predictions.name}"):
        predicted = PredictionFile(predictions)
        true_joints = np.stack(list(true_points(truth, "xyz", len(skeleton.KEYPOINTS))))
    if len(predicted.joints_m) != len(true_joints):
        raise PredictionError(
            f"{predictions} holds joints of {len(predicted.joints_m)} samples, {truth} the truth of {len(true_joints)}"
        )
    counts: dict[str, int] = {}
    meshes = _counted(predicted.vertices(), "predicted", counts)
    truths = _counted(true_points(truth, "verts", None), "true", counts)
    scores = score_samples(predicted.joints_m, meshes, true_joints, truths, "scoring")
    setting = {"truth": str(truth), "predictions": str(predictions), "predictions_sha256": sha256_of(predictions)}
    write_scores(output, scores, setting | {"vertices": counts})
    _print(console, scores, counts)
    console.print(f"written to {output}")
    return scores


def _counted(meshes: Iterable[np.ndarray], whose: str, counts: dict[str, int]) -> Iterator[np.ndarray]:
    """The meshes as they are; the vertex count of the first is noted."""
    for mesh in meshes:
        counts.setdefault(whose, len(mesh))
        yield mesh


def write_scores(output: Path, scores: Scores, setting: dict[str, object]) -> None:
    """Write scores.txt, metrics.json and scores.csv."""
    write_text(output / "scores.txt", official_text(official_scores(scores.mesh)))
    write_csv(output / "scores.csv", {"sample": np.arange(len(scores))} | scores.per_sample())
    write_json(output / "metrics.json", {"setting": setting, "samples": len(scores)} | metrics_of(scores))


def metrics_of(scores: Scores) -> dict[str, object]:
    """What metrics.json says of scores: the official figures, ours with intervals, and the joints' errors."""
    per_joint = {
        kind: dict(zip(skeleton.KEYPOINTS, values.tolist(), strict=True))
        for kind, values in scores.per_joint_mm().items()
    }
    figures = figures_as_json(scores.figures())
    return {"note": NOTE, "official": official_scores(scores.mesh), "figures": figures, "per_joint_mm": per_joint}


def print_scores(console: Console, scores: Scores) -> None:
    """The official figures as a table."""
    table = Table("official figure", title=f"{len(scores)} samples")
    table.add_column("", justify="right")
    for name, value in official_scores(scores.mesh).items():
        table.add_row(f"{name}, cm" if "mean" in name else name, f"{value:.6f}")
    console.print(table)


def _print(console: Console, scores: Scores, counts: dict[str, int]) -> None:
    print_scores(console, scores)
    if scores.vertices_rooted_m is None:
        console.print(f"[yellow]{OTHER_MESH.format(**counts)}[/]", highlight=False)
