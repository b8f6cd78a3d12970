"""What varies in the hand: its shape, where its joints lie in the mesh, and its poses."""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.hand.poses import PoseSampler

_SIZE_SD = 0.06
_LENGTH_SD = {"thumb": 0.06, "little": 0.06, "index": 0.04, "ring": -0.04}
_DATA_SHAPES = 6
_NEAR = 120
_POSES, _POSES_KEPT = 4000, 256


def shape_space(samples: np.ndarray, template: np.ndarray, fingers: dict[str, np.ndarray]) -> np.ndarray:
    """(V, 3, 10) shape directions, one standard deviation each: size, six of the data, three of length.

    samples: (N, V, 3) hands of one size; template: (V, 3) their mean; fingers: (V, 3) displacements
    that make a finger longer by its own length.
    """
    centred = (samples - template).reshape(len(samples), -1)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    scaled = _positive_peaks(directions[:_DATA_SHAPES]) * (spread[:_DATA_SHAPES, None] / np.sqrt(len(samples) - 1))
    longer = {name: amount * fingers[name] for name, amount in _LENGTH_SD.items()}
    lengths = [longer["thumb"], longer["little"], longer["index"] + longer["ring"]]
    return np.stack([_SIZE_SD * template, *scaled.reshape(-1, *template.shape), *lengths], axis=-1)


def lengthening(
    vertices: np.ndarray, weights: np.ndarray, joints: np.ndarray, tip: np.ndarray, finger: str
) -> np.ndarray:
    """(V, 3) displacements that make `finger` twice as long, each bone along itself."""
    chain = [skeleton.MANO_JOINTS.index(f"{finger}{k}") for k in (1, 2, 3)]
    points = [*joints[chain], tip]
    moved, carried = np.zeros_like(vertices), np.zeros(3)
    for joint, start, end in zip(chain, points[:-1], points[1:], strict=True):
        along = (end - start) / np.linalg.norm(end - start)
        past = np.maximum((vertices - start) @ along, 0)
        moved += weights[:, joint, None] * (carried + past[:, None] * along)
        carried = carried + end - start
    return moved


def joint_regressor(
    samples: np.ndarray, joints: np.ndarray, weights: np.ndarray, sampler: PoseSampler
) -> tuple[np.ndarray, np.ndarray]:
    """(16, V) non-negative rows of sum 1 that give the joints from the vertices; (16,) mean errors in metres.

    Fitted to posed hands of many shapes, so that the points regressed from a posed mesh stay at the
    joints that turned it. samples: (N, V, 3) hands at rest; joints: (N, 16, 3) theirs.
    """
    rng = np.random.default_rng(1)
    posed = [_random_hand(rng, *hand, weights, sampler) for hand in zip(samples, joints, strict=True)]
    vertices, targets = (np.stack(part) for part in zip(*posed, strict=True))
    regressor = np.zeros((16, samples.shape[1]))
    for j, position in enumerate(joints.mean(0)):
        near = np.argsort(np.linalg.norm(samples.mean(0) - position, axis=1), kind="stable")[:_NEAR]
        equations = vertices[:, near].transpose(0, 2, 1).reshape(-1, _NEAR)
        sum_to_one = np.full((1, _NEAR), 10.0)
        found, _ = nnls(np.vstack([equations, sum_to_one]), np.append(targets[:, j].ravel(), 10.0), maxiter=20000)
        regressor[j, near] = found / found.sum()
    return regressor, np.linalg.norm(regressor @ vertices - targets, axis=-1).mean(0)


def _random_hand(
    rng: np.random.Generator, vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, sampler: PoseSampler
) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) vertices and (16, 3) joints of a posed hand of another size."""
    size, rotation = rng.normal(1, 0.08), np.eye(3)[None]
    joints = joints * size
    transforms = _transforms(joints, np.concatenate([rotation, sampler.sample(rng)]))
    blended = (weights @ transforms.reshape(16, 12)).reshape(-1, 3, 4)
    homogeneous = np.append(vertices * size, np.ones((len(vertices), 1)), axis=1)
    posed = (transforms @ np.append(joints, np.ones((16, 1)), axis=1)[..., None])[..., 0]
    return (blended @ homogeneous[..., None])[..., 0], posed


def _transforms(joints: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """(16, 3, 4) from rest to posed."""
    global_rotations, global_positions = [rotations[0]], [joints[0]]
    for j in range(1, 16):
        parent = skeleton.PARENTS[j]
        global_positions.append(global_positions[parent] + global_rotations[parent] @ (joints[j] - joints[parent]))
        global_rotations.append(global_rotations[parent] @ rotations[j])
    global_rotations, global_positions = np.stack(global_rotations), np.stack(global_positions)
    return np.concatenate(
        [global_rotations, (global_positions - (global_rotations @ joints[..., None])[..., 0])[..., None]], axis=-1
    )


def pose_space(sampler: PoseSampler) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MANO's pose space: (45,) mean, (45, 45) orthonormal components and (P, 45) coefficients of some poses.

    Poses are the 15 rotation vectors, end to end: pose = mean + coefficients @ components.
    """
    rng = np.random.default_rng(2)
    rotations = np.stack([sampler.sample(rng) for _ in range(_POSES)])
    poses = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_rotvec().reshape(_POSES, 45)
    mean = poses.mean(0)
    components = _positive_peaks(np.linalg.svd(poses - mean, full_matrices=False)[2])
    return mean, components, (poses[:_POSES_KEPT] - mean) @ components.T


def _positive_peaks(rows: np.ndarray) -> np.ndarray:
    """The rows, each with the sign that makes its entry of largest size positive."""
    peaks = np.take_along_axis(rows, np.abs(rows).argmax(1)[:, None], axis=1)
    return rows * np.sign(peaks)
