"""Make synthetic pictures of hands with exact labels: `python scripts/make_synthetic.py --help`."""

from __future__ import annotations

import sys

import tyro

from handmesh.synthetic.config import Order
from handmesh.synthetic.writer import write, write_sheet


def main() -> int:
    """Read the command line and write the data set, or the sheet; 0 on success."""
    try:
        order = tyro.cli(Order)
        (write_sheet if order.sheet else write)(order)
    except (ValueError, OSError) as error:
        print(f"make_synthetic: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("make_synthetic: interrupted; the same command goes on from the last whole shard", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
