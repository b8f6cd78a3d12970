"""The parametric hand in torch: rotations and a shape in, a mesh and 21 joints out.

One code path serves the bundled open hand and a user's own converted MANO file: smplx reads either
through its `data_struct`. The forward pass is our own, written so that every export target knows
its operations: plain matrix products at a static size, the five fingers moved together.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import smplx
import torch
from jaxtyping import Float
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from handmesh import skeleton
from handmesh.assets import OPEN_HAND
from handmesh.hand.mano import FIELDS, read_hand
from handmesh.hand.rotations import rotation_from_axis_angle

MANO_VERTICES = FIELDS["v_template"][0]

_LEVEL_ORDER = (0, *(joint for level in skeleton.LEVELS for joint in level))
"""The 16 joints in the order in which the forward pass moves them: the wrist, then level by level."""

_LEVEL_SIZES = (1, *(len(level) for level in skeleton.LEVELS))


def _to_bones() -> np.ndarray:
    """(16, 16) from joints to the bones that lead to them from their parents, in `_LEVEL_ORDER`; the first stays."""
    bones = np.eye(16)
    for row, joint in enumerate(_LEVEL_ORDER[1:], 1):
        bones[row, _LEVEL_ORDER.index(skeleton.PARENTS[joint])] = -1.0
    return bones


PoseCoding = Literal["absolute", "relative", "pca"]
"""What MANO's 45 numbers of the fingers are: axis-angles, axis-angles to be added to the mean pose, or coefficients of
the pose components to be added to it."""


class HandOutput(NamedTuple):
    """A posed hand, in the model's frame: metres, not root-relative, the rest wrist where it was."""

    vertices: Tensor  # (B, V, 3)
    joints: Tensor  # (B, 21, 3), keypoint order


class HandModel(nn.Module):
    """A right hand with V vertices, 16 rotating joints and 10 shape parameters.

    The open hand's rest frame: -x along the fingers, +y the back of the hand, +z the thumb's side,
    the origin at the middle finger's knuckle.

    >>> model = HandModel.load()
    >>> vertices, joints = model(torch.eye(3).expand(1, 16, 3, 3), torch.zeros(1, 10))
    >>> vertices.shape, joints.shape
    (torch.Size([1, 1689, 3]), torch.Size([1, 21, 3]))
    """

    def __init__(self, layer: smplx.MANOLayer, tips: Mapping[str, int] = skeleton.OPEN_HAND_TIP_VERTICES) -> None:
        """Take the buffers of `layer`; `tips` names a vertex for each of `skeleton.TIPS`."""
        super().__init__()
        _check_skeleton(layer.parents.tolist())
        template, shapedirs = layer.v_template.double(), layer.shapedirs.double()
        regressor = layer.J_regressor.double()
        order = list(_LEVEL_ORDER)
        self.faces = np.asarray(layer.faces).astype(np.int32)
        self.num_vertices = len(template)
        self._constant("template", template)
        self._constant("shapedirs", shapedirs.permute(2, 0, 1).flatten(1))
        self._constant("joint_template", (regressor @ template)[order])
        self._constant("joint_shapedirs", torch.einsum("jv,vck->kjc", regressor, shapedirs)[:, order].flatten(1))
        self._constant("posedirs", layer.posedirs if layer.posedirs.any() else None)
        self._constant("weights", layer.lbs_weights[:, order].T)  # (16, V)
        self._constant("to_bones", torch.from_numpy(_to_bones()))
        self._constant("last_row", torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(1, len(order), 1, 4))  # of 4x4 matrices
        self._constant("keypoint_regressor", _keypoint_regressor(regressor, tips))
        self._constant("pose_components", torch.as_tensor(np.asarray(layer.np_hand_components)))
        self._constant("mean_pose", rotation_from_axis_angle(layer.hand_mean.double().reshape(15, 3)))
        self.register_buffer("level_order", torch.tensor(order), persistent=False)

    def _constant(self, name: str, value: Tensor | None) -> None:
        """A buffer that follows the module's device but is not part of a checkpoint."""
        self.register_buffer(name, None if value is None else value.float().contiguous(), persistent=False)

    @staticmethod
    def load(path: Path | str | None = None, tips: Mapping[str, int] | None = None) -> HandModel:
        """The hand stored at `path` in MANO's layout as .npz; without a path, the bundled open hand.

        tips: a vertex for each of `skeleton.TIPS`; by default FreiHAND's on a mesh of MANO's 778 vertices
        and the open hand's on any other. Raises FileNotFoundError, or ValueError where the file is not a
        right hand in this layout.
        """
        fields = read_hand(OPEN_HAND if path is None else Path(path))
        with contextlib.redirect_stdout(io.StringIO()):  # smplx warns of the 10 shapes that every MANO has
            layer = smplx.MANOLayer(
                model_path="", data_struct=smplx.utils.Struct(**fields), is_rhand=True, use_pca=False, num_pca_comps=45
            )
        if tips is None:
            is_mano = len(fields["v_template"]) == MANO_VERTICES
            tips = skeleton.FREIHAND_TIP_VERTICES if is_mano else skeleton.OPEN_HAND_TIP_VERTICES
        return HandModel(layer, tips)

    def forward(self, rotations: Float[Tensor, "B 16 3 3"], shape: Float[Tensor, "B 10"]) -> HandOutput:
        """Pose and skin.

        rotations: (B, 16, 3, 3) relative to the parent joint, MANO order, the mean pose included;
        the first turns the whole hand about its wrist. shape: (B, 10).
        """
        vertices = self.template + (shape @ self.shapedirs).unflatten(1, (-1, 3))
        joints = self.joint_template + (shape @ self.joint_shapedirs).unflatten(1, (-1, 3))
        if self.posedirs is not None:
            bend = rotations[:, 1:] - torch.eye(3, dtype=rotations.dtype, device=rotations.device)
            vertices = vertices + (bend.flatten(1) @ self.posedirs).unflatten(1, (-1, 3))
        transforms = self._transforms(rotations.index_select(1, self.level_order), joints)
        vertices = self._skin(vertices.transpose(1, 2), transforms).transpose(1, 2)
        return HandOutput(vertices, self.keypoint_regressor @ vertices)

    def rotations_from(self, pose: np.ndarray, coding: PoseCoding) -> np.ndarray:
        """(N, 48) pose numbers of right hands to the (N, 16, 3, 3) float32 rotations that `forward` takes.

        The first three numbers turn the whole hand, in either coding, and the other 45 are the fingers' as `PoseCoding`
        says, about this hand's mean pose and along its components.
        """
        pose = np.asarray(pose, np.float64)
        fingers = pose[:, 3:] @ self.pose_components.double().cpu().numpy() if coding == "pca" else pose[:, 3:]
        if coding != "absolute":
            fingers = fingers + Rotation.from_matrix(self.mean_pose.cpu().numpy()).as_rotvec().ravel()
        vectors = np.concatenate([pose[:, :3], fingers], axis=1).reshape(-1, 3)
        return Rotation.from_rotvec(vectors).as_matrix().astype(np.float32).reshape(-1, 16, 3, 3)

    def _transforms(self, rotations: Tensor, joints: Tensor) -> Tensor:
        """(B, 16, 3, 4) rest to posed, in level order: each level of the tree moved as one batch."""
        bones = (self.to_bones @ joints)[..., None]
        last_row = self.last_row.expand(len(joints), -1, -1, -1)
        local = torch.cat([torch.cat([rotations, bones], dim=3), last_row], dim=2)
        first, *others = local.split(_LEVEL_SIZES, dim=1)
        posed = [first]
        for level in others:
            posed.append(posed[-1] @ level)
        rotation, position = torch.cat(posed, dim=1)[:, :, :3].split((3, 1), dim=3)
        return torch.cat([rotation, position - rotation @ joints[..., None]], dim=3)

    def _skin(self, vertices: Tensor, transforms: Tensor) -> Tensor:
        """(B, 3, V) rest vertices under the weighted mean of the joints' (B, 16, 3, 4) transforms; whole rows of
        coordinates take less time than short ones."""
        blended = (transforms.flatten(2).transpose(1, 2) @ self.weights).unflatten(1, (3, 4))
        homogeneous = torch.cat([vertices, torch.ones_like(vertices[:, :1])], dim=1)
        return (blended * homogeneous[:, None]).sum(2)


def _keypoint_regressor(regressor: Tensor, tips: Mapping[str, int]) -> Tensor:
    """(21, V): the 16 regressed joints and the 5 tip vertices, in keypoint order."""
    missing = [name for name in skeleton.TIPS if name not in tips]
    if missing:
        raise ValueError(f"`tips` must name a vertex for each of {', '.join(skeleton.TIPS)}; missing: {missing}")
    vertices = [tips[name] for name in skeleton.TIPS]
    if not all(0 <= vertex < regressor.shape[1] for vertex in vertices):
        raise ValueError(f"the tip vertices {vertices} do not all exist in a mesh of {regressor.shape[1]} vertices")
    one_hot = torch.eye(regressor.shape[1], dtype=regressor.dtype)[vertices]
    return torch.cat([regressor, one_hot])[list(skeleton.MANO_TO_KEYPOINTS)]


def _check_skeleton(parents: list[int]) -> None:
    if parents != list(skeleton.PARENTS):
        raise ValueError(f"expected MANO's 16 joints with the parents {list(skeleton.PARENTS)}, got {parents}")
