"""Measure a detector on held-out pictures: `python scripts/evaluate_detector.py --photos data/sign_digits --backgrounds data/backgrounds`.

For each folder of labelled photographs: the share of hands found (a box whose centre lies within 0.35
of the labelled box's side), the share of these with the right side, and median errors. For pictures
without hands: how much is taken for a hand. At several thresholds, to choose one.
"""  # noqa: E501

from __future__ import annotations

import argparse
import sys
from pathlib import Path

THRESHOLDS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
BUNDLED = Path(__file__).resolve().parents[1] / "handmesh" / "assets" / "detector.onnx"


def main() -> int:
    """Parse, measure, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=BUNDLED, help="an exported detector; default: the bundled one")
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="folders with pseudo_labels.json")
    parser.add_argument("--backgrounds", type=Path, nargs="*", default=[], help="folders of pictures without hands")
    parser.add_argument("--threads", type=int, help="cores to use")
    options = parser.parse_args()
    try:
        from handmesh.detection import Detector
        from handmesh.tracking.backends import open_session

        detector = Detector(open_session(options.model, "detector", options.threads))
        for folder in options.photos:
            print_found(detector, folder)
        for folder in options.backgrounds:
            print_false_alarms(detector, folder)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def print_found(detector, folder: Path) -> None:
    """A table of what is found of the labelled, held-out hands of `folder`."""
    from handmesh.data.photos import read_photos
    from handmesh.evaluation.metrics import LEAST_SCORE, figures_at, match_pictures

    photos = [photo for photo in read_photos(folder, "val") if photo.hands]
    pictures = ((photo.load(), [(hand.box(), hand.side) for hand in photo.hands]) for photo in photos)
    matches = match_pictures(lambda image: detector.detect(image, LEAST_SCORE), pictures)
    print(f"{folder.name}: {len(matches)} hands in {len(photos)} pictures")
    print("threshold   found    side right   angle deg   centre   size ratio")
    for threshold in THRESHOLDS:
        at = figures_at(matches, threshold)
        print(
            f"{threshold:9.2f} {at.found:7.1%} {at.side_right:13.1%} {at.angle_deg:11.1f} "
            f"{at.centre_error:8.3f} {at.size_ratio:12.2f}"
        )


def print_false_alarms(detector, folder: Path) -> None:
    """How many hands are seen in 100 held-out pictures of `folder`, where there are none."""
    from handmesh.data.photos import list_pictures, split_of
    from handmesh.evaluation.metrics import LEAST_SCORE, false_alarm_scores
    from handmesh.files import read_image

    held_out = [path for path in list_pictures(folder) if split_of(path.name) == "val"]
    scores, count = false_alarm_scores(lambda image: detector.detect(image, LEAST_SCORE), map(read_image, held_out))
    print(f"{folder.name}: {count} pictures without hands")
    for threshold in THRESHOLDS:
        print(f"{threshold:9.2f} {100 * float((scores >= threshold).sum()) / count:7.1f} false hands per 100 pictures")


if __name__ == "__main__":
    sys.exit(main())
