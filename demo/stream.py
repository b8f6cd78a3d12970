"""Hands to browsers, game engines and instruments, as they move: `python demo/stream.py --help`."""

import sys
from pathlib import Path

try:
    import handmesh  # noqa: F401
except ModuleNotFoundError:  # a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from handmesh.cli import main

if __name__ == "__main__":
    sys.exit(main(["stream", *sys.argv[1:]]))
