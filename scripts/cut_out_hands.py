"""Cut hands out of photographs: `python scripts/cut_out_hands.py PHOTOS --out data/cut_outs`.

Takes labelled photographs, their training split only; hands that do not part well from what is behind
them are left out. Both networks' training pastes the cut-outs onto other backgrounds.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse, cut, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder with pseudo_labels.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures and sprites.json")
    options = parser.parse_args()
    try:
        from rich.progress import track

        from handmesh.data.cutouts import cut_outs, write_sprites
        from handmesh.data.photos import read_photos

        photos = read_photos(options.photos, "train")
        count = write_sprites(options.out, cut_outs(track(photos, "cutting out")))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {count} pictures to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
