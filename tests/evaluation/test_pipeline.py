"""Evaluation with fakes: matching, metrics with known values, reports, sheets, and the script's errors."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from handmesh import skeleton
from handmesh.assets import model_path
from handmesh.cli import main
from handmesh.data.photos import LabelledHand
from handmesh.data.shards import read_shards
from handmesh.evaluation import pipeline as evaluation
from handmesh.evaluation.datasets import (
    Example,
    Prediction,
    Predictions,
    Run,
    ask,
    folder_names,
    from_shards,
    match,
    true_meshes,
    with_given_boxes,
    without_unsure_labels,
)
from handmesh.evaluation.pipeline import background_metrics, photo_metrics, synthetic_metrics
from handmesh.evaluation.review import case_sheet
from handmesh.files import read_image
from handmesh.geometry import project
from handmesh.types import Box, Camera, Hand

WIDTH, HEIGHT = 96, 80
CAMERA = Camera.from_fov(WIDTH, HEIGHT)
FACES = np.array([[0, k, k + 1] for k in range(1, 20)], np.int32)


def make_hand(x_m: float = 0.0, side: str = "right", score: float = 0.9) -> Hand:
    """A fan of 21 joints, 12 cm high, half a metre away, whose mesh is its joints."""
    fan = [[0.06 * np.sin(k / 3), -0.006 * k, 0.5] for k in range(21)]
    joints = np.float32(fan) + np.float32([x_m, 0.06, 0])
    return Hand(joints, joints, project(joints, CAMERA), side, score, np.eye(3), np.zeros(10), FACES)


def label_of(hand: Hand, **changes: object) -> LabelledHand:
    return replace(LabelledHand(hand.side, 1.0, hand.joints_px, hand.joints_m), **changes)


def example_of(*labels: LabelledHand, name: str = "image") -> Example:
    return Example(name, lambda: np.full((HEIGHT, WIDTH, 3), 90, np.uint8), labels, CAMERA)


def shifted(hand: Hand, fraction: float) -> Hand:
    """The hand moved sideways in the image by a fraction of its longer box side."""
    side = np.ptp(hand.joints_px, axis=0).max()
    return replace(hand, joints_px=hand.joints_px + np.array([fraction * side, 0]))


def values(metrics) -> dict[str, float]:
    return {metric.name: metric.value for metric in metrics}


def test_matching_takes_the_nearest_pair_first():
    left, right = make_hand(-0.1, "left"), make_hand(0.1)
    answers = match([shifted(right, 0.3), shifted(left, 0.1), right], [label_of(left), label_of(right)])
    assert [answer.hand.joints_px[0, 0] for answer in answers.of_labels] == [
        shifted(left, 0.1).joints_px[0, 0],
        right.joints_px[0, 0],
    ]
    assert all(answer.found and answer.side_correct for answer in answers.of_labels)
    assert len(answers.extra) == 1


def test_a_hand_far_from_all_labels_is_extra_and_a_wrong_side_is_noticed():
    hand = make_hand()
    far = match([shifted(hand, 0.51)], [label_of(hand)])
    assert far.of_labels == [Prediction()] and len(far.extra) == 1
    (answer,) = match([hand], [label_of(hand, side="left")]).of_labels
    assert answer.found and not answer.side_correct


def test_given_boxes_are_those_of_the_labels():
    hand, asked = make_hand(side="left"), []

    def estimate(image, camera, box, side):
        asked.append((box, side))
        return SimpleNamespace(hand=replace(hand, score=0.4), handedness_probability=0.7) if len(asked) == 1 else None

    label = label_of(hand)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    first, second = with_given_boxes(SimpleNamespace(estimate=estimate))(image, example_of(label, label)).of_labels
    assert asked == [(Box.around(hand.joints_px, rotation=True), "left")] * 2
    assert first.hand is not None and not first.found and first.side_correct
    assert second == Prediction()


def test_photo_metrics_with_known_values():
    hand = make_hand()
    other_side = Prediction(shifted(hand, 0.3), True, False)
    said = [
        (example_of(label_of(hand)), Predictions([Prediction(shifted(hand, 0.1), True, True)], [hand], 5.0)),
        (example_of(label_of(hand), label_of(hand)), Predictions([other_side, Prediction()], [], 7.0)),
    ]
    found = values(photo_metrics(Run(said)))
    assert found["hands found"] == pytest.approx(200 / 3)
    assert found["side correct"] == 50
    assert found["2D error, median"] == pytest.approx(0.2, abs=1e-6)
    assert found["PCK@0.2"] == 50
    assert found["PA-MPJPE (weak 3D)"] < 1e-3
    assert found["combined"] == pytest.approx((0.1 + 0.3 + 0.5) / 3), "a hand that is not found counts as 0.5"
    assert found["extra hands"] == 50
    assert found["time an image, median"] == 6


def test_fingertip_metrics_with_known_values():
    """Two hands: one with all tips within 0.1 of the box, drawn too short; one with a single tip far off."""
    hand = make_hand()
    side = np.ptp(hand.joints_px, axis=0).max()
    tips = list(skeleton.KEYPOINT_TIPS)
    along = hand.joints_px[tips] - hand.joints_px[[tip - 1 for tip in tips]]
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    short, one_off = hand.joints_px.copy(), hand.joints_px.copy()
    short[tips] -= 0.08 * side * along
    one_off[tips[1]] += 0.2 * side * along[1]
    answers = [Prediction(replace(hand, joints_px=joints_px), True, True) for joints_px in (short, one_off)]
    found = values(photo_metrics(Run([(example_of(label_of(hand), label_of(hand)), Predictions(answers, []))])))
    assert found["all fingertips within 0.1"] == 50
    assert found["fingertips along the finger"] == pytest.approx((-0.08 + 0.2 / 5) / 2, abs=1e-6)


def test_unsure_labels_are_left_out_with_the_hands_found_on_them():
    left, right = make_hand(-0.1, "left"), make_hand(0.1)
    labels = [label_of(left, score=0.79), label_of(right, score=0.8)]
    run = without_unsure_labels(Run([(example_of(*labels), match([left], labels))], ["bad"]))
    assert [(case.label.side, case.answer.found) for case in run.cases] == [("right", False)]
    assert run.false_positives == [] and run.unreadable == ["bad"]


def test_metrics_of_nothing_are_no_numbers():
    found = values(photo_metrics(Run([(example_of(label_of(make_hand())), Predictions([Prediction()], []))])))
    assert found["hands found"] == 0
    assert np.isnan([found["2D error, mean"], found["PA-MPJPE (weak 3D)"], found["side correct"]]).all()
    assert all(np.isnan(value) for value in values(photo_metrics(Run())).values())


def test_background_metrics_count_false_positives():
    counts = [0, 0, 3, 1]
    run = Run([(example_of(), Predictions([], [make_hand()] * count)) for count in counts])
    found = background_metrics(run)
    assert values(found)["false positives"] == 100 and values(found)["images with a false positive"] == 50
    assert found[0].low < 100 < found[0].high


def test_unreadable_images_are_named_not_fatal(tmp_path):
    good, bad = example_of(name="good"), Example("bad", lambda: read_image(tmp_path / "missing"))
    run = ask(lambda image, example: Predictions([], []), [bad, good])
    assert run.unreadable == ["bad"] and [example.name for example, _ in run.said] == ["good"]


def test_the_sheet_draws_the_mesh_over_its_hand():
    """The zoomed camera puts the mesh where the image shows the hand: on the labelled joints."""
    hand = make_hand()
    run = Run([(example_of(label_of(hand)), Predictions([Prediction(hand, True, True)], []))])
    sheet = case_sheet(run.cases, np.array([0.1]))
    assert sheet.shape[1] == 8 * 176
    tile = sheet[16 + 176 : 16 + 2 * 176, :176].astype(int)  # the lower half of the first tile
    drawn = np.argwhere(np.abs(tile - 90).max(-1) > 20)
    box = Box.around(hand.joints_px, 1.0, rotation=False)
    scale = 176 / (1.9 * box.size_px)
    expected = (hand.joints_px - box.centre_px) * scale + 87.5
    np.testing.assert_allclose(drawn.min(0)[::-1], expected.min(0), atol=2)
    np.testing.assert_allclose(drawn.max(0)[::-1], expected.max(0), atol=2)


@pytest.fixture
def photo_set(tmp_path: Path) -> Path:
    """Three images: a hand, a file that is no image, and no hand."""
    root = write_photos(tmp_path / "some_photos", {"a.png": [make_hand()], "b.png": [make_hand()], "c.png": []})
    (root / "b.png").write_text("no image")
    return root


def write_photos(root: Path, hands_of: dict[str, list[Hand]], colour_rgb: tuple[int, int, int] = (90, 90, 90)) -> Path:
    """A folder of plain images of one colour, in which these hands are labelled."""
    root.mkdir(parents=True)
    entries = [{"file": name, "width": WIDTH, "height": HEIGHT, "hands": []} for name in hands_of]
    for entry, hands in zip(entries, hands_of.values(), strict=True):
        for hand in hands:
            points = {"uv": hand.joints_px.tolist(), "xyz": hand.joints_m.tolist()}
            entry["hands"].append({"hand": hand.side, "score": hand.score, **points})
        cv2.imwrite(str(root / entry["file"]), np.full((HEIGHT, WIDTH, 3), colour_rgb[::-1], np.uint8))
    (root / "pseudo_labels.json").write_text(json.dumps(entries))
    return root


@pytest.fixture
def fake_product(monkeypatch):
    """A tracker that sees one and the same hand wherever it looks."""
    estimator = SimpleNamespace(estimate=lambda *_: SimpleNamespace(hand=make_hand(), handedness_probability=0.9))
    tracker = SimpleNamespace(detect=lambda image, camera: [make_hand()])
    session = SimpleNamespace(metadata={"box_scale": 1.5}, input_size=(160, 160))
    monkeypatch.setattr(evaluation, "open_session", lambda *_: session)
    monkeypatch.setattr(evaluation, "model_path", lambda model: Path(__file__))
    monkeypatch.setattr(evaluation, "Estimator", lambda session: estimator)
    monkeypatch.setattr(evaluation, "Detector", lambda session: None)
    monkeypatch.setattr(evaluation, "HandTracker", lambda *_: tracker)


@pytest.mark.usefixtures("fake_product")
def test_a_report_is_printed_and_written(photo_set, tmp_path, capsys):
    output = tmp_path / "out"
    evaluation.evaluate_photos(evaluation.PhotoOptions(root=(photo_set,), split="all", output=output))
    printed = capsys.readouterr().out
    assert "images that could not be read: 1" in printed and "threads" in printed and "x 1.5" in printed
    content = json.loads((output / "metrics.json").read_text())
    given, detected = content["reports"]
    assert (given["boxes"], detected["boxes"]) == ("given", "detected")
    assert given["hands"] == detected["hands"] == 1 and given["unreadable"] == 1
    assert detected["metrics"]["2D error, mean"]["value"] == pytest.approx(0, abs=1e-6)
    assert detected["metrics"]["extra hands"]["value"] == 50 and given["metrics"]["extra hands"]["value"] is None
    assert content["setting"]["box_scale"] == 1.5 and len(content["setting"]["model_sha256"]) == 64
    for boxes in ("given", "detected"):
        assert cv2.imread(str(output / f"some_photos-{boxes}.png")) is not None


@pytest.mark.usefixtures("fake_product")
def test_sets_are_told_apart_and_all_unseen_hands_give_the_number_to_decide_by(tmp_path, capsys):
    """10.png is held out, 0.png is not; the product sees one and the same hand wherever it looks."""
    seen, elsewhere = make_hand(), shifted(make_hand(), 2)
    known = write_photos(tmp_path / "known", {"0.png": [seen], "10.png": [seen]})
    write_photos(tmp_path / "strangers/easy", {f"{k}.png": [seen] for k in (0, 1, 10)})
    write_photos(tmp_path / "strangers/hard", {"0.png": [elsewhere, replace(elsewhere, score=0.79)]})
    empty = write_photos(tmp_path / "empty", {"10.png": []})
    options = evaluation.PhotoOptions(
        root=(known,), unseen=(tmp_path / "strangers",), backgrounds=empty, output=tmp_path / "out"
    )
    reports = evaluation.evaluate_photos(options)
    of_sets = [("known", "trained on", 1), ("easy", "unseen", 3), ("hard", "unseen", 1), ("all unseen", "unseen", 4)]
    assert [(r.data, r.group, r.images, r.boxes) for r in reports] == [
        *((*one, "given") for one in of_sets),
        *((*one, "detected") for one in of_sets),
        ("empty", "without hands", 1, "none"),
    ]
    content = json.loads((tmp_path / "out/metrics.json").read_text())
    assert content["combined"] == pytest.approx(0.5 / 4, abs=1e-6), "each hand weighs the same, not each set"
    pooled = values(reports[7].metrics)
    assert pooled["hands found"] == 75 and pooled["side correct"] == 100 and pooled["extra hands"] == 25
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "combined (unseen): 0.125"
    table = {line.split()[0]: line.split() for line in printed.splitlines() if line.strip()}
    assert table["easy"][1:3] == ["3", "100.0"] and table["empty"] == ["empty", "100.0"]
    assert all(head in printed for head in ("PCK", "PA-MPJPE", "tips along")), "a column for each metric"


@pytest.mark.usefixtures("fake_product")
def test_other_colours_are_looked_at_and_compared(tmp_path, monkeypatch):
    """A tracker that sees a hand where there is as much red as anything: in grey, but not with blue skin."""

    def detect(image, camera):
        red, _, blue = image[0, 0].astype(int)
        return [make_hand()] if red >= blue - 5 else []

    monkeypatch.setattr(evaluation, "HandTracker", lambda *_: SimpleNamespace(detect=detect))
    warm = write_photos(tmp_path / "warm", {"0.png": [make_hand()]}, (200, 120, 90))
    cold = write_photos(tmp_path / "cold", {"0.png": [make_hand()]}, (90, 120, 200))
    options = evaluation.PhotoOptions(unseen=(warm, cold), boxes="detected", colours=True, output=tmp_path / "out")
    by_set = {report.data: values(report.metrics) for report in evaluation.evaluate_photos(options)}
    names = [f"hands found {name}" for name in ("in grey", "with red and blue swapped")]
    assert [by_set["warm"][name] for name in names] == [1, 0]
    assert by_set["cold"]["hands found"] == 0 and np.isnan([by_set["cold"][name] for name in names]).all()
    assert [by_set["all unseen"][name] for name in names] == [2, 1]
    options = evaluation.PhotoOptions(unseen=(warm,), boxes="detected", output=tmp_path / "out")
    assert not set(names) & set(values(evaluation.evaluate_photos(options)[0].metrics))


def test_the_detector_that_is_given_is_the_one_that_is_opened(photo_set, tmp_path):
    """A mesh network in its place is refused, before any image is looked at."""
    options = evaluation.PhotoOptions(
        root=(photo_set,), model="fast", detector=str(model_path("fast")), output=tmp_path / "out"
    )
    with pytest.raises(ValueError, match=r"fast\.onnx holds a 'mesh' network where a 'detector' network is expected"):
        evaluation.evaluate_photos(options)


@pytest.mark.usefixtures("fake_product")
def test_backgrounds_are_reported(photo_set, tmp_path):
    options = evaluation.BackgroundOptions(root=photo_set, split="all", output=tmp_path / "out", limit=2)
    (report,) = evaluation.evaluate_backgrounds(options)
    assert (report.images, report.unreadable, values(report.metrics)["false positives"]) == (1, 1, 100)
    assert (tmp_path / "out/some_photos-none.png").is_file()


def write_posed_shard(folder: Path, offset_m: float = 0.0, hard_cases: tuple[str, ...] = ()) -> None:
    """Two samples of the bundled hand, labels as the generator writes them; of a hard set with two hard cases."""
    torch = pytest.importorskip("torch")
    from scipy.spatial.transform import Rotation

    from handmesh.hand.model import HandModel

    model, rng = HandModel.load(), np.random.default_rng(0)
    example = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
    with tarfile.open(folder / "shard-00000.tar", "w") as tar:
        for seed in range(2):
            pose, shape, translation = rng.normal(scale=0.3, size=(16, 3)), rng.normal(size=10), np.array([0, 0, 0.6])
            rotations = torch.from_numpy(Rotation.from_rotvec(pose).as_matrix()).float()[None]
            posed = model(rotations, torch.from_numpy(shape).float()[None])
            joints = posed.joints[0].double().numpy() + translation
            label = {
                **{"pose": pose.tolist(), "shape": shape.tolist(), "translation_m": (translation + offset_m).tolist()},
                **{"joints_m": joints.tolist(), "joints_px": project(joints, CAMERA).tolist(), "seed": seed},
                "camera": {name: getattr(CAMERA, name) for name in ("fx", "fy", "cx", "cy", "width", "height")},
                **({"challenge": hard_cases[seed]} if hard_cases else {}),
            }
            for part, data in (("jpg", example), ("png", example), ("json", json.dumps(label).encode())):
                member = tarfile.TarInfo(f"{seed}.{part}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def test_true_meshes_score_themselves_perfectly(tmp_path):
    write_posed_shard(tmp_path)
    shards = read_shards(tmp_path)
    truth = true_meshes(shards)

    def perfect(image, example):
        joints, vertices = truth[example.name]
        hand = replace(
            make_hand(), joints_m=joints + 0.3, vertices_m=vertices + 0.3, joints_px=example.hands[0].joints_px
        )
        return Predictions([Prediction(hand, True, True)], [])

    found = values(synthetic_metrics(ask(perfect, from_shards(shards)), truth))
    assert max(found[name] for name in ("MPJPE", "MPVPE", "PA-MPJPE", "PA-MPVPE", "2D error, mean")) < 1e-3
    assert found["F@5"] == found["PA-F@15"] == 1
    assert all(np.abs(joints[skeleton.ROOT]).max() == 0 for joints, _ in truth.values())


@pytest.mark.usefixtures("fake_product")
def test_each_folder_and_each_kind_of_a_hard_set_has_its_own_metrics(tmp_path, capsys):
    for folder, hard_cases in (("ordinary", ()), ("hard", ("grasp", "edge-on"))):
        (tmp_path / folder).mkdir()
        write_posed_shard(tmp_path / folder, hard_cases=hard_cases)
    folders = tmp_path / "ordinary", tmp_path / "hard"
    options = evaluation.SyntheticOptions(shards=folders, output=tmp_path / "out", boxes="given")
    reports = evaluation.evaluate_synthetic(options)
    assert [(report.data, report.part, report.images) for report in reports] == [
        *(("ordinary", "", 2), ("hard", "", 2), ("hard", "edge-on", 1), ("hard", "grasp", 1)),
    ]
    whole, *parts = (values(report.metrics)["MPJPE"] for report in reports[1:])
    assert np.mean(parts) == pytest.approx(whole)
    assert "on parts of hard, given boxes" in capsys.readouterr().out
    written = json.loads((tmp_path / "out/metrics.json").read_text())["reports"]
    assert [report.get("part") for report in written] == [None, None, "edge-on", "grasp"]


def test_data_sets_of_one_name_are_told_apart(tmp_path):
    folders = [tmp_path / name for name in ("a/val", "b/photos", "c/photos", "b/digits")]
    assert folder_names(folders) == ["a-val", "b-photos", "c-photos", "digits"]


def test_shards_of_another_hand_are_refused(tmp_path):
    write_posed_shard(tmp_path, offset_m=0.01)
    with pytest.raises(ValueError, match=r"another hand: .* 17\.3 mm"):
        true_meshes(read_shards(tmp_path))


def test_the_command_says_what_is_wrong_in_one_line(tmp_path, capsys):
    empty, out = str(tmp_path / "empty"), ["--output", str(tmp_path / "out")]
    (tmp_path / "empty").mkdir()
    photos = str(write_photos(tmp_path / "photos", {"10.png": []}))
    wrong = {
        "error: no ": [["synthetic", "--shards", empty], ["photos", "--root", empty], ["backgrounds", "--root", empty]],
        "error: no pseudo_labels.json in": [["photos", "--unseen", empty]],
        "error: no data sets: name at least one folder of labelled photographs with --root or --unseen": [["photos"]],
        "error: --colours asks": [["photos", "--root", photos, "--boxes", "given", "--colours"]],
        f"error: {photos} is named twice": [["photos", "--root", photos, "--unseen", photos]],
        "error: unknown model 'balancd'; bundled are": [["photos", "--root", photos, "--model", "balancd"]],
        "error: unknown detector 'fast'; bundled are": [["photos", "--root", photos, "--detector", "fast"]],
        "error: no model file at": [["photos", "--root", photos, "--detector", "nowhere.onnx"]],
        "error: no prediction file": [["score", "--gt", empty, "--pred", f"{empty}/pred.json", *out]],
        f"error: {empty} is not FreiHAND's folder": [["freihand", "--root", empty], ["robustness", "--root", empty]],
    }
    for message, calls in wrong.items():
        for arguments in calls:
            assert main(["evaluate", *arguments]) == 1
            said = capsys.readouterr().err
            assert said.startswith(message) and said.count("\n") == 1
