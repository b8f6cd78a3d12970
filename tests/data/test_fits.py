"""Fits as labels: the file of them, and what training crops make of them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training data is part of the training extra")

from labelled_truth import CAMERA, truths  # noqa: E402
from set_files import another_hand  # noqa: E402

from handmesh.data.cutouts import (  # noqa: E402
    Cutout,
    CutoutHand,
    CutoutSet,
    with_origin,
    write_cutouts,
)
from handmesh.data.loader import MixConfig  # noqa: E402
from handmesh.data.mixture import ContextSource, CutoutSource, PhotoSource, sources_of  # noqa: E402
from handmesh.data.photos import Fit, Photo, read_accepted, read_fits, with_fits, write_fits  # noqa: E402  # noqa: E402
from handmesh.data.samples import HandSample, make_crop_sample  # noqa: E402
from handmesh.data.shards import PhotoShard, write_photo_shards  # noqa: E402
from handmesh.geometry import project  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.skeleton import ROOT  # noqa: E402

MODEL = HandModel.load()


def _fit_of(hand, accepted: bool = True) -> Fit:
    joints_m = hand.joints_m.astype(np.float32)
    return Fit(hand.rotations, hand.shape, joints_m, np.zeros(3, np.float32), 0.004, 0.01, accepted, CAMERA)


@pytest.fixture
def hands():
    """A right and a left hand."""
    return [*truths(1, MODEL, seed=1), *truths(1, MODEL, seed=2, side="left")]


@pytest.fixture
def photo(hands, tmp_path) -> Photo:
    """An image of both."""
    path = tmp_path / "two.png"
    cv2.imwrite(str(path), np.full((CAMERA.height, CAMERA.width, 3), 127, np.uint8))
    rng = np.random.default_rng(0)
    return Photo(path, CAMERA.width, CAMERA.height, tuple(hand.label(rng, noise=0.0) for hand in hands))


@pytest.fixture
def fits(hands) -> dict:
    """Perfect ones."""
    return {("two.png", k): _fit_of(hand) for k, hand in enumerate(hands)}


def _same(a: Fit, b: Fit) -> bool:
    plain = (json.dumps(fit.as_plain()) for fit in (a, b))
    return next(plain) == next(plain)


def test_a_file_holds_fits_and_only_the_accepted_are_learnt_from(fits, hands, tmp_path):
    fits["two.png", 1] = _fit_of(hands[1], accepted=False)
    write_fits(tmp_path / "deep" / "fits.npz", fits)
    back = read_fits([tmp_path / "deep" / "fits.npz"])
    assert back.keys() == fits.keys() and all(_same(back[key], fits[key]) for key in fits)
    assert set(read_accepted([tmp_path / "deep" / "fits.npz"])) == {("two.png", 0)}


def test_files_that_are_none_are_refused(fits, tmp_path):
    write_fits(tmp_path / "fits.npz", fits)
    with pytest.raises(ValueError, match=r"already has a fit of \('two.png', 0\)"):
        read_fits([tmp_path / "fits.npz", tmp_path / "fits.npz"])
    with pytest.raises(FileNotFoundError, match=r"fit-photos"):
        read_fits([tmp_path / "none.npz"])
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    np.savez(tmp_path / "other.npz", image=[])
    for name, reason in (("bad.npz", "damaged or not a file of fits"), ("other.npz", "lacks accepted, camera, index")):
        with pytest.raises(ValueError, match=reason):
            read_fits([tmp_path / name])


def _posed(item: HandSample) -> tuple[np.ndarray, np.ndarray, dict]:
    """Joints that the labels of a plain crop give, root-relative: those named, and those of the parameters."""
    sample = make_crop_sample(item, 96, 1.5, None, np.random.default_rng(0))
    joints = MODEL(torch.from_numpy(sample.rotations)[None], torch.from_numpy(sample.shape)[None]).joints[0].numpy()
    return sample.joints_m, joints - joints[ROOT], sample._asdict()


def test_a_fitted_hand_is_learnt_from_its_parameters(photo, fits):
    source = PhotoSource(with_fits([photo], fits))
    for k in range(2):
        item = source[k]
        np.testing.assert_allclose(project(item.joints_m, item.camera), item.joints_px, atol=1e-3)
        labelled, posed, sample = _posed(item)
        np.testing.assert_allclose(posed, labelled, atol=1e-6)
        assert sample["has_parameters"] == 1 and sample["has_weak_3d"] == sample["has_joints_m"] == 0


def test_a_hand_without_a_fit_keeps_its_weak_3D_joints(photo, fits):
    del fits["two.png", 1]
    with_fit, without = PhotoSource(with_fits([photo], fits)), PhotoSource([photo])
    samples = [_posed(source[1])[2] for source in (with_fit, without)]
    assert all(sample["has_weak_3d"] == 1 and sample["has_parameters"] == 0 for sample in samples)
    np.testing.assert_array_equal(samples[0]["joints_m"], samples[1]["joints_m"])


def test_cut_outs_find_the_fit_of_their_photograph(photo, fits, tmp_path):
    rgba = np.full((100, 100, 4), 255, np.uint8)
    cut = [CutoutHand(hand.side, 0.5 * hand.joints_px - [30, 20], joints_m=hand.joints_m) for hand in photo.hands]
    cut = [with_origin(one, photo, hand) for one, hand in zip(cut, photo.hands, strict=True)]
    write_cutouts(tmp_path / "cut", [Cutout(rgba, (one,)) for one in cut])
    source = CutoutSource(CutoutSet(tmp_path / "cut"), [photo.path.parent], fits)
    rng = np.random.default_rng(0)
    for item in (source.draw(rng) for _ in range(6)):
        np.testing.assert_allclose(project(item.joints_m, item.camera), item.joints_px, atol=0.1)
        assert _posed(item)[2]["has_parameters"] == 1
    without = CutoutSource(CutoutSet(tmp_path / "cut"), [photo.path.parent]).draw(rng)
    assert without.rotations is None and without.joints_m is not None


def test_shards_of_photographs_carry_the_fits(photo, fits, tmp_path):
    (fitted,) = with_fits([photo], fits)
    write_photo_shards([fitted], tmp_path / "out")
    shard, direct = PhotoShard(tmp_path / "out" / "photos-00000.tar"), PhotoSource([fitted])
    for k in range(2):
        np.testing.assert_allclose(_posed(ContextSource(shard)[k])[1], _posed(direct[k])[1], atol=1e-6)
    with pytest.raises(ValueError, match="begun with other photographs"):
        write_photo_shards([photo], tmp_path / "out")


def test_the_mix_names_files_of_fits_and_another_hand_refuses_them(photo, fits, tmp_path):
    label = {
        "file": photo.path.name, "width": photo.width, "height": photo.height,
        "hands": [
            {"hand": hand.side, "score": 1.0, "uv": hand.joints_px.tolist(), "xyz": hand.joints_m.tolist()}
            for hand in photo.hands
        ],
    }  # fmt: skip
    (tmp_path / "pseudo_labels.json").write_text(json.dumps([label]))
    write_fits(tmp_path / "fits.npz", fits)
    mix = MixConfig(photos=(tmp_path,), fits=(tmp_path / "fits.npz",))
    source = next(source for _, source in sources_of(mix, MODEL, 1.5) if isinstance(source, PhotoSource))
    assert all(source[k].rotations is not None for k in range(2))
    with pytest.raises(ValueError, match=r"data\.fits are of another hand"):
        sources_of(mix, another_hand(), 1.5)
