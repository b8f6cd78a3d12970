"""`handmesh export` from a clone that is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":
    from handmesh.cli import main

    sys.exit(main(["export", *sys.argv[1:]]))
