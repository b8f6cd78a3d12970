"""Pack labelled photographs into shards: `python scripts/make_photo_shards.py PHOTOS... --out data/photo_shards`.

Training streams them (data.stream.photos) where the photographs themselves would not fit on a disk.
Only the training split by default, so that the held-out photographs stay held out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main() -> int:
    """Parse, pack, print; 0 on success, 1 with one line on an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+", help="folders with pseudo_labels.json")
    parser.add_argument("--out", type=Path, required=True, help="folder for photos-*.tar")
    parser.add_argument("--shard-size", type=int, default=1000, help="hands a shard (default: 1000)")
    parser.add_argument("--split", choices=("train", "val", "all"), default="train")
    parser.add_argument("--fits", type=Path, nargs="*", default=(), help="files of scripts/fit_photos.py")
    options = parser.parse_args()
    try:
        from handmesh.data.photos import read_accepted, read_photos, with_fits
        from handmesh.data.shards import write_photo_shards

        photos = [photo for root in options.photos for photo in read_photos(root, options.split)]
        photos = with_fits(photos, read_accepted(options.fits))
        count = write_photo_shards(photos, options.out, options.shard_size)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last whole shard", file=sys.stderr)
        return 130
    print(f"{options.out} holds {count} hands")
    return 0


if __name__ == "__main__":
    sys.exit(main())
