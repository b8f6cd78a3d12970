"""Rigged and animated hands as glTF 2.0 (`.glb`); see docs/exports.md."""

from handmesh.gltf.animation import Track, animated_glb
from handmesh.gltf.hands import SKIN_COLOUR, rigged_glb

__all__ = ["SKIN_COLOUR", "Track", "animated_glb", "rigged_glb"]
