"""The stand-in for MANO: a sound mesh that moves as the open hand does, with MANO's numbering."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
smplx = pytest.importorskip("smplx")

from mano_twin import twin  # noqa: E402
from mano_twin.decimate import TexturedMesh, decimate  # noqa: E402

from handmesh import geometry, skeleton  # noqa: E402
from handmesh.assets import OPEN_HAND  # noqa: E402
from handmesh.hand.mano import FIELDS, check_mano_fields, convert_mano  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.hand.poses import default_sampler  # noqa: E402


@pytest.fixture(scope="module")
def fields() -> dict[str, np.ndarray]:
    return twin.twin_fields()


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> HandModel:
    path = tmp_path_factory.mktemp("twin") / "MANO_RIGHT.pkl"
    twin.write_twin(path)
    return HandModel.load(convert_mano(path).path)


def poses(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Plausible rotations and shapes."""
    rng, sampler = np.random.default_rng(seed), default_sampler()
    rotations = np.stack([np.concatenate([np.eye(3)[None], sampler.sample(rng)]) for _ in range(count)])
    return torch.from_numpy(rotations).float(), torch.from_numpy(rng.normal(0, 1, (count, 10))).float()


def sides(faces: np.ndarray) -> list[tuple[int, int]]:
    return [tuple(side) for k in range(3) for side in faces[:, [k, (k + 1) % 3]].tolist()]


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(..., F, 3) unit."""
    corners = vertices[..., faces, :]
    cross = np.cross(corners[..., 1, :] - corners[..., 0, :], corners[..., 2, :] - corners[..., 0, :])
    return cross / np.linalg.norm(cross, axis=-1, keepdims=True)


def test_it_has_manos_shapes(fields) -> None:
    check_mano_fields(fields, "twin")
    assert {name: fields[name].shape for name in FIELDS} == FIELDS
    assert fields["f"].dtype == np.uint32 and fields["v_template"].dtype == np.float64
    np.testing.assert_allclose(fields["hands_components"] @ fields["hands_components"].T, np.eye(45), atol=1e-5)


def test_the_mesh_is_one_sheet_with_an_open_wrist(fields) -> None:
    directed = sides(fields["f"])
    border = [side for side in directed if side[::-1] not in set(directed)]
    assert len(set(directed)) == len(directed)  # consistently oriented
    assert len(border) == twin.BORDER and len({a for a, _ in border}) == twin.BORDER  # one loop
    assert set(fields["f"].ravel().tolist()) == set(range(778))
    edges = {tuple(sorted(side)) for side in directed}
    assert 778 - len(edges) + 1538 == 1  # a disc
    elbow_side = fields["v_template"][[a for a, _ in border], 0]
    assert elbow_side.min() > fields["J"][0, 0] + 0.04


def test_texture_and_surface_have_the_same_sheet(fields) -> None:
    corners = fields["uv"].astype(np.float64)[fields["ft"].astype(int)]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    assert (area > 0).all() or (area < 0).all()  # nothing is folded in the texture
    vertex_of = {}
    for vertex, wedge in zip(fields["f"].ravel().tolist(), fields["ft"].ravel().tolist(), strict=True):
        assert vertex_of.setdefault(wedge, vertex) == vertex


def test_fingertips_have_freihands_numbers(fields, model) -> None:
    with np.load(OPEN_HAND) as hand:
        there = hand["v_template"]
    for name, vertex in skeleton.FREIHAND_TIP_VERTICES.items():
        np.testing.assert_allclose(
            fields["v_template"][vertex], there[skeleton.OPEN_HAND_TIP_VERTICES[name]], atol=1e-7
        )
    edges = set(sides(fields["f"]))
    for name, vertex in twin.SMPLX_TIPS.items():
        assert {(vertex, skeleton.FREIHAND_TIP_VERTICES[name]), (skeleton.FREIHAND_TIP_VERTICES[name], vertex)} & edges


def test_joints_stay_where_the_open_hands_are(model) -> None:
    rotations, shape = poses(100)
    ours, theirs = model(rotations, shape).joints, HandModel.load()(rotations, shape).joints
    assert (ours - theirs).norm(dim=2).max() < 0.0008
    rest = torch.eye(3).expand(1, 16, 3, 3), torch.zeros(1, 10)
    assert (model(*rest).joints - HandModel.load()(*rest).joints).norm(dim=2).max() < 1e-5


def test_pose_correctives_are_there_and_small(model) -> None:
    rotations, shape = poses(100, seed=1)
    with_them = model(rotations, shape).vertices
    kept, model.posedirs = model.posedirs, None
    without = model(rotations, shape).vertices
    model.posedirs = kept
    moved = (with_them - without).norm(dim=2)
    assert moved.amax(1).median() > 0.0003 and moved.max() < 0.001


def test_no_more_folds_over_than_in_the_open_hand(model) -> None:
    """Strong shapes fold a few tiny faces of the open hand itself, and fists press skin together."""
    open_hand = HandModel.load()
    assert rotated_fraction(model) < 0.5 * rotated_fraction(open_hand) < 2e-3
    assert folded_fraction(model) < 1.5 * folded_fraction(open_hand) + 1e-3


def rotated_fraction(model: HandModel) -> float:
    """The fraction of faces that 60 random shapes at rest turn by more than 90 degrees."""
    shape = torch.from_numpy(np.random.default_rng(2).normal(0, 1, (60, 10))).float()
    shape[0] = 0
    vertices = model(torch.eye(3).expand(60, 16, 3, 3), shape).vertices.double().numpy()
    normals = face_normals(vertices, model.faces)
    return float(((normals * normals[:1]).sum(-1) < 0).mean())


def folded_fraction(model: HandModel) -> float:
    """The fraction of inner edges in random poses whose two faces turn against each other by more than 120 degrees."""
    faces = model.faces.astype(int)
    face_of = {side: k % len(faces) for k, side in enumerate(sides(faces))}
    pairs = np.array([(face, face_of[side[::-1]]) for side, face in face_of.items() if side[::-1] in face_of])
    normals = face_normals(model(*poses(60, seed=3)).vertices.numpy(), faces)
    return float(((normals[:, pairs[:, 0]] * normals[:, pairs[:, 1]]).sum(-1) < -0.5).mean())


def test_the_left_hand_is_the_mirrored_right_one(fields, model) -> None:
    left = twin.mirrored_fields(fields, faulty_shapes=False)
    rotations, shape = poses(4, seed=4)
    layer = smplx.MANOLayer("", data_struct=smplx.utils.Struct(**left), is_rhand=False, use_pca=False, num_pca_comps=45)
    mirrored = torch.from_numpy(np.ascontiguousarray(geometry.mirror_rotations(rotations.numpy()))).float()
    found = layer(betas=shape, global_orient=mirrored[:, :1], hand_pose=mirrored[:, 1:]).vertices.numpy()
    np.testing.assert_allclose(geometry.mirror_points_m(found), model(rotations, shape).vertices.numpy(), atol=1e-6)
    again = twin.mirrored_fields(left, faulty_shapes=False)
    assert all(np.array_equal(again[name], fields[name]) for name in FIELDS)
    mean = torch.from_numpy(geometry.mirror_rotations(model.mean_pose.numpy()))
    from_vectors = smplx.lbs.batch_rodrigues(torch.from_numpy(left["hands_mean"]).float().reshape(15, 3))
    torch.testing.assert_close(from_vectors, mean.float(), atol=1e-5, rtol=0)


def test_equal_runs_write_equal_files(tmp_path) -> None:
    twin.write_twin(tmp_path / "a.pkl")
    twin.twin_fields.cache_clear()
    twin.write_twin(tmp_path / "b.pkl")
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()


def test_decimation_keeps_a_flat_sheet_flat_and_says_when_it_cannot_go_on() -> None:
    n = 9
    y, x = np.mgrid[:n, :n].reshape(2, -1)
    points = np.stack([x, y, 0 * x], -1)[None] * 0.01
    corner = (np.arange(n - 1)[:, None] * n + np.arange(n - 1)).ravel()
    faces = np.concatenate(
        [np.stack([corner, corner + 1, corner + n], -1), np.stack([corner + 1, corner + n + 1, corner + n], -1)]
    )
    border = int(((x % (n - 1) == 0) | (y % (n - 1) == 0)).sum())
    sheet = TexturedMesh(faces, faces)
    corners = [0, n - 1, n * n - n, n * n - 1]
    small = decimate(points, sheet, points[0, :, :2], 50, border - 8, corners)
    assert len(np.unique(small.faces)) == 50 and set(corners) <= set(small.faces.ravel().tolist())
    area = np.cross(*(points[0, small.faces[:, k], :2] - points[0, small.faces[:, 0], :2] for k in (1, 2)))
    assert (area > 0).all() and abs(area.sum() / 2 - (0.01 * (n - 1)) ** 2) < 1e-12
    with pytest.raises(ValueError, match="more collapses"):
        decimate(points, sheet, points[0, :, :2], 3, border, corners)


def test_the_command(tmp_path, monkeypatch, capsys) -> None:
    script = Path(__file__).parents[2] / "scripts" / "make_mano_twin.py"
    monkeypatch.setattr(
        sys, "argv", ["make_mano_twin.py", "--output", str(tmp_path / "MANO_LEFT.pkl"), "--side", "left"]
    )
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0 and "not MANO" in capsys.readouterr().out
    assert convert_mano(tmp_path / "MANO_LEFT.pkl").side == "left"
