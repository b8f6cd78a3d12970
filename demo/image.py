"""The hands of one picture as an overlay and a 3D file: `python demo/image.py --help`."""

import sys
from pathlib import Path

try:
    import handmesh  # noqa: F401
except ModuleNotFoundError:  # a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from handmesh.app.image import main

if __name__ == "__main__":
    sys.exit(main())
