"""Labels move with their crops, and batches depend on the seed and the step alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from handmesh import crop, geometry, skeleton  # noqa: E402
from handmesh.data.loader import Stage, TrainingBatches, stage_at  # noqa: E402
from handmesh.data.samples import (  # noqa: E402
    MASK_STRIDE,
    AugmentConfig,
    HandSample,
    box_between,
    collate,
    make_crop_sample,
)
from handmesh.types import Box, Camera  # noqa: E402

CAM = Camera.from_fov(320, 240, 70)
PLAIN = AugmentConfig(wrong_side=0.0, colour=False)


def _item(side: str = "right", exact: bool = True, seed: int = 0) -> HandSample:
    rng = np.random.default_rng(seed)
    joints_m = rng.normal(scale=0.04, size=(21, 3)) + [0.1, -0.05, 0.5]
    joints_px = geometry.project(joints_m, CAM)
    image = rng.integers(0, 255, (240, 320, 3)).astype(np.uint8)
    rotations = Rotation.random(16, random_state=seed).as_matrix()
    item = HandSample(image, Box.around(joints_px), joints_px, side, joints_m, weak_3d=not exact)
    return item._replace(rotations=rotations, shape=np.ones(10, np.float32), camera=CAM) if exact else item


@pytest.mark.parametrize("side", ["right", "left"])
def test_labels_lead_back_to_the_image(side):
    item, rng = _item(side), np.random.default_rng(3)
    sample = make_crop_sample(item, 96, 1.5, PLAIN, rng)
    from handmesh.data.samples import jitter_box

    rng = np.random.default_rng(3)
    box = jitter_box(item.box.scaled(1.5), PLAIN, rng)
    in_crop = crop.px_from_normalised(sample.joints_crop, 96)
    back = geometry.apply_affine(geometry.invert_affine(crop.crop_affine(box, 96, side == "left")), in_crop)
    np.testing.assert_allclose(back, item.joints_px, atol=1e-3)
    joints, R = sample.joints_m, sample.rotations[0]
    if side == "left":
        joints, R = geometry.mirror_points_m(joints), geometry.mirror_rotations(R)
    view = crop.view_rotation(CAM, box)
    root = item.joints_m[skeleton.ROOT]
    np.testing.assert_allclose(joints @ view.T + root, item.joints_m, atol=1e-6)
    np.testing.assert_allclose(view @ R, item.rotations[0], atol=1e-6)
    assert sample.has_parameters == 1 and sample.right == 1


def test_a_hand_mirrored_the_wrong_way_keeps_only_flat_labels():
    sample = make_crop_sample(_item("right"), 96, 1.5, AugmentConfig(wrong_side=1.0), np.random.default_rng(0))
    assert (sample.right, sample.presence, sample.has_joints_crop.min()) == (0, 1, 1)
    assert sample.has_parameters == sample.has_weak_3d == 0


def test_weak_3D_labels_are_marked_as_weak():
    sample = make_crop_sample(_item(exact=False), 96, 1.5, PLAIN, np.random.default_rng(0))
    assert (sample.has_parameters, sample.has_joints_m, sample.has_weak_3d) == (0, 0, 1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_vertices_and_masks_are_cropped_with_the_joints(side):
    item = _item(side)
    column, row = np.round(item.joints_px[9]).astype(int)
    mask = np.zeros(item.image.shape[:2], np.uint8)
    cv2.circle(mask, (int(column), int(row)), 14, 255, -1)
    sample = make_crop_sample(
        item._replace(vertices_m=item.joints_m[::-1], mask=mask), 96, 1.5, PLAIN, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(sample.vertices_m, sample.joints_m[::-1])
    y, x = np.unravel_index(sample.mask.argmax(), sample.mask.shape)
    seen = (np.array([x, y]) + 0.5) / (96 / MASK_STRIDE) * 2 - 1
    assert np.abs(seen - sample.joints_crop[9]).max() < 2 * 2 * MASK_STRIDE / 96
    assert sample.has_vertices == sample.has_mask == 1


def test_a_batch_holds_vertices_where_some_sample_has_them():
    rng = np.random.default_rng(0)
    with_vertices = make_crop_sample(_item()._replace(vertices_m=np.ones((7, 3))), 64, 1.5, PLAIN, rng)
    without = make_crop_sample(_item(), 64, 1.5, PLAIN, rng)
    batch = collate([without, with_vertices])
    assert batch.vertices_m.shape == (2, 7, 3) and batch.has_vertices.tolist() == [0, 1]
    assert collate([without]).vertices_m.shape == (1, 0, 3)


def test_processes_share_a_batch_equally_or_not_at_all():
    with pytest.raises(ValueError, match="cannot be shared equally by 4"):
        _batches(world=4)


def test_no_hand_has_no_labels():
    empty = HandSample(np.zeros((50, 60, 3), np.uint8), Box((20.0, 20.0), 15.0))
    sample = make_crop_sample(empty, 64, 1.5, AugmentConfig(), np.random.default_rng(0))
    assert sample.presence == sample.right == sample.has_joints_crop.max() == 0


def test_a_box_between_two_hands_lies_on_the_way_to_the_other_and_is_larger():
    box, other, rng = Box((50.0, 60.0), 40.0, 0.3), Box((90.0, 60.0), 44.0), np.random.default_rng(0)
    for _ in range(20):
        between = box_between(box, other, rng)
        assert 50 <= between.centre_px[0] <= 74 and between.centre_px[1] == 60 and between.angle_rad == 0.3
        assert between.size_px == pytest.approx(40 * (1 + 0.5 * (between.centre_px[0] - 50) / 40))


@pytest.mark.parametrize("other", [Box((120.0, 60.0), 40.0), Box((80.0, 60.0), 90.0)])
def test_hands_that_are_far_apart_or_of_other_sizes_have_no_box_between(other):
    box = Box((50.0, 60.0), 40.0)
    assert box_between(box, other, np.random.default_rng(0)) is box


def test_crops_between_two_hands_are_mirrored_for_the_one_that_is_labelled():
    """A crop over two hands that is mirrored the wrong way would ask for the other one, which has no labels here."""
    config = AugmentConfig(wrong_side=1.0, colour=False, between=1.0, any_rotation=0.0)
    item, rng = _item(), np.random.default_rng(0)
    x, y = item.box.centre_px
    beside = item._replace(other=Box((x + item.box.size_px, y), item.box.size_px))
    found = [make_crop_sample(beside, 96, 1.5, config, rng) for _ in range(20)]
    assert all(sample.right == 1 for sample in found)
    assert np.mean([sample.joints_crop[:, 0].mean() for sample in found]) < -0.1
    assert make_crop_sample(item, 96, 1.5, config, rng).right == 0


@pytest.mark.parametrize("side", ["right", "left"])
def test_looked_crops_lie_about_the_joints_that_a_network_sees(side):
    """Whatever the box that was looked at: about the joints seen, and labelled with the true ones."""
    item, rng = _item(side), np.random.default_rng(0)
    config = AugmentConfig(wrong_side=0.0, colour=False, any_rotation=1.0, looked=1.0)
    seen_px, asked = item.joints_px + (6.0, -4.0), []

    def look(image, box, mirror):
        asked.append((box, mirror))
        return seen_px

    samples = [make_crop_sample(item, 96, 1.5, config, rng, look) for _ in range(20)]
    assert {mirror for _, mirror in asked} == {side == "left"} and len({box for box, _ in asked}) == 20
    affine = crop.crop_affine(Box.around(seen_px).scaled(1.5), 96, side == "left")
    about_seen = crop.normalised_from_px(geometry.apply_affine(affine, item.joints_px), 96)
    for sample in samples:
        assert np.abs(sample.joints_crop - about_seen).max() < 0.25  # moved and turned a little


def test_a_look_that_goes_astray_moves_no_crop():
    item, config = _item(), AugmentConfig(wrong_side=0.0, colour=False, looked=1.0)
    far = [item.joints_px + 200.0, item.joints_px.mean(0) + 0.1 * (item.joints_px - item.joints_px.mean(0))]
    for astray in far:
        sample = make_crop_sample(item, 96, 1.5, config, np.random.default_rng(0), lambda *_, px=astray: px)
        assert np.abs(sample.joints_crop).max() < 1.2


def test_without_a_look_crops_are_as_before():
    one, other = (
        make_crop_sample(_item(), 64, 1.5, AugmentConfig(looked=looked), np.random.default_rng(0)) for looked in (0, 1)
    )
    np.testing.assert_array_equal(one.image, other.image)


class _Items:
    def draw(self, rng: np.random.Generator) -> HandSample:
        return _item(seed=int(rng.integers(50)))


def _batches(seed: int = 1, rank: int = 0, world: int = 1) -> TrainingBatches:
    stages = [Stage(3, 64, 6), Stage(2, 96, 4)]
    return TrainingBatches([(1.0, _Items())], stages, AugmentConfig(), 1.5, seed, rank, world)


def test_a_batch_depends_on_seed_and_step_alone():
    first, again, other = _batches()[2], _batches()[2], _batches(seed=2)[2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.image, other.image)
    assert not torch.equal(first.image, _batches()[1].image)


def test_two_processes_share_one_global_batch():
    whole = _batches()[0]
    halves = [_batches(rank=rank, world=2)[0] for rank in (0, 1)]
    for column, a, b in zip(whole, *halves, strict=True):
        assert torch.equal(column[0::2], a) and torch.equal(column[1::2], b)


def test_stages_change_size_and_batch():
    batches = _batches()
    assert len(batches) == 5
    assert batches[2].image.shape == (6, 3, 64, 64)
    assert batches[3].image.shape == (4, 3, 96, 96)
    with pytest.raises(IndexError):
        stage_at(batches.stages, 5)
