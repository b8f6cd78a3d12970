"""Score networks: on FreiHAND, on synthetic shards, labelled photographs, or pictures without hands.

    python scripts/evaluate.py freihand --root FreiHAND --model runs/freihand/weights.safetensors --submission
    python scripts/evaluate.py score --gt FreiHAND --pred pred.zip --out outputs/score
    python scripts/evaluate.py robustness --root FreiHAND --model mine.onnx --baseline balanced
    python scripts/evaluate.py synthetic --shards data/shards-test data/shards-hard
    python scripts/evaluate.py photos --root data/sign_digits --unseen data/unseen --backgrounds data/backgrounds
    python scripts/evaluate.py backgrounds --root data/backgrounds
    python scripts/evaluate.py calibration --photos data/sign_digits --backgrounds data/backgrounds
    python scripts/evaluate.py overlays --root data/sign_digits data/gesture_people
    python scripts/evaluate.py judgement --sheet outputs/overlays/judgement.csv

Most print a table and write figures, per-sample values and pictures to a folder.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from handmesh.data.photos import Split
from handmesh.evaluation.calibration import CalibrationOptions
from handmesh.evaluation.pipeline import (
    Options,
    PhotoOptions,
    evaluate_backgrounds,
    evaluate_photos,
    evaluate_synthetic,
)
from handmesh.evaluation.predictor import FreihandOptions, RobustnessOptions
from handmesh.evaluation.review import OverlayOptions, count_judgement, draw_overlays

Common = tyro.conf.OmitArgPrefixes[Options]
DEFAULTS = Options()
Output = Annotated[Path, tyro.conf.arg(aliases=["--output"])]


def freihand(options: tyro.conf.OmitArgPrefixes[FreihandOptions]) -> None:
    """Official and own figures on FreiHAND's evaluation split, with a report to read."""
    from handmesh.evaluation.freihand_report import evaluate_freihand

    evaluate_freihand(options)


def robustness(options: tyro.conf.OmitArgPrefixes[RobustnessOptions]) -> None:
    """Errors under the 15 corruptions of ImageNet-C at five severities, and the mean corruption error."""
    from handmesh.evaluation.robustness import evaluate_robustness

    evaluate_robustness(options)


def score(gt: Path, pred: Path, out: Output) -> None:
    """Score a prediction file in the format of FreiHAND's server, as the server does.

    Args:
        gt: folder with evaluation_xyz.json and evaluation_verts.json
        pred: pred.json, or a zip that holds it; [N x 21 x 3 joints, N x V x 3 vertices], metres
        out: folder for scores.txt (the server's twelve lines), metrics.json and scores.csv
    """
    from handmesh.evaluation.freihand_report import score_file

    score_file(gt, pred, out)


def synthetic(shards: tuple[Path, ...], options: Common = DEFAULTS) -> None:
    """Errors of joints and meshes on synthetic shards, each folder by itself, and each kind of picture of a hard set.

    Args:
        shards: folders of shard-*.tar that the network was not trained on
    """
    evaluate_synthetic(shards, options)


def photos(options: tyro.conf.OmitArgPrefixes[PhotoOptions]) -> None:
    """Finding and placing of labelled hands in photographs: those that are trained on, and those that never are.

    Ends with `combined`, the number to decide by: the mean 2D error over all unseen hands, a fraction of
    the longer side of the labelled box; a hand that the whole tracker does not find counts as 0.5.
    """
    evaluate_photos(options)


def backgrounds(root: Path, split: Split = "val", options: Common = DEFAULTS) -> None:
    """Hands seen in pictures without any.

    Args:
        root: folder of pictures
        split: the held-out files (val), those for training, or all
    """
    evaluate_backgrounds(root, split, options)


def calibration(options: tyro.conf.OmitArgPrefixes[CalibrationOptions]) -> None:
    """How often what the product says of its own answers comes true, and models that make it so.

    Of every place that the detector proposes, however unsure: the score, the side and the errors
    expected of the joints. calibration.json holds the models for the exported file.
    """
    from handmesh.evaluation.calibration_report import evaluate_calibration

    evaluate_calibration(options)


def overlays(options: tyro.conf.OmitArgPrefixes[OverlayOptions]) -> None:
    """Held-out pictures chosen at random, beside the meshes found in them, to be judged finger by finger."""
    draw_overlays(options)


def judgement(sheet: Path) -> None:
    """Count the judgement of overlays.

    Args:
        sheet: judgement.csv of `overlays`, with y or n for each finger
    """
    count_judgement(sheet)


def main() -> None:
    try:
        commands = {"freihand": freihand, "score": score, "robustness": robustness}
        commands |= {"synthetic": synthetic, "photos": photos, "backgrounds": backgrounds}
        commands |= {"calibration": calibration, "overlays": overlays, "judgement": judgement}
        tyro.extras.subcommand_cli_from_dict(commands, description=__doc__)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
