"""Check a FreiHAND folder: `python scripts/check_freihand.py ROOT [--hand-model mano_right.npz]`.

Counts and files, ranges, and whether the labels agree: with each other, and with the hand model.
Prints a table of findings, each with what to do about it; the exit code is 1 where something is broken.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder that holds training_K.json and training/rgb")
    parser.add_argument("--hand-model", type=Path, help="the set's hand as .npz (scripts/convert_mano.py)")
    parser.add_argument("--split", choices=("training", "evaluation"), help="check this one alone")
    parser.add_argument("--decode", action="store_true", help="decode every picture: slower, finds more")
    parser.add_argument("--overlay", type=Path, help="write a PNG of some samples with their labels")
    return parser.parse_args()


def main() -> int:
    """Check, print; 0 where nothing is broken."""
    order = options()
    try:
        from rich.console import Console

        from handmesh.data.freihand_check import check_freihand, findings_table
        from handmesh.hand.model import HandModel

        splits = (order.split,) if order.split else ("training", "evaluation")
        hand = None if order.hand_model is None else HandModel.load(order.hand_model)
        findings = check_freihand(order.root, splits, hand, order.decode)
        Console().print(findings_table(findings))
        if order.overlay:
            _draw(order.root, splits[0], order.overlay)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    broken = sum(finding.verdict == "broken" for finding in findings)
    print(f"{broken} of {len(findings)} findings say that something is broken" if broken else "nothing is broken")
    return 1 if broken else 0


def _draw(root: Path, split: str, path: Path) -> None:
    from handmesh.data.freihand import read_freihand
    from handmesh.data.freihand_check import write_sheet

    write_sheet(read_freihand(root, split), path)
    print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
