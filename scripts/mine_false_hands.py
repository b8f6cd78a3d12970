"""Collect what the detector takes for hands and is none: `python scripts/mine_false_hands.py --out FOLDER ...`.

Looks at random parts of pictures without hands, of labelled photographs of people (faces!) and at pasted
scenes, training split only. The mesh
network's training learns from them that these are no hands (data.false_hands), so that its score can
turn down what a detector with a low threshold proposes.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from itertools import chain
from pathlib import Path

from rich.progress import track

from handmesh.assets import detector_path
from handmesh.console import guarded
from handmesh.data.detection import SceneConfig, Size, scene_sources
from handmesh.data.mixture import mine, write_false_hands
from handmesh.detection import Detector
from handmesh.tracking.backends import open_session


def main() -> int:
    """Parse, mine, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and false_hands.json")
    parser.add_argument("--backgrounds", type=Path, nargs="+", required=True, help="folders of pictures without hands")
    parser.add_argument("--sprites", type=Path, nargs="*", default=[], help="folders of cut-out people and hands")
    parser.add_argument("--people", type=Path, nargs="*", default=[], help="folders of labelled photographs of people")
    parser.add_argument("--count", type=int, default=6000, help="scenes to look at, shared by the sources")
    parser.add_argument(
        "--threshold", type=float, default=0.1, help="least score of the detector; default: %(default)s"
    )
    parser.add_argument("--detector", type=Path, help="an exported detector; default: the bundled one")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    return guarded(lambda: collect(options))


def collect(options: argparse.Namespace) -> int:
    """Look at scenes and write what the detector takes for hands there."""
    detector = Detector(open_session(options.detector or detector_path(), "detector"))
    detect = partial(detector.detect, threshold=options.threshold)
    named = {"sprites": options.sprites, "backgrounds": options.backgrounds, "people_photos": options.people}
    mix = SceneConfig(**{name: tuple(folders) for name, folders in named.items()})
    sources = [source for _, source in scene_sources(mix)]
    share = options.count // len(sources)
    mined = chain(*(mine(s, Size(512, 384), share, detect, options.seed + k) for k, s in enumerate(sources)))
    places = chain.from_iterable(track(mined, "looking for false hands", total=share * len(sources)))
    print(f"wrote {write_false_hands(options.out, places)} places to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
