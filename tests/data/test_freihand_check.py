"""The check of a FreiHAND folder finds what is broken, says what to do, and lets a whole set pass."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from freihand_files import read_list, write_freihand, write_list  # noqa: E402

from handmesh import skeleton  # noqa: E402
from handmesh.cli import main  # noqa: E402
from handmesh.data import freihand_check  # noqa: E402
from handmesh.data.cache import CACHE_FOLDER  # noqa: E402
from handmesh.data.freihand import FreihandError, read_freihand  # noqa: E402
from handmesh.data.freihand_check import TILE_PX, check_freihand, findings_table, image_state, tile, write_sheet  # noqa: E402  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402

ROOT = Path(__file__).parents[2]
ROWS, EVALUATION, SIZE = 3, 2, 96


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A set that no test changes."""
    return write_freihand(tmp_path_factory.mktemp("freihand"), ROWS, EVALUATION, size=SIZE)


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A set to be damaged."""
    return shutil.copytree(whole, tmp_path / "freihand", ignore=shutil.ignore_patterns(CACHE_FOLDER))


def broken(root: Path, **options) -> dict[str, str]:
    """What is broken, and what was found and is to be done."""
    findings = check_freihand(root, progress=False, **options)
    assert all(finding.remedy for finding in findings if finding.verdict == "broken")
    return {f.what: f"{f.found}; {f.remedy}" for f in findings if f.verdict == "broken"}


def change(root: Path, name: str, edit, split: str = "training") -> None:
    """Rewrite a list with `edit` of its array."""
    write_list(root, split, name, edit(np.array(read_list(root, split, name))).tolist())


def test_a_whole_set_passes(whole):
    findings = check_freihand(whole, decode=True, progress=False)
    verdicts = {finding.what: finding.verdict for finding in findings}
    notes = {"training lists", "training/rgb", "training/mask", "evaluation lists", "evaluation/rgb"}
    assert {what for what, verdict in verdicts.items() if verdict == "note"} == notes, "few rows, small images"
    assert {verdict for what, verdict in verdicts.items() if what not in notes} == {"ok"}
    for name in ("mano's root is joint 9", "scale = |xyz9 - xyz10|", "mano gives verts", "joints of verts are xyz"):
        assert verdicts[f"training {name}"] == verdicts[f"evaluation {name}"] == "ok"


def test_the_fit_is_measured_in_millimetres(whole, root):
    findings = {f.what: f.found for f in check_freihand(whole, ("training",), progress=False)}
    mean_mm = float(findings["training mano gives xyz"].split()[1])
    assert mean_mm < 1e-3
    change(root, "xyz", lambda xyz: xyz + [0, 0, 0.001])
    change(root, "verts", lambda verts: verts + [0, 0, 0.001])
    findings = {f.what: f.found for f in check_freihand(root, ("training",), progress=False)}
    assert findings["training mano gives verts"].startswith("mean 1 mm, max 1 mm")
    assert findings["training mano's root is joint 9"].startswith("mean 1 mm, max 1 mm")
    assert broken(root) == {}, "the real set's fit is of this quality"


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        ("rgb/00000005.jpg", lambda path: path.unlink(), "1 of 12 missing, the first 00000005.jpg"),
        ("mask/00000001.jpg", lambda path: path.unlink(), "1 of 3 missing, the first 00000001.jpg"),
        ("rgb/00000000.jpg", lambda path: path.write_bytes(path.read_bytes()[:-30]), "1 of 12 truncated"),
        ("rgb/00000007.jpg", lambda path: path.write_bytes(b""), "1 of 12 damaged"),
        ("mask/00000000.jpg", lambda path: path.write_bytes(b"<html>\xff\xd9"), "1 of 3 damaged"),
        ("rgb/00000002.jpg", lambda path: cv2.imwrite(str(path), np.zeros((9, 8, 3))), "1 of 12 of another size"),
        ("rgb/00000012.jpg", lambda path: path.write_bytes(b"x"), "1 files more than the lists have rows for"),
    ],
)
def test_bad_images_are_counted_and_named(root, name, damage, words):
    damage(root / "training" / name)
    found = broken(root)
    assert list(found) == [f"training/{name.split('/')[0]}"]
    assert words in found[f"training/{name.split('/')[0]}"] and "unpack FreiHAND_pub_v2.zip" in str(found)


def test_only_decoding_finds_damage_between_header_and_end(root):
    path = root / "training/rgb/00000001.jpg"
    data = bytearray(path.read_bytes())
    codes = data.index(b"\xff\xc4") + 5  # behind the marker, length and number of a Huffman table
    data[codes : codes + 16] = b"\xff" * 16
    path.write_bytes(data)
    assert image_state(path) == (SIZE, SIZE)
    assert image_state(path, decode=True) == "damaged"
    assert broken(root) == {} and "training/rgb" in broken(root, decode=True)


@pytest.mark.parametrize(
    ("name", "edit", "what", "words"),
    [
        ("xyz", lambda xyz: xyz * 1000, "training depth of joints", "must be metres"),
        ("xyz", lambda xyz: xyz * [1, 1, -1], "training depth of joints", "z forward"),
        ("xyz", lambda xyz: xyz + [0.6, 0, 0], "training projected joints", "3 hands far from it, the first in row 0"),
        ("xyz", lambda xyz: xyz[::-1], "training mano's root is joint 9", "not of one set"),
        ("scale", lambda scale: scale * 1.1, "training scale = |xyz9 - xyz10|", "not of one set"),
        ("verts", lambda verts: verts + 0.2, "training meshes lie at their joints", "not of one set"),
        ("K", lambda K: K.transpose(0, 2, 1), "training cameras", "not (fx 0 cx; 0 fy cy; 0 0 1)"),
        ("K", lambda K: K * [[1.5], [1], [1]], "training cameras", "fx near fy"),
        ("mano", lambda mano: mano * np.append(np.ones(60), 1.2), "training mano's root is joint 9", "mean"),
        ("mano", lambda mano: mano * np.append(np.zeros(48), np.ones(13)), "training mano gives verts", "right hand"),
        ("xyz", lambda xyz: xyz[:, ::-1], "training joints of verts are xyz", "another hand model"),
    ],
)
def test_labels_that_cannot_be_are_found(root, name, edit, what, words):
    change(root, name, edit)
    assert words in broken(root)[what]


def test_other_fingertips_are_named(whole):
    tips = skeleton.OPEN_HAND_TIP_VERTICES | {"ring4": 600, "little4": 700}
    found = broken(whole, hand=HandModel.load(tips=tips), splits=("training",))
    assert "ring4, little4; other fingertip vertices" in found["training joints of verts are xyz"]


def test_a_hand_model_of_another_mesh_is_said_so(root):
    for split in ("training", "evaluation"):
        change(root, "verts", lambda verts: verts[:, :778], split)
    findings = {f.what: f for f in check_freihand(root, progress=False)}
    assert findings["training hand model"].verdict == "note"
    assert "1689 vertices, the set's meshes have 778" in findings["training hand model"].found
    assert "--hand-model" in broken(root, hand=HandModel.load())["training hand model"]


def test_lists_that_are_missing_cut_or_short_are_named(root):
    (root / "training_scale.json").unlink()
    path = root / "training_verts.json"
    path.write_text(path.read_text()[:-9])
    change(root, "mano", lambda mano: mano[:2])
    found = broken(root)
    assert found["training_scale.json"] == "missing; unpack FreiHAND_pub_v2.zip again"
    assert "it ends in the middle, after 2 rows" in found["training_verts.json"]
    assert "2 rows, training_K.json has 3" in found["training_mano.json"]
    assert set(found) == {"training_scale.json", "training_verts.json", "training_mano.json"}


def test_evaluation_without_labels_is_a_note(root):
    for name in ("xyz", "verts", "mano"):
        (root / f"evaluation_{name}.json").unlink()
    findings = {f.what: f for f in check_freihand(root, ("evaluation",), progress=False)}
    assert findings["evaluation_xyz.json"].verdict == "note" and "FreiHAND_pub_v2_eval" in str(findings)
    assert broken(root) == {}


def test_a_folder_that_is_something_else(tmp_path):
    with pytest.raises(FreihandError, match="not FreiHAND's folder"):
        check_freihand(tmp_path)


def test_the_table_shows_every_finding(whole):
    findings = check_freihand(whole, progress=False)
    assert findings_table(findings).row_count == len(findings)


def test_real_counts_and_size_are_no_note(root, monkeypatch):
    monkeypatch.setattr(freihand_check, "REAL_ROWS", {"training": ROWS, "evaluation": EVALUATION})
    monkeypatch.setattr(freihand_check, "REAL_SIZE", (SIZE, SIZE))
    assert {finding.verdict for finding in check_freihand(root, progress=False)} == {"ok"}


def test_the_overlay_draws_on_the_hand(whole, tmp_path):
    freihand = read_freihand(whole, "training")
    plain = cv2.resize(freihand.image(1), (TILE_PX, TILE_PX), interpolation=cv2.INTER_CUBIC)
    drawn = (tile(freihand, 1) != plain).any(2)
    hand = cv2.resize(freihand.mask(1), (TILE_PX, TILE_PX)) > 0
    drawn[:24] = hand[:24] = False  # the number
    assert drawn[hand].mean() > 0.1 and drawn[~hand].mean() < 0.05
    write_sheet(freihand, tmp_path / "sheets" / "a.png")
    assert cv2.imread(str(tmp_path / "sheets" / "a.png")).shape == (ROWS * TILE_PX, 4 * TILE_PX, 3)
    write_sheet(read_freihand(whole, "evaluation"), tmp_path / "b.png")
    with pytest.raises(ValueError, match="unknown file extension"):
        write_sheet(freihand, tmp_path / "c.txt")


def run(*words: str) -> int:
    return main(["data", "check-freihand", *words])


def test_the_command_ends_with_1_where_something_is_broken(root, capsys):
    sheet = root / "sheet.png"
    assert run(str(root), "--output", str(sheet)) == 0 and sheet.is_file()
    assert "nothing is broken" in capsys.readouterr().out
    (root / "training/rgb/00000004.jpg").unlink()
    assert run(str(root)) == 1
    assert "1 of 12 missing" in " ".join(capsys.readouterr().out.split())
    assert run(str(root), "--split", "evaluation") == 0
    capsys.readouterr()
    for arguments in ([str(root / "nowhere")], [str(root), "--hand-model", str(root / "training_K.json")]):
        assert run(*arguments) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_what_macos_copies_beside_files_is_no_file_too_many(root):
    for path in [*root.rglob("*.jpg"), *root.rglob("*.json")]:
        path.with_name(f"._{path.name}").write_bytes(b"attributes")
        path.with_name(".DS_Store").write_bytes(b"order")
    assert broken(root) == {}
