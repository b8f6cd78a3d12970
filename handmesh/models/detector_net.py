"""The detector's network: where in a whole image hands are, how large, how rotated, and of which side.

Pure torch. A narrow RepViT whose third stage is cut short (it is most of the cost), its maps summed
at stride 8, and one prediction a cell; `handmesh.data.detection` says what the maps mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from handmesh.models.mesh_net import IMAGENET_MEAN, IMAGENET_STD, Mergeable, TopDown

_PRIOR = 0.01
"""The heat that an untrained network gives everywhere, so that the first steps are not all about emptiness."""


class DetectorOutput(NamedTuple):
    """What the network says of B images, a map at stride 8 each: h = H / 8, w = W / 8."""

    heat: Tensor  # (B, h, w) logit: the centre of a hand's box lies in this cell
    offset: Tensor  # (B, 2, h, w) from the cell's centre to the box's, in cells, x first
    log_size: Tensor  # (B, h, w) logarithm of the box's side in cells
    direction: Tensor  # (B, 2, h, w) cosine and sine of the box's angle, of any length
    right: Tensor  # (B, h, w) logit: the subject's own right hand


@dataclass(frozen=True)
class DetectorNetworkConfig:
    """What defines a DetectorNet."""

    backbone: str = "repvit_m0_9"
    """A RepViT of timm, whose blocks are used with the widths and depths below."""
    widths: tuple[int, int, int, int] = (32, 64, 128, 256)
    """Channels at strides 4, 8, 16 and 32."""
    depths: tuple[int, int, int, int] = (1, 2, 5, 2)
    """Blocks at these strides."""
    width: int = 64
    """Channels of the fused map."""


class DetectorNet(Mergeable):
    """RGB images (B, 3, H, W), float in 0..1, H and W divisible by 32, to a `DetectorOutput`."""

    def __init__(self, config: DetectorNetworkConfig) -> None:
        super().__init__()
        if not config.backbone.startswith("repvit"):
            raise ValueError(f"the detector is built on a RepViT, got the backbone '{config.backbone}'")
        self.config = config
        self.backbone = timm.create_model(
            config.backbone, features_only=True, out_indices=(1, 2, 3),
            embed_dim=tuple(config.widths), depth=tuple(config.depths),
        )  # fmt: skip
        self.fuse = TopDown(list(config.widths[1:]), config.width)
        self.head = nn.Sequential(
            nn.Conv2d(config.width, config.width, 3, padding=1, groups=config.width, bias=False),
            nn.BatchNorm2d(config.width),
            nn.Conv2d(config.width, config.width, 1),
            nn.GELU(),
            nn.Conv2d(config.width, 7, 1),
        )
        nn.init.zeros_(self.head[-1].bias)
        nn.init.constant_(self.head[-1].bias[:1], math.log(_PRIOR / (1 - _PRIOR)))
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> DetectorOutput:
        return self.read(self.fused(image))

    def fused(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The map at stride 8 that everything is read from."""
        return self.fuse(self.backbone((image - self.pixel_mean) / self.pixel_std))

    def read(self, fused: Float[Tensor, "B C h w"]) -> DetectorOutput:
        """What the fused map says."""
        maps = self.head(fused).float()
        return DetectorOutput(maps[:, 0], maps[:, 1:3], maps[:, 3], maps[:, 4:6], maps[:, 6])
