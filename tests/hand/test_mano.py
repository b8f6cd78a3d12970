"""MANO's pickle, read and converted: the numbers, the sides, and everything that must be refused.

MANO itself cannot be had here: the files are the stand-in's, written in MANO's format.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
smplx = pytest.importorskip("smplx")

from mano_twin import python2_pickle, twin  # noqa: E402
from mano_twin.python2_pickle import Call, Global, Instance  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

from handmesh import skeleton  # noqa: E402
from handmesh.hand.mano import (  # noqa: E402  # noqa: E402
    FIELDS,
    MANO_HELP,
    DamagedPickleError,
    RefusedPickleError,
    convert_mano,
    growth_correlation,
    hand_side,
    read_mano_pickle,
    read_pickle,
)
from handmesh.hand.model import HandModel  # noqa: E402

COMMAND = [sys.executable, "-m", "handmesh", "data", "convert-mano"]

MANO_GLOBALS = {
    "numpy.core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "__builtin__ set",
    "chumpy.ch Ch",
    "chumpy.reordering Select",
    "scipy.sparse.csc csc_matrix",
}
"""What the distributed files name, as others have reported."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("mano")


@pytest.fixture(scope="module")
def right(folder) -> Path:
    twin.write_twin(folder / "MANO_RIGHT.pkl")
    return folder / "MANO_RIGHT.pkl"


@pytest.fixture(scope="module")
def left(folder) -> Path:
    """With the distributed file's fault."""
    twin.write_twin(folder / "MANO_LEFT.pkl", "left", faulty_shapes=True)
    return folder / "MANO_LEFT.pkl"


@pytest.fixture(scope="module")
def converted(right) -> Path:
    return convert_mano(right).path


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def rewritten(tmp_path: Path, **changes: object) -> Path:
    """The stand-in's pickle with some of its entries changed; None leaves one out."""
    entries = {**twin.pickled(twin.twin_fields(), texture=False), **changes}
    path = tmp_path / "MANO_RIGHT.pkl"
    path.write_bytes(python2_pickle.dumps({name: value for name, value in entries.items() if value is not None}))
    return path


# The format


def test_the_stand_in_is_a_python_2_pickle_of_what_mano_names(folder, right) -> None:
    twin.write_twin(folder / "bare.pkl", texture=False)
    opcodes = list(pickletools.genops((folder / "bare.pkl").read_bytes()))
    assert {argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"} == MANO_GLOBALS
    assert max(opcode.proto for opcode, _, _ in opcodes) == 2
    assert not any("UNICODE" in opcode.name or "BYTES" in opcode.name for opcode, _, _ in opcodes)


def test_python_reads_what_the_python_2_writer_wrote() -> None:
    arrays = [np.arange(6, dtype=np.int64).reshape(2, 3), np.asfortranarray(np.eye(3)[:2]), np.uint32([2**32 - 1])]
    value = {"a": [1, -1, 2**40, -(2**31), 0.5, None, True], "b": ("x", "y" * 300, {3, 1}), "c": {}, "d": arrays}
    found = pickle.loads(python2_pickle.dumps(value), encoding="latin1")
    assert found | {"d": 0} == value | {"d": 0}
    for one, other in zip(found["d"], arrays, strict=True):
        np.testing.assert_array_equal(one, other, strict=True)
    with pytest.raises(TypeError, match="complex"):
        python2_pickle.dumps(1j)


def test_the_numbers_arrive_as_they_were(right, converted) -> None:
    expected, fields = twin.twin_fields(), read(converted)
    assert set(fields) == {*FIELDS, "uv", "ft", "side", "source_sha256", "format_version"}
    for name in (*FIELDS, "uv", "ft"):
        np.testing.assert_array_equal(fields[name], expected[name], err_msg=name, strict=True)
    assert fields["side"] == "right" and fields["format_version"] == 1 and len(str(fields["source_sha256"])) == 64


FURTHER = {
    "bs_style": "lbs",
    "labels": np.array(["thumb", "index"]),
    "flags": np.array([True, False]),
    "waves": np.array([1j]),
    "parts": {"palm": [1, 2.5, None], 3: (4,)},
    "seen": {"a", "b"},
    "fixed": frozenset([1]),
}
"""Entries that other programs add."""


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_files_that_python_3_wrote_again_are_read(tmp_path, protocol) -> None:
    """People store MANO anew without chumpy: the same arrays, other opcodes."""
    fields = {name: twin.twin_fields()[name] for name in FIELDS}
    (tmp_path / "again.pkl").write_bytes(pickle.dumps(fields | FURTHER, protocol))
    found = read_mano_pickle(tmp_path / "again.pkl")
    assert set(found) == set(FIELDS)
    assert all(np.array_equal(found[name], fields[name]) for name in FIELDS)


def test_old_protocols_rebuild_their_objects(tmp_path) -> None:
    """Protocols 0 and 1 make objects by `copy_reg._reconstructor`; a slice of a slice is a Select in a Select."""
    shapes = twin.twin_fields()["shapedirs"]
    rebuilt = (Global("chumpy.ch", "Ch"), Global("__builtin__", "object"), None)
    array = Call(Global("copy_reg", "_reconstructor"), rebuilt, {"x": shapes})
    entries = np.arange(shapes.size)
    inner = Instance(Global("chumpy.reordering", "Select"), {"a": array, "idxs": entries[::-1]})
    outer = {"a": inner, "idxs": entries[::-1], "preferred_shape": shapes.shape}
    path = rewritten(tmp_path, shapedirs=Instance(Global("chumpy.reordering", "Select"), outer))
    np.testing.assert_array_equal(read_mano_pickle(path)["shapedirs"], shapes)


# The hand


def test_smplx_poses_the_converted_hand_as_we_do(converted) -> None:
    rng, model = np.random.default_rng(0), HandModel.load(converted)
    data = smplx.utils.Struct(**{name: read(converted)[name] for name in FIELDS})
    pose, shape = rng.normal(0, 0.4, (6, 48)), torch.from_numpy(rng.normal(0, 1.2, (6, 10)))
    layer = smplx.MANO("", data_struct=data, use_pca=False, flat_hand_mean=False, batch_size=6, dtype=torch.float64)
    parameters = {"global_orient": torch.from_numpy(pose[:, :3]), "hand_pose": torch.from_numpy(pose[:, 3:])}
    expected = layer(betas=shape, **parameters).vertices  # smplx adds the mean pose itself
    pose[:, 3:] += data.hands_mean
    rotations = torch.from_numpy(Rotation.from_rotvec(pose.reshape(-1, 3)).as_matrix().reshape(6, 16, 3, 3))
    rotating = smplx.MANOLayer("", data_struct=data, use_pca=False, num_pca_comps=45).double()
    also = rotating(betas=shape, global_orient=rotations[:, :1], hand_pose=rotations[:, 1:]).vertices
    vertices, joints = model(rotations.float(), shape.float())
    assert (vertices - expected).abs().max() < 1e-6 and (vertices - also).abs().max() < 1e-6
    assert np.linalg.norm(data.hands_mean) > 1 and model.posedirs.abs().max() > 1e-4
    regressed = torch.einsum("jv,bvc->bjc", torch.from_numpy(data.J_regressor), expected)
    tips = expected[:, [skeleton.FREIHAND_TIP_VERTICES[name] for name in skeleton.TIPS]]
    expected_joints = torch.cat([regressed, tips], 1)[:, list(skeleton.MANO_TO_KEYPOINTS)]
    assert (joints - expected_joints).abs().max() < 1e-6


def test_the_side_is_found_whatever_way_the_hand_lies() -> None:
    fields = twin.twin_fields()
    mirrored = twin.mirrored_fields(fields, faulty_shapes=True)
    rotation = Rotation.from_euler("xyz", [0.4, 2.0, -1.0]).as_matrix()
    for hand, side in ((fields, "right"), (mirrored, "left")):
        mean = Rotation.from_matrix(
            rotation @ Rotation.from_rotvec(hand["hands_mean"].reshape(15, 3)).as_matrix() @ rotation.T
        )
        rotated = {"v_template": hand["v_template"] @ rotation.T, "hands_mean": mean.as_rotvec().ravel()}
        assert hand_side(hand) == side and hand_side({**hand, **rotated}) == side
    assert hand_side({**fields, "hands_mean": np.zeros(45)}) is None


def test_a_left_hands_shapes_are_mended(left, right, folder) -> None:
    whole = twin.mirrored_fields(twin.twin_fields(), faulty_shapes=False)
    for compared_with in (None, right):
        made = convert_mano(left, folder / "left.npz", compared_with)
        assert made.side == "left" and made.shapes_mirrored
        np.testing.assert_array_equal(read(made.path)["shapedirs"], whole["shapedirs"])
    twin.write_twin(folder / "whole.pkl", "left", faulty_shapes=False)
    for compared_with in (None, right):
        made = convert_mano(folder / "whole.pkl", folder / "whole.npz", compared_with)
        assert not made.shapes_mirrored
        np.testing.assert_array_equal(read(made.path)["shapedirs"], whole["shapedirs"])


def test_the_shapes_sign_shows_without_a_component_of_size() -> None:
    """The open hand's first direction is its size; what is left of real people tells as well."""
    fields = dict(twin.twin_fields())
    fields["shapedirs"] = fields["shapedirs"].copy()
    fields["shapedirs"][:, :, 0] = 0
    assert growth_correlation(fields) > 0.5
    fields["shapedirs"] = fields["shapedirs"] * np.array([-1.0, 1, 1])[:, None]
    assert growth_correlation(fields) < -0.5


def test_where_the_sign_does_not_show_the_right_hand_is_asked_for(left, right, tmp_path) -> None:
    mirrored = twin.mirrored_fields(twin.twin_fields(), faulty_shapes=True)
    mirrored["shapedirs"] = mirrored["shapedirs"] * np.array([1.0, 0, 0])[:, None]
    path = tmp_path / "MANO_LEFT.pkl"
    path.write_bytes(python2_pickle.dumps(twin.pickled(mirrored, texture=False)))
    with pytest.raises(ValueError, match="--right"):
        convert_mano(path)
    assert convert_mano(path, right=right).shapes_mirrored
    with pytest.raises(ValueError, match="is no right hand"):
        convert_mano(path, right=left)


# Refusals


def test_a_left_hand_is_not_loaded(left, tmp_path) -> None:
    path = convert_mano(left, tmp_path / "left.npz").path
    with pytest.raises(ValueError, match=r"left hand; .* convert MANO_RIGHT.pkl"):
        HandModel.load(path)
    np.savez(tmp_path / "bare.npz", **{name: read(path)[name] for name in FIELDS})  # as others convert it
    with pytest.raises(ValueError, match="left hand"):
        HandModel.load(tmp_path / "bare.npz")


HOSTILE = [
    ("os", "system", lambda target: (f"touch {target}",)),
    ("posix", "system", lambda target: (f"touch {target}",)),
    ("subprocess", "check_call", lambda target: (["touch", str(target)],)),
    ("__builtin__", "eval", lambda target: (f"open({str(target)!r}, 'w')",)),
    ("builtins", "exec", lambda target: (f"open({str(target)!r}, 'w')",)),
    ("__builtin__", "open", lambda target: (str(target), "w")),
    ("__builtin__", "getattr", lambda target: (Global("numpy", "dtype"), "__init__")),
    ("numpy", "savetxt", lambda target: (str(target), [1.0])),
    ("numpy", "load", lambda target: (str(target),)),
    ("numpy.core.multiarray", "fromstring", lambda target: ("0", "f8")),
    ("numpy", "ndarray.tofile", lambda target: (str(target),)),
    ("chumpy.utils", "timer", lambda target: ()),
    ("handmesh.hand.mano", "read_pickle", lambda target: (b"",)),
    ("scipy.sparse.csc", "csc_matrix.__init__", lambda target: ()),
]


@pytest.mark.parametrize(("module", "name", "arguments"), HOSTILE, ids=[f"{m}.{n}" for m, n, _ in HOSTILE])
def test_a_pickle_that_names_anything_else_is_refused(tmp_path, module, name, arguments) -> None:
    target = tmp_path / "touched"
    path = rewritten(tmp_path, shapedirs=Call(Global(module, name), arguments(target)))
    with pytest.raises(RefusedPickleError, match=rf"{module}.{name}.*nothing was run.*mano.is.tue.mpg.de"):
        read_mano_pickle(path)
    assert not target.exists()


def test_other_ways_to_name_a_class_are_refused() -> None:
    stack_global = b"\x80\x04\x8c\x02os\x8c\x06system\x93."
    old_instance = b"(S'true'\nios\nsystem\n."
    for program in (stack_global, old_instance):
        with pytest.raises(RefusedPickleError, match=r"os\.system"):
            read_pickle(program)
    with pytest.raises(RefusedPickleError, match="outside itself"):
        read_pickle(b"Pname\n.")
    with pytest.raises(DamagedPickleError):
        read_pickle(b"\x80\x02\x82\x05.")  # a code of the extension registry, which nobody registered


def array_call(code: object, state: tuple[object, ...] | None = None) -> Call:
    """An array whose type and state are as given."""
    dtype = Call(Global("numpy", "dtype"), (code, 0, 1))
    empty = (Global("numpy", "ndarray"), (0,), b"b")
    full = state or (1, (1,), dtype, False, b"\0" * 8)
    return Call(Global("numpy.core.multiarray", "_reconstruct"), empty, full)


CH, SELECT = Global("chumpy.ch", "Ch"), Global("chumpy.reordering", "Select")
MISUSES = {
    "objects as raw bytes": array_call("O8"),
    "a structured type": array_call([("a", "O")]),
    "a function as a type": array_call("f8", (1, (1,), Global("__builtin__", "set"), False, b"\0" * 8)),
    "too few bytes": array_call("f8", (1, (9,), Call(Global("numpy", "dtype"), ("f8", 0, 1)), False, b"\0" * 8)),
    "a negative length": array_call("f8", (1, (-1,), Call(Global("numpy", "dtype"), ("f8", 0, 1)), False, b"")),
    "state for a function": Call(Global("_codecs", "encode"), ("a", "latin1"), {"__doc__": "x"}),
    "a class as an instance": Instance(Global("__builtin__", "set"), {"x": 1}),
    "chumpy called": Call(CH, (1, 2), {"x": 1}),
    "chumpy without numbers": Instance(CH, {"dterms": 1}),
    "chumpy with an odd state": Instance(CH, 7),
    "entries out of range": Instance(SELECT, {"a": Instance(CH, {"x": np.zeros(3)}), "idxs": np.array([5])}),
    "another shape": Instance(SELECT, {"a": np.zeros(3), "idxs": np.array([1]), "preferred_shape": (5,)}),
    "a matrix of odd columns": Instance(
        Global("scipy.sparse.csc", "csc_matrix"),
        {"_shape": (2, 2), "data": np.ones(1), "indices": np.array([0]), "indptr": np.array([0, 5, 1])},
    ),
    "a rebuilt function": Call(
        Global("copy_reg", "_reconstructor"), (Global("_codecs", "encode"), Global("__builtin__", "object"), None)
    ),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_the_known_names_cannot_be_misused(tmp_path, right, misuse) -> None:
    with pytest.raises(ValueError, match=r"damaged|no MANO hand") as caught:
        read_mano_pickle(rewritten(tmp_path, shapedirs=MISUSES[misuse]))
    assert not isinstance(caught.value, RefusedPickleError)
    read_mano_pickle(right)  # and nothing is left behind for the next file


def test_the_state_of_a_function_stays_as_it_is(right) -> None:
    """BUILD on a class or function itself, not on what it gives."""
    for name in (b"c_codecs\nencode\n", b"cchumpy.ch\nCh\n", b"cnumpy\ndtype\n"):
        with pytest.raises(DamagedPickleError):
            read_pickle(b"\x80\x02" + name + b"N}U\x05_callU\x01xs\x86b.")
        assert read_mano_pickle(right)["weights"].shape == (778, 16)


def deep_select() -> Instance:
    value: object = np.zeros(1)
    for _ in range(9):
        value = Instance(SELECT, {"a": value, "idxs": np.array([0])})
    return value


def test_endless_nesting_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="too deep"):
        read_mano_pickle(rewritten(tmp_path, shapedirs=deep_select()))


def doubled(depth: int) -> bytes:
    """A tuple of a tuple twice, and so on: some hundred bytes that are 2 ** depth values to whoever goes through."""
    steps = [b"(h" + bytes([k]) + b"h" + bytes([k]) + b"tq" + bytes([k + 1]) + b"0" for k in range(depth)]
    return b"K\x01q\x000" + b"".join(steps) + b"h" + bytes([depth])


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
BOMBS = {
    "a key to be hashed": b"\x80\x02}" + doubled(100) + b"K\x01s.",
    "a set to be hashed": b"\x80\x02}U\x01fc__builtin__\nset\n(" + doubled(100) + b"\x85tRs.",
    "a field to be gone through": b"\x80\x02}U\x0av_template" + doubled(100) + b"s.",
    "a type to be named": b"\x80\x02}U\x0av_template" + ARRAY + b"(K\x01(K\x01tcnumpy\ndtype\n(" + doubled(100)
    + b"K\x00K\x01tR\x89U\x01xtbs.",
    "places in a memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytes that are not there": b"\x80\x05}\x8c\x01f\x96\x00\x00\x00\x00\x02\x00\x00\x00s.",
    "steps": b"\x80\x02}" + b"N0" * 1_000_000 + b".",
}  # fmt: skip
UNPACK = """
import resource, sys
from pathlib import Path
from handmesh.hand.mano import FIELDS, DamagedPickleError, read_pickle
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_pickle(path.read_bytes(), FIELDS)
    except DamagedPickleError as error:
        assert len(str(error)) < 300, path.name
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes of memory as Linux counts them")
def test_a_small_file_costs_little_time_and_memory(tmp_path) -> None:
    for name, data in BOMBS.items():
        (tmp_path / f"{name}.pkl").write_bytes(data)
    done = subprocess.run([sys.executable, "-c", UNPACK, str(tmp_path)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 50_000


def test_a_matrix_of_zeros_is_no_larger_than_a_hand_needs() -> None:
    state = {"_shape": (2**40, 1), "data": np.zeros(0), "indices": np.zeros(0, int), "indptr": np.zeros(2, int)}
    matrix = Instance(Global("scipy.sparse.csc", "csc_matrix"), state)
    with pytest.raises(DamagedPickleError, match="more than 10,000,000 entries"):
        read_pickle(python2_pickle.dumps({"J_regressor": matrix}))


# Wrong files


def error_of(path: Path) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        convert_mano(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_missing_file_says_where_to_get_it(tmp_path) -> None:
    message = error_of(tmp_path / "MANO_RIGHT.pkl")
    assert "https://mano.is.tue.mpg.de" in message and "convert-mano" in message and "open hand works" in message
    with pytest.raises(FileNotFoundError, match="register at"):
        HandModel.load(tmp_path / "MANO_RIGHT.npz")


def test_what_else_lies_under_that_name_is_told_apart(tmp_path, right, converted) -> None:
    path = tmp_path / "MANO_RIGHT.pkl"
    data = right.read_bytes()
    with zipfile.ZipFile(tmp_path / "mano_v1_2.zip", "w") as archive:
        archive.writestr("mano_v1_2/models/MANO_RIGHT.pkl", data[:1000])
    whole_zip = (tmp_path / "mano_v1_2.zip").read_bytes()
    cases = [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html>Sign in</html>", "web page.*log in"),
        (whole_zip, "zip archive, as the site delivers it: unpack it"),
        (whole_zip[: len(whole_zip) // 2], "zip archive cut short"),
        (converted.read_bytes(), "converted already"),
        (data[: len(data) // 2], "cut short"),
        (data[:-1], "cut short"),
        (bytes(1000), "damaged"),
        (pickle.dumps([1, 2]), "a dictionary was expected, a list came"),
    ]
    for content, expected in cases:
        path.write_bytes(content)
        assert re.search(expected, error_of(path))
    assert not path.with_suffix(".npz").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kintree_table": np.zeros((2, 52), int)}, r"SMPL\+H.*52 joints.*MANO_RIGHT"),
        ({"kintree_table": np.zeros((2, 24), int)}, "SMPL, a body"),
        ({"hands_mean": None}, "another version: it lacks hands_mean"),
        ({"v_template": np.zeros((779, 3))}, r"v_template is \(779, 3\) of float64, not \(778, 3\)"),
        ({"posedirs": np.zeros((778, 3, 207))}, "posedirs is"),
        ({"weights": "lbs"}, "weights is"),
        ({"hands_mean": np.full(45, np.nan)}, "not finite"),
        ({"f": np.full((1538, 3), 900)}, "faces of vertices that are not there"),
        ({"weights": np.full((778, 16), 0.5)}, "weights that do not sum to 1"),
        ({"kintree_table": np.zeros((2, 16), int)}, "other parents"),
        ({"hands_mean": np.zeros(45)}, "cannot tell which hand"),
    ],
)
def test_other_versions_are_named(tmp_path, changes, expected) -> None:
    path = rewritten(tmp_path, **changes)
    with pytest.raises(ValueError, match=expected):
        convert_mano(path)
    error_of(path)


def test_scalars_are_read() -> None:
    dtype = Call(Global("numpy", "dtype"), ("f8", 0, 1))
    program = {"a": Call(Global("numpy.core.multiarray", "scalar"), (dtype, struct.pack("<d", 0.25)))}
    assert read_pickle(python2_pickle.dumps(program)) == {"a": 0.25}


def test_the_command(tmp_path, left) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess:
        return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)

    missing = run(tmp_path / "MANO_RIGHT.pkl")
    assert missing.returncode == 1 and MANO_HELP in missing.stderr and "Traceback" not in missing.stderr
    made = run(left, "--output", tmp_path / "left.npz")
    assert made.returncode == 0 and "MANO's left hand" in made.stdout and "is mended" in made.stdout
    assert (tmp_path / "left.npz").is_file()
