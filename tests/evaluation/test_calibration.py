"""Calibration: known errors, models that find what they were given, and the whole run with a fake product."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from test_pipeline import HEIGHT, WIDTH, example_of, label_of, make_hand, shifted

from handmesh.data.photos import split_of
from handmesh.detection import Detection
from handmesh.evaluation import calibration, metrics
from handmesh.evaluation.calibration import (
    CalibrationOptions,
    JointErrors,
    Source,
    calibrate,
    fit_logistic,
    held_out,
    joined,
    look,
    operating_points,
    spread_metrics,
    uncertainty_scale,
)
from handmesh.evaluation.metrics import Said, bins_of, bootstrap, by_image, calibration_metrics, equal_mass
from handmesh.tracking.estimator import Confidence, Logistic
from handmesh.types import Box


def said(probability, right, weight=None, image=None) -> Said:
    probability, right = np.array(probability, float), np.array(right, bool)
    weight = np.ones(len(probability)) if weight is None else np.array(weight, float)
    return Said("said", probability, right, weight, np.arange(len(probability)) if image is None else np.array(image))


def values(found) -> dict[str, float]:
    return {metric.name: metric.value for metric in found}


def test_calibration_errors_with_known_values():
    """Two bins: 0.9 comes true in 1 of 2, 0.1 in 0 of 2; then the wrong 0.9 counts three times."""
    probability, right = [0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0]
    found = values(calibration_metrics(said(probability, right)))
    assert found["ECE"] == pytest.approx((2 * 0.4 + 2 * 0.1) / 4)
    assert found["Brier score"] == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    weighted = values(calibration_metrics(said(probability, right, [1, 3, 1, 1])))
    assert weighted["ECE"] == pytest.approx((4 * 0.65 + 2 * 0.1) / 6)
    assert all(np.isnan(value) for value in values(calibration_metrics(said([], []))).values())


def test_bins_of_equal_mass_hold_equal_weight():
    rng = np.random.default_rng(0)
    many = said(rng.beta(0.3, 3, 3000), np.zeros(3000), rng.uniform(0.5, 2, 3000))
    weights = np.histogram(many.probability, equal_mass(many), weights=many.weight)[0]
    assert len(weights) == 15
    np.testing.assert_allclose(weights / weights.sum(), 1 / 15, atol=0.002)
    assert len(equal_mass(said([0.3] * 50, [0] * 50))) == 3, "equal probabilities stay together"


def test_a_diagram_has_the_bins_that_are_not_empty():
    low, high = bins_of(said([0.02, 0.04, 0.97, 0.99], [0, 0, 1, 0]))
    assert (low.probability, low.right, low.count) == (pytest.approx(0.03), 0, 2)
    assert (high.probability, high.right, high.count) == (pytest.approx(0.98), 0.5, 2)
    assert high.low == 0 and high.high == 1


def test_rows_of_one_image_are_drawn_together():
    """So that many candidates of few images do not look like much evidence."""
    right = np.repeat([0.0, 1.0] * 10, 20)

    def fraction(times):
        return float(np.average(right, weights=times))

    low, high = by_image(np.repeat(np.arange(20), 20), fraction)
    alone_low, alone_high = by_image(np.arange(400), fraction)
    assert high - low > 3 * (alone_high - alone_low)


def drawn_scores(count: int = 4000):
    """Probabilities, and what comes of them by a known model that looks at one of them alone."""
    rng = np.random.default_rng(1)
    probabilities = {
        "presence": rng.uniform(0.01, 0.99, count),
        "handedness_probability": rng.uniform(0.01, 0.99, count),
    }
    truth = Logistic(-1.0, {"presence": 1.5})
    return probabilities, rng.random(count) < truth(**probabilities)


def test_a_fit_finds_the_model_that_made_the_data():
    probabilities, right = drawn_scores()
    model = fit_logistic(probabilities, right, np.ones(len(right)))
    assert model.bias == pytest.approx(-1.0, abs=0.15)
    assert model.weights["presence"] == pytest.approx(1.5, abs=0.15)
    assert 0 <= model.weights["handedness_probability"] < 0.1


def test_weights_count_rows_several_times():
    probabilities, right = drawn_scores(500)
    times = np.random.default_rng(2).integers(1, 4, len(right))
    repeated = {name: np.repeat(some, times) for name, some in probabilities.items()}
    twice = fit_logistic(repeated, np.repeat(right, times), np.ones(times.sum()))
    once = fit_logistic(probabilities, right, times.astype(float))
    assert once.bias == pytest.approx(twice.bias, abs=0.05)
    assert once.weights["presence"] == pytest.approx(twice.weights["presence"], abs=0.05)


def test_no_weight_is_negative_or_without_bounds():
    probability = np.array([0.1, 0.2, 0.8, 0.9] * 20)
    assert fit_logistic({"presence": probability}, probability < 0.5, np.ones(80)).weights["presence"] == 0
    assert 1 < fit_logistic({"presence": probability}, probability > 0.5, np.ones(80)).weights["presence"] < 50


def test_what_is_held_out_is_calibrated_and_knows_nothing_of_its_own_half():
    probabilities, right = drawn_scores()
    image = np.arange(len(right)) // 4
    probability = held_out(probabilities, right, np.ones(len(right)), image)
    before = values(calibration_metrics(said(probabilities["presence"], right, image=image)))
    after = values(calibration_metrics(said(probability, right, image=image)))
    assert after["ECE"] < 0.03 < before["ECE"]
    # One image's outcomes change what is said of the other half, and nothing in its own.
    changed = np.where(image == 0, ~right, right)
    moved = held_out(probabilities, changed, np.ones(len(right)), image) != probability
    assert moved.any() and not moved[image == 0].any()
    assert all(len(set(moved[image == k])) == 1 for k in range(50))


def test_models_go_into_metadata_and_come_back():
    models = Confidence(Logistic(-1.0, {"detector": 2.0, "presence": 0.5}), Logistic(0.5, {"presence": 1.0}), 0.2)
    written = json.loads(json.dumps({"confidence": models.as_metadata()}))
    assert Confidence.of(written) == models
    plain = Confidence.of({"kind": "mesh"})
    assert plain.found(detector=0.1, presence=0.7, handedness_probability=0.9) == pytest.approx(0.7)
    assert plain.followed(presence=0.2, handedness_probability=0.9) == pytest.approx(0.2)


HAND = make_hand()


class Product:
    """A detector and an estimator that answer with given hands: (detector's score, hand, handedness probability)."""

    def __init__(self, *answers) -> None:
        self.answers = list(answers)

    def detect(self, image, threshold):
        found = [Detection(Box.around(hand.joints_px), hand.side, score) for score, hand, _ in self.answers]
        return [detection for detection in found if detection.score >= threshold]

    def estimate_afresh(self, image, camera, detection):
        box = detection.box
        position = [tuple(Box.around(hand.joints_px).centre_px) for _, hand, _ in self.answers].index(box.centre_px)
        _, hand, handedness_probability = self.answers[position]
        return SimpleNamespace(hand=hand, box=box, presence=hand.score, handedness_probability=handedness_probability)


def looked_at(product: Product, *images, **source):
    return joined(["set"], [look(Source("set", images, **source), product, product)])


def test_candidates_are_judged_by_the_labels():
    near, far = shifted(HAND, 0.2), shifted(make_hand(score=0.3), 1.5)
    product = Product((0.8, near, 0.9), (0.2, far, 0.6), (0.01, HAND, 0.5))
    (looked,), found = looked_at(product, example_of(label_of(HAND, side="left")), complete=True)
    assert (looked.images, looked.hands, looked.files) == (range(1), range(1), ("image",))
    assert found.detector.tolist() == [0.8, 0.2], "nothing below the least score"
    assert found.presence.tolist() == [0.9, 0.3] and found.handedness_probability.tolist() == [0.9, 0.6]
    assert found.right.tolist() == [True, False] and found.hand.tolist() == [0, -1]
    assert found.side_correct.tolist() == [False, False], "the label says left"
    np.testing.assert_allclose(found.error, [0.2, 1.5], atol=1e-5)


def test_where_hands_may_be_unlabelled_only_places_on_labelled_ones_count():
    off, beside = shifted(make_hand(score=0.4), 1.5), shifted(make_hand(score=0.4), -0.52)
    image = example_of(label_of(HAND))
    _, found = looked_at(Product((0.8, beside, 0.9), (0.7, off, 0.9)), image, complete=False)
    assert found.error.tolist() == [pytest.approx(0.52, abs=1e-4)] and not found.right.any()
    with pytest.raises(ValueError, match="proposed no candidate in 1 images"):
        looked_at(Product((0.7, off, 0.9)), image, complete=False)


def test_of_two_candidates_on_a_hand_the_nearer_is_right():
    product = Product((0.8, shifted(make_hand(score=0.4), 0.4), 0.9), (0.7, HAND, 0.9))
    _, found = looked_at(product, example_of(label_of(HAND)), complete=False)
    assert found.right.tolist() == [False, True] and found.hand.tolist() == [-1, 0]


def test_data_sets_are_joined_with_their_images_and_hands_counted_on():
    two = [example_of(label_of(HAND), name="a"), example_of(label_of(HAND), name="b")]
    product, nothing = Product((0.8, HAND, 0.9)), Product()
    seen = [
        look(Source("set", images, True), it, it) for images, it in ((two, product), (two, nothing), (two, product))
    ]
    looked, found = joined(["first", "none", "last"], seen)
    assert found.source.tolist() == [0, 0, 2, 2]
    assert found.image.tolist() == found.hand.tolist() == [0, 1, 4, 5]
    assert [one.hands for one in looked] == [range(0, 2), range(2, 4), range(4, 6)]


def test_a_hand_is_looked_at_once_unless_the_network_saw_none():
    again = shifted(HAND, 0.1)
    _, found = looked_at(Product((0.8, HAND, 0.9), (0.3, again, 0.9)), example_of(label_of(HAND)), complete=True)
    assert found.detector.tolist() == [0.8]
    unsure = make_hand(score=0.2)
    _, found = looked_at(Product((0.8, unsure, 0.9), (0.3, again, 0.9)), example_of(label_of(HAND)), complete=True)
    assert found.detector.tolist() == [0.8, 0.3]


def test_expected_and_true_errors_are_of_one_kind():
    """All joints 2 px too far right; 3 mm too deep, except for the root, about which errors are."""
    moved = HAND.joints_px + [2.0, 0.0]
    joints_m = HAND.joints_m + np.float32([0, 0, 0.003]) * (np.arange(21) != 9)[:, None]
    uncertainties = {"joints_uncertainty_px": np.full(21, 4.0), "joints_uncertainty_m": np.full(21, 0.005)}
    hand = replace(HAND, joints_px=moved, joints_m=joints_m, **uncertainties)
    label = label_of(HAND, joints_m=HAND.joints_m - HAND.joints_m[9])
    _, found = looked_at(Product((0.8, hand, 0.9)), example_of(label), complete=False, exact=True)
    side = np.ptp(HAND.joints_px, axis=0).max()
    np.testing.assert_allclose(found.error_2d, 1.0 / side, rtol=1e-4)
    np.testing.assert_allclose(found.uncertainty_2d, 4.0 / side)
    np.testing.assert_allclose(found.uncertainty_mm, 5.0)
    np.testing.assert_allclose(found.error_mm[0], 1.0 * (np.arange(21) != 9), atol=1e-4)
    _, weak_3d = looked_at(Product((0.8, hand, 0.9)), example_of(label), complete=True)
    assert np.isnan(weak_3d.error_mm).all() and np.isfinite(weak_3d.error_2d).all()


def drawn_joints(factor: float) -> JointErrors:
    """Errors that are `factor` times as large as expected, on average."""
    rng = np.random.default_rng(3)
    expected = np.exp(rng.normal(0, 0.5, (150, 1)) + rng.normal(0, 0.3, 21))
    return JointErrors("set", "mm", expected, expected * factor * rng.exponential(size=(150, 21)), np.arange(150), ())


def test_joint_metrics_with_known_values():
    found = values(spread_metrics(drawn_joints(1.0)))
    assert found["came / expected"] == pytest.approx(1.0, abs=0.05)
    assert found["calibration error (ENCE)"] < 10
    assert found["rank correlation, hands"] > 0.8 > found["rank correlation, hands, joint by joint"] > 0.3
    assert found["sharpness: spread of what is expected / its mean"] > 0.4
    twice = values(spread_metrics(drawn_joints(2.0), scale=2.0))
    assert twice["came / expected"] == pytest.approx(2.0, abs=0.1)
    assert twice["calibration error (ENCE)"] == pytest.approx(100, abs=15)
    assert twice["calibration error (ENCE), scaled"] == pytest.approx(found["calibration error (ENCE)"])
    assert uncertainty_scale([drawn_joints(1.0), drawn_joints(2.0)], "mm") == pytest.approx(1.5, abs=0.1)
    assert twice["rank correlation"] == pytest.approx(found["rank correlation"])


def test_untrained_spreads_rank_nothing():
    same = replace_expected(drawn_joints(1.0))
    found = values(spread_metrics(same))
    assert np.isnan(found["rank correlation"]) and np.isfinite(found["came / expected"])


def replace_expected(errors: JointErrors) -> JointErrors:
    return errors._replace(expected=np.full_like(errors.expected, 0.05))


def photo_folder(root: Path, hands: int, step: int = 4) -> Path:
    """40 held-out images of different grey levels."""
    root.mkdir()
    names = [name for name in (f"{k}.png" for k in range(1000)) if split_of(name) == "val"][:40]
    label = {"hand": "right", "score": 1, "uv": HAND.joints_px.tolist(), "xyz": HAND.joints_m.tolist()}
    entries = [{"file": name, "width": WIDTH, "height": HEIGHT, "hands": [label] * hands} for name in names]
    (root / "pseudo_labels.json").write_text(json.dumps(entries))
    for k, name in enumerate(names):
        cv2.imwrite(str(root / name), np.full((HEIGHT, WIDTH, 3), 40 + step * k % 200, np.uint8))
    return root


def fewer_draws(values, statistic=np.mean, rounds=1000):
    """A thousand draws take their time."""
    return bootstrap(values, statistic, rounds=20)


class Guesser:
    """Answers that depend on the image's grey level and on nothing else; wrong ones are less sure."""

    def detect(self, image, threshold):
        self.grey = int(image[0, 0, 0])
        return [Detection(Box.around(HAND.joints_px), "right", 0.3 + 0.6 * (self.grey % 8 != 0))]

    def estimate_afresh(self, image, camera, detection):
        rng = np.random.default_rng(self.grey)
        hand = HAND if self.grey % 8 else shifted(HAND, 2.0)
        hand = replace(hand, score=float(rng.uniform(0.6, 1.0)), joints_px=hand.joints_px + rng.normal(size=(21, 2)))
        spread = np.full(21, 0.5) + rng.uniform(size=21)
        hand = replace(hand, joints_uncertainty_px=spread, joints_uncertainty_m=spread / 1000)
        probabilities = {"presence": hand.score, "handedness_probability": float(rng.uniform(0.5, 1))}
        return SimpleNamespace(hand=hand, box=Box.around(hand.joints_px), **probabilities)


def test_a_whole_calibration_is_printed_and_written(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    guesser = Guesser()
    session = SimpleNamespace(metadata={"box_scale": 1.5}, input_size=(160, 160))
    monkeypatch.setattr(calibration, "open_session", lambda *_: session)
    monkeypatch.setattr(calibration, "model_path", lambda model: Path(__file__))
    monkeypatch.setattr(calibration, "Detector", lambda session: guesser)
    monkeypatch.setattr(calibration, "Estimator", lambda session: guesser)
    monkeypatch.setattr(metrics, "bootstrap", fewer_draws)
    photos, out = photo_folder(tmp_path / "photos", 1), tmp_path / "out"
    nothing = photo_folder(tmp_path / "nothing", 0, step=8)
    options = CalibrationOptions(photos=(photos,), backgrounds=(nothing,), detector=Path(__file__), output=out)
    result = calibration.evaluate_calibration(options)
    printed = capsys.readouterr().out
    assert "found: logit =" in printed and "photos" in printed
    written = json.loads((out / "calibration.json").read_text())
    assert Confidence.of(written) == result.confidence and "equal probability" in written["mixture"]
    written = json.loads((out / "metrics.json").read_text())
    assert written["scores"]["calibrated, on finding"]["ECE"]["count"] == 80
    assert len(list(csv.DictReader((out / "candidates.csv").open()))) == 80
    for name in ("reliability.png", "side.png", "uncertainty.png"):
        assert cv2.imread(str(out / name)) is not None
    guesser.detect = None  # what was seen is kept: nobody is asked again
    assert calibration.evaluate_calibration(options).confidence == result.confidence
    with pytest.raises(ValueError, match="another configuration"):
        calibration.evaluate_calibration(replace(options, limit=10))


def test_images_in_other_colours_stand_for_those_of_strangers(tmp_path):
    photos, nothing = photo_folder(tmp_path / "photos", 1), photo_folder(tmp_path / "nothing", 0)
    options = CalibrationOptions(
        photos=(photos,), backgrounds=(nothing,), detector=Path(__file__), colours=True, limit=5
    )
    for source in calibration.sources_of(options):
        assert len(source.images) == 15 and len({image.name for image in source.images}) == 5
        assert source.images[0].name == source.images[5].name == source.images[10].name
    assert [len(source.images) for source in calibration.sources_of(replace(options, colours=False))] == [
        5,
        5,
    ]


def test_operating_points_count_hands_once_and_false_ones_by_image():
    right, wrong = HAND, shifted(make_hand(score=0.8), 1.5)
    images = [example_of(label_of(HAND), name=f"{k}") for k in range(4)]
    looked, found = looked_at(Product((0.9, right, 0.9), (0.6, wrong, 0.7)), *images, complete=True)
    calibrated = calibrate(looked, found)
    assert calibrated.found[found.right].min() > 0.5 > calibrated.found[~found.right].max()
    so_far = values(operating_points(looked, found, calibrated.found)["so far"])
    assert so_far == {"set: hands found": 100, "set: false positives": 100, "set: side correct": 100}
    assert 0.2 < calibrated.confidence.proposed <= 0.5, "sure hands alone: no need to look lower"
    half = values(operating_points(looked, found, calibrated.found)["0.5"])
    assert half["set: false positives"] == 0 and half["set: hands found"] == 100


def test_what_cannot_be_calibrated_on_is_named():
    with pytest.raises(ValueError, match="no labelled hands"):
        CalibrationOptions(backgrounds=(Path("a"),))
    with pytest.raises(ValueError, match="a wrong hand would be noticed"):
        CalibrationOptions(shards=(Path("a"),))
