"""What another detector makes of the pictures that ours is trained on: its maps, asked for as training goes on.

Pictures are pasted together anew each time, so nothing is cached. A teacher that has seen many people
says more of a picture than where its hands are: what arms, faces and clothes look like. Both see the same
pixels (function matching: Beyer et al., Knowledge distillation: a good teacher is patient and consistent, 2022).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

_WIDEST = 6.0
"""Standard deviations that a teacher's map is held within."""


class SceneTeacher:
    """A network whose maps are told in standard deviations of each channel."""

    def __init__(self, path: Path, samples: np.ndarray, share: float = 1.0) -> None:
        """path: an .onnx of (n, 3, height, width) RGB between 0 and 1 to maps (n, C, h, w).

        samples: (N, 3, H, W) uint8 pictures, from which the channels' means and deviations are taken.
        share: of the pictures of a batch that it is asked about, the first ones.
        Raises ValueError where `path` holds no such network.
        """
        self.path, self.share, self._run = path, share, None
        maps = self._maps(samples)
        flat = [one.ndim for one in maps if one.ndim != 4]
        if flat or not maps:
            raise ValueError(f"{path}: expected outputs of four axes (n, C, h, w), got {flat or 'none'}")
        self._centres = [one.mean((0, 2, 3), keepdims=True) for one in maps]
        self._spreads = [np.maximum(one.std((0, 2, 3), keepdims=True), 1e-2) for one in maps]

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each of the maps."""
        return tuple(centre.shape[1] for centre in self._centres)

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        """The maps of the first K of (B, 3, H, W) uint8 pictures, (K, C, h, w) float32 each."""
        count = max(1, round(self.share * len(images)))
        maps = zip(self._maps(images[:count]), self._centres, self._spreads, strict=True)
        return [((one - centre) / spread).clip(-_WIDEST, _WIDEST) for one, centre, spread in maps]

    def _maps(self, images: np.ndarray) -> list[np.ndarray]:
        self._run = self._run or _open(self.path)  # opened late: workers open the network for themselves
        each = [self._run(image[None].astype(np.float32) / 255) for image in images]
        return [np.concatenate(column) for column in zip(*each, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_run": None}


def _open(path: Path) -> Callable[[np.ndarray], list[np.ndarray]]:
    import onnxruntime

    if not path.is_file():
        raise ValueError(f"no teacher at {path}: expected a detector as .onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ValueError(f"{path} is not a readable ONNX file ({error})") from error
    if len(session.get_inputs()) != 1:
        raise ValueError(f"{path}: expected one input (n, 3, height, width), got {len(session.get_inputs())}")
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})
