"""A teacher's answers as labels, and what a teacher must share with its student."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch", reason="distillation needs the training extra")
pytest.importorskip("lightning_fabric", reason="distillation needs the training extra")

from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.models.checkpoint import save_weights  # noqa: E402
from handmesh.models.mesh_net import HandNet, NetworkConfig  # noqa: E402
from handmesh.training.config import MeshConfig, as_plain  # noqa: E402
from handmesh.training.losses import (  # noqa: E402
    DISTILLATION,
    Teacher,
    distil_joints_2d,
    distillation_losses,
    pose_hand,
    sees_labelled_hand,
)


@pytest.fixture(scope="module")
def hand() -> HandModel:
    return HandModel.load()


@pytest.fixture(scope="module")
def taught(tmp_path_factory, hand) -> MeshConfig:
    """The config of a student whose teacher lies on disk."""
    path = tmp_path_factory.mktemp("teacher") / "weights.safetensors"
    torch.manual_seed(0)
    network = HandNet(NetworkConfig("fastvit_t8"), hand.mean_pose)
    save_weights(
        path, network.state_dict(), {"config": {"task": "mesh", **as_plain(MeshConfig(network=network.config))}}
    )
    return MeshConfig(teacher=path)


def test_a_teacher_teaches_nothing_to_itself_and_something_to_another(taught, hand):
    teacher, image, presence = Teacher(taught, hand), torch.rand(4, 3, 64, 64), torch.ones(4)
    answer = teacher(image)
    weights = dict.fromkeys(DISTILLATION, 1.0)
    assert all(loss < 1e-6 for loss in distillation_losses(answer, answer, presence, weights).values())
    student = pose_hand(HandNet(NetworkConfig("repvit_m0_9"), hand.mean_pose)(image), hand)
    losses = distillation_losses(student, answer, presence, weights)
    assert all(loss > 1e-5 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad is None for parameter in teacher.network.parameters())


def test_maps_and_attention_are_compared_where_both_networks_have_them(taught, hand):
    answer = Teacher(taught, hand)(torch.rand(2, 3, 64, 64))
    others = {"map": NetworkConfig("fastvit_sa12"), "attention": NetworkConfig(head="pooled")}
    for name, config in others.items():
        student = pose_hand(HandNet(config, hand.mean_pose)(torch.rand(2, 3, 64, 64)), hand)
        with pytest.raises(ValueError, match=f"distillation by {name} needs"):
            distillation_losses(student, answer, torch.ones(2), {name: 1.0})


def test_crops_without_a_hand_are_not_taught(taught, hand):
    answer = Teacher(taught, hand)(torch.rand(2, 3, 64, 64))
    student = pose_hand(HandNet(NetworkConfig(), hand.mean_pose)(torch.rand(2, 3, 64, 64)), hand)
    losses = distillation_losses(student, answer, torch.zeros(2), dict.fromkeys(DISTILLATION, 1.0))
    assert all(loss == 0 for loss in losses.values())


def test_a_teacher_that_sees_another_hand_teaches_nothing(taught, hand):
    """In a crop over two hands: its joints lie far off those that are labelled, where some are."""
    answer = Teacher(taught, hand)(torch.rand(4, 3, 64, 64))
    moved = torch.tensor([0.0, 0.5, 0.5, 0.0])[:, None, None]
    labelled = torch.ones(4, 21)
    labelled[2] = 0
    batch = SimpleNamespace(
        joints_crop=answer.joints_crop + moved, has_joints_crop=labelled, presence=torch.tensor([1.0, 1.0, 1.0, 0.0])
    )
    assert sees_labelled_hand(answer, batch).tolist() == [1, 0, 1, 0]


def test_a_teacher_of_other_crops_or_another_hand_is_refused(taught, hand):
    with pytest.raises(ValueError, match=r"box_scale"):
        Teacher(replace(taught, box_scale=2.0), hand)
    with pytest.raises(ValueError, match=r"poses the open hand, this run MANO_RIGHT\.npz"):
        Teacher(replace(taught, hand_model=Path("elsewhere/MANO_RIGHT.npz")), hand)
    with pytest.raises(ValueError, match=r"no weights at"):
        Teacher(replace(taught, teacher=Path("nowhere.safetensors")), hand)


def test_unknown_names_are_refused(taught, hand):
    answer = Teacher(taught, hand)(torch.rand(2, 3, 64, 64))
    with pytest.raises(ValueError, match="joints_2d"):
        distillation_losses(answer, answer, torch.ones(2), {"logits": 1.0})


@pytest.mark.parametrize("size", [64, 96])
def test_a_teacher_sees_crops_of_the_size_that_it_was_trained_with(taught, hand, size, monkeypatch):
    """A small student's crops are enlarged for it, and a large one's made smaller; its own it sees as they are."""
    teacher, seen = Teacher(taught, hand), []
    assert teacher.size == MeshConfig().run.stages[-1].crop_size == 96
    forward = teacher.network.forward
    monkeypatch.setattr(teacher.network, "forward", lambda image: seen.append(image) or forward(image))
    ramp = torch.linspace(0, 1, size).expand(1, 3, size, size)
    answer = teacher(ramp)
    assert seen[0].shape[-1] == 96 and answer.joints_crop.abs().max() < 1
    torch.testing.assert_close(seen[0][0, 0, 40, 8:-8], torch.linspace(0, 1, 96)[8:-8], atol=0.01, rtol=0)


def test_where_a_teacher_sees_beyond_the_students_reach_it_is_not_followed(taught, hand):
    answer = Teacher(taught, hand)(torch.rand(1, 3, 96, 96))
    at_border = answer._replace(joints_crop=torch.full_like(answer.joints_crop, 0.95))
    student = answer._replace(net=answer.net._replace(attention=torch.zeros(1, 21, 8, 8)))
    assert distil_joints_2d(student, at_border) == 0
    assert distil_joints_2d(student, at_border._replace(joints_crop=0.8 * at_border.joints_crop)) > 0
