"""Corruptions and what is made of the errors under them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from freihand_files import write_freihand
from scipy import ndimage

from handmesh.data.freihand import FreihandError, read_freihand
from handmesh.evaluation import robustness
from handmesh.evaluation.datasets import ArrayCache
from handmesh.evaluation.predictor import CropPrediction, PredictOptions, open_predictor
from handmesh.evaluation.robustness import (
    CORRUPTIONS,
    SEVERITIES,
    Robustness,
    RobustnessOptions,
    corrupt,
    corruption_errors,
    evaluate_robustness,
    mean_corruption_error,
    measure,
    predict_corrupted,
)
from handmesh.types import Hand


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A smooth coloured scene with edges, 224 x 224."""
    rng = np.random.default_rng(0)
    coarse = np.kron(rng.integers(30, 220, (14, 14, 3)), np.ones((16, 16, 1)))
    return ndimage.gaussian_filter(coarse, (3, 3, 0)).astype(np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_corruption_is_repeatable_and_changes_the_image(name, image):
    before = image.copy()
    changed = [corrupt(image, name, severity, seed=3) for severity in SEVERITIES]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one in changed)
    assert (corrupt(image, name, 4, seed=3) == changed[3]).all() and (image == before).all()
    distances = [np.abs(one.astype(float) - image).mean() for one in changed]
    assert min(distances) > 0.3
    if name not in ("frost", "fog"):  # whose brightness is drawn for each image
        assert distances[4] > 1.1 * distances[0]


def test_seeds_and_severities_draw_anew(image):
    one, other = (corrupt(image, "gaussian noise", 1, seed).astype(float) - image for seed in (0, 1))
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


def test_names_and_severities_that_do_not_exist(image):
    for name, severity in (("rain", 1), ("fog", 0), ("fog", 6)):
        with pytest.raises(ValueError, match=r"there are gaussian noise, .*, 1 to 5"):
            corrupt(image, name, severity, 0)


GREY = np.full((96, 96, 3), 0.5, np.float32)


def test_noise_has_the_published_strength():
    rng = np.random.default_rng(0)
    assert robustness.gaussian_noise(GREY, rng, 0.12).std() == pytest.approx(0.12, rel=0.02)
    shot = robustness.shot_noise(GREY, rng, 25)
    assert shot.mean() == pytest.approx(0.5, rel=0.01) and shot.std() == pytest.approx(np.sqrt(0.5 / 25), rel=0.03)
    impulses = robustness.impulse_noise(GREY, rng, 0.17)
    assert (impulses != 0.5).mean() == pytest.approx(0.17, rel=0.05)
    assert (impulses == 1).mean() == pytest.approx(0.085, rel=0.1) and set(np.unique(impulses)) == {0, 0.5, 1}


def test_blurs_keep_the_mean_and_spread_a_point():
    rng = np.random.default_rng(0)
    point = np.zeros((97, 97, 3), np.float32)
    point[48, 48] = 1
    disk = robustness.defocus_blur(point, rng, 8, 0.5)
    assert disk.sum() == pytest.approx(3, rel=0.02)  # the softened rim is cut off, as in the released code
    assert disk[48, 48, 0] == pytest.approx(1 / (np.pi * 64), rel=0.05) and disk[48, 60, 0] < 1e-6
    moved = robustness.motion_blur(point, rng, 10, 3)
    y, x = np.nonzero(moved[..., 0] > 1e-6)
    assert moved.sum() == pytest.approx(3, rel=1e-4) and 8 < np.hypot(y - 48, x - 48).max() <= 21
    zoomed = robustness.zoom_blur(point, rng, 1.11, 0.01)
    assert zoomed[48, 48, 0] == pytest.approx(1, abs=1e-5), "the middle stays"
    step = np.tile((np.arange(97) > 30).astype(np.float32)[None, :, None], (97, 1, 3))
    assert (np.diff(robustness.zoom_blur(step, rng, 1.31, 0.03)[48, :, 0]) > 0.01).sum() > 4, "the edge does not"


def test_glass_takes_colours_from_near():
    columns = np.tile(np.arange(96, dtype=np.float32)[None, :, None] / 96, (96, 1, 3))
    image = columns.copy()
    robustness.take_from_near(image, np.random.default_rng(0).integers(-2, 2, (1, 96, 96, 2)), 2)
    moved = np.rint(96 * (image - columns)[3:94, 3:94])
    assert moved.min() < 0 < moved.max() and (image[:, :2] == columns[:, :2]).all()
    assert np.abs(moved).mean() > 0.5


def test_light_and_geometry_are_as_named(image):
    rng, image = np.random.default_rng(0), image.astype(np.float32) / 255
    lighter = robustness.brightness(image, rng, 0.3)
    expected = np.minimum(image.max(-1) + 0.3, 1)
    np.testing.assert_allclose(lighter.max(-1), expected, atol=1e-5)
    faded = robustness.contrast(image, rng, 0.2)
    np.testing.assert_allclose(faded.std((0, 1)), 0.2 * image.std((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(faded.mean((0, 1)), image.mean((0, 1)), rtol=1e-4)
    small = robustness.pixelate(image, rng, 0.25)
    assert len(np.unique(small[:, 0, 0])) <= 56
    ramp = np.tile(np.arange(224, dtype=np.float32)[None, :, None] / 224, (224, 1, 3))
    shift = 224 * (robustness.elastic_transform(ramp, rng, 30) - ramp)[20:-20, 20:-20, 0]
    assert abs(shift.mean()) < 0.3 and 0.5 < shift.std() < 6


def test_weather(image):
    rng, image = np.random.default_rng(0), image.astype(np.float32) / 255
    clouds = robustness.plasma(64, 2.0, rng)
    assert clouds.min() == 0 and clouds.max() == 1
    rough = [np.abs(np.diff(robustness.plasma(64, decay, np.random.default_rng(1)))).mean() for decay in (2.0, 1.4)]
    assert rough[1] > 2 * rough[0]
    foggy = robustness.fog(image, rng, 2.5, 1.5)
    assert foggy.max() <= image.max() + 1e-6 and foggy.std() < image.std() + 0.2
    snowy = robustness.snow(image, rng, 0.55, 0.3, 4, 0.9, 12, 8, 0.7)
    assert np.clip(snowy, 0, 1).mean() > image.mean() + 0.05
    window = robustness.frosted_window(224, 224, rng)
    assert 0.4 < window.mean() < 0.9 and 0.05 < window.std() < 0.25 and (window[..., 2] >= window[..., 0]).mean() > 0.95


def test_magnified_keeps_the_middle():
    y, x = np.mgrid[:51, :41].astype(np.float32)
    big = robustness.magnified(np.stack([x, y], axis=-1), 2.0)
    np.testing.assert_allclose(big[25, 20], [20, 25], atol=0.05)
    np.testing.assert_allclose(big[5, 0], [10, 15], atol=0.05)


def network(model: str, clean: float, factor: float) -> Robustness:
    levels = {name: factor * (k + np.arange(1.0, 6.0)) for k, name in enumerate(CORRUPTIONS)}
    return Robustness(model, clean, levels)


def test_mean_corruption_error():
    """The definition: per corruption the ratio of sums, then their mean."""
    one, baseline = network("one", 5.0, 1.0), network("two", 6.0, 2.0)
    assert mean_corruption_error(one, baseline) == pytest.approx(50)
    assert mean_corruption_error(one, one) == pytest.approx(100)
    worse = replace(one, corrupted_mm=one.corrupted_mm | {"fog": 3 * one.corrupted_mm["fog"]})
    assert corruption_errors(worse, baseline)["fog"] == pytest.approx(150)
    assert mean_corruption_error(worse, baseline) == pytest.approx((14 * 50 + 150) / 15)
    assert one.by_severity_mm.tolist() == [5, 8, 9, 10, 11, 12] and one.mean_mm == 10


def test_measured_errors_are_in_millimetres():
    rng = np.random.default_rng(0)
    truth = rng.normal(scale=0.04, size=(3, 21, 3))
    joints = {"clean": truth[None], "fog": truth + np.arange(5)[:, None, None, None] * 0.01}
    joints["fog"][:, :, 9] -= 0.01  # the root, too
    measured = measure("one", joints, truth, "RA-MPJPE")
    assert measured.clean_mm == 0
    assert measured.corrupted_mm["fog"] == pytest.approx(np.full(5, 20 / 21 * 10 * np.sqrt(3)))
    assert measure("one", joints, truth, "PA-MPJPE").corrupted_mm["fog"].max() < 5


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return write_freihand(tmp_path_factory.mktemp("freihand"), rows=0, evaluation=2)


class Remembering:
    """A reader that answers with the truth and remembers the images; it stops after so many calls."""

    num_vertices = 1

    def __init__(self, freihand, calls: int = 1000) -> None:
        self.freihand, self.calls, self.images = freihand, calls, []

    def read(self, views):
        if not self.calls:
            raise KeyboardInterrupt
        self.calls -= 1
        self.images += [view.image for view in views]
        nothing = np.zeros((1, 3))
        hands = [
            Hand(nothing, joints, nothing, "right", 1.0, nothing, nothing, nothing) for joints in self.freihand.xyz
        ]
        return [CropPrediction(hand, True) for hand in hands[: len(views)]]


def test_a_killed_run_goes_on(root, tmp_path):
    freihand = read_freihand(root, "evaluation", progress=False)

    def go(reader, limit=2):
        return predict_corrupted(freihand, reader, ArrayCache(tmp_path, {}), limit, "a test")

    with pytest.raises(KeyboardInterrupt):
        go(Remembering(freihand, calls=8))
    rest = Remembering(freihand)
    joints = go(rest)
    assert len(rest.images) == 2 * (1 + 15 * 5 - 6), "clean images and one corruption were done"
    assert list(joints) == ["clean", *CORRUPTIONS] and joints["fog"].shape == (5, 2, 21, 3)
    expected = corrupt(freihand.image(1), "shot noise", 1, seed=1)
    assert (rest.images[1] == expected).all()
    nothing = Remembering(freihand)
    assert go(nothing, limit=1)["clean"].shape == (1, 1, 21, 3) and not nothing.images


@pytest.fixture
def two_kinds(monkeypatch):
    """Two corruptions in place of 15."""
    few = {name: CORRUPTIONS[name] for name in ("gaussian noise", "contrast")}
    monkeypatch.setattr(robustness, "CORRUPTIONS", few)


@pytest.mark.usefixtures("two_kinds")
def test_a_whole_evaluation(root, tmp_path, monkeypatch, capsys):
    """The bundled network against itself with its crops blackened."""
    predictor = open_predictor("balanced", threads=1)
    blind = replace(predictor, name="blind", file_sha256="1" * 64, run=lambda crops: predictor.run(0 * crops))
    monkeypatch.setattr(
        "handmesh.evaluation.robustness.open_predictor", lambda model, *_: blind if model == "blind" else predictor
    )
    output = tmp_path / "out"
    options = RobustnessOptions(root, "balanced", baseline=("blind", "balanced"), output=output)
    network, baseline = evaluate_robustness(options)
    assert baseline.by_severity_mm == pytest.approx(np.full(6, baseline.clean_mm), abs=1e-3)
    metrics = json.loads((output / "metrics.json").read_text())
    assert metrics["against"]["balanced"]["mCE, %"] == pytest.approx(100)
    assert metrics["against"]["blind"]["mCE, %"] == pytest.approx(mean_corruption_error(network, baseline))
    assert metrics["networks"]["balanced"]["clean_mm"] == pytest.approx(network.clean_mm)
    html = (output / "report.html").read_text()
    assert html.count("<figure>") == 2 and "mean corruption error against blind" in html
    assert "100.0" in capsys.readouterr().out
    again = evaluate_robustness(options)
    assert again[0].mean_mm == network.mean_mm


def test_without_labels_there_is_nothing_to_measure(tmp_path):
    root = write_freihand(tmp_path, rows=0, evaluation=1)
    (root / "evaluation_xyz.json").unlink()
    with pytest.raises(FreihandError, match=r"lacks evaluation_xyz\.json"):
        evaluate_robustness(
            RobustnessOptions(root, predict_options=PredictOptions("centre-130"), output=tmp_path / "out")
        )
