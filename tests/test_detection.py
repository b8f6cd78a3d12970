"""The detector: letterbox, reading of maps, losses, metrics, export."""

import math

import numpy as np
import pytest
import torch

from handmesh import detection
from handmesh.crop import letterbox
from handmesh.data.detection import DetectionBatch, Scene, SceneHand, Size, collate
from handmesh.detection import STRIDE, Detection, Detector, read_maps
from handmesh.evaluation import metrics
from handmesh.export.onnx import export_detector, load_detector
from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig, DetectorOutput
from handmesh.tracking.backends import open_session
from handmesh.training.losses import detection_losses
from handmesh.types import Box

SIZE = Size(256, 192)
SMALL = DetectorNetworkConfig(widths=(16, 16, 16, 16), depths=(1, 1, 1, 1), width=16)


def joints_of(box: Box) -> np.ndarray:
    """(21, 2) joints whose box is `box`: a cross between the middles of its sides, wrist at the bottom."""
    corners = box.corners_px()
    top, right, bottom, left = ((corners[k] + corners[(k + 1) % 4]) / 2 for k in range(4))
    points = np.tile(np.asarray(box.centre_px, float), (21, 1))
    points[0], points[12], points[4], points[20] = bottom, top, left, right
    return points


def scene_with(*hands: tuple[Box, str]) -> Scene:
    labels = tuple(SceneHand(side, joints_of(box), np.ones(21)) for box, side in hands)
    return Scene(np.zeros((SIZE.height, SIZE.width, 3), np.uint8), labels)


def perfect_output(batch: DetectionBatch) -> DetectorOutput:
    heat = torch.where(batch.heat == 1, 12.0, -12.0)
    return DetectorOutput(heat, batch.offset, batch.log_size, batch.direction, 24 * batch.right - 12)


HANDS = [
    (Box((60.0, 50.0), 40.0, 0.4), "right"),
    (Box((180.0, 120.0), 90.0, -2.5), "left"),
    (Box((20.0, 170.0), 12.0), "left"),
]


class FakeSession:
    """Answers with the maps of a scene and remembers what it was shown."""

    input_size = (SIZE.height, SIZE.width)

    def __init__(self, scene):
        self.output = {name: value.numpy() for name, value in perfect_output(collate([scene]))._asdict().items()}

    def run(self, image):
        self.shown = image
        return self.output


def test_detector_gives_back_the_hands_of_the_maps():
    session = FakeSession(scene_with(*HANDS))
    found = Detector(session).detect(np.zeros((480, 640, 3), np.uint8))
    assert session.shown.shape == (1, 192, 256, 3) and session.shown.dtype == np.uint8
    assert len(found) == 3
    for box, side in HANDS:
        centre = [(c + 0.5) * 2.5 - 0.5 for c in box.centre_px]
        hand = min(found, key=lambda hand: math.dist(hand.box.centre_px, centre))
        assert hand.side == side and hand.score > 0.99
        assert hand.box.size_px == pytest.approx(2.5 * box.size_px, rel=1e-4)
        assert math.remainder(hand.box.angle_rad - box.angle_rad, 2 * math.pi) == pytest.approx(0, abs=1e-4)
        assert hand.box.centre_px == pytest.approx(centre, abs=0.02)


@pytest.mark.parametrize("shape", [(480, 640), (1000, 300), (50, 50), (1, 700), (192, 256)])
def test_letterbox_fits_and_maps_back(shape):
    boxed = letterbox(np.full((*shape, 3), 255, np.uint8), 192, 256)
    assert boxed.image.shape == (192, 256, 3)
    rows, columns = np.nonzero(boxed.image[..., 0] == 255)
    left, top = boxed.to_image(columns.min() - 0.5, rows.min() - 0.5)
    right, bottom = boxed.to_image(columns.max() + 0.5, rows.max() + 0.5)
    tolerance = 1.01 / boxed.scale
    assert (left, top) == pytest.approx((-0.5, -0.5), abs=tolerance)
    assert (right, bottom) == pytest.approx((shape[1] - 0.5, shape[0] - 0.5), abs=tolerance)


def test_each_hand_is_found_once():
    boxed = letterbox(np.zeros((192, 256, 3), np.uint8), 192, 256)
    box = Box((100.0, 100.0), 50.0)
    twice = [
        Detection(box, "left", 0.9),
        Detection(Box((105.0, 100.0), 45.0), "right", 0.8),
        Detection(Box((150.0, 100.0), 50.0), "left", 0.7),
    ]
    assert detection.without_repeats(twice) == [twice[0], twice[2]]
    empty = {"heat": np.full((24, 32), -5.0, np.float32)}
    assert read_maps(empty, boxed, 0.5) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        read_maps(empty, boxed, 1.5)


def test_losses_are_small_for_the_truth_and_blind_where_unsure():
    batch = collate([scene_with(*HANDS), scene_with()])
    right = perfect_output(batch)
    assert sum(detection_losses(right, batch).values()) < 1e-3
    wrong = right._replace(heat=-right.heat, offset=right.offset + 1)
    assert detection_losses(wrong, batch)["heat"] > 10 and detection_losses(wrong, batch)["offset"] == pytest.approx(2)
    heat = torch.full_like(right.heat, 3.0, requires_grad=True)
    unsure = batch._replace(sure=torch.ones_like(batch.sure).index_fill(2, torch.tensor([5]), 0.0))
    detection_losses(right._replace(heat=heat), unsure)["heat"].backward()
    assert (heat.grad[:, :, 5] == 0).all() and (heat.grad[1, :, 6] != 0).all()


def test_a_few_steps_find_the_hand():
    torch.manual_seed(0)
    scene = scene_with((Box((100.0, 80.0), 70.0, 0.3), "right"))
    scene.image[50:110, 70:130] = (220, 150, 120)
    batch, network = collate([scene] * 2), DetectorNet(SMALL)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-2)
    history = []
    for _ in range(15):
        loss = sum(detection_losses(network(batch.image.float() / 255), batch).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]


def test_metrics_count_found_hands_and_sides():
    labels = [(box, side) for box, side in HANDS]
    close = Box((62.0, 50.0), 44.0, 0.4 + math.radians(10) - 2 * math.pi)
    found = [
        Detection(close, "right", 0.8),
        Detection(Box((180.0, 121.0), 90.0, -2.5), "right", 0.4),
        Detection(Box((200.0, 20.0), 30.0), "left", 0.9),
    ]
    matches = metrics.match_hands(found, labels)
    at = metrics.metrics_at(matches, 0.3)
    assert at.found == pytest.approx(2 / 3) and at.side_correct == 0.5
    assert matches[0].angle_deg == pytest.approx(10, abs=1e-3) and matches[0].size_ratio == pytest.approx(1.1)
    assert metrics.metrics_at(matches, 0.5).found == pytest.approx(1 / 3)
    scores, count = metrics.false_alarm_scores(lambda image: found, [np.zeros((2, 2, 3))] * 4)
    assert count == 4 and len(scores) == 12


def test_network_rejects_other_backbones():
    with pytest.raises(ValueError, match="RepViT"):
        DetectorNet(DetectorNetworkConfig(backbone="resnet18"))


def test_export_agrees_with_torch_and_detects(tmp_path):
    from handmesh.models.checkpoint import save_weights

    torch.manual_seed(0)
    network = DetectorNet(SMALL).eval()
    path = tmp_path / "detector.onnx"
    assert max(export_detector(network, path, Size(128, 96), precision="fp32").values()) < 1e-3
    session = open_session(path, "detector", threads=1)
    assert session.input_size == (96, 128)
    maps = session.run(np.zeros((1, 96, 128, 3), np.uint8))
    assert set(maps) == set(DetectorOutput._fields) and maps["heat"].shape == (1, 96 // STRIDE, 128 // STRIDE)
    assert all(hand.box.size_px > 0 for hand in Detector(session).detect(np.zeros((70, 40, 3), np.uint8), 0.001))

    weights = tmp_path / "weights.safetensors"
    config = {"task": "detector", "network": {"widths": [16] * 4, "depths": [1] * 4, "width": 16}}
    save_weights(weights, network.state_dict(), {"config": config})
    image = torch.rand(1, 3, 96, 128)
    with torch.no_grad():
        assert torch.equal(load_detector(weights)(image).heat, network(image).heat)
    save_weights(weights, network.state_dict(), {"config": {"task": "mesh"}})
    with pytest.raises(ValueError, match="'detector'"):
        load_detector(weights)
