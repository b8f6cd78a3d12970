"""Render cut-out pictures of single hands with forearms: `python scripts/make_hand_sprites.py --out data/hands`.

They are what the detector's training pastes onto backgrounds, beside the people of make_people.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse, render, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and sprites.json")
    parser.add_argument("--count", type=int, default=4000, help="number of pictures")
    parser.add_argument("--size", type=int, default=224, help="their width and height in pixels")
    parser.add_argument("--skins", type=Path, help="folder of skin textures; default: painted ones only")
    parser.add_argument("--environments", type=Path, help="folder of .hdr panoramas to light with")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    try:
        from rich.progress import track

        from handmesh.data.cutouts import Sprite, SpriteHand, write_sprites
        from handmesh.synthetic.config import Sources
        from handmesh.synthetic.generator import Generator

        sources = Sources(skins=options.skins, environments=options.environments, painted_skins=24)
        generator = Generator(sources)

        def sprite(index: int) -> Sprite:
            rgba, joints_px, _ = generator.render_rgba(options.seed, index, options.size)
            return Sprite(rgba, (SpriteHand("right", joints_px),))

        count = write_sprites(options.out, map(sprite, track(range(options.count), "rendering hands")))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {count} pictures to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
