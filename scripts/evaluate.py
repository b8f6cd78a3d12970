"""Score an exported network: on synthetic shards, labelled photographs, or pictures without hands.

    python scripts/evaluate.py synthetic --shards data/shards-val
    python scripts/evaluate.py photos --root data/sign_digits data/gesture_people
    python scripts/evaluate.py backgrounds --root data/backgrounds

Each prints a table and writes metrics.json and contact sheets to --output.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from handmesh.data.photos import Split
from handmesh.evaluation.run import Options, evaluate_backgrounds, evaluate_photos, evaluate_synthetic

Common = tyro.conf.OmitArgPrefixes[Options]
DEFAULTS = Options()


def synthetic(shards: Path, options: Common = DEFAULTS) -> None:
    """Errors of joints and meshes on synthetic shards.

    Args:
        shards: folder of shard-*.tar that the network was not trained on
    """
    evaluate_synthetic(shards, options)


def photos(root: tuple[Path, ...], split: Split = "val", options: Common = DEFAULTS) -> None:
    """Finding and placing of labelled hands in photographs.

    Args:
        root: folders with a pseudo_labels.json
        split: the held-out files (val), those for training, or all
    """
    evaluate_photos(root, split, options)


def backgrounds(root: Path, split: Split = "val", options: Common = DEFAULTS) -> None:
    """Hands seen in pictures without any.

    Args:
        root: folder of pictures
        split: the held-out files (val), those for training, or all
    """
    evaluate_backgrounds(root, split, options)


def main() -> None:
    try:
        tyro.extras.subcommand_cli_from_dict(
            {"synthetic": synthetic, "photos": photos, "backgrounds": backgrounds}, description=__doc__
        )
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
