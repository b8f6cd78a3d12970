"""Cache what a teacher sees in crops: `python scripts/cache_teacher.py TEACHER.onnx DATA --out data/taught/NAME`.

TEACHER is a hand landmark network as ONNX that takes (n, 3, 224, 224) RGB between 0 and 1, such as MediaPipe's
hand_landmark_full (Apache-2.0) converted. Its mean feature and its last map are matched in training (data.taught);
it is never needed afterwards. DATA is a folder of synthetic shards, of labelled photographs or of false hands.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.progress import track

from handmesh.console import guarded


@dataclass(frozen=True)
class Options:
    """What to cache, and where to write."""

    teacher: Annotated[Path, tyro.conf.Positional]
    """The teacher's .onnx file."""
    data: Annotated[Path, tyro.conf.Positional]
    """Folder with shard-*.tar, pseudo_labels.json (the training split is taken) or false_hands.json."""
    out: Path
    """Folder of the bank."""
    views: int = 1
    """Views of each sample: some 4 of photographs, 1 of the many synthetic pictures."""
    box_scale: float = 1.5
    """Side of the student's crop over the side of the hand's tight box, as in the training's config."""
    limit: int | None = None
    """Only so many samples."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, cache, print; 0 on success, 1 with one line on an error."""
    options = tyro.cli(Options, args=arguments, description=__doc__)
    return guarded(lambda: cache(options))


def cache(options: Options) -> int:
    """Write the bank that the options ask for."""
    from handmesh.data.mixture import LIST_FILE, FalseHandSource, PhotoSource, ShardSource
    from handmesh.data.photos import LABEL_FILE, read_photos
    from handmesh.data.shards import read_shards
    from handmesh.data.teacher import open_landmark_teacher, write_bank

    if (options.data / LABEL_FILE).is_file():
        source = PhotoSource(read_photos(options.data, "train"))
    elif (options.data / LIST_FILE).is_file():
        source = FalseHandSource(options.data)
    else:
        source = ShardSource(read_shards(options.data))
    teacher = open_landmark_teacher(options.teacher)
    rows = write_bank(
        options.out, source, options.data.name, teacher, options.box_scale, options.views,
        options.limit, lambda places: track(places, f"teacher sees {options.data.name}"),
    )  # fmt: skip
    print(f"{options.out}: {rows} views of {options.data.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
