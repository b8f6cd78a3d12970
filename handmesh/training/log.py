"""Where a run's figures go: TensorBoard's files in its folder and, where it is asked for, Weights & Biases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch.utils.tensorboard import SummaryWriter

from handmesh.files import write_text

WANDB_ID = "wandb_id.txt"
"""Holds the id of the run there, so that a resumed run goes on in the same curves."""


class RunLog:
    """Scalars and images of a run by step."""

    def __init__(self, out: Path, config: dict[str, Any], wandb: bool = False) -> None:
        """config: the resolved one, as plain values. Raises ValueError where `wandb` is asked for and not installed."""
        self._wandb = _begun(out, config) if wandb else None
        self._board = SummaryWriter(out)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Figures by name, a slash between their groups."""
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._wandb:
            self._wandb.log(dict(values), step=step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """image: (H, W, 3) uint8 RGB."""
        self._board.add_image(name, image, step, dataformats="HWC")
        if self._wandb:
            self._wandb.log({name: self._wandb.Image(image)}, step=step)

    def close(self) -> None:
        """Write what is not written yet."""
        self._board.close()
        if self._wandb:
            self._wandb.finish()


def _begun(out: Path, config: dict[str, Any]) -> ModuleType:
    """The package with the run begun there. Its project is WANDB_PROJECT's, or `handmesh`."""
    try:
        import wandb
    except ImportError:
        raise ValueError("run.wandb needs the package 'wandb': pip install wandb, or leave --run.wandb out") from None
    path = out / WANDB_ID
    if not path.exists():
        write_text(path, uuid.uuid4().hex[:16] + "\n")
    project = os.environ.get("WANDB_PROJECT", "handmesh")
    wandb.init(
        project=project, name=out.name, id=path.read_text().strip(), dir=str(out), config=config, resume="allow"
    )  # fmt: skip
    return wandb
