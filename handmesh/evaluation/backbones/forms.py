"""A network as it is trained, and as it is deployed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from handmesh.evaluation.backbones.options import Form


def forms_of(model: nn.Module) -> Iterator[tuple[Form, nn.Module]]:
    """The forms in which `model`, in evaluation mode, differs: 'unfused' and those that change something."""
    yield "unfused", model
    fused = reparameterize_model(model).eval()  # what timm makes anew is in training mode
    if _modules(fused) != _modules(model):
        yield "fused", fused
    folded, count = fold_batch_norms(fused)
    if count:
        yield "folded", folded


def _modules(model: nn.Module) -> list[str]:
    return [name for name, _ in model.named_modules()]


def fold_batch_norms(model: nn.Module) -> tuple[nn.Module, int]:
    """A copy in which each batch norm that alone follows a convolution is part of it, and how many those were.

    ONNX Runtime and Core ML do this by themselves; eager torch does not.
    """
    folded = deepcopy(model)
    pairs = _followers(folded)
    for conv, norm in pairs:
        fused = nn.utils.fuse_conv_bn_eval(folded.get_submodule(conv), folded.get_submodule(norm))
        folded.set_submodule(norm, _without_norm(folded.get_submodule(norm)))
        folded.set_submodule(conv, fused)
    return folded, len(pairs)


def _without_norm(norm: nn.Module) -> nn.Module:
    return nn.Sequential(norm.drop, norm.act) if isinstance(norm, BatchNormAct2d) else nn.Identity()


def _followers(model: nn.Module) -> list[tuple[str, str]]:
    """Names of (convolution, batch norm) where the one's output goes to the other and nowhere else."""
    outputs: list[tuple[str, Tensor]] = []
    inputs: list[tuple[str, Tensor]] = []
    with ExitStack() as hooks, torch.no_grad(), _Uses() as uses:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                hook = module.register_forward_hook(lambda _m, _i, out, name=name: outputs.append((name, out)))
                hooks.callback(hook.remove)
            elif isinstance(module, nn.BatchNorm2d):
                hook = module.register_forward_pre_hook(lambda _m, given, name=name: inputs.append((name, given[0])))
                hooks.callback(hook.remove)
        model(torch.zeros(1, 3, 64, 64))
    convs = {id(out): name for name, out in outputs}
    return [(convs[id(x)], norm) for norm, x in inputs if id(x) in convs and uses.count[id(x)] == 1]


class _Uses(TorchDispatchMode):
    """Counts the operations that take each tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[int] = Counter()
        self._alive: list[Tensor] = []  # a freed tensor's identity would be given again

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._alive.extend(tensors)
        self.count.update(map(id, tensors))
        return func(*args, **(kwargs or {}))
