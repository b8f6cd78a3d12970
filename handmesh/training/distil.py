"""Distillation: a trained network teaches another on what both say of the same crops.

A `Teacher` is a network of this project, asked as training goes on. `FeatureStudent` learns from the cached
features of any other (data.taught).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from handmesh.checkpoint import load_trained
from handmesh.hand_model import HandModel
from handmesh.losses import Batch, Prediction, masked_mean, pose_hand
from handmesh.network import HandNet, HandNetOutput
from handmesh.training.config import MeshConfig


class Teacher:
    """A frozen network that answers with the hand that it sees."""

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
        self.network = network.requires_grad_(False)
        self.model = model

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Prediction:
        net = self.network.to(image.device)(image)
        with torch.autocast(image.device.type, enabled=False):
            return pose_hand(net, self.model)


def _name(hand_model: Path | str | None) -> str:
    return "the open hand" if hand_model is None else Path(hand_model).name


def joints_2d(student: Prediction, teacher: Prediction) -> Tensor:
    """L1 of the joints in the crop, in half crop sides."""
    return (student.joints_crop - teacher.joints_crop).abs().mean((1, 2))


def joints_3d(student: Prediction, teacher: Prediction) -> Tensor:
    """L1 of the root-relative joints in decimetres."""
    return 10 * (student.joints_m - teacher.joints_m).abs().mean((1, 2))


def vertices_3d(student: Prediction, teacher: Prediction) -> Tensor:
    """L1 of the root-relative vertices in decimetres."""
    return 10 * (student.vertices_m - teacher.vertices_m).abs().mean((1, 2))


def rotations(student: Prediction, teacher: Prediction) -> Tensor:
    """L1 of the rotation matrices' entries."""
    return (student.net.rotations - teacher.net.rotations).abs().mean((1, 2, 3))


def features(student: Prediction, teacher: Prediction) -> Tensor:
    """How differently the two see which crops of the batch are alike, whatever their features' widths.

    Similarity-preserving distillation (Tung & Mori 2019): squared differences between the rows of the
    batch's two similarity matrices, here of cosines of centred features.
    """
    ours, theirs = (_similarities(prediction.net.features) for prediction in (student, teacher))
    return (ours - theirs).square().mean(1)


def _similarities(features: Tensor) -> Tensor:
    directions = F.normalize(features - features.mean(0), dim=1)
    return directions @ directions.T


DISTILLATION: dict[str, Callable[[Prediction, Prediction], Tensor]] = {
    loss.__name__: loss for loss in (joints_2d, joints_3d, vertices_3d, rotations, features)
}


def distillation_losses(
    student: Prediction, teacher: Prediction, presence: Tensor, weights: Mapping[str, float]
) -> dict[str, Tensor]:
    """Each named loss times its weight, over the crops that show a hand. Raises ValueError for an unknown name."""
    unknown = set(weights) - set(DISTILLATION)
    if unknown:
        raise ValueError(f"unknown distillation losses {sorted(unknown)}; choose from {', '.join(DISTILLATION)}")
    return {
        f"distil_{name}": weight * masked_mean(DISTILLATION[name](student, teacher), presence)
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
    by_place = (matched.map.float() - target).square().mean((1, 2, 3))
    return {
        "taught_mean": masked_mean(mean, batch.has_taught),
        "taught_map": masked_mean(by_place, batch.has_taught),
    }
