"""3D hand meshes over a camera, a video or pictures: `python demo/webcam.py --help`."""

import sys
from pathlib import Path

try:
    import handmesh  # noqa: F401
except ModuleNotFoundError:  # a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

if __name__ == "__main__":  # the window's process imports this file too, and needs no more of it
    from handmesh.app.webcam import main

    sys.exit(main())
