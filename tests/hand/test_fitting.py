"""Fitting: the reduced hand is exact, its derivatives too, and fits find hands that are known."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="fitting is part of the training extra")

from labelled_truth import CAMERA, truths  # noqa: E402

from handmesh.cli import main  # noqa: E402
from handmesh.data.photos import (  # noqa: E402
    LABEL_FILE,
    Photo,
    read_fits,
)
from handmesh.evaluation.metrics import align, errors_2d  # noqa: E402
from handmesh.evaluation.photo_fits import (  # noqa: E402
    FitPhotosConfig,
    PhotoFitter,
    hand_of,
    tasks_of,
)
from handmesh.geometry import project  # noqa: E402
from handmesh.hand import anatomy  # noqa: E402
from handmesh.hand.fitting import FitConfig, Fitter, KeypointHand, Posed  # noqa: E402  # noqa: E402
from handmesh.hand.model import HandModel  # noqa: E402
from handmesh.skeleton import ROOT as KNUCKLE  # noqa: E402

ROOT = Path(__file__).parents[2]
MODEL = HandModel.load()


def _posed(count: int) -> Posed:
    rng, hands = np.random.default_rng(1), truths(count, MODEL)
    rotations = np.stack([hand.rotations for hand in hands]).astype(np.float64)
    shape = np.stack([hand.shape for hand in hands]).astype(np.float64)
    return Fitter(MODEL).start(rotations, shape, rng.uniform([-0.1, -0.1, 0.3], [0.1, 0.1, 0.6], (count, 3)))


def test_the_reduced_hand_has_the_models_joints():
    posed, hand = _posed(6), KeypointHand(MODEL)
    rotations = torch.from_numpy(hand.rotations(posed)).float()
    joints = MODEL(rotations, torch.from_numpy(posed.shape).float()).joints.numpy() + posed.position_m[:, None]
    np.testing.assert_allclose(hand.joints_m(posed), joints, atol=1e-6)


def test_its_derivatives_are_those_of_differences():
    posed, fitter = _posed(2), Fitter(MODEL, FitConfig(slack=1.0))
    joints, slopes = fitter.hand.joints_and_slopes(posed)
    for k in range(61):
        step = np.zeros((2, 61))
        step[:, k] = 1e-6
        moved = fitter.hand.joints_m(fitter.limits.moved(posed, step))
        np.testing.assert_allclose((moved - joints) / 1e-6, slopes[..., k], atol=1e-5)


def _fit(hands, labels, proposals, config=None):
    """The fits of hands that are labelled in an image, in their order."""
    photo = Photo(Path("many.jpg"), CAMERA.width, CAMERA.height, tuple(labels))
    seen = iter(proposals)
    tasks = tasks_of(photo, lambda label, camera: next(seen), 60.0)
    assert len(tasks) == len(hands)
    return list(PhotoFitter(MODEL, config).fit(tasks).values())


def _aligned_mm(joints_m, hands):
    truth = np.stack([hand.joints_m for hand in hands])
    return 1000 * np.linalg.norm(align(np.stack(joints_m), truth) - truth, axis=-1).mean(1)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_fit_recovers_the_truth_from_noisy_labels(side):
    rng, hands = np.random.default_rng(2), truths(16, MODEL, side=side)
    labels = [hand.label(rng) for hand in hands]
    fits = _fit(hands, labels, [hand.proposal(rng) for hand in hands])
    truth_px = np.stack([hand.joints_px for hand in hands])
    fitted_px, labelled_px = (np.stack([project(fit.joints_m, CAMERA) for fit in fits]), [x.joints_px for x in labels])
    off, noise = (np.median(errors_2d(px, truth_px).mean(1)) for px in (fitted_px, labelled_px))
    assert off < 0.01 and off < noise
    fitted, weak_3d = (
        _aligned_mm([fit.joints_m for fit in fits], hands),
        _aligned_mm([x.joints_m for x in labels], hands),
    )
    assert np.median(fitted) < 5 and np.median(weak_3d) > 1.8 * np.median(fitted)
    assert np.mean([fit.accepted for fit in fits]) > 0.9
    rotated = [np.linalg.norm(fit.rotations[0] - hand.rotations[0]) for fit, hand in zip(fits, hands, strict=True)]
    assert np.median(rotated) < 0.2


def test_without_a_proposal_the_relaxed_hand_is_where_the_search_starts():
    rng, hands = np.random.default_rng(3), truths(8, MODEL)
    fits = _fit(hands, [hand.label(rng) for hand in hands], [None] * 8)
    assert np.median(_aligned_mm([fit.joints_m for fit in fits], hands)) < 7


def test_fingers_stay_within_their_limits():
    rng, hands = np.random.default_rng(4), truths(8, MODEL)
    labels = [replace(hand.label(rng), joints_px=hand.label(rng, noise=0.2).joints_px) for hand in hands]
    fits = _fit(hands, labels, [hand.proposal(rng, bend=1.0) for hand in hands])
    angles = anatomy.angles_from_rotations(np.stack([fit.rotations[1:] for fit in fits]), KeypointHand(MODEL).frames)
    low, high = anatomy.limits_deg()
    slack = FitConfig().slack * (high - low) + 0.1
    assert (angles >= low - slack).all() and (angles <= high + slack).all()
    assert not any(fit.accepted for fit in fits)  # no hand is like these labels


def test_a_knuckle_elsewhere_is_not_accepted():
    rng, (hand,) = np.random.default_rng(5), truths(1, MODEL)
    label = hand.label(rng, noise=0.0)
    label.joints_px[KNUCKLE] += [0.2 * np.ptp(label.joints_px, axis=0).max(), 0]
    accepting = FitPhotosConfig(accept=1.0, accept_worst=1.0, accept_weak_3d_m=1.0)
    (strict,), (lax,) = (_fit([hand], [label], [hand.proposal(rng)], config) for config in (None, accepting))
    assert lax.accepted and not strict.accepted


def test_the_mesh_of_a_fit_lies_where_its_joints_are():
    for side in ("right", "left"):
        rng, (hand,) = np.random.default_rng(6), truths(1, MODEL, side=side)
        label = hand.label(rng)
        (fit,) = _fit([hand], [label], [hand.proposal(rng)])
        drawn = hand_of(fit, label, MODEL)
        joints = MODEL.keypoint_regressor.numpy() @ drawn.vertices_m
        np.testing.assert_allclose(joints, fit.joints_m, atol=1e-4)


def test_mano_is_refused():
    mano = HandModel.load()
    mano.posedirs = torch.ones(1)
    with pytest.raises(ValueError, match="without pose-dependent corrections"):
        KeypointHand(mano)


def test_the_command_fits_a_folder(tmp_path, capsys):
    rng, hands = np.random.default_rng(7), truths(3, MODEL)
    noise = rng.integers(0, 255, (CAMERA.height, CAMERA.width, 3)).astype(np.uint8)
    entries = []
    for name, hand in zip(("3.jpg", "7.jpg", "9.jpg"), hands, strict=True):  # 7.jpg is held out
        cv2.imwrite(str(tmp_path / name), noise)
        label = hand.label(rng)
        plain = {"hand": "right", "score": 0.9, "uv": label.joints_px.tolist(), "xyz": label.joints_m.tolist()}
        entries.append({"file": name, "width": CAMERA.width, "height": CAMERA.height, "hands": [plain]})
    (tmp_path / LABEL_FILE).write_text(json.dumps(entries))
    out, sheet = tmp_path / "out" / "fits.npz", tmp_path / "out" / "sheet.png"
    assert main(["data", "fit-photos", str(tmp_path), "--output", str(out), "--sheet", str(sheet)]) == 0
    printed = capsys.readouterr().out
    assert "train: 2 hands" in printed and "val: 1 hands" in printed
    fits = read_fits([out])
    assert set(fits) == {("3.jpg", 0), ("7.jpg", 0), ("9.jpg", 0)}
    assert _aligned_mm([fits[name, 0].joints_m for name in ("3.jpg", "7.jpg", "9.jpg")], hands).mean() < 8
    assert cv2.imread(str(sheet)).shape[2] == 3
    assert main(["data", "fit-photos", str(tmp_path / "none"), "--output", str(out)]) == 1
    assert capsys.readouterr().err.startswith("error: no pseudo_labels.json")
