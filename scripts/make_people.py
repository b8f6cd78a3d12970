"""Render cut-out pictures of gesturing people with labelled hands: `python scripts/make_people.py --out data/people`.

They are what the detector's training pastes onto backgrounds. Needs the packages `anny` and torch,
and a skin texture in MakeHuman's layout.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse, render, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and sprites.json")
    parser.add_argument("--skin", type=Path, required=True, help="a skin texture in MakeHuman's layout")
    parser.add_argument("--count", type=int, default=1500, help="number of pictures")
    parser.add_argument("--bodies", type=int, default=60, help="number of different people")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        import numpy as np
        from rich.progress import track

        from handmesh.data.cutouts import write_sprites
        from handmesh.files import read_image
        from handmesh.synthetic.people import Studio, sample_bodies

        skin = read_image(options.skin)
        studio = Studio(*sample_bodies(options.bodies, np.random.default_rng([options.seed, 0])), skin)
        seeds = track(range(1, options.count + 1), "rendering people")
        sprites = (studio.sprite(np.random.default_rng([options.seed, k])) for k in seeds)
        print(f"wrote {write_sprites(options.out, sprites)} pictures to {options.out}")
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: rendering people needs more packages ({error}): pip install anny torch", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
