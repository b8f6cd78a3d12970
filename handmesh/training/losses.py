"""The training losses by name: of the mesh network on labelled crops, of distillation, of the detector."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import functional

from handmesh.data.detection import DetectionBatch
from handmesh.data.samples import Batch
from handmesh.hand.model import HandModel, HandOutput
from handmesh.hand.rotations import weak_perspective
from handmesh.models.checkpoint import load_trained
from handmesh.models.detector_net import DetectorOutput
from handmesh.models.mesh_net import HandNet, HandNetOutput
from handmesh.skeleton import KEYPOINTS, ROOT
from handmesh.training.config import MeshConfig
from handmesh.training.distributed import mean_over_processes, processes

# The training losses, each with a name, on one `Batch` of labelled crops.
#
# Every loss is a mean over the samples whose label it needs, a scalar; the config weighs them by name.


_LEAST = 1e-6  # a count that no labelled sample gives: without any, a loss is zero


def network_input(image: Tensor, channels_last: bool) -> Tensor:
    """(B, 3, H, W) uint8 RGB as networks take it: 0..1, in the memory format of the run."""
    image = image.float() / 255
    return image.contiguous(memory_format=torch.channels_last) if channels_last else image


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
    """(B, V, 3) vertices and (B, 21, 3) joints, metres, with the root joint at the origin."""
    root = hand.joints[:, ROOT : ROOT + 1]
    return hand.vertices - root, hand.joints - root


Columns = TypeVar("Columns", bound=tuple)


def rows(values: Columns, chosen: Tensor) -> Columns:
    """A named tuple of tensors, or of such tuples, with those of B rows that a (B,) mask chooses."""

    def of(value: Any) -> Any:
        return value if value is None else rows(value, chosen) if isinstance(value, tuple) else value[chosen]

    return type(values)(*map(of, values))


def masked_mean(per_sample: Tensor, mask: Tensor) -> Tensor:
    """The mean of (B, ...) values where a mask of that shape is 1, over all processes' batches; 0 if it is nowhere."""
    return (per_sample * mask).sum() / mean_over_processes(mask.sum()).clamp_min(_LEAST)


def joints_2d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: L1 of the (B, 21, 2) joints found in the crop, in half crop sides; those out of reach do not count."""
    error = (prediction.joints_crop - batch.joints_crop).abs().mean(-1)
    return masked_mean(error, batch.has_joints_crop * within_reach(prediction, batch.joints_crop))


def within_reach(prediction: Prediction, joints_crop: Tensor) -> Tensor:
    """(B, 21) 1 where the network can find a joint at these (B, 21, 2) positions in the crop, else 0.

    The soft mean of an attention map lies between the centres of its outermost cells, half a cell inside the crop's
    border. A joint beyond would only draw the map to the border, and never be met.
    """
    if prediction.net.attention is None:  # it is drawn by a camera, which reaches anywhere
        return joints_crop.new_ones(joints_crop.shape[:-1])
    height, width = prediction.net.attention.shape[-2:]
    reach = joints_crop.new_tensor([1 - 1 / width, 1 - 1 / height])
    return (joints_crop.abs() <= reach).all(-1).to(joints_crop)


HEAT_SPREAD = 0.75
"""Standard deviation of a joint's position on the attention map, in its cells."""


def heatmap(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: cross-entropy in nats of each joint's (h, w) attention map from a Gaussian around its label, less the
    Gaussian's own entropy: 0 where they agree. Joints beyond the crop's border do not count.

    A soft mean alone leaves the map free to be wide, and a wide one draws joints towards the crop's middle.
    """
    logits = prediction.net.attention
    if logits is None:
        raise ValueError("the loss 'heatmap' needs a network that finds joints on a map: set network.head to keypoint")
    target = joint_gaussians(batch.joints_crop, *logits.shape[-2:]).flatten(2)
    divergence = (torch.xlogy(target, target) - target * logits.flatten(2).log_softmax(-1)).sum(-1)
    inside = (batch.joints_crop.abs() < 1).all(-1).to(divergence)
    return masked_mean(divergence * inside, batch.has_joints_crop)


def joint_gaussians(joints_crop: Tensor, height: int, width: int) -> Tensor:
    """(B, 21, h, w) probabilities of the cells about each joint; each map sums to 1."""

    def along(position: Tensor, cells: int) -> Tensor:
        centres = (torch.arange(cells).to(position) + 0.5) * (2.0 / cells) - 1.0
        off = (centres - position[..., None]) * (cells / 2) / HEAT_SPREAD
        return (-0.5 * off.square()).softmax(-1)

    x, y = joints_crop.unbind(-1)
    return along(y, height)[..., :, None] * along(x, width)[..., None, :]


def joints_3d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: L1 of the (B, 21, 3) root-relative joints in decimetres."""
    error = 10 * (prediction.joints_m - batch.joints_m).abs().mean((1, 2))
    return masked_mean(error, batch.has_joints_m)


def vertices_3d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: L1 of the (B, V, 3) root-relative vertices in decimetres."""
    with torch.no_grad():
        target, known = true_vertices(batch, model)
    error = 10 * (prediction.vertices_m - target).abs().mean((1, 2))
    return masked_mean(error, known)


def rotations(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: L1 of the (B, 16, 3, 3) rotation matrices' entries."""
    error = (prediction.net.rotations - batch.rotations).abs().mean((1, 2, 3))
    return masked_mean(error, batch.has_parameters)


def shape(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: squared error of the (B, 10) shape coefficients where known."""
    error = (prediction.net.shape - batch.shape).square().mean(1)
    return masked_mean(error, batch.has_parameters)


def shape_prior(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: squared (B, 10) shape coefficients where nothing else holds them (photographs)."""
    return masked_mean(prediction.net.shape.square().mean(1), batch.has_weak_3d)


def _weak_3d_weights(like: Tensor) -> Tensor:
    """(21,) lower where annotators disagree by convention: the wrist and the thumb's base."""
    weights = like.new_ones(len(KEYPOINTS))
    weights[[KEYPOINTS.index("wrist"), KEYPOINTS.index("thumb1")]] = 0.3
    return weights


def weak_3d(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: L1 in decimetres against weak (B, 21, 3) joints, after scaling them to the predicted hand's size."""
    weights = _weak_3d_weights(batch.joints_m)[:, None]
    with torch.no_grad():
        product = (weights * prediction.joints_m * batch.joints_m).sum((1, 2))
        scale = product / (weights * batch.joints_m.square()).sum((1, 2)).clamp_min(1e-8)
        target = batch.joints_m * scale.clamp(0.5, 2.0)[:, None, None]
    error = 10 * (weights * (prediction.joints_m - target).abs()).mean((1, 2))
    return masked_mean(error, batch.has_weak_3d)


def reprojection(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: L1 in half crop sides between the (B, 21, 2) labels and the posed joints drawn by the best-fitting
    scaled orthographic camera: two-dimensional labels supervise the pose."""
    weights = _weak_3d_weights(batch.joints_m) * batch.has_joints_crop
    drawn = weak_perspective(prediction.joints_m, batch.joints_crop, weights)
    error = (weights[..., None] * (drawn - batch.joints_crop).abs()).mean((1, 2))
    return masked_mean(error, batch.has_weak_3d)


def uncertainty(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: negative log-likelihood of the errors of 21 joints, in the crop and in space, under Laplace distributions
    as wide as the network's (B, 21, 2) expectations; it moves these only, not the joints.

    Source: Kendall and Gal, What uncertainties do we need in Bayesian deep learning for computer vision? (2017).
    """
    with torch.no_grad():
        in_crop = (prediction.joints_crop - batch.joints_crop).abs().mean(-1)
        in_space = 10 * (prediction.joints_m - batch.joints_m).abs().mean(-1)
    likelihood = torch.stack([in_crop, in_space], -1) / prediction.net.uncertainty + prediction.net.uncertainty.log()
    of_crop, of_space = likelihood.unbind(-1)
    return masked_mean(of_crop, batch.has_joints_crop) + masked_mean(of_space.mean(1), batch.has_joints_m)


def presence(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: binary cross-entropy of (B,) logits: is this a hand?"""
    return F.binary_cross_entropy_with_logits(prediction.net.presence, batch.presence)


def handedness(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: binary cross-entropy of (B,) logits: is it a right hand as shown?"""
    error = F.binary_cross_entropy_with_logits(prediction.net.handedness, batch.right, reduction="none")
    return masked_mean(error, batch.has_side)


def mask(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: binary cross-entropy of the (B, h, w) fractions of cells that are hand; needs `network.segmentation`."""
    if prediction.net.mask is None:
        raise ValueError("the loss 'mask' needs a network that predicts one: set network.segmentation")
    label = F.adaptive_avg_pool2d(batch.mask, prediction.net.mask.shape[-2:])
    error = F.binary_cross_entropy_with_logits(prediction.net.mask, label, reduction="none").mean((1, 2))
    return masked_mean(error, batch.has_mask)


def contact(prediction: Prediction, batch: Batch, model: HandModel) -> Tensor:
    """Scalar: binary cross-entropy of (B, 4) logits: which fingers does the thumb touch? Needs `network.contact`."""
    if prediction.net.contact is None:
        raise ValueError("the loss 'contact' needs a keypoint head that tells it: set network.contact")
    error = F.binary_cross_entropy_with_logits(prediction.net.contact, batch.contact, reduction="none")
    return masked_mean(error, batch.has_contact)


Loss = Callable[[Prediction, Batch, HandModel], Tensor]

LOSSES: dict[str, Loss] = {
    loss.__name__: loss
    for loss in (
        joints_2d, heatmap, joints_3d, vertices_3d, rotations, shape, shape_prior, weak_3d, reprojection, mask,
        presence, handedness, uncertainty, contact,
    )
}  # fmt: skip


def weighted_losses(
    prediction: Prediction, batch: Batch, model: HandModel, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Each named loss times its weight, scalars. Raises ValueError for a name that does not exist."""
    unknown = set(weights) - set(LOSSES)
    if unknown:
        raise ValueError(f"unknown losses {sorted(unknown)}; choose from {', '.join(LOSSES)}")
    return {name: weight * LOSSES[name](prediction, batch, model) for name, weight in weights.items() if weight}


# Distillation: a trained network teaches another on what both say of the same crops.
#
# A `Teacher` is a network of this project, asked as training goes on. `FeatureStudent` learns from the cached
# features of any other (data.taught).


class Teacher:
    """A frozen network that answers with the hand that it sees, in crops of the size that it was trained with."""

    def __init__(self, config: MeshConfig, model: HandModel) -> None:
        """Raises ValueError where the teacher saw other crops or another hand than `config` trains with."""
        network, theirs = load_trained(config.teacher)
        if theirs["box_scale"] != config.box_scale:
            raise ValueError(f"the teacher saw boxes x {theirs['box_scale']}; set box_scale to that")
        if _name(theirs["hand_model"]) != _name(config.hand_model):
            raise ValueError(
                f"the teacher poses {_name(theirs['hand_model'])}, this run {_name(config.hand_model)}: their numbers "
                "mean different hands; set hand_model to the teacher's"
            )
        self.network = network.reparameterised().requires_grad_(False)
        self.model = model
        self.size = int(theirs["run"]["schedule"][-1][1])

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Prediction:
        """What the teacher sees in (B, 3, S, S) images, 0..1, whatever size the student's crops have.

        At another scale than its own a network sees another hand: fingers of other widths, and cells of other sizes.
        """
        if image.shape[-1] != self.size:
            image = F.interpolate(image, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        net = self.network.to(image.device)(image)
        with torch.autocast(image.device.type, enabled=False):
            return pose_hand(net, self.model)


def _name(hand_model: Path | str | None) -> str:
    return "the open hand" if hand_model is None else Path(hand_model).name


def distil_joints_2d(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) L1 of the (B, 21, 2) joints in the crop, in half crop sides; none that is out of the student's reach."""
    error = (student.joints_crop - teacher.joints_crop).abs().mean(-1)
    return (error * within_reach(student, teacher.joints_crop)).mean(1)


def distil_joints_3d(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) L1 of the (B, 21, 3) root-relative joints in decimetres."""
    return 10 * (student.joints_m - teacher.joints_m).abs().mean((1, 2))


def distil_vertices_3d(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) L1 of the (B, V, 3) root-relative vertices in decimetres."""
    return 10 * (student.vertices_m - teacher.vertices_m).abs().mean((1, 2))


def distil_rotations(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) L1 of the (B, 16, 3, 3) rotation matrices' entries."""
    return (student.net.rotations - teacher.net.rotations).abs().mean((1, 2, 3))


def distil_features(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) how differently the two see which crops of the batch are alike, whatever their features' widths.

    Similarity-preserving distillation (Tung & Mori 2019): squared differences between the rows of the
    batch's two similarity matrices, here of cosines of centred features.
    """
    ours, theirs = (_similarities(prediction.net.features) for prediction in (student, teacher))
    return (ours - theirs).square().mean(1)


def _similarities(features: Tensor) -> Tensor:
    directions = F.normalize(features - features.mean(0), dim=1)
    return directions @ directions.T


def distil_attention(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) mean divergence in nats of the student's attention map of a joint from the teacher's."""
    ours, theirs = (prediction.net.attention for prediction in (student, teacher))
    if ours is None or theirs is None:
        raise ValueError("distillation by attention needs two networks that find joints on a map: head keypoint")
    theirs = _as_fine(theirs, ours).flatten(2).log_softmax(-1)
    divergence = theirs.exp() * (theirs - ours.flatten(2).log_softmax(-1))
    return divergence.sum(-1).mean(1)


def distil_map(student: Prediction, teacher: Prediction) -> Tensor:
    """(B,) mean squared differences of the maps at stride 16, in standard deviations of the teacher's channels in the
    batch: of a student that is its teacher with less in it, and has the same channels."""
    ours, theirs = (prediction.net.map.float() for prediction in (student, teacher))
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"distillation by map needs as many channels, got {ours.shape[1]} for {theirs.shape[1]}")
    spread = theirs.var((0, 2, 3), keepdim=True).clamp_min(1e-6)
    return ((ours - _as_fine(theirs, ours)).square() / spread).mean((1, 2, 3))


def _as_fine(theirs: Tensor, ours: Tensor) -> Tensor:
    """(B, C, h, w) maps with as many cells as others."""
    same = theirs.shape[-2:] == ours.shape[-2:]
    return theirs if same else F.interpolate(theirs, ours.shape[-2:], mode="bilinear", align_corners=False)


DISTILLATION: dict[str, Callable[[Prediction, Prediction], Tensor]] = {
    "joints_2d": distil_joints_2d,
    "joints_3d": distil_joints_3d,
    "vertices_3d": distil_vertices_3d,
    "rotations": distil_rotations,
    "features": distil_features,
    "attention": distil_attention,
    "map": distil_map,
}


FAR_OFF = 0.25
"""A teacher whose joints lie so far from the labelled ones, in half crop sides, sees another hand."""


def sees_labelled_hand(teacher: Prediction, batch: Batch) -> Tensor:
    """(B,) 1 where a crop shows a hand and the teacher's joints do not lie far off those that are labelled."""
    return batch.presence * ~(mean_distance(teacher, batch) >= FAR_OFF)


def mean_distance(prediction: Prediction, batch: Batch) -> Tensor:
    """(B,) of the joints from their labels, in half crop sides; not a number where none is labelled."""
    distances = (prediction.joints_crop - batch.joints_crop).norm(dim=-1)
    return (distances * batch.has_joints_crop).sum(1) / batch.has_joints_crop.sum(1)


def distillation_losses(
    student: Prediction, teacher: Prediction, taught: Tensor, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Each named loss times its weight, scalars, over the crops that the teacher teaches: where (B,) `taught` is 1.

    Raises ValueError for an unknown name.
    """
    unknown = set(weights) - set(DISTILLATION)
    if unknown:
        raise ValueError(f"unknown distillation losses {sorted(unknown)}; choose from {', '.join(DISTILLATION)}")
    return {
        f"distil_{name}": weight * masked_mean(DISTILLATION[name](student, teacher), taught)
        for name, weight in weights.items()
        if weight
    }


class Matched(NamedTuple):
    """What a student makes of crops, and its features projected onto a teacher's."""

    net: HandNetOutput
    mean: Tensor  # (B, P)
    map: Tensor  # (B, C, h, w)


class FeatureStudent(nn.Module):
    """A network with the projections onto a teacher's features, which exist in training alone."""

    def __init__(self, network: HandNet, mean: int, channels: int) -> None:
        """mean, channels: widths of the teacher's mean feature and of its map."""
        super().__init__()
        *_, middle, last = network.backbone.feature_info.channels()
        self.network = network
        self.mean = nn.Linear(last, mean)
        self.map = nn.Conv2d(middle, channels, 1)

    def forward(self, image: Tensor) -> Matched:
        """image: (B, 3, S, S), 0..1."""
        net = self.network(image)
        return Matched(net, self.mean(net.features), self.map(net.map.float()))


def matching_losses(matched: Matched, batch: Batch) -> dict[str, Tensor]:
    """Mean squared differences from the teacher's features, which are in standard deviations of each channel.

    Source: FitNets' regressor on a hint (Romero et al., 2015).
    """
    if not batch.taught_mean.shape[1]:
        return {}
    target = F.interpolate(batch.taught_map, matched.map.shape[-2:], mode="bilinear", align_corners=False)
    mean = (matched.mean.float() - batch.taught_mean).square().mean(1)
    by_position = (matched.map.float() - target).square().mean((1, 2, 3))
    return {
        "taught_mean": masked_mean(mean, batch.has_taught),
        "taught_map": masked_mean(by_position, batch.has_taught),
    }


def map_matching_loss(projected: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """Scalar: mean squared difference from a teacher's (K, C, h, w) maps of the first images (FitNets).

    Each of the (B, C, H, W) projected maps is shrunk to the teacher's own size.
    """
    return sum(
        functional.mse_loss(functional.adaptive_avg_pool2d(ours[: len(theirs)], theirs.shape[-2:]), theirs)
        for ours, theirs in zip(projected, taught, strict=True)
    )


def detection_losses(output: DetectorOutput, batch: DetectionBatch) -> dict[str, Tensor]:
    """The losses by name, each about a hand: sums over the batch by the number of hands in it.

    `heat` is CenterNet's focal loss (Zhou et al. 2019, equation 1, alpha 2, beta 4) where labels are
    sure. The others are weighted by how near a cell is to a hand's centre.
    """
    least = 1 / processes()
    hands = mean_over_processes((batch.heat == 1).sum().float()).clamp_min(least)
    cells = mean_over_processes(batch.near.sum()).clamp_min(least)

    def near(error: Tensor) -> Tensor:
        return (error * batch.near).sum() / cells

    return {
        "heat": (focal_loss(output.heat, batch.heat) * batch.sure).sum() / hands,
        "offset": near((output.offset - batch.offset).abs().sum(1)),
        "log_size": near((output.log_size - batch.log_size).abs()),
        "direction": near((output.direction - batch.direction).abs().sum(1)),
        "handedness": near(functional.binary_cross_entropy_with_logits(output.right, batch.right, reduction="none")),
    }


def focal_loss(logit: Tensor, heat: Tensor) -> Tensor:
    """(B, h, w) the penalty of each cell: for missing a centre, or for heat away from one."""
    probability = logit.sigmoid()
    missed = -functional.logsigmoid(logit) * (1 - probability) ** 2
    alarm = -functional.logsigmoid(-logit) * probability**2 * (1 - heat) ** 4
    return torch.where(heat == 1, missed, alarm)
