"""The training losses, each with a name, on one `Batch` of labelled crops.

Every loss is a mean over the samples whose label it needs; the config weighs them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from handmesh.geometry import weak_perspective
from handmesh.hand_model import HandModel, HandOutput
from handmesh.network import HandNetOutput
from handmesh.parallel import mean_over_processes
from handmesh.skeleton import KEYPOINTS, ROOT

_LEAST = 1e-6  # a count that no labelled sample gives: without any, a loss is zero


class Batch(NamedTuple):
    """B labelled crops. A mask of 0 says that the sample has no such label."""

    image: Tensor  # (B, 3, S, S) uint8 RGB
    joints_crop: Tensor  # (B, 21, 2), -1 and 1 are the crop's outer borders
    joints_m: Tensor  # (B, 21, 3) root-relative, crop's view; for rough labels up to scale
    vertices_m: Tensor  # (B, V, 3) likewise; V is 0 where no sample has them
    rotations: Tensor  # (B, 16, 3, 3) relative to the parent, the first to the crop's view
    shape: Tensor  # (B, 10)
    mask: Tensor  # (B, S/8, S/8) share of each cell that is hand
    has_joints_crop: Tensor  # (B,) 0 or 1
    has_joints_m: Tensor  # (B,) joints_m is exact
    has_rough_3d: Tensor  # (B,) joints_m is an estimate
    has_vertices: Tensor  # (B,)
    has_parameters: Tensor  # (B,) rotations and shape are known, and give the vertices where these are not
    has_mask: Tensor  # (B,)
    presence: Tensor  # (B,) 1: a hand, 0: none
    right: Tensor  # (B,) 1: a right hand as shown, 0: a left one; without meaning where presence is 0
    taught_mean: Tensor | None = None  # (B, P) a teacher's mean feature; P is 0 where none was taught
    taught_map: Tensor | None = None  # (B, C, h, w) its map over the crop
    has_taught: Tensor | None = None  # (B,)


class Prediction(NamedTuple):
    """The network's output and the hand that its parameters pose, root-relative."""

    net: HandNetOutput
    vertices_m: Tensor  # (B, V, 3)
    joints_m: Tensor  # (B, 21, 3)
    joints_crop: Tensor  # (B, 21, 2) in the crop: -1 and 1 are its outer borders


def pose_hand(net: HandNetOutput, model: HandModel) -> Prediction:
    """Run the hand model on the network's parameters, relative to the root joint.

    A network that finds no joints in the crop gives a weak-perspective camera to draw them with.
    """
    vertices, joints = root_relative(model(net.rotations, net.shape))
    drawn = net.joints_crop
    if drawn is None:
        drawn = net.camera[:, None, :1] * joints[..., :2] + net.camera[:, None, 1:]
    return Prediction(net, vertices, joints, drawn)


def true_vertices(batch: Batch, model: HandModel) -> tuple[Tensor, Tensor]:
    """(B, V, 3) labelled vertices or, without those, the labelled parameters' own; (B,) which are known."""
    posed, _ = root_relative(model(batch.rotations, batch.shape))
    if batch.vertices_m.shape[1] == 0:
        return posed, batch.has_parameters
    vertices = torch.where(batch.has_vertices[:, None, None] > 0, batch.vertices_m, posed)
    return vertices, torch.maximum(batch.has_vertices, batch.has_parameters)


def root_relative(hand: HandOutput) -> tuple[Tensor, Tensor]:
    """(vertices, joints) with the root joint at the origin."""
    root = hand.joints[:, ROOT : ROOT + 1]
    return hand.vertices - root, hand.joints - root


def masked_mean(per_sample: Tensor, mask: Tensor) -> Tensor:
    """The mean of (B,) values where a (B,) mask is 1, over all processes' batches; 0 where it is nowhere."""
    return (per_sample * mask).sum() / mean_over_processes(mask.sum()).clamp_min(_LEAST)


def joints_2d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """L1 of the joints found in the crop, in half crop sides."""
    error = (prediction.joints_crop - batch.joints_crop).abs().mean((1, 2))
    return masked_mean(error, batch.has_joints_crop)


HEAT_SPREAD = 0.75
"""Standard deviation of a joint's place on the attention map, in its cells."""


def heatmap(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Cross-entropy in nats of each joint's attention map from a Gaussian around its label, less the Gaussian's own
    entropy: 0 where they agree. Joints beyond the crop's border do not count.

    A soft mean alone leaves the map free to be wide, and a wide one draws joints towards the crop's middle.
    """
    logits = prediction.net.attention
    if logits is None:
        raise ValueError("the loss 'heatmap' needs a network that finds joints on a map: set network.head to keypoint")
    target = joint_gaussians(batch.joints_crop, *logits.shape[-2:]).flatten(2)
    divergence = (torch.xlogy(target, target) - target * logits.flatten(2).log_softmax(-1)).sum(-1)
    inside = (batch.joints_crop.abs() < 1).all(-1).to(divergence)
    return masked_mean((divergence * inside).mean(1), batch.has_joints_crop)


def joint_gaussians(joints_crop: Tensor, height: int, width: int) -> Tensor:
    """(B, 21, h, w) probabilities of the cells about each joint; each map sums to 1."""

    def along(place: Tensor, cells: int) -> Tensor:
        centres = (torch.arange(cells).to(place) + 0.5) * (2.0 / cells) - 1.0
        off = (centres - place[..., None]) * (cells / 2) / HEAT_SPREAD
        return (-0.5 * off.square()).softmax(-1)

    x, y = joints_crop.unbind(-1)
    return along(y, height)[..., :, None] * along(x, width)[..., None, :]


def joints_3d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """L1 of the root-relative joints in decimetres."""
    error = 10 * (prediction.joints_m - batch.joints_m).abs().mean((1, 2))
    return masked_mean(error, batch.has_joints_m)


def vertices_3d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """L1 of the root-relative vertices in decimetres."""
    with torch.no_grad():
        target, known = true_vertices(batch, model)
    error = 10 * (prediction.vertices_m - target).abs().mean((1, 2))
    return masked_mean(error, known)


def rotations(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """L1 of the rotation matrices' entries."""
    error = (prediction.net.rotations - batch.rotations).abs().mean((1, 2, 3))
    return masked_mean(error, batch.has_parameters)


def shape(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Squared error of the shape coefficients where known."""
    error = (prediction.net.shape - batch.shape).square().mean(1)
    return masked_mean(error, batch.has_parameters)


def shape_prior(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Squared shape coefficients where nothing else holds them (photographs)."""
    return masked_mean(prediction.net.shape.square().mean(1), batch.has_rough_3d)


def _rough_weights(like: Tensor) -> Tensor:
    """(21,) lower where annotators disagree by convention: the wrist and the thumb's base."""
    weights = like.new_ones(len(KEYPOINTS))
    weights[[KEYPOINTS.index("wrist"), KEYPOINTS.index("thumb1")]] = 0.3
    return weights


def rough_3d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """L1 in decimetres against rough joints, after scaling them to the predicted hand's size."""
    weights = _rough_weights(batch.joints_m)[:, None]
    with torch.no_grad():
        product = (weights * prediction.joints_m * batch.joints_m).sum((1, 2))
        scale = product / (weights * batch.joints_m.square()).sum((1, 2)).clamp_min(1e-8)
        target = batch.joints_m * scale.clamp(0.5, 2.0)[:, None, None]
    error = 10 * (weights * (prediction.joints_m - target).abs()).mean((1, 2))
    return masked_mean(error, batch.has_rough_3d)


def reprojection(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """L1 in half crop sides between the labels and the posed joints drawn by the best-fitting
    scaled orthographic camera: two-dimensional labels supervise the pose."""
    weights = _rough_weights(batch.joints_m).expand(len(batch.joints_m), -1)
    drawn = weak_perspective(prediction.joints_m, batch.joints_crop, weights)
    error = (weights[..., None] * (drawn - batch.joints_crop).abs()).mean((1, 2))
    return masked_mean(error, batch.has_rough_3d)


def spread(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Negative log-likelihood of the errors, in the crop and in space, under Laplace distributions as wide
    as the network expects; it moves the expectations only, not the joints.

    Source: Kendall and Gal, What uncertainties do we need in Bayesian deep learning for computer vision? (2017).
    """
    with torch.no_grad():
        in_crop = (prediction.joints_crop - batch.joints_crop).abs().mean(-1)
        in_space = 10 * (prediction.joints_m - batch.joints_m).abs().mean(-1)
    likelihood = torch.stack([in_crop, in_space], -1) / prediction.net.spread + prediction.net.spread.log()
    of_crop, of_space = likelihood.mean(1).unbind(-1)
    return masked_mean(of_crop, batch.has_joints_crop) + masked_mean(of_space, batch.has_joints_m)


def presence(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Binary cross-entropy: is this a hand?"""
    return F.binary_cross_entropy_with_logits(prediction.net.presence, batch.presence)


def right(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Binary cross-entropy: is it a right hand as shown?"""
    error = F.binary_cross_entropy_with_logits(prediction.net.right, batch.right, reduction="none")
    return masked_mean(error, batch.presence)


def mask(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Binary cross-entropy of the share of each cell that is hand; needs `network.segmentation`."""
    if prediction.net.mask is None:
        raise ValueError("the loss 'mask' needs a network that predicts one: set network.segmentation")
    label = F.adaptive_avg_pool2d(batch.mask, prediction.net.mask.shape[-2:])
    error = F.binary_cross_entropy_with_logits(prediction.net.mask, label, reduction="none").mean((1, 2))
    return masked_mean(error, batch.has_mask)


Loss = Callable[[Prediction, Batch, HandModel], Tensor]

LOSSES: dict[str, Loss] = {
    loss.__name__: loss
    for loss in (
        joints_2d, heatmap, joints_3d, vertices_3d, rotations, shape, shape_prior, rough_3d, reprojection, mask,
        presence, right, spread,
    )
}  # fmt: skip


def weighted_losses(
    prediction: Prediction, batch: Batch, model: HandModel, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Each named loss times its weight. Raises ValueError for a name that does not exist."""
    unknown = set(weights) - set(LOSSES)
    if unknown:
        raise ValueError(f"unknown losses {sorted(unknown)}; choose from {', '.join(LOSSES)}")
    return {name: weight * LOSSES[name](prediction, batch, model) for name, weight in weights.items() if weight}
