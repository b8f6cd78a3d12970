"""Distillation: a trained network teaches another on what both say of the same crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from handmesh.checkpoint import load_trained
from handmesh.hand_model import HandModel
from handmesh.losses import Prediction, masked_mean, pose_hand
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
