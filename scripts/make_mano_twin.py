"""Make a free stand-in for MANO_RIGHT.pkl: `python scripts/make_mano_twin.py --output FILE.pkl`."""

from __future__ import annotations

import sys
from pathlib import Path

import tyro
from mano_twin.twin import write_twin

from handmesh.console import guarded
from handmesh.types import Side


def make(output: Path, side: Side = "right", faulty_shapes: bool = False, texture: bool = True) -> None:
    """Write a pickle in MANO's exact format from the bundled open hand. It is not MANO and is freely licensed.

    Args:
        output: the pickle to write, for example MANO_RIGHT.pkl.
        side: which hand.
        faulty_shapes: of a left hand, give its shape directions the wrong sign that MANO_LEFT has.
        texture: add texture coordinates, which MANO has not, so that the generator can paint it.
    """
    write_twin(output, side, faulty_shapes, texture)
    print(f"{output}: a stand-in for MANO's {side} hand, not MANO. Next: handmesh data convert-mano {output}")


if __name__ == "__main__":
    sys.exit(guarded(lambda: tyro.cli(make)))
