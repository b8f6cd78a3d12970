"""The NumPy hand gives what the torch hand gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mano_twin.twin import twin_fields, write_twin
from scipy.spatial.transform import Rotation

from handmesh import skeleton
from handmesh.hand.lbs import SkinnedHand
from handmesh.hand.mano import convert_mano
from handmesh.hand.model import HandModel


@pytest.fixture(scope="module", params=["open hand", "MANO twin"])
def twins(request, tmp_path_factory) -> tuple[HandModel, SkinnedHand]:
    """One hand as torch and as NumPy has it; the twin of MANO has pose-dependent corrections."""
    if request.param == "open hand":
        return HandModel.load(), SkinnedHand.open_hand()
    folder = tmp_path_factory.mktemp("mano")
    write_twin(folder / "MANO_RIGHT.pkl")
    path = convert_mano(folder / "MANO_RIGHT.pkl", folder / "mano.npz").path
    return HandModel.load(path), SkinnedHand.from_mano(twin_fields(), skeleton.FREIHAND_TIP_VERTICES)


def test_poses_as_the_torch_hand_does(twins):
    torch_hand, hand = twins
    rng = np.random.default_rng(0)
    for _ in range(5):
        rotations = Rotation.from_rotvec(rng.normal(0, 0.6, (16, 3))).as_matrix().astype(np.float32)
        shape = rng.normal(0, 1, 10).astype(np.float32)
        expected = torch_hand(torch.from_numpy(rotations)[None], torch.from_numpy(shape)[None])
        vertices, joints = hand.posed(rotations, hand.rest(shape))
        assert np.abs(vertices - expected.vertices[0].numpy()).max() < 1e-6
        assert np.abs(joints - expected.joints[0].numpy()).max() < 1e-6


def test_rest_joints_are_those_of_the_unposed_hand(twins):
    _, hand = twins
    rest = hand.rest(np.linspace(-1, 1, 10))
    vertices, joints = hand.posed(np.tile(np.eye(3), (16, 1, 1)), rest)
    assert np.abs(vertices - rest.vertices_m).max() < 1e-6
    assert np.abs(joints[list(skeleton.KEYPOINT_OF_MANO)] - rest.joints_m).max() < 1e-6


def test_has_the_faces_of_the_torch_hand(twins):
    torch_hand, hand = twins
    assert hand.faces.dtype == np.int32 and (hand.faces == torch_hand.faces).all()
