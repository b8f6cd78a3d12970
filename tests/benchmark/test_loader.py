"""The training loader over FreiHAND and its random changes: what they do, and that they are cheap."""

from __future__ import annotations

import io

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from freihand_files import write_freihand  # noqa: E402
from rich.console import Console  # noqa: E402
from torchvision.transforms import v2  # noqa: E402

from handmesh.benchmark.loader import LoaderReport, measure_loader, measure_stages  # noqa: E402
from handmesh.data import samples  # noqa: E402
from handmesh.data.freihand import FreihandSource, read_freihand  # noqa: E402
from handmesh.data.loader import Stage, TrainingBatches  # noqa: E402
from handmesh.data.samples import AugmentConfig, cover_patch, vary_colour  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_freihand(tmp_path_factory.mktemp("freihand"), rows=4, evaluation=0, size=224)


@pytest.fixture(scope="module")
def source(root) -> FreihandSource:
    return FreihandSource(read_freihand(root, "training"), HandModel.load())


@pytest.fixture(scope="module")
def image(source) -> np.ndarray:
    return source[1].image


def test_a_batch_has_every_label_and_depends_on_its_step_alone(source):
    batches = TrainingBatches([(1.0, source)], [Stage(2, 64, 6)], AugmentConfig(wrong_side=0), 1.5, seed=3)
    batch, again = batches[1], batches[1]
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    assert not torch.equal(batch.image, batches[0].image)
    assert batch.image.shape == (6, 3, 64, 64) and batch.vertices_m.shape == (6, 1689, 3)
    for mask in ("joints_crop", "joints_m", "vertices", "parameters", "mask"):
        assert getattr(batch, f"has_{mask}").all()
    assert not batch.has_weak_3d.any() and batch.presence.all() and batch.right.all()
    assert 0.02 < batch.mask.mean() < 0.7


def test_the_posed_model_meets_the_batch_vertices(source):
    """Rotations, shape and vertices went through the same crop."""
    batches = TrainingBatches([(1.0, source)], [Stage(1, 64, 4)], AugmentConfig(wrong_side=0), 1.5, seed=1)
    batch = batches[0]
    posed = HandModel.load()(batch.rotations, batch.shape)
    root = posed.joints[:, 9:10]
    assert (posed.vertices - root - batch.vertices_m).abs().max() < 1e-5
    assert (posed.joints - root - batch.joints_m).abs().max() < 1e-5


# colours


def changed(monkeypatch, **probabilities: float) -> None:
    """Make only the named changes, with these probabilities."""
    for name in ("_TONE", "_HUE", "_GREY", "_LIGHT", "_NIGHT", "_SWAP", "_BLUR", "_NOISE", "_JPEG"):
        monkeypatch.setattr(samples, name, probabilities.get(name, 0.0))


def test_equal_generators_give_equal_images_and_leave_the_given_one_alone(image):
    before = image.copy()
    for seed in range(40):
        one, other = (vary_colour(image, np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(one, other) and one.dtype == np.uint8 and one.shape == image.shape
        assert one is not image and np.array_equal(image, before)


def test_without_luck_nothing_changes(image, monkeypatch):
    changed(monkeypatch)
    np.testing.assert_array_equal(vary_colour(image, np.random.default_rng(0)), image)


def test_grey_is_the_luma(image, monkeypatch):
    changed(monkeypatch, _GREY=1.0)
    grey = v2.functional.rgb_to_grayscale(torch.from_numpy(image).permute(2, 0, 1), 3).permute(1, 2, 0)
    difference = vary_colour(image, np.random.default_rng(0)).astype(int) - grey.numpy()
    assert np.abs(difference).max() <= 1


def test_tone_is_torchvisions(image, monkeypatch):
    """Brightness, contrast and saturation one after the other, on an image that none of them clips."""
    changed(monkeypatch, _TONE=1.0)
    soft = (image // 4 + 90).astype(np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        rng.random()  # whether the tone changes
        brightness, contrast, saturation = rng.uniform([0.6, 0.4, 0.5], [1.4, 1.4, 1.5])
        expected = torch.from_numpy(soft).permute(2, 0, 1).float() / 255
        expected = v2.functional.adjust_brightness(expected, brightness)
        expected = v2.functional.adjust_contrast(expected, contrast)
        expected = 255 * v2.functional.adjust_saturation(expected, saturation).permute(1, 2, 0).numpy()
        inside = (expected > 1) & (expected < 254)
        difference = vary_colour(soft, np.random.default_rng(seed)) - expected
        assert np.abs(difference[inside]).max() < 1.5 and inside.mean() > 0.9


def test_a_camera_may_swap_its_channels(image, monkeypatch):
    changed(monkeypatch, _SWAP=1.0)
    varied = [vary_colour(image, np.random.default_rng(seed)) for seed in range(40)]
    assert any(np.array_equal(v, image[..., ::-1]) for v in varied)
    assert all(np.array_equal(np.sort(v, axis=2), np.sort(image, axis=2)) for v in varied)


def test_light_may_be_coloured_and_nights_are_dark(monkeypatch):
    grey = np.full((8, 8, 3), 120, np.uint8)
    changed(monkeypatch, _LIGHT=1.0)
    assert (
        np.mean([np.ptp(vary_colour(grey, np.random.default_rng(seed))[0, 0].astype(int)) for seed in range(50)]) > 20
    )
    changed(monkeypatch, _NIGHT=1.0)
    assert max(vary_colour(grey, np.random.default_rng(seed)).max() for seed in range(50)) < 50


def test_hue_turns_colours_both_ways_and_keeps_greys(monkeypatch):
    changed(monkeypatch, _HUE=1.0)
    colours = np.array([[[200, 120, 120], [77, 77, 77]]], np.uint8)
    rotated = np.array([vary_colour(colours, np.random.default_rng(seed))[0] for seed in range(200)], int)
    assert np.abs(rotated[:, 1] - 77).max() <= 1
    assert np.abs(rotated[:, 0].sum(1) - 440).max() <= 2
    green_over_blue = rotated[:, 0, 1] - rotated[:, 0, 2]
    assert green_over_blue.min() < -25 and green_over_blue.max() > 25 and abs(green_over_blue.mean()) < 5


def test_blur_and_compression_cost_detail(image, monkeypatch):
    noisy = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    changed(monkeypatch, _BLUR=1.0)
    assert vary_colour(noisy, np.random.default_rng(0)).std() < 0.9 * noisy.std()
    changed(monkeypatch, _JPEG=1.0)
    compressed = vary_colour(image, np.random.default_rng(0)).astype(int)
    assert 0.2 < np.abs(compressed - image).mean() < 12, "the channels keep their places"


def test_noise_is_mostly_faint_and_leaves_the_mean(monkeypatch):
    changed(monkeypatch, _NOISE=1.0)
    grey = np.full((64, 64, 3), 120, np.uint8)
    spreads = np.array([vary_colour(grey, np.random.default_rng(seed)).astype(float).std() for seed in range(200)])
    assert spreads.min() > 1.5 and spreads.max() < 31 and np.median(spreads) < 10
    assert vary_colour(grey, np.random.default_rng(0)).mean() == pytest.approx(120, abs=1)


def test_changes_come_as_often_as_they_should(image):
    small = image[::4, ::4].copy()
    varied = [vary_colour(small, np.random.default_rng(seed)) for seed in range(1500)]
    same = np.mean([np.array_equal(v, small) for v in varied])
    grey = np.mean([np.ptp(v.astype(int), axis=2).max() < 12 for v in varied])
    assert same == pytest.approx(0.2 * 0.75 * 0.88 * 0.75 * 0.94 * 0.9 * 0.85 * 0.75 * 0.85, abs=0.03)
    assert grey == pytest.approx(0.12 * 0.75, abs=0.03)
    brightness = np.array([v.mean() for v in varied]) / small.mean()
    assert brightness.mean() == pytest.approx(1.0, abs=0.07) and 0.2 < brightness.std() < 0.4


def test_a_cover_is_one_flat_rectangle(image):
    covered = cover_patch(image.copy(), np.random.default_rng(1), probability=1.0)
    rows, columns = np.nonzero((covered != image).any(2))
    patch = covered[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert (patch == patch[0, 0]).all() and 0 < len(rows) < image.shape[0] ** 2 / 8
    assert cover_patch(image, np.random.default_rng(1), probability=0.0) is image


# the benchmark


def test_the_loader_is_measured(root):
    report = measure_loader(root, size=64, workers=0, seconds=0.3)
    assert report.images >= 32 and report.images_per_s == pytest.approx(report.images / report.seconds)
    assert set(report.stages_ms) == {
        "decode and read labels", "crop and its labels", "colour, blur, noise, JPEG, cover", "collate",
    }  # fmt: skip
    assert len(report.table().rows) == len(report.stages_ms) + 3


def test_an_image_at_224_costs_little_enough_for_the_target(source):
    """300 images a second on two cores leave 6.7 ms of processor time for each; half of that is the bound."""
    stages_ms = measure_stages(source, 224, images=96)
    assert sum(stages_ms.values()) < 0.5 * 2000 / 300
    assert stages_ms["colour, blur, noise, JPEG, cover"] < 1.0


def test_the_report_adds_up():
    report = LoaderReport(400.0, {"a": 1.5, "b": 0.5}, 224, 2, 8000, 20.0, 0.1)
    assert report.cpu_ms == 2.0
    console = Console(width=120, file=io.StringIO())
    report.print(console)
    said = console.file.getvalue()
    assert "8000 images in 20.0 s" in said and "delivered by 2 workers" in said and "OpenCV" in said
