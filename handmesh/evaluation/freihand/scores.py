"""Predicted hands against true ones, sample by sample: FreiHAND's official figures, and where the hand is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from rich.progress import track

from handmesh import skeleton
from handmesh.evaluation.figures import Figure, about_root, figure
from handmesh.metrics import F_THRESHOLDS_M, MeshErrors, auc, errors, mesh_errors


@dataclass(frozen=True, eq=False)
class Scores:
    """All errors of N samples, in metres. Those of vertices are None where the vertex counts differ."""

    mesh: MeshErrors  # as they are in the camera's frame, and after similarity alignment
    joints_rooted_m: np.ndarray  # (N, 21) with the predicted root moved to the true one
    vertices_rooted_m: np.ndarray | None  # (N, V)
    root_m: np.ndarray  # (N, 3) the predicted root joint minus the true one

    def __len__(self) -> int:
        return len(self.root_m)

    def per_sample(self) -> dict[str, np.ndarray]:
        """(N,) columns by name: `MeshErrors.per_sample`, and RA- about the root; lengths in millimetres."""
        columns = self.mesh.per_sample() | {"RA-MPJPE": 1000 * self.joints_rooted_m.mean(1)}
        if self.vertices_rooted_m is not None:
            columns["RA-MPVPE"] = 1000 * self.vertices_rooted_m.mean(1)
        root = {"root error": np.linalg.norm(self.root_m, axis=1), "root depth error": np.abs(self.root_m[:, 2])}
        return columns | {name: 1000 * column for name, column in root.items()}

    def figures(self) -> list[Figure]:
        """The mean of each column with its interval."""
        return [figure(name, column, unit_of(name)) for name, column in self.per_sample().items()]

    def per_joint_mm(self) -> dict[str, np.ndarray]:
        """(21,) mean error of each joint, by what was aligned before: nothing, the root, all of it."""
        kinds = {"camera": self.mesh.joints_m, "root": self.joints_rooted_m, "similarity": self.mesh.joints_aligned_m}
        return {name: 1000 * column.mean(0) for name, column in kinds.items()}


def unit_of(column: str) -> str:
    """The unit of a column of `Scores.per_sample`."""
    return "mm" if "MP" in column or "root" in column else ""


def official_scores(errors_m: MeshErrors) -> dict[str, float]:
    """The twelve figures that FreiHAND's server gives, by its names and in its order; means in centimetres.

    A mesh of another vertex count gets the server's marks for "not measured": a mean of -100 (its
    -1, put in centimetres with the rest) and an area of -1.
    """
    of_joints = {"": errors_m.joints_m, "al_": errors_m.joints_aligned_m}
    of_vertices = {"": errors_m.vertices_m, "al_": errors_m.vertices_aligned_m}
    scores: dict[str, float] = {}
    for points, kinds in (("xyz", of_joints), ("mesh", of_vertices)):
        for kind, values in kinds.items():
            scores[f"{points}_{kind}mean3d"] = -100.0 if values is None else 100 * float(values.mean())
            scores[f"{points}_{kind}auc3d"] = -1.0 if values is None else float(auc(values))
    for k, threshold in enumerate(F_THRESHOLDS_M):
        scores[f"f_score_{1000 * threshold:.0f}"] = float(errors_m.f_scores[:, k].mean())
        scores[f"f_al_score_{1000 * threshold:.0f}"] = float(errors_m.f_scores_aligned[:, k].mean())
    return scores


def official_text(scores: dict[str, float]) -> str:
    """The text of the server's `scores.txt`: a line for each figure, six digits behind the point."""
    return "".join(f"{name}: {value:f}\n" for name, value in scores.items())


def score_samples(
    joints_m: np.ndarray,
    vertices_m: Iterable[np.ndarray],
    true_joints_m: np.ndarray,
    true_vertices_m: Iterable[np.ndarray],
    progress: str = "",
) -> Scores:
    """Score (N, 21, 3) joints and N predicted meshes (V, 3) against their truth, (W, 3) for a mesh.

    Meshes are taken one by one, so that they may come from a file. As on FreiHAND's server the
    first sample decides whether vertices correspond. progress: what to call the bar; none if empty.
    Raises ValueError where the meshes are not N, or where the first has as many vertices as its truth
    and a later one has not.
    """
    parts: list[Scores] = []
    if len(joints_m) != len(true_joints_m):
        raise ValueError(f"expected joints of {len(true_joints_m)} samples, as the truth has, got {len(joints_m)}")
    samples = zip(joints_m, _exactly(vertices_m, len(joints_m), "predicted"), true_joints_m,
                  _exactly(true_vertices_m, len(joints_m), "true"), strict=True)  # fmt: skip
    corresponding: bool | None = None
    for i, sample in enumerate(track(samples, progress, total=len(joints_m), disable=not progress, transient=True)):
        counts = len(sample[1]), len(sample[3])
        corresponding = counts[0] == counts[1] if corresponding is None else corresponding
        if corresponding and counts[0] != counts[1]:
            raise ValueError(f"the mesh of sample {i} has {counts[0]} vertices, its truth {counts[1]}")
        parts.append(_score_one(*sample, corresponding))
    return _joined(parts)


def _exactly(meshes: Iterable[np.ndarray], count: int, whose: str) -> Iterator[np.ndarray]:
    """The meshes, as long as they are `count`; ValueError where they are fewer or more."""
    given = 0
    for given, mesh in enumerate(meshes, 1):
        if given > count:
            raise ValueError(f"expected {count} {whose} meshes, as many as samples with joints, got more")
        yield mesh
    if given < count:
        raise ValueError(f"expected {count} {whose} meshes, as many as samples with joints, got {given}")


def _score_one(
    joints: np.ndarray, vertices: np.ndarray, true_joints: np.ndarray, true_vertices: np.ndarray, corresponding: bool
) -> Scores:
    mesh = mesh_errors(joints[None], vertices[None], true_joints[None], true_vertices[None], corresponding)
    rooted = about_root(np.asarray(joints, np.float64), np.asarray(vertices, np.float64))
    truth = about_root(np.asarray(true_joints, np.float64), np.asarray(true_vertices, np.float64))
    return Scores(
        mesh=mesh,
        joints_rooted_m=errors(rooted.joints_m[None], truth.joints_m[None]),
        vertices_rooted_m=errors(rooted.vertices_m[None], truth.vertices_m[None]) if corresponding else None,
        root_m=(np.asarray(joints, np.float64) - true_joints)[None, skeleton.ROOT],
    )


def _joined(parts: list[Scores]) -> Scores:
    if not parts:
        raise ValueError("no samples to score")
    no_vertices = parts[0].vertices_rooted_m is None
    return Scores(
        mesh=MeshErrors.joined([part.mesh for part in parts]),
        joints_rooted_m=np.concatenate([part.joints_rooted_m for part in parts]),
        vertices_rooted_m=None if no_vertices else np.concatenate([part.vertices_rooted_m for part in parts]),
        root_m=np.concatenate([part.root_m for part in parts]),
    )
