"""The networks that are compared: timm's classifiers, and one skeleton with its token mixer exchanged.

Weights are random: latency does not depend on them, and nothing is downloaded.
"""

from __future__ import annotations

import timm
import torch
from timm.models.fastvit import AttentionBlock, FastVit
from torch import Tensor, nn

from handmesh.evaluation.backbones.options import MIXER

Block = str  # a token mixer of timm's FastVit: 'repmixer' or 'attention'

_STAGES: dict[str, tuple[Block, ...]] = {
    "repmixer": ("repmixer",) * 4,
    "pooling": ("attention",) * 4,  # then exchanged
    "attention_last": ("repmixer",) * 3 + ("attention",),
    "attention": ("attention",) * 4,
}


class Pooling(nn.Module):
    """The mean over 3x3 neighbours less the token itself, (B, C, H, W) to the same (PoolFormer, Yu et al., 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) - x


def metaformer(mixer: str) -> nn.Module:
    """FastViT-S12's stem, embeddings, MLPs and head about another token mixer.

    mixer: 'repmixer' (S12 itself), 'pooling', 'attention', or 'attention_last' (in the last stage alone,
    as in FastViT-SA12, but without that network's position encoding).
    """
    if mixer not in _STAGES:
        raise ValueError(f"unknown token mixer '{mixer}'; choose one of {', '.join(_STAGES)}")
    model = FastVit(
        layers=(2, 2, 6, 2), embed_dims=(64, 128, 256, 512), mlp_ratios=(4, 4, 4, 4), token_mixers=_STAGES[mixer]
    )
    if mixer == "pooling":
        for block in model.modules():
            if isinstance(block, AttentionBlock):
                block.token_mixer = Pooling()
    return model


def create(name: str) -> nn.Module:
    """A backbone of `options.FAMILIES` with its ImageNet classifier, in evaluation mode, the same at each call."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = metaformer(name.removeprefix(MIXER)) if name.startswith(MIXER) else timm.create_model(name)
        return _settled(model)


def _settled(model: nn.Module) -> nn.Module:
    """Give batch norms the statistics of one random batch: without, activations leave the range of half precision."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            model.train()(torch.rand(4, 3, 160, 160))
    return model.eval()
