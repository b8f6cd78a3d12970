"""The mesh network's task: its batches, losses and validation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from handmesh.crop import px_from_normalised, warp
from handmesh.data.freihand import FreihandSource, read_freihand
from handmesh.data.loader import TrainingBatches, batches_from
from handmesh.data.mixture import PhotoSource, ShardSource, WithCropProtocol, mixed_sources
from handmesh.data.photos import read_photos
from handmesh.data.samples import Batch, collate, make_crop_sample
from handmesh.data.shards import read_shards
from handmesh.data.teacher import Bank
from handmesh.hand.model import HandModel
from handmesh.hand.rotations import procrustes
from handmesh.models.mesh_net import HandNet
from handmesh.skeleton import BONES
from handmesh.tracking.backends import open_session
from handmesh.tracking.estimator import Crop, image_joints_px
from handmesh.training.config import MeshConfig, as_plain
from handmesh.training.distributed import apart
from handmesh.training.engine import StepLosses
from handmesh.training.losses import (
    FeatureStudent,
    Prediction,
    Teacher,
    distillation_losses,
    matching_losses,
    mean_distance,
    network_input,
    pose_hand,
    rows,
    sees_labelled_hand,
    true_vertices,
    weighted_losses,
)
from handmesh.types import Box

_NO_RANDOMNESS = np.random.default_rng(0)


class Looker:
    """Says where an exported mesh network sees a hand's joints; see `samples.Look`."""

    def __init__(self, path: Path) -> None:
        """Raises ModelFileError (a ValueError) where `path` holds no exported mesh network."""
        self.path, self._session = path, open_session(path, "mesh", threads=1)

    def __call__(self, image: np.ndarray, box: Box, mirror: bool) -> np.ndarray:
        self._session = self._session or open_session(self.path, "mesh", threads=1)
        crop = Crop(box, "left" if mirror else "right", self._session.input_size[0])
        return image_joints_px(self._session.run(warp(image, crop.affine, crop.size)[None]), crop)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_session": None}  # another process opens the file for itself


class MeshTask:
    """Batches, losses and validation of `HandNet`; see `engine.Task`."""

    def __init__(self, config: MeshConfig) -> None:
        self.config = config
        self.plain_config = {"task": "mesh", **as_plain(config)}
        self.hand_model = HandModel.load(config.hand_model)
        torch.manual_seed(config.run.seed)  # of the initial weights
        self.model: nn.Module = HandNet(config.network, self.hand_model.mean_pose)
        if config.data.taught:
            widths = [len(Bank(config.data.taught[0]).info[name]["centre"]) for name in ("mean", "map")]
            self.model = FeatureStudent(self.model, *widths)
        self.teacher = Teacher(config, self.hand_model) if config.teacher else None
        segments = config.losses.get("mask", 0) > 0
        if segments != config.network.segmentation:
            raise ValueError("the loss 'mask' and network.segmentation belong together: set both or neither")
        if (config.data.augment.looked > 0) != bool(config.looker):
            raise ValueError("data.augment.looked and looker belong together: set both or neither")
        self.look = Looker(config.looker) if config.looker else None
        self.sources = mixed_sources(config.data, self.hand_model, config.box_scale, segments, config.run.seed)
        self.validation = dict(self._validation_batches())

    def batches(self, start: int, rank: int, world: int) -> Iterable[Batch]:
        data, run = self.config.data, self.config.run
        dataset = TrainingBatches(
            [(mixed.fraction, mixed.source) for mixed in self.sources], run.stages, data.augment,
            self.config.box_scale, run.seed, rank, world, run.accumulate, self.look,
        )  # fmt: skip
        return batches_from(dataset, start, data.workers)

    def losses(self, model: nn.Module, batch: Batch) -> StepLosses:
        device = batch.image.device
        self.hand_model.to(device)
        image = network_input(batch.image, self.config.run.channels_last)
        seen = model(image)
        matched = seen if self.config.data.taught else None
        net = matched.net if matched else seen
        taught = self.teacher(image) if self.teacher else None
        with torch.autocast(device.type, enabled=False):
            prediction = pose_hand(net, self.hand_model)
            losses = weighted_losses(prediction, batch, self.hand_model, self.config.losses)
            if taught:
                crops = sees_labelled_hand(taught, batch)
                losses |= distillation_losses(prediction, taught, crops, self.config.distillation)
            if matched:
                found = matching_losses(matched, batch)
                losses |= {name: self.config.matching * value for name, value in found.items()}
        return StepLosses(losses, partial(self.losses_by_source, prediction, batch))

    @torch.no_grad()
    def losses_by_source(self, prediction: Prediction, batch: Batch) -> dict[str, float]:
        """The losses on labels of the batch's crops from each source, weighted, as `source/loss`."""
        found = {}
        with apart(), torch.autocast(batch.image.device.type, enabled=False):
            for number in batch.source.unique().tolist():
                ours = [rows(values, batch.source == number) for values in (prediction, batch)]
                losses = weighted_losses(*ours, self.hand_model, self.config.losses)
                name = self.sources[int(number)].name
                found |= {f"{name}/{loss}": float(value) for loss, value in losses.items()}
        return found

    def deployed(self, model: nn.Module) -> nn.Module:
        return model.network if self.config.data.taught else model

    def validate(self, model: nn.Module) -> tuple[dict[str, float], np.ndarray | None]:
        metrics, images, device = {}, [], next(model.parameters()).device
        self.hand_model.to(device)
        for name, batch in self.validation.items():
            batch = Batch(*(each.to(device) for each in batch))
            prediction = pose_hand(model(network_input(batch.image, False)), self.hand_model)
            found = quick_metrics(prediction, batch, self.hand_model)
            metrics |= {f"{name}/{key}": value for key, value in found.items()}
            images.append(contact_strip(prediction, batch))
        return metrics, np.concatenate(images) if images else None

    def _validation_batches(self) -> Iterable[tuple[str, Batch]]:
        count = self.config.validation_size
        if self.config.validation_shards:
            shards = read_shards(self.config.validation_shards, limit=count)
            yield "synthetic", self._plain_batch(ShardSource(shards, self.hand_model), count)
        if self.config.data.freihand:
            yield from self._freihand_validation(self.config.data.freihand, count)
        for root in self.config.data.photos:
            yield root.name, self._plain_batch(PhotoSource(read_photos(root, "val")), count)

    def _freihand_validation(self, root: Path, count: int) -> Iterable[tuple[str, Batch]]:
        """Samples from all over the evaluation split, where its labels are there."""
        freihand = read_freihand(root, "evaluation")
        if freihand.xyz is not None:
            boxes = self.config.data.freihand_boxes
            source = WithCropProtocol(FreihandSource(freihand, self.hand_model), boxes, self.config.box_scale)
            yield "freihand", self._plain_batch(source, count, step=max(1, len(source) // count))

    def _plain_batch(self, source: Any, count: int, step: int = 1) -> Batch:
        size = self.config.run.stages[-1].crop_size
        items = (source[i] for i in range(0, len(source), step)[:count])
        return collate([make_crop_sample(item, size, self.config.box_scale, None, _NO_RANDOMNESS) for item in items])


def quick_metrics(prediction: Prediction, batch: Batch, model: HandModel) -> dict[str, float]:
    """Errors to watch during training: 2D as a fraction of the longer box side, 3D in millimetres."""
    labelled, joints = batch.has_joints_crop[..., None] > 0, batch.joints_crop
    extent = (joints.where(labelled, -torch.inf).amax(1) - joints.where(labelled, torch.inf).amin(1)).amax(1)
    error_2d = mean_distance(prediction, batch) / extent
    aligned = procrustes(prediction.joints_m, batch.joints_m)
    scale = 1000.0
    metrics = {
        "error_2d": float(error_2d.mean()),
        "error_2d_median": float(error_2d.median()),
        "pa_mpjpe_mm": scale * float((aligned - batch.joints_m).norm(dim=-1).mean()),
        "presence": float((prediction.net.presence > 0).float().mean()),
        "handedness": float(((prediction.net.handedness > 0).float() == batch.right).float().mean()),
    }
    if batch.has_joints_m.all():
        metrics["mpjpe_mm"] = scale * float((prediction.joints_m - batch.joints_m).norm(dim=-1).mean())
    vertices, known = true_vertices(batch, model)
    if known.all():
        aligned = procrustes(prediction.vertices_m, vertices)
        metrics["pa_mpvpe_mm"] = scale * float((aligned - vertices).norm(dim=-1).mean())
    return metrics


def contact_strip(prediction: Prediction, batch: Batch, columns: int = 8) -> np.ndarray:
    """(S, columns * S, 3) uint8: the first crops with the labelled (green) and the found (orange) skeleton."""
    size = batch.image.shape[-1]
    found = px_from_normalised(prediction.joints_crop[:columns].float().cpu().numpy(), size)
    labelled = px_from_normalised(batch.joints_crop[:columns].cpu().numpy(), size)
    images = batch.image[:columns].permute(0, 2, 3, 1).cpu().numpy().copy()
    for image, ours, theirs in zip(images, found, labelled, strict=True):
        _draw_bones(image, theirs, (60, 200, 90))
        _draw_bones(image, ours, (255, 140, 0))
    strip = np.concatenate(list(images), axis=1)
    return np.pad(strip, ((0, 0), (0, max(0, columns - len(images)) * size), (0, 0)))


def _draw_bones(image: np.ndarray, joints_px: np.ndarray, colour: Sequence[int]) -> None:
    for a, b in BONES:
        cv2.line(image, *(tuple(np.round(joints_px[k]).astype(int).tolist()) for k in (a, b)), colour, 1, cv2.LINE_AA)
