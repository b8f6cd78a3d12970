"""Each loss is zero at its label, positive away from it, and silent where there is no label."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="losses are part of the training extra")

from handmesh.geometry import rotation_from_axis_angle  # noqa: E402
from handmesh.hand_model import HandModel  # noqa: E402
from handmesh.losses import LOSSES, Batch, Prediction, pose_hand, weighted_losses  # noqa: E402
from handmesh.network import HandNetOutput  # noqa: E402

GEOMETRIC = [name for name in LOSSES if name not in ("presence", "right", "shape_prior")]


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


def _case(model: HandModel, noise: float) -> tuple[Prediction, Batch]:
    generator = torch.Generator().manual_seed(0)
    rotations = rotation_from_axis_angle(0.3 * torch.randn(3, 16, 3, generator=generator))
    shape = torch.randn(3, 10, generator=generator)
    exact = pose_hand(HandNetOutput(rotations, shape, torch.zeros(3, 21, 2), torch.zeros(3), torch.zeros(3)), model)
    joints_crop = 4 * exact.joints_m[..., :2] + 0.1
    turned = rotation_from_axis_angle(noise * torch.ones(3, 16, 3)) @ rotations
    net = HandNetOutput(turned, shape + noise, joints_crop + noise, torch.full((3,), 9.0), torch.full((3,), 9.0))
    ones = torch.ones(3)
    batch = Batch(
        torch.zeros(3, 3, 64, 64, dtype=torch.uint8), joints_crop, exact.joints_m, rotations, shape,
        ones, ones, ones, ones, ones,
    )  # fmt: skip
    return pose_hand(net, model), batch


@pytest.mark.parametrize("name", GEOMETRIC)
def test_zero_at_the_label_and_positive_beside_it(model, name):
    assert LOSSES[name](*_case(model, 0.0), model) < 1e-5
    assert LOSSES[name](*_case(model, 0.1), model) > 1e-4


@pytest.mark.parametrize("name", [*GEOMETRIC, "shape_prior", "right"])
def test_without_labels_there_is_no_loss_and_no_gradient(model, name):
    prediction, batch = _case(model, 0.2)
    nothing = torch.zeros(3)
    batch = batch._replace(has_joints_crop=nothing, has_parameters=nothing, has_rough_3d=nothing, presence=nothing)
    assert LOSSES[name](prediction, batch, model) == 0


def test_rough_3d_ignores_the_size_of_the_rough_hand(model):
    prediction, batch = _case(model, 0.0)
    batch = batch._replace(joints_m=batch.joints_m * 1.3)
    assert LOSSES["rough_3d"](prediction, batch, model) < 1e-5


def test_vertices_are_in_decimetres(model):
    prediction, batch = _case(model, 0.0)
    moved = prediction._replace(vertices_m=prediction.vertices_m + 0.01)
    torch.testing.assert_close(LOSSES["vertices_3d"](moved, batch, model), torch.tensor(0.1))


def test_unknown_names_are_refused(model):
    with pytest.raises(ValueError, match="joints_2d"):
        weighted_losses(*_case(model, 0.0), model, {"joint_2d": 1.0})
