"""The network: a timm backbone and a head that says where a hand's joints are and how they turn.

Pure torch: tensors in, a NamedTuple of tensors out. The head first finds the 21 joints in the crop
as the mean of a soft attention map each, then gathers the backbone's features at these places and
regresses the hand model's parameters from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import timm
import torch
from jaxtyping import Float
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

from handmesh.geometry import rotation_from_6d, rotation_to_6d
from handmesh.skeleton import KEYPOINTS, MANO_JOINTS, PALM_TO_CAMERA

Network = TypeVar("Network", bound="Mergeable")

NUM_KEYPOINTS, NUM_JOINTS, NUM_SHAPE = len(KEYPOINTS), len(MANO_JOINTS), 10

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class HandNetOutput(NamedTuple):
    """What the network says of B crops. Axes are the crop's own view: x right, y down, z forward."""

    rotations: Tensor  # (B, 16, 3, 3) relative to the parent joint, the first to the crop's view
    shape: Tensor  # (B, 10) shape coefficients in standard deviations
    joints_crop: Tensor  # (B, 21, 2) in the crop: -1 and 1 are its outer borders
    presence: Tensor  # (B,) logit: this is a hand
    right: Tensor  # (B,) logit: it is a right hand as shown


@dataclass(frozen=True)
class NetworkConfig:
    """What defines a HandNet."""

    backbone: str = "repvit_m0_9"
    """Any FastViT or RepViT name of timm; see `backbone_names()`."""
    pretrained: bool = False
    """Start from timm's ImageNet weights (they are downloaded)."""
    drop_path: float = 0.0
    """Stochastic depth of a FastViT."""
    width: int = 128
    """Channels of the fused feature map that joints are found on."""
    token: int = 64
    """Numbers kept of the features at each joint."""
    hidden: int = 512


def backbone_names() -> list[str]:
    """The backbones that the network is made for, by timm's names."""
    return sorted(timm.list_models(["fastvit_*", "repvit_*"]))


class Mergeable(nn.Module):
    """A network whose timm blocks have parallel branches in training."""

    def reparameterised(self: Network) -> Network:
        """A copy with these branches merged, for inference."""
        was_training = self.training
        fused = reparameterize_model(self.eval())
        self.train(was_training)
        return fused


class HandNet(Mergeable):
    """RGB crops (B, 3, S, S), float in 0..1, S divisible by 32, to a `HandNetOutput`."""

    def __init__(self, config: NetworkConfig, mean_pose: Tensor | None = None) -> None:
        """mean_pose: (15, 3, 3) finger rotations that the regression starts from; identity if None."""
        super().__init__()
        self.config = config
        self.backbone = _create_backbone(config)
        channels = self.backbone.feature_info.channels()
        self.fuse = TopDown(channels, config.width)
        self.head = KeypointHead(channels[-1], config)
        fingers = torch.eye(3).expand(NUM_JOINTS - 1, 3, 3) if mean_pose is None else mean_pose
        wrist = torch.tensor(PALM_TO_CAMERA)
        start = torch.cat([wrist[None], fingers.to(wrist)])
        self.register_buffer("start_6d", rotation_to_6d(start))
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD)[:, None, None])

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> HandNetOutput:
        features = self.backbone((image - self.pixel_mean) / self.pixel_std)
        six, shape, joints_crop, logits = self.head(self.fuse(features), features[-1])
        rotations = rotation_from_6d(self.start_6d + six.unflatten(-1, (NUM_JOINTS, 6)))
        return HandNetOutput(rotations, shape, joints_crop, logits[:, 0], logits[:, 1])


def _create_backbone(config: NetworkConfig) -> nn.Module:
    if config.backbone not in backbone_names():
        raise ValueError(f"unknown backbone '{config.backbone}'; choose one of {', '.join(backbone_names())}")
    if config.drop_path and config.backbone.startswith("repvit"):
        raise ValueError("RepViT knows no drop_path; set network.drop_path to 0")
    options = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    return timm.create_model(
        config.backbone, pretrained=config.pretrained, features_only=True, out_indices=(1, 2, 3), **options
    )


class TopDown(nn.Module):
    """Backbone maps at strides 8, 16 and 32 summed into one map at stride 8, (B, width, S/8, S/8)."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(_smoothing(width) for _ in channels[1:])
        self.up = nn.Upsample(scale_factor=2.0, mode="nearest")

    def forward(self, features: list[Tensor]) -> Tensor:
        *finer, coarsest = (layer(f) for layer, f in zip(self.lateral, features, strict=True))
        fused = coarsest
        for skip, smooth in zip(reversed(finer), self.smooth, strict=True):
            fused = smooth(skip + self.up(fused))
        return fused


def _smoothing(width: int) -> nn.Module:
    """A depthwise and a pointwise convolution that remove the steps of the enlarged map."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    )


class KeypointHead(nn.Module):
    """Joints by soft attention over the fused map; parameters from the features gathered there."""

    def __init__(self, coarse_channels: int, config: NetworkConfig) -> None:
        super().__init__()
        self.attention = nn.Conv2d(config.width, NUM_KEYPOINTS, 1)
        self.token = nn.Sequential(nn.Linear(config.width + 2, config.token), nn.GELU())
        joined = NUM_KEYPOINTS * config.token + coarse_channels
        self.trunk = nn.Sequential(
            nn.Linear(joined, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.hidden), nn.GELU()
        )
        self.parameters_out = nn.Linear(config.hidden, NUM_JOINTS * 6 + NUM_SHAPE)
        self.logits = nn.Linear(coarse_channels, 2)
        nn.init.normal_(self.parameters_out.weight, std=0.01)
        nn.init.zeros_(self.parameters_out.bias)

    def forward(self, fine: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """To 6D offsets (B, 96), shape (B, 10), joints (B, 21, 2) and two logits (B, 2)."""
        attention = self.attention(fine).flatten(2).float().softmax(-1)
        joints_crop = attention @ _cell_centres(fine.shape[-2], fine.shape[-1]).to(attention)
        gathered = attention.to(fine.dtype) @ fine.flatten(2).transpose(1, 2)
        tokens = self.token(torch.cat([gathered, joints_crop.to(gathered.dtype)], -1)).flatten(1)
        pooled = coarse.mean((2, 3))
        parameters = self.parameters_out(self.trunk(torch.cat([tokens, pooled], -1))).float()
        return parameters[:, :-NUM_SHAPE], parameters[:, -NUM_SHAPE:], joints_crop, self.logits(pooled).float()


def _cell_centres(height: int, width: int) -> Tensor:
    """(height * width, 2) x and y of the cells' centres; the map's outer borders are -1 and 1."""
    y = (torch.arange(height) + 0.5) * (2.0 / height) - 1.0
    x = (torch.arange(width) + 0.5) * (2.0 / width) - 1.0
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)
