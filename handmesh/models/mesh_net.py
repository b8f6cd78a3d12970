"""The mesh network: a timm backbone and a head that says where a hand's joints are and how they turn.

Pure torch: tensors in, a NamedTuple of tensors out. Two heads exist. `keypoint` first finds the 21
joints in the crop as the mean of a soft attention map each, then gathers the backbone's features
at these positions, regresses the hand model's parameters from them and may correct the joints: each was
found by itself, and only together do they tell which finger is which. `pooled` regresses these and
a weak-perspective camera from the mean feature alone, as FastViT's paper does (Vasu et al., 2023).
Others can be added to `HEADS`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, TypeVar

import timm
import torch
from jaxtyping import Float
from timm.models.fastvit import ConvMlp, ReparamLargeKernelConv
from timm.models.repvit import RepVggDw
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn.functional import interpolate

from handmesh.hand.rotations import rotation_from_6d, rotation_to_6d
from handmesh.skeleton import KEYPOINTS, MANO_JOINTS, PALM_TO_CAMERA

Network = TypeVar("Network", bound="Mergeable")

NUM_KEYPOINTS, NUM_JOINTS, NUM_SHAPE = len(KEYPOINTS), len(MANO_JOINTS), 10

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class HandNetOutput(NamedTuple):
    """What the network says of B crops. Axes are the crop's own view: x right, y down, z forward."""

    rotations: Tensor  # (B, 16, 3, 3) relative to the parent joint, the first to the crop's view
    shape: Tensor  # (B, 10) shape coefficients in standard deviations
    joints_crop: Tensor | None  # (B, 21, 2) in the crop: -1 and 1 are its outer borders; None from `pooled`
    presence: Tensor  # (B,) logit: this is a hand
    handedness: Tensor  # (B,) logit: it is a right hand as shown
    uncertainty: Tensor  # (B, 21, 2) mean absolute errors to expect of each joint's coordinates: those in the crop, in
    # half crop sides, and those of the posed hand about its root, in decimetres
    camera: Tensor | None = None  # (B, 3) from `pooled`: half crops per metre, then the root's x and y in the crop
    mask: Tensor | None = None  # (B, h, w) logits: the fraction of each cell that is hand
    features: Tensor | None = None  # (B, C) the mean of the backbone's last map
    attention: Tensor | None = None  # (B, 21, h, w) from `keypoint`: logits of where each joint is; their soft mean is
    # joints_crop, before it is corrected
    map: Tensor | None = None  # (B, c, h, w) the backbone's map before the last, at stride 16
    contact: Tensor | None = None  # (B, 4) logits: the thumb touches the index, middle, ring, little finger


@dataclass(frozen=True)
class NetworkConfig:
    """What defines a HandNet."""

    backbone: str = "repvit_m0_9"
    """Any FastViT or RepViT name of timm; see `backbone_names()`."""
    pretrained: bool = False
    """Start from timm's ImageNet weights (they are downloaded)."""
    drop_path: float = 0.0
    """Stochastic depth of a FastViT."""
    branches: bool = True
    """Keep the parallel branches that a RepViT trains with and merges afterwards; without, its 3x3 ones alone."""
    large_kernels: bool = True
    """Keep a FastViT's 7x7 convolutions, in its feed-forward layers and between its stages; without, 3x3 ones."""
    activation: Literal["gelu", "relu"] = "gelu"
    """After convolutions. ONNX Runtime makes `relu` part of the one before it: an eighth of the network's time less."""
    pruned: tuple[str, ...] = ()
    """Residual blocks of the backbone to leave out, by timm's names, as stages_2.blocks.8; begun from weights that have
    them, the others learn to do without."""
    head: str = "keypoint"
    """Parameters from the features at the joints found in the crop (`keypoint`), from the mean feature (`pooled`), or
    by a head of your own (docs/researchers.md)."""
    stride: Literal[8, 16] = 8
    """Pixels of the crop a cell of the map that joints are found on."""
    refinements: int = 1
    """Steps in which the parameters are regressed; each after the first sees what came before."""
    contact: bool = False
    """Also tell which fingers the thumb touches, for the loss 'contact'; of `keypoint` only."""
    correction: bool = False
    """Correct the joints found in the crop by all that is seen at them; of `keypoint` only."""
    segmentation: bool = False
    """Also predict which cells are hand, for the loss 'mask'."""
    width: int = 128
    """Channels of the fused feature map that joints are found on."""
    token: int = 64
    """Numbers kept of the features at each joint."""
    hidden: int = 512

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise ValueError(
                f"unknown head '{self.head[:40]}'; choose one of {', '.join(HEADS)}, or enter your own in HEADS before "
                "(docs/researchers.md)"
            )
        for part in ("contact", "correction"):
            if getattr(self, part) and self.head == "pooled":
                raise ValueError(f"network.{part} needs a head that looks at joints: take network.head keypoint")


def backbone_names() -> list[str]:
    """The backbones that the network is made for, by timm's names."""
    return sorted(timm.list_models(["fastvit_*", "repvit_*"]))


class Mergeable(nn.Module):
    """A network whose timm blocks have parallel branches in training."""

    @property
    def optional_parts(self) -> tuple[str, ...]:
        """How the names of weights begin that the network may lack, by its config, where it begins from others'."""
        return ()

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
        self.head = HEADS[config.head](channels, config)
        self.logits = nn.Linear(channels[-1], 2)
        self.mask = nn.Conv2d(self.head.map_channels, 1, 1) if config.segmentation else None
        fingers = torch.eye(3).expand(NUM_JOINTS - 1, 3, 3) if mean_pose is None else mean_pose
        wrist = torch.tensor(PALM_TO_CAMERA)
        start = torch.cat([wrist[None], fingers.to(wrist)])
        self.register_buffer("start_6d", rotation_to_6d(start))
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD)[:, None, None])

    @property
    def optional_parts(self) -> tuple[str, ...]:
        return "head.contact.", "head.correction.", "mask.", *(f"backbone.{name}." for name in self.config.pruned)

    def forward(self, image: Float[Tensor, "B 3 S S"]) -> HandNetOutput:
        return self.of_maps(self.backbone((image - self.pixel_mean) / self.pixel_std))

    def of_maps(self, features: list[Tensor]) -> HandNetOutput:
        """The same of the backbone's maps, (B, C, h, w) each, the finest first."""
        pooled = features[-1].mean((2, 3))
        found = self.head(features, pooled)
        six, shape = found.parameters.split((NUM_JOINTS * 6, NUM_SHAPE), dim=1)
        rotations = rotation_from_6d(self.start_6d + six.unflatten(-1, (NUM_JOINTS, 6)))
        presence, right = self.logits(pooled).float().unbind(1)
        mask = None if self.mask is None else self.mask(found.map)[:, 0].float()
        return HandNetOutput(
            rotations, shape, found.joints_crop, presence, right, found.uncertainty, found.camera, mask, pooled.float(),
            found.attention, features[-2], found.contact,
        )  # fmt: skip


def _create_backbone(config: NetworkConfig) -> nn.Module:
    if config.backbone not in backbone_names():
        raise ValueError(f"unknown backbone '{config.backbone}'; choose one of {', '.join(backbone_names())}")
    if config.drop_path and config.backbone.startswith("repvit"):
        raise ValueError("RepViT knows no drop_path; set network.drop_path to 0")
    options = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    options |= {"act_layer": ACTIVATIONS[config.activation]}
    create = partial(timm.create_model, config.backbone, features_only=True, out_indices=(1, 2, 3), **options)
    backbone = _fetch(create, config.backbone) if config.pretrained else create()
    backbone = backbone if config.branches else _single_branch(backbone, config.backbone)
    backbone = backbone if config.large_kernels else _small_kernels(backbone, config)
    return _without(backbone, config)


def _fetch(create: Callable[..., nn.Module], name: str) -> nn.Module:
    """The backbone with timm's ImageNet weights."""
    try:
        return create(pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"timm's ImageNet weights of {name} could not be fetched ({reason}). Connect to the network "
            "once, or start from random weights with --network.no-pretrained, which costs accuracy"
        ) from error


def _without(backbone: nn.Module, config: NetworkConfig) -> nn.Module:
    """The backbone with `config.pruned` taken out, in place."""
    residual = [name for name, _ in backbone.named_modules() if _RESIDUAL.fullmatch(name)]
    for name in config.pruned:
        if name not in residual:
            raise ValueError(
                f"network.pruned: {config.backbone} has no residual block '{name[:60]}'; it has {', '.join(residual)}"
            )
        parent, _, key = name.rpartition(".")
        setattr(backbone.get_submodule(parent), key, nn.Identity())
    return backbone


_RESIDUAL = re.compile(r"stages_\d\.(blocks\.\d+|downsample\.pre_block)")


def _single_branch(backbone: nn.Module, name: str) -> nn.Module:
    """A RepViT whose depthwise mixers have their 3x3 convolution and its normalisation alone."""
    if not name.startswith("repvit"):
        raise ValueError(f"network.branches can be switched off for RepViT, not for {name}")
    for parent in list(backbone.modules()):
        for key, child in list(parent.named_children()):
            if isinstance(child, RepVggDw):
                setattr(parent, key, child.conv)
    return backbone


def _small_kernels(backbone: nn.Module, config: NetworkConfig) -> nn.Module:
    """A FastViT whose depthwise 7x7 convolutions are 3x3 ones."""
    if not config.backbone.startswith("fastvit") or config.pretrained:
        raise ValueError("network.large_kernels can be switched off for a FastViT with random weights alone")
    for block in list(backbone.modules()):
        if isinstance(block, ConvMlp):
            block.conv.conv = _three_by_three(block.conv.conv)
            nn.init.trunc_normal_(block.conv.conv.weight, std=0.02)  # as timm begins the larger one
        elif isinstance(block, ReparamLargeKernelConv):
            block.large_conv.conv, block.kernel_size = _three_by_three(block.large_conv.conv), 3
    return backbone


def _three_by_three(conv: nn.Conv2d) -> nn.Conv2d:
    return nn.Conv2d(conv.in_channels, conv.out_channels, 3, conv.stride, 1, groups=conv.groups, bias=False)


class TopDown(nn.Module):
    """Backbone maps, each half as fine as the one before, summed into one map as fine as the first."""

    def __init__(self, channels: list[int], width: int, activation: type[nn.Module] = nn.GELU) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(_smoothing(width, activation) for _ in channels[1:])

    def forward(self, features: list[Tensor]) -> Tensor:
        """(B, C, h, w) maps, the finest first, to one (B, width, h, w) of the first one's size."""
        *finer, coarsest = (layer(f) for layer, f in zip(self.lateral, features, strict=True))
        fused = coarsest
        for skip, smooth in zip(reversed(finer), self.smooth, strict=True):
            fused = smooth(skip + interpolate(fused, size=skip.shape[-2:], mode="nearest"))
        return fused


def _smoothing(width: int, activation: type[nn.Module]) -> nn.Module:
    """A depthwise and a pointwise convolution that remove the steps of the enlarged map."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        activation(),
    )


class HeadOutput(NamedTuple):
    """What a head finds; see `HandNetOutput`."""

    parameters: Tensor  # (B, 106) 6D offsets of 16 rotations, then the shape
    joints_crop: Tensor | None
    camera: Tensor | None
    map: Tensor  # (B, map_channels, h, w) features by position
    uncertainty: Tensor
    attention: Tensor | None = None
    contact: Tensor | None = None


class KeypointHead(nn.Module):
    """Joints by soft attention over the fused map; parameters from the features gathered there."""

    def __init__(self, channels: list[int], config: NetworkConfig) -> None:
        super().__init__()
        self.levels = 3 if config.stride == 8 else 2
        self.top_down = TopDown(channels[-self.levels :], config.width, ACTIVATIONS[config.activation])
        self.map_channels = config.width
        self.attention = nn.Conv2d(config.width, NUM_KEYPOINTS, 1)
        self.token = nn.Sequential(nn.Linear(config.width + 2, config.token), nn.GELU())
        self.regressor = Regressor(NUM_KEYPOINTS * config.token + channels[-1], NUM_JOINTS * 6 + NUM_SHAPE, config)
        self.spread = Uncertainty(config.token, 2)
        self.contact = _contact(NUM_KEYPOINTS * config.token + channels[-1]) if config.contact else None
        self.correction = _correction(config.hidden) if config.correction else None

    def forward(self, features: list[Tensor], pooled: Tensor) -> HeadOutput:
        """features: (B, C, h, w) maps, the finest first. pooled: (B, C) the last one's mean."""
        fine = self.top_down(features[-self.levels :])
        logits = self.attention(fine).float()
        attention = logits.flatten(2).softmax(-1)
        joints_crop = attention @ _cell_centres(fine.shape[-2], fine.shape[-1]).to(attention)
        gathered = attention.to(fine.dtype) @ fine.flatten(2).transpose(1, 2)
        tokens = self.token(torch.cat([gathered, joints_crop.to(gathered.dtype)], -1))
        seen = torch.cat([tokens.flatten(1), pooled], -1)
        contact = None if self.contact is None else self.contact(seen).float()
        parameters, hidden = self.regressor(seen)
        if self.correction is not None:
            joints_crop = joints_crop + self.correction(hidden).float().unflatten(1, (NUM_KEYPOINTS, 2))
        return HeadOutput(parameters, joints_crop, None, fine, self.spread(tokens), logits, contact)


def _contact(features: int) -> nn.Module:
    """(B, features) to (B, 4) logits, one for each finger; few are touched, and it begins there."""
    last = nn.Linear(128, 4)
    nn.init.constant_(last.bias, -3.0)
    return nn.Sequential(nn.Linear(features, 128), nn.GELU(), last)


def _correction(hidden: int) -> nn.Module:
    """(B, hidden) to (B, 42) moves of the joints in the crop; none at first."""
    last = nn.Linear(256, NUM_KEYPOINTS * 2)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(hidden, 256), nn.GELU(), last)


CAMERA_SCALE = 8.0
"""Half crops per metre that the pooled head starts from: a hand of 0.18 m then fills 70 % of the crop."""


class PooledHead(nn.Module):
    """Parameters and a weak-perspective camera from the mean feature."""

    def __init__(self, channels: list[int], config: NetworkConfig) -> None:
        super().__init__()
        self.map_channels = channels[-1]
        self.regressor = Regressor(channels[-1], NUM_JOINTS * 6 + NUM_SHAPE + 3, config)
        self.spread = Uncertainty(channels[-1], NUM_KEYPOINTS * 2)

    def forward(self, features: list[Tensor], pooled: Tensor) -> HeadOutput:
        """features: (B, C, h, w) maps, the finest first. pooled: (B, C) the last one's mean."""
        numbers, _ = self.regressor(pooled)
        camera = torch.cat([CAMERA_SCALE * numbers[:, -3:-2].exp(), numbers[:, -2:]], dim=1)
        spread = self.spread(pooled).unflatten(1, (NUM_KEYPOINTS, 2))
        return HeadOutput(numbers[:, :-3], None, camera, features[-1], spread)


class Uncertainty(nn.Module):
    """Features to errors that the network expects of itself; it learns from the features, they not from it."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.log = nn.Linear(features, outputs)
        nn.init.zeros_(self.log.weight)
        nn.init.constant_(self.log.bias, math.log(0.05))

    def forward(self, features: Tensor) -> Tensor:
        """(..., F) features to (..., outputs) errors."""
        return self.log(features.detach()).float().clamp(-6.0, 1.0).exp()


HEADS: dict[str, Callable[[list[int], NetworkConfig], nn.Module]] = {"keypoint": KeypointHead, "pooled": PooledHead}
"""What makes a head, by name, of the channels of the backbone's maps, the finest first. A head has `map_channels` and
takes these maps and the last one's mean to a `HeadOutput`."""


class Regressor(nn.Module):
    """(B, features) to (B, outputs) numbers, in steps, each of which corrects the numbers so far; beside them the
    (B, hidden) features that the last step has them from."""

    def __init__(self, features: int, outputs: int, config: NetworkConfig) -> None:
        super().__init__()
        if config.refinements < 1:
            raise ValueError(f"network.refinements must be at least 1, got {config.refinements}")
        self.steps, self.outputs = config.refinements, outputs
        inputs = features + (outputs if self.steps > 1 else 0)
        self.trunk = nn.Sequential(
            nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.hidden), nn.GELU()
        )
        self.out = nn.Linear(config.hidden, outputs)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        if self.steps == 1:
            hidden = self.trunk(features)
            return self.out(hidden).float(), hidden
        numbers = features.new_zeros(len(features), self.outputs, dtype=torch.float32)
        for _ in range(self.steps):
            seen = torch.cat([features, numbers.to(features.dtype)], dim=1)
            hidden = self.trunk(seen)
            numbers = numbers + self.out(hidden).float()
        return numbers, hidden


def _cell_centres(height: int, width: int) -> Tensor:
    """(height * width, 2) x and y of the cells' centres; the map's outer borders are -1 and 1."""
    y = (torch.arange(height) + 0.5) * (2.0 / height) - 1.0
    x = (torch.arange(width) + 0.5) * (2.0 / width) - 1.0
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1)
