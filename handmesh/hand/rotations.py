"""Rotations, alignments and their derivatives, batched, in torch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def rotation_from_6d(six: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
    """(..., 6) to (..., 3, 3) rotations: two columns made orthonormal by Gram-Schmidt.

    The first three numbers are the first column's direction, the next three the second's.
    Source: Zhou et al., On the Continuity of Rotation Representations in Neural Networks (2019).
    """
    first, second = six[..., :3], six[..., 3:]
    x = first / first.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    second = second - (x * second).sum(-1, keepdim=True) * x
    y = second / second.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return torch.stack([x, y, _cross(x, y)], dim=-1)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """The cross product from plain products, which every export target knows."""
    next_axis, last_axis = torch.tensor([[1, 2, 0], [2, 0, 1]], device=a.device)

    def turned(left: Tensor, right: Tensor) -> Tensor:
        return left.index_select(-1, next_axis) * right.index_select(-1, last_axis)

    return turned(a, b) - turned(b, a)


def rotation_to_6d(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 6"]:
    """(..., 3, 3) rotations to their first two columns, (..., 6)."""
    return torch.cat([rotation[..., 0], rotation[..., 1]], dim=-1)


def rotation_from_axis_angle(axis_angle: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """(..., 3) rotation vectors in radians to (..., 3, 3), by Rodrigues' formula."""
    angle = axis_angle.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    x, y, z = (axis_angle / angle).unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    angle = angle[..., None]
    eye = torch.eye(3, dtype=axis_angle.dtype, device=axis_angle.device)
    return eye + angle.sin() * skew + (1 - angle.cos()) * skew @ skew


def procrustes(source: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 3"]) -> Float[Tensor, "B N 3"]:
    """(B, N, 3) `source` moved, turned and scaled onto `target` in the least-squares sense.

    Proper rotations only. Source: Umeyama, Least-squares estimation of transformation parameters
    between two point patterns (1991). For FreiHAND's official alignment see `metrics`.
    """
    source_mean, target_mean = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    a, b = source - source_mean, target - target_mean
    u, s, vt = torch.linalg.svd(a.transpose(1, 2) @ b)
    sign = torch.ones_like(s)
    sign[:, 2] = torch.det(u @ vt).sign()
    rotation = (u * sign[:, None]) @ vt
    scale = (s * sign).sum(1) / a.square().sum((1, 2)).clamp_min(1e-12)
    return scale[:, None, None] * (a @ rotation) + target_mean


def weak_perspective(
    points: Float[Tensor, "B N 3"], target: Float[Tensor, "B N 2"], weights: Float[Tensor, "B N"]
) -> Float[Tensor, "B N 2"]:
    """(B, N, 3) points drawn by the scaled orthographic camera that fits (B, N, 2) `target` best.

    weights: (B, N) non-negative. Gives (B, N, 2); gradients flow through the fit.
    """
    weight = weights[..., None] / weights.sum(1).clamp_min(1e-8)[:, None, None]
    xy = points[..., :2]
    xy = xy - (weight * xy).sum(1, keepdim=True)
    centre = (weight * target).sum(1, keepdim=True)
    scale = (weight * xy * (target - centre)).sum((1, 2)) / (weight * xy * xy).sum((1, 2)).clamp_min(1e-8)
    return scale[:, None, None] * xy + centre
