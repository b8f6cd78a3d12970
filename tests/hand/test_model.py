"""The hand model against smplx's own skinning, against its ONNX export, and against files that are no hand."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
smplx = pytest.importorskip("smplx")

from mano_twin import twin  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from handmesh import geometry, skeleton  # noqa: E402
from handmesh.assets import OPEN_HAND  # noqa: E402
from handmesh.hand.mano import FIELDS, read_hand, read_texture  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402


def random_rotations(rng: np.random.Generator, count: int) -> torch.Tensor:
    vectors = rng.normal(0, 0.5, (count * 16, 3))
    return torch.from_numpy(Rotation.from_rotvec(vectors).as_matrix().reshape(count, 16, 3, 3)).float()


def read(path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def smplx_skinning(fields: dict[str, np.ndarray], rotations: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    layer = smplx.MANOLayer("", data_struct=smplx.utils.Struct(**fields), use_pca=False, num_pca_comps=45).double()
    return layer(
        betas=shape.double(), global_orient=rotations[:, :1].double(), hand_pose=rotations[:, 1:].double()
    ).vertices


@pytest.fixture(scope="module")
def model() -> HandModel:
    return HandModel.load()


@pytest.fixture(scope="module")
def mano_like(tmp_path_factory) -> str:
    """The stand-in for MANO, with large random pose correctives in place of its small ones."""
    rng = np.random.default_rng(5)
    fields = {name: twin.twin_fields()[name] for name in FIELDS}
    fields["posedirs"] = rng.normal(0, 0.002, (778, 3, 135))
    path = tmp_path_factory.mktemp("mano") / "mano.npz"
    np.savez(path, **fields)
    return str(path)


def test_agrees_with_smplx(model: HandModel) -> None:
    rng = np.random.default_rng(0)
    rotations, shape = random_rotations(rng, 8), torch.from_numpy(rng.normal(0, 1.5, (8, 10))).float()
    expected = smplx_skinning(read(OPEN_HAND), rotations, shape)
    assert (model(rotations, shape).vertices - expected).abs().max() < 1e-6


def test_one_code_path_serves_mano_with_correctives(mano_like: str) -> None:
    rng = np.random.default_rng(1)
    rotations, shape = random_rotations(rng, 4), torch.from_numpy(rng.normal(0, 1, (4, 10))).float()
    model = HandModel.load(mano_like)
    expected = smplx_skinning(read(mano_like), rotations, shape)
    output = model(rotations, shape)
    assert model.num_vertices == 778 and model.posedirs is not None
    assert (output.vertices - expected).abs().max() < 1e-6


def test_tips_follow_from_the_mesh_unless_they_are_given(model: HandModel, mano_like: str) -> None:
    """FreiHAND's on MANO's 778 vertices, the open hand's on its own."""
    given = {**skeleton.FREIHAND_TIP_VERTICES, "ring4": 3}
    hands = [
        (model, skeleton.OPEN_HAND_TIP_VERTICES),
        (HandModel.load(mano_like), skeleton.FREIHAND_TIP_VERTICES),
        (HandModel.load(mano_like, given), given),
    ]
    for hand, tips in hands:
        vertices, joints = hand(random_rotations(np.random.default_rng(8), 1), torch.zeros(1, 10))
        for name, vertex in tips.items():
            torch.testing.assert_close(joints[:, skeleton.KEYPOINTS.index(name)], vertices[:, vertex])


def test_joints_are_the_regressor_on_posed_vertices_in_keypoint_order(model: HandModel) -> None:
    fields = read(OPEN_HAND)
    vertices, joints = model(random_rotations(np.random.default_rng(2), 1), torch.zeros(1, 10))
    posed = fields["J_regressor"] @ vertices[0].numpy()
    for name, point in zip(skeleton.KEYPOINTS, joints[0].numpy(), strict=True):
        if name in skeleton.OPEN_HAND_TIP_VERTICES:
            expected = vertices[0, skeleton.OPEN_HAND_TIP_VERTICES[name]].numpy()
        else:
            expected = posed[skeleton.MANO_JOINTS.index(name)]
        np.testing.assert_allclose(point, expected, atol=1e-6, err_msg=name)


def test_global_rotation_turns_about_the_wrist(model: HandModel) -> None:
    rotations = torch.eye(3).repeat(1, 16, 1, 1)
    rest = model(rotations, torch.zeros(1, 10))
    rotations[:, 0] = random_rotations(np.random.default_rng(3), 1)[:, 0]
    rotated = model(rotations, torch.zeros(1, 10))
    wrist = rest.joints[:, skeleton.WRIST]
    torch.testing.assert_close(rotated.joints[:, skeleton.WRIST], wrist, atol=1e-6, rtol=0)
    expected = (rest.vertices - wrist) @ rotations[:, 0].transpose(1, 2) + wrist
    torch.testing.assert_close(rotated.vertices, expected, atol=1e-6, rtol=0)


def test_the_mirrored_hand_moves_by_mirrored_rotations(model: HandModel) -> None:
    fields, rotations = read(OPEN_HAND), random_rotations(np.random.default_rng(4), 2)
    shape = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    fields["v_template"] = geometry.mirror_points_m(fields["v_template"])
    fields["shapedirs"] = np.moveaxis(geometry.mirror_points_m(np.moveaxis(fields["shapedirs"], 1, -1)), -1, 1)
    mirrored = torch.from_numpy(geometry.mirror_rotations(rotations.numpy()))
    left = smplx_skinning(fields, mirrored, shape).numpy()
    right = model(rotations, shape).vertices.numpy()
    np.testing.assert_allclose(left, geometry.mirror_points_m(right), atol=1e-6)


def test_gradients_reach_pose_and_shape(model: HandModel) -> None:
    rotations = torch.eye(3).repeat(2, 16, 1, 1).requires_grad_()
    shape = torch.zeros(2, 10, requires_grad=True)
    model(rotations, shape).joints.square().sum().backward()
    assert (rotations.grad.abs().sum((2, 3)) > 0).all() and (shape.grad.abs() > 0).any()


def test_mean_pose_is_fifteen_rotations(model: HandModel) -> None:
    expected = Rotation.from_rotvec(read(OPEN_HAND)["hands_mean"].reshape(15, 3)).as_matrix()
    np.testing.assert_allclose(model.mean_pose.numpy(), expected, atol=1e-6)


def test_checkpoints_carry_no_hand(model: HandModel) -> None:
    assert not model.state_dict()


@pytest.mark.parametrize("source", ["open hand", "mano"])
def test_onnx_parity_and_plain_operations(source: str, mano_like: str, tmp_path) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = HandModel.load(None if source == "open hand" else mano_like).eval()
    rng = np.random.default_rng(6)
    rotations, shape = random_rotations(rng, 1), torch.from_numpy(rng.normal(0, 1, (1, 10))).float()
    program = torch.onnx.export(model, (rotations, shape), dynamo=True, opset_version=20, verbose=False)
    operations = {node.op_type for node in program.model.graph}
    assert not operations & {"Einsum", "SVD", "GridSample", "ScatterND", "ScatterElements", "Loop", "If"}
    program.save(str(tmp_path / "hand.onnx"))
    session = ort.InferenceSession(str(tmp_path / "hand.onnx"))
    names = [entry.name for entry in session.get_inputs()]
    found = session.run(None, dict(zip(names, (rotations.numpy(), shape.numpy()), strict=True)))
    for ours, theirs in zip(model(rotations, shape), found, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_refuses_what_is_no_hand(tmp_path, model: HandModel) -> None:
    with pytest.raises(FileNotFoundError, match="no hand model"):
        HandModel.load(tmp_path / "none.npz")
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(b"")
    with pytest.raises(ValueError, match=r"must be converted first: .*convert-mano .*MANO_RIGHT\.pkl"):
        HandModel.load(tmp_path / "MANO_RIGHT.pkl")
    (tmp_path / "hand.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"not an \.npz file"):
        HandModel.load(tmp_path / "hand.npy")
    np.savez(tmp_path / "other.npz", v_template=np.zeros((3, 3)))
    with pytest.raises(ValueError, match="lacks shapedirs"):
        HandModel.load(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(ValueError, match=r"text\.npz"):
        HandModel.load(tmp_path / "text.npz")
    np.savez(tmp_path / "newer.npz", **read(OPEN_HAND), format_version=np.array(99))
    with pytest.raises(ValueError, match="newer handmesh"):
        HandModel.load(tmp_path / "newer.npz")
    fields = read(OPEN_HAND)
    fields["kintree_table"][0, 2] = 0
    np.savez(tmp_path / "tree.npz", **fields)
    with pytest.raises(ValueError, match="parents"):
        HandModel.load(tmp_path / "tree.npz")


def test_tips_must_be_named_and_exist() -> None:
    with pytest.raises(ValueError, match="little4"):
        HandModel.load(tips={"thumb4": 1, "index4": 2, "middle4": 3, "ring4": 4})
    with pytest.raises(ValueError, match="99999"):
        HandModel.load(tips={**skeleton.OPEN_HAND_TIP_VERTICES, "little4": 99999})


def damaged_copy(path: Path, rng: np.random.Generator) -> None:
    """The open hand's file with a bit flipped, a part missing or zeros in it."""
    data = bytearray(OPEN_HAND.read_bytes())
    at, kind = int(rng.integers(len(data))), rng.integers(3)
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        del data[at : at + int(rng.integers(1, 5000))]
    else:
        data[at : at + 500] = bytes(500)
    path.write_bytes(data)


def test_a_damaged_file_is_one_line_that_names_it(tmp_path) -> None:
    path, rng, refused = tmp_path / "hand.npz", np.random.default_rng(0), 0
    for _ in range(60):
        damaged_copy(path, rng)
        try:
            fields = read_hand(path)  # what was hit is not needed
        except ValueError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error) and "again" in str(error)
        else:
            assert all(np.array_equal(fields[name], value) for name, value in read_hand(OPEN_HAND).items())
    assert refused > 30


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"v_template": np.zeros((1689, 3), "U3")}, "v_template is"),
        ({"weights": np.full((1689, 16), np.nan)}, "weights has a value that is not finite"),
        ({"posedirs": np.zeros((1689, 3, 134))}, "posedirs is"),
        ({"f": np.full((10, 3), 5000)}, "faces of vertices that are not there"),
        ({"kintree_table": np.zeros(16, int)}, "kintree_table is"),
        ({"v_template": np.full((1689, 3), 1e30)}, "a value that no hand has"),
        ({"hands_mean": np.array(["a"], dtype=object)}, "damaged or not an .npz archive"),
    ],
)
def test_fields_of_another_kind_are_named(tmp_path, changes, expected) -> None:
    np.savez(tmp_path / "hand.npz", **(read(OPEN_HAND) | changes))
    with pytest.raises(ValueError, match=rf"^.*hand\.npz is .*{expected}.*again$"):
        read_hand(tmp_path / "hand.npz")


def test_arrays_are_no_larger_than_a_hand_needs(tmp_path) -> None:
    """A header can claim any shape, and zeros shrink to nothing in an archive."""
    path, fields = tmp_path / "hand.npz", read(OPEN_HAND)
    np.savez_compressed(path, **(fields | {"shapedirs": np.zeros(10**8, np.uint8)}))
    with pytest.raises(ValueError, match="more than 64,000,000 bytes"):
        read_hand(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13, 3, 10)})
    np.savez(path, **{name: value for name, value in fields.items() if name != "shapedirs"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("shapedirs.npy", header.getvalue())
    with pytest.raises(ValueError, match="is damaged"):
        read_hand(path)


def test_numbers_of_the_other_byte_order_are_read(tmp_path) -> None:
    fields = read(OPEN_HAND)
    np.savez(tmp_path / "hand.npz", **fields | {"v_template": fields["v_template"].astype(">f8")})
    found = read_hand(tmp_path / "hand.npz")["v_template"]
    assert found.dtype.isnative and np.array_equal(found, fields["v_template"])


def test_texture_coordinates_fit_their_faces_or_are_refused(tmp_path) -> None:
    path, fields = tmp_path / "hand.npz", read(OPEN_HAND)
    uv, faces = read_texture(OPEN_HAND)
    assert np.array_equal(uv, fields["uv"]) and np.array_equal(faces, fields["ft"])
    np.savez(path, uv=fields["uv"])
    assert read_texture(path) is None
    for uv, faces in ((fields["uv"][:9], fields["ft"]), (fields["uv"].T, fields["ft"]), (np.zeros(3), np.zeros(3))):
        np.savez(path, uv=uv, ft=faces)
        with pytest.raises(ValueError, match=r"hand\.npz is damaged: its texture"):
            read_texture(path)
