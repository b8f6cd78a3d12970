"""A glTF 2.0 file in the making: its JSON, and the one buffer of numbers that follows it in a `.glb`.

Source: Khronos, glTF 2.0 Specification. Written here because trimesh writes no skins and pygltflib, which
holds the JSON's fields as classes, leaves packing, bounds and alignment to its callers.
"""

from __future__ import annotations

import json
import struct

import numpy as np

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
"""What a buffer view is for: vertex attributes, or indices."""

_COMPONENTS = {np.dtype("u1"): 5121, np.dtype("u2"): 5123, np.dtype("u4"): 5125, np.dtype("f4"): 5126}
_TYPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_MAGIC, _VERSION, _JSON, _BINARY = 0x46546C67, 2, 0x4E4F534A, 0x004E4942


class Document:
    """Collects what a file holds; everything added is known by its index.

    >>> document = Document()
    >>> document.add("nodes", name="wrist"), document.add("nodes", name="thumb-tip")
    (0, 1)
    """

    def __init__(self) -> None:
        self._json: dict[str, object] = {"asset": {"version": "2.0", "generator": "handmesh"}}
        self._buffer = bytearray()

    def add(self, kind: str, **fields: object) -> int:
        """Append an object to one of the JSON's lists ("nodes", "meshes", ...); its index there."""
        objects = self._json.setdefault(kind, [])
        objects.append({name: value for name, value in fields.items() if value is not None})
        return len(objects) - 1

    def next_index(self, kind: str) -> int:
        """The index that the next object of a kind will get."""
        return len(self._json.get(kind, ()))

    def add_numbers(self, numbers: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """An accessor of (N, ...) numbers, uint8, uint16, uint32 or float32; its index.

        Matrices are (N, 4, 4) with rows first, as NumPy has them. target: for vertex attributes and
        indices. bounds: state the smallest and largest, as positions and key times must.
        """
        numbers = np.ascontiguousarray(numbers)
        stored = numbers.swapaxes(1, 2) if numbers.ndim == 3 else numbers  # glTF has columns first
        accessor = {
            "bufferView": self._add_view(stored.tobytes(), target),
            "componentType": _COMPONENTS[numbers.dtype],
            "count": len(numbers),
            "type": _TYPES[numbers.shape[1:]],
        }
        if bounds:
            accessor["min"] = np.atleast_1d(numbers.min(0)).tolist()
            accessor["max"] = np.atleast_1d(numbers.max(0)).tolist()
        return self.add("accessors", **accessor)

    def _add_view(self, data: bytes, target: int | None) -> int:
        start = len(self._buffer)
        self._buffer += data + b"\0" * (-len(data) % 4)
        return self.add("bufferViews", buffer=0, byteOffset=start, byteLength=len(data), target=target)

    def glb(self, roots: list[int]) -> bytes:
        """The file whose scene shows the nodes `roots`."""
        whole = {**self._json, "scene": 0, "scenes": [{"nodes": roots}], "buffers": [{"byteLength": len(self._buffer)}]}
        text = json.dumps(whole, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), _JSON) + text
        chunks += struct.pack("<II", len(self._buffer), _BINARY) + self._buffer
        return struct.pack("<III", _MAGIC, _VERSION, 12 + len(chunks)) + chunks
