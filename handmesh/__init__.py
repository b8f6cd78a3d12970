"""An image of a hand in, a 3D mesh of it out: in metres, in the camera's frame, in real time.

The public names load on first use, so that `import handmesh` stays quick and light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handmesh.render.overlay import draw as draw
    from handmesh.skeleton import Joint as Joint
    from handmesh.tracking.tracker import HandTracker as HandTracker
    from handmesh.types import Box as Box
    from handmesh.types import Camera as Camera
    from handmesh.types import Hand as Hand
    from handmesh.video.lens import Lens as Lens
    from handmesh.video.sources import open_source as open_source

_HOME = {
    "Box": "handmesh.types",
    "Camera": "handmesh.types",
    "Hand": "handmesh.types",
    "Joint": "handmesh.skeleton",
    "HandTracker": "handmesh.tracking.tracker",
    "Lens": "handmesh.video.lens",
    "draw": "handmesh.render.overlay",
    "open_source": "handmesh.video.sources",
}

__all__ = ["Box", "Camera", "Hand", "HandTracker", "Joint", "Lens", "draw", "open_source"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module 'handmesh' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("handmesh")
    except metadata.PackageNotFoundError:
        return "(not installed: run from its folder)"
