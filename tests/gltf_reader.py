"""Reads a `.glb` back and skins it as the glTF 2.0 specification says, for comparison with our own hand."""

from __future__ import annotations

import json
import struct

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

_COMPONENTS = {5121: "u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_SHAPES = {"SCALAR": (), "VEC2": (2,), "VEC3": (3,), "VEC4": (4,), "MAT4": (4, 4)}


class Glb:
    """A file's JSON as `json`; numbers by accessor; nodes that can be moved through `json`."""

    def __init__(self, data: bytes) -> None:
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert kind == b"JSON" and size % 4 == 0
        self.json = json.loads(data[20 : 20 + size])
        binary_size, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert kind == b"BIN\0" and binary_size % 4 == 0
        self.binary = data[28 + size :]
        assert len(self.binary) == binary_size == self.json["buffers"][0]["byteLength"]

    def numbers(self, accessor: int) -> np.ndarray:
        """(N, ...) as stored; matrices with rows first."""
        about = self.json["accessors"][accessor]
        view = self.json["bufferViews"][about["bufferView"]]
        dtype, shape = np.dtype(_COMPONENTS[about["componentType"]]), _SHAPES[about["type"]]
        assert view["byteOffset"] % 4 == 0
        assert view["byteLength"] == dtype.itemsize * int(np.prod((about["count"], *shape)))
        data = np.frombuffer(self.binary, dtype, int(np.prod((about["count"], *shape))), view["byteOffset"])
        data = data.reshape(about["count"], *shape)
        return data.swapaxes(1, 2) if len(shape) == 2 else data

    def node(self, name: str) -> int:
        """The index of the node with that name."""
        (index,) = (k for k, node in enumerate(self.json["nodes"]) if node.get("name") == name)
        return index

    def globals(self) -> np.ndarray:
        """(N, 4, 4) from each node's frame to the scene's."""
        nodes = self.json["nodes"]
        matrices = np.zeros((len(nodes), 4, 4))

        def visit(index: int, above: np.ndarray) -> None:
            matrices[index] = above @ _local(nodes[index])
            for child in nodes[index].get("children", ()):
                visit(child, matrices[index])

        for root in self.json["scenes"][0]["nodes"]:
            visit(root, np.eye(4))
        return matrices

    def skinned(self, skin: int = 0) -> np.ndarray:
        """(S, 3) the mesh of a skin where its joints are now."""
        (holder,) = (node for node in self.json["nodes"] if node.get("skin") == skin)
        attributes = self.json["meshes"][holder["mesh"]]["primitives"][0]["attributes"]
        about = self.json["skins"][skin]
        matrices = self.globals()[about["joints"]] @ self.numbers(about["inverseBindMatrices"])
        points = self.numbers(attributes["POSITION"])
        points = np.concatenate([points, np.ones((len(points), 1))], axis=1)
        moved = np.zeros((len(points), 3))
        for number in range(4):
            if f"JOINTS_{number}" in attributes:
                joints, weights = (self.numbers(attributes[f"{kind}_{number}"]) for kind in ("JOINTS", "WEIGHTS"))
                moved += np.einsum("vk,vkij,vj->vi", weights, matrices[joints], points)[:, :3]
        return moved

    def play(self, time_s: float) -> None:
        """Move the nodes to where the first animation has them at a time."""
        animation = self.json["animations"][0]
        for channel in animation["channels"]:
            sampler = animation["samplers"][channel["sampler"]]
            times, values = self.numbers(sampler["input"]), self.numbers(sampler["output"])
            target = channel["target"]
            value = _sampled(times, values, time_s, sampler["interpolation"], target["path"])
            self.json["nodes"][target["node"]][target["path"]] = value.tolist()


def _local(node: dict) -> np.ndarray:
    matrix = np.eye(4)
    rotation = Rotation.from_quat(node.get("rotation", [0, 0, 0, 1])).as_matrix()
    matrix[:3, :3] = rotation * np.array(node.get("scale", [1, 1, 1]))
    matrix[:3, 3] = node.get("translation", [0, 0, 0])
    return matrix


def _sampled(times: np.ndarray, values: np.ndarray, time_s: float, interpolation: str, path: str) -> np.ndarray:
    before = int(np.clip(np.searchsorted(times, np.float32(time_s), side="right") - 1, 0, len(times) - 1))
    after = min(before + 1, len(times) - 1)
    if interpolation == "STEP" or after == before:
        return values[before]
    fraction = float(np.clip((time_s - times[before]) / (times[after] - times[before]), 0, 1))
    if path == "rotation":
        return Slerp([0, 1], Rotation.from_quat(values[[before, after]]))(fraction).as_quat()
    return (1 - fraction) * values[before] + fraction * values[after]
