"""The true meshes of synthetic samples, posed from their labels. The one place here that needs torch."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from handmesh.data.shards import ShardSet
from handmesh.evaluation.figures import Mesh, about_root

TOLERANCE_M = 0.001


def true_meshes(shards: ShardSet, chunk: int = 256) -> dict[str, Mesh]:
    """The mesh of each sample by its key.

    Raises ImportError where torch is not installed, and ValueError where the bundled hand, posed
    as labelled, does not have the labelled joints.
    """
    try:
        import torch

        from handmesh.hand_model import HandModel
    except ImportError as error:
        raise ImportError(f"true meshes need the training extra: pip install 'handmesh[train]' ({error})") from None
    model = HandModel.load()
    meshes: dict[str, Mesh] = {}
    for start in range(0, len(shards), chunk):
        part = slice(start, start + chunk)
        rotations = Rotation.from_rotvec(shards.pose[part].reshape(-1, 3)).as_matrix().reshape(-1, 16, 3, 3)
        with torch.inference_mode():
            posed = model(torch.from_numpy(rotations).float(), torch.from_numpy(shards.shape[part]))
        joints, vertices = posed.joints.numpy(), posed.vertices.numpy()
        _check(joints + shards.translation_m[part, None], shards.joints_m[part])
        meshes |= dict(zip(shards.keys[part].tolist(), map(about_root, joints, vertices), strict=True))
    return meshes


def _check(joints_m: np.ndarray, labelled_m: np.ndarray) -> None:
    farthest = float(np.linalg.norm(joints_m - labelled_m, axis=-1).max())
    if farthest > TOLERANCE_M:
        raise ValueError(
            f"these shards were made with another hand: posed as labelled, the bundled one has joints up to "
            f"{1000 * farthest:.1f} mm from the labels; generate the shards again"
        )
