"""Turn a licensed MANO pickle into the .npz that handmesh reads: `python scripts/convert_mano.py MANO_RIGHT.pkl`."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro

from handmesh.hand.mano import convert_mano


def convert(pickle: tyro.conf.Positional[Path], out: Path | None = None, right: Path | None = None) -> None:
    """Convert MANO_RIGHT.pkl, or MANO_LEFT.pkl, to .npz without chumpy. Nothing that the file says is run.

    Args:
        pickle: the file as https://mano.is.tue.mpg.de delivers it.
        out: where to write; by default beside the pickle.
        right: MANO_RIGHT.pkl, to compare a left hand's shape directions with.
    """
    made = convert_mano(pickle, out, right)
    print(f"{made.path}: MANO's {made.side} hand, from {pickle} (sha256 {made.sha256[:16]}...)")
    if made.shapes_mirrored:
        print("Its shape directions had the right hand's sign in x, a known fault of MANO_LEFT; it is mended.")
    if made.side == "left":
        print("handmesh itself needs the right hand: it mirrors left hands. Convert MANO_RIGHT.pkl for it.")
    else:
        print(f"Use it as `--hand-model {made.path}`, or `hand_model: {made.path}` in a configuration.")


def main() -> int:
    """Read the command line and convert; 0 on success."""
    try:
        tyro.cli(convert)
    except (ValueError, OSError) as error:
        print(f"convert_mano: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
