"""Each loss is zero at its label, positive away from it, and silent where there is no label."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="losses are part of the training extra")

from handmesh.data.samples import Batch  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.hand.rotations import rotation_from_axis_angle  # noqa: E402
from handmesh.models.mesh_net import HandNetOutput  # noqa: E402
from handmesh.training.losses import LOSSES, Prediction, joint_gaussians, pose_hand, weighted_losses  # noqa: E402

GEOMETRIC = [name for name in LOSSES if name not in ("presence", "handedness", "shape_prior", "uncertainty")]


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def _case(model: HandModel, noise: float) -> tuple[Prediction, Batch]:
    generator = torch.Generator().manual_seed(0)
    rotations = rotation_from_axis_angle(0.3 * torch.randn(3, 16, 3, generator=generator))
    shape = torch.randn(3, 10, generator=generator)
    nothing, spread = torch.zeros(3), torch.full((3, 21, 2), 0.1)
    exact = pose_hand(HandNetOutput(rotations, shape, torch.zeros(3, 21, 2), nothing, nothing, spread), model)
    joints_crop = 4 * exact.joints_m[..., :2] + 0.1
    rotated = rotation_from_axis_angle(noise * torch.ones(3, 16, 3)) @ rotations
    sure, ones = torch.full((3,), 9.0), torch.ones(3)
    mask = (torch.rand(3, 8, 8, generator=generator) > 0.5).float()
    seen = 40 * (mask - 0.5) * (1 - 10 * noise)
    attention = joint_gaussians(joints_crop + noise, 8, 8).log()
    touching = torch.eye(4)[:3]
    contact = 40 * (touching - 0.5) * (1 - 10 * noise)
    net = HandNetOutput(
        rotated, shape + noise, joints_crop + noise, sure, sure, spread, mask=seen, attention=attention, contact=contact
    )  # fmt: skip
    batch = Batch(
        torch.zeros(3, 3, 64, 64, dtype=torch.uint8), joints_crop, exact.joints_m, exact.vertices_m, rotations, shape,
        mask, touching,
        **{name: ones for name in Batch._fields if name.startswith("has_") or name in ("presence", "right")},
    )._replace(has_joints_crop=torch.ones(3, 21), has_contact=torch.ones(3, 4))  # fmt: skip
    return pose_hand(net, model), batch


@pytest.mark.parametrize("name", GEOMETRIC)
def test_zero_at_the_label_and_positive_beside_it(model, name):
    assert LOSSES[name](*_case(model, 0.0), model) < 1e-5
    assert LOSSES[name](*_case(model, 0.1), model) > 1e-4


@pytest.mark.parametrize("name", [*GEOMETRIC, "shape_prior", "handedness"])
def test_without_labels_there_is_no_loss_and_no_gradient(model, name):
    prediction, batch = _case(model, 0.2)
    nothing = {name: torch.zeros(3) for name in Batch._fields if name.startswith("has_") or name == "presence"}
    batch = batch._replace(**nothing | {"has_joints_crop": torch.zeros(3, 21), "has_contact": torch.zeros(3, 4)})
    assert LOSSES[name](prediction, batch, model) == 0


@pytest.mark.parametrize("name", ["joints_2d", "heatmap", "reprojection", "uncertainty"])
def test_joints_that_are_not_labelled_in_the_image_teach_nothing(model, name):
    prediction, batch = _case(model, 0.1)
    labelled = torch.ones(3, 21)
    labelled[:, [4, 8]] = 0
    elsewhere = batch.joints_crop.clone()
    elsewhere[:, [4, 8]] = 0.9
    losses = [
        LOSSES[name](prediction, batch._replace(joints_crop=joints, has_joints_crop=labelled), model)
        for joints in (batch.joints_crop, elsewhere)
    ]
    torch.testing.assert_close(*losses)


def test_weak_3d_ignores_the_size_of_the_weak_3D_hand(model):
    prediction, batch = _case(model, 0.0)
    batch = batch._replace(joints_m=batch.joints_m * 1.3)
    assert LOSSES["weak_3d"](prediction, batch, model) < 1e-5


def test_vertices_are_in_decimetres(model):
    prediction, batch = _case(model, 0.0)
    moved = prediction._replace(vertices_m=prediction.vertices_m + 0.01)
    torch.testing.assert_close(LOSSES["vertices_3d"](moved, batch, model), torch.tensor(0.1))


def test_vertices_come_from_labels_before_parameters_and_from_either(model):
    prediction, batch = _case(model, 0.0)
    bare = batch._replace(vertices_m=torch.zeros(3, 0, 3), has_vertices=torch.zeros(3))
    assert LOSSES["vertices_3d"](prediction, bare, model) < 1e-5
    labelled = batch._replace(has_parameters=torch.zeros(3), rotations=torch.eye(3).expand(3, 16, 3, 3))
    assert LOSSES["vertices_3d"](prediction, labelled, model) < 1e-5
    moved = batch._replace(vertices_m=batch.vertices_m + 0.01)
    torch.testing.assert_close(LOSSES["vertices_3d"](prediction, moved, model), torch.tensor(0.1))


def test_joints_of_a_pooled_network_are_drawn_by_its_camera(model):
    prediction, _ = _case(model, 0.0)
    camera = torch.tensor([[8.0, 0.1, -0.2]]).expand(3, 3)
    drawn = pose_hand(prediction.net._replace(joints_crop=None, camera=camera), model).joints_crop
    torch.testing.assert_close(drawn, 8 * prediction.joints_m[..., :2] + torch.tensor([0.1, -0.2]))


@pytest.mark.parametrize(("name", "option"), [("mask", "segmentation"), ("contact", "contact")])
def test_a_loss_of_what_the_network_does_not_tell_says_what_to_set(model, name, option):
    prediction, batch = _case(model, 0.0)
    with pytest.raises(ValueError, match=rf"network\.{option}"):
        LOSSES[name](prediction._replace(net=prediction.net._replace(**{name: None})), batch, model)


def test_unknown_names_are_refused(model):
    with pytest.raises(ValueError, match="joints_2d"):
        weighted_losses(*_case(model, 0.0), model, {"joint_2d": 1.0})


def test_spread_is_least_where_it_says_the_errors():
    prediction, batch = _case(HandModel.load(), 0.1)
    in_crop = (prediction.joints_crop - batch.joints_crop).abs().mean(-1)
    in_space = 10 * (prediction.joints_m - batch.joints_m).abs().mean(-1)
    true = torch.stack([in_crop, in_space], -1).clamp_min(1e-4)
    losses = [
        LOSSES["uncertainty"](prediction._replace(net=prediction.net._replace(uncertainty=factor * true)), batch, None)
        for factor in (0.8, 1.0, 1.25)
    ]
    assert losses[1] < losses[0] and losses[1] < losses[2]


def test_a_wide_attention_map_costs_though_its_mean_is_right(model):
    prediction, batch = _case(model, 0.0)
    centred = batch._replace(joints_crop=torch.zeros_like(batch.joints_crop))
    wide = prediction._replace(net=prediction.net._replace(attention=torch.zeros(3, 21, 8, 8)))
    assert LOSSES["heatmap"](wide, centred, model) > 0.5
    outside = batch._replace(joints_crop=torch.full_like(batch.joints_crop, 1.1))
    assert LOSSES["heatmap"](wide, outside, model) == 0


def test_joints_that_a_soft_mean_cannot_reach_do_not_draw_the_map(model):
    """On 8 cells a soft mean ends at 0.875, wherever the joint lies."""
    prediction, batch = _case(model, 0.0)
    logits = torch.zeros(3, 21, 8, 8, requires_grad=True)
    centres = (torch.arange(8) + 0.5) / 4 - 1
    cells = torch.stack([centres.repeat(8), centres.repeat_interleave(8)], -1)
    found = logits.flatten(2).softmax(-1) @ cells
    prediction = prediction._replace(joints_crop=found, net=prediction.net._replace(attention=logits))
    labels = torch.zeros(3, 21, 2) + 0.5
    labels[:, 4], labels[:, 8], labels[:, 12] = torch.tensor([[0.9, 0.0], [0.0, -1.4], [0.87, -0.87]])
    LOSSES["joints_2d"](prediction, batch._replace(joints_crop=labels), model).backward()
    moved = logits.grad.abs().amax((0, 2, 3)) > 0
    assert not moved[4] and not moved[8] and moved[12] and moved.sum() == 19
    drawn = prediction._replace(net=prediction.net._replace(attention=None))  # by a camera, which reaches anywhere
    far = batch._replace(joints_crop=torch.full_like(labels, 1.4))
    assert LOSSES["joints_2d"](prediction, far, model) == 0 < LOSSES["joints_2d"](drawn, far, model)
