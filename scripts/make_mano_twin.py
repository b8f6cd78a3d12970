"""Make a free stand-in for MANO_RIGHT.pkl: `python scripts/make_mano_twin.py --out FILE.pkl`."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from mano_twin.twin import write_twin

from handmesh.types import Side


def make(out: Path, side: Side = "right", faulty_shapes: bool = False, texture: bool = True) -> None:
    """Write a pickle in MANO's exact format from the bundled open hand. It is not MANO and is freely licensed.

    Args:
        out: the pickle to write, for example MANO_RIGHT.pkl.
        side: which hand.
        faulty_shapes: of a left hand, give its shape directions the wrong sign that MANO_LEFT has.
        texture: add texture coordinates, which MANO has not, so that the generator can paint it.
    """
    write_twin(out, side, faulty_shapes, texture)
    print(f"{out}: a stand-in for MANO's {side} hand, not MANO. Next: python scripts/convert_mano.py {out}")


def main() -> int:
    """Read the command line and write the file; 0 on success."""
    try:
        tyro.cli(make)
    except OSError as error:
        print(f"make_mano_twin: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
