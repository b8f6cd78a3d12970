"""The detector's task: its config, batches and validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from handmesh.crop import letterbox
from handmesh.data.detection import DetectionBatch, DetectionBatches, SceneConfig, Size, input_size, scene_sources
from handmesh.data.loader import Stage, batches_from
from handmesh.data.photos import Photo, list_images, read_photos, split_of
from handmesh.data.teacher import SceneTeacher
from handmesh.detection import THRESHOLD, Detection, read_maps
from handmesh.evaluation.metrics import LEAST_SCORE, Detect, false_alarm_scores, match_images, metrics_at
from handmesh.files import read_image
from handmesh.models.detector_net import DetectorNet, DetectorNetworkConfig, DetectorOutput
from handmesh.training.config import OptimiserConfig, RunConfig, as_plain
from handmesh.training.engine import StepLosses
from handmesh.training.losses import detection_losses, map_matching_loss, network_input

LOSS_WEIGHTS = {"heat": 1.0, "offset": 0.5, "log_size": 1.0, "direction": 1.0, "handedness": 0.5}


@dataclass(frozen=True)
class DetectorConfig:
    """Everything that a training run of the detector depends on."""

    run: RunConfig = field(default_factory=lambda: RunConfig(out=Path("runs/detector"), schedule=((2000, 256, 32),)))
    """The schedule's crop size is the image's width; its height is three quarters of that."""
    network: DetectorNetworkConfig = field(default_factory=DetectorNetworkConfig)
    data: SceneConfig = field(default_factory=SceneConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    validation_size: int = 150
    """Images of each kind to validate on during the run."""
    threshold: float = THRESHOLD
    matching: float = 1.0
    """Weight of the differences from the maps of `data.teacher`."""


class TaughtDetector(nn.Module):
    """A detector with projections of its fused map onto a teacher's maps, which exist in training alone."""

    def __init__(self, network: DetectorNet, channels: Sequence[int]) -> None:
        """channels: of each of the teacher's maps."""
        super().__init__()
        self.network = network
        self.projections = nn.ModuleList(nn.Conv2d(network.config.width, count, 1) for count in channels)

    def forward(self, image: Tensor) -> tuple[DetectorOutput, list[Tensor]]:
        """(B, 3, H, W) images, 0..1, to the detector's maps and to its own guess of each of the teacher's."""
        fused = self.network.fused(image)
        return self.network.read(fused), [projection(fused).float() for projection in self.projections]


class DetectionTask:
    """Batches, losses and validation of `DetectorNet`; see `engine.Task`."""

    def __init__(self, config: DetectorConfig) -> None:
        self.config = config
        self.plain_config = {"task": "detector", **as_plain(config)}
        torch.manual_seed(config.run.seed)  # of the initial weights
        self.model: nn.Module = DetectorNet(config.network)
        self.sources = scene_sources(config.data)
        self.teacher = self._open_teacher(config.data.teacher) if config.data.teacher else None
        if self.teacher:
            self.model = TaughtDetector(self.model, self.teacher.channels)
        count = config.validation_size
        roots = (*config.data.hand_photos, *config.data.people_photos)
        self.photos = {root.name: [p for p in read_photos(root, "val") if p.hands][:count] for root in roots}
        held_out = [p for folder in config.data.backgrounds for p in list_images(folder) if split_of(p.name) == "val"]
        self.empty = held_out[:count]

    def batches(self, start: int, rank: int, world: int) -> Iterable[DetectionBatch]:
        data, run = self.config.data, self.config.run
        dataset = DetectionBatches(
            self.sources, run.stages, data.colour, run.seed, rank, world, self.teacher, run.accumulate
        )
        return batches_from(dataset, start, data.workers)

    def _open_teacher(self, path: Path) -> SceneTeacher:
        """The teacher, its scale taken from scenes of the run's own."""
        run = self.config.run
        scenes = DetectionBatches(self.sources, [Stage(1, run.stages[-1].crop_size, 64)], True, run.seed + 1)
        return SceneTeacher(path, scenes[0].image.numpy(), self.config.data.taught_fraction)

    def losses(self, model: nn.Module, batch: DetectionBatch) -> StepLosses:
        image = network_input(batch.image, self.config.run.channels_last)
        output, projected = model(image) if self.teacher else (model(image), [])
        losses = {name: LOSS_WEIGHTS[name] * value for name, value in detection_losses(output, batch).items()}
        if self.teacher:
            losses["taught"] = self.config.matching * map_matching_loss(projected, batch.taught)
        return StepLosses(losses)

    def deployed(self, model: nn.Module) -> nn.Module:
        return model.network if self.teacher else model

    def validate(self, model: nn.Module) -> tuple[dict[str, float], np.ndarray | None]:
        detect = detect_with(model, input_size(self.config.run.stages[-1].crop_size))
        metrics, images = {}, []
        for name, photos in self.photos.items():
            at = metrics_at(match_images(detect, (_labelled(photo) for photo in photos)), self.config.threshold)
            metrics |= {f"{name}/{key}": value for key, value in at._asdict().items() if key != "threshold"}
            images += [drawn(photo.load(), detect, self.config.threshold) for photo in photos[:4]]
        if self.empty:
            scores, count = false_alarm_scores(detect, map(read_image, self.empty))
            metrics["false_alarms_per_100"] = 100 * float((scores >= self.config.threshold).sum()) / count
        return metrics, np.concatenate(images, axis=1) if images else None


def detect_with(model: nn.Module, size: Size) -> Detect:
    """A function that finds hands with a torch network, as the runtime's `Detector` does with an exported one."""
    device = next(model.parameters()).device

    @torch.no_grad()
    def detect(image: np.ndarray) -> list[Detection]:
        boxed = letterbox(image, size.height, size.width)
        pixels = torch.from_numpy(boxed.image).to(device).permute(2, 0, 1)[None].float() / 255
        maps = {name: value[0].cpu().numpy() for name, value in model(pixels)._asdict().items()}
        return read_maps(maps, boxed, LEAST_SCORE)

    return detect


def _labelled(photo: Photo) -> tuple[np.ndarray, list]:
    return photo.load(), [(hand.box(), hand.side) for hand in photo.hands]


def drawn(image: np.ndarray, detect: Detect, threshold: float, height: int = 240) -> np.ndarray:
    """An image with the boxes found in it: green right hands, orange left ones, the top side white."""
    image = image.copy()
    for hand in detect(image):
        if hand.score >= threshold:
            corners = np.round(hand.box.corners_px()).astype(np.int32)
            colour = (60, 200, 90) if hand.side == "right" else (255, 140, 0)
            cv2.polylines(image, [corners], True, colour, 2, cv2.LINE_AA)
            cv2.line(image, *corners[:2].tolist(), (255, 255, 255), 2, cv2.LINE_AA)
    return cv2.resize(image, (height * 4 // 3, height), interpolation=cv2.INTER_AREA)
