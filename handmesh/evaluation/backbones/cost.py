"""What a pass costs by counting, without running it."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default


class Cost(NamedTuple):
    """A pass of one model at one size."""

    parameters: int
    macs: int  # multiply-accumulates of the whole batch
    activation_bytes: int  # the most that live at once, in fp32, without the kernels' own workspace


def cost_of(model: nn.Module, size: int, batch: int, attention_maps: bool = False) -> Cost:
    """Parameters, MACs and activations of a pass of (batch, 3, size, size) through an fp32 model on the CPU.

    MACs are half of the operations that torch.utils.flop_counter's formulas give: convolutions, linear
    layers and the two products of attention; norms, activations and pooling are not counted. The pass
    is a pretended one (FakeTensorMode), which takes no memory.

    attention_maps: whether the runtime holds attention maps in memory, as ONNX Runtime does.
    """
    ledger = _Ledger(attention_maps)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad(), ledger:
        model(torch.empty(batch, 3, size, size))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, ledger.flops // 2, ledger.peak_bytes)


class _Ledger(TorchDispatchMode):
    """Adds up the operations, and follows the bytes of the tensors that are alive."""

    def __init__(self, attention_maps: bool) -> None:
        super().__init__()
        self.flops = self.peak_bytes = 0
        self._attention_maps = attention_maps
        self._bytes: dict[int, int] = {}  # by storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **kwargs, out_val=output)
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        working = _map_bytes(*args[:2]) if self._attention_maps and func is _ATTENTION else 0
        self.peak_bytes = max(self.peak_bytes, sum(self._bytes.values()) + working)
        return output

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._bytes:
            self._bytes[key] = storage.nbytes()
            weakref.finalize(storage, self._bytes.pop, key, None)


def _map_bytes(query: Tensor, key: Tensor) -> int:
    """Bytes of the attention maps before and after softmax, of queries and keys (B, heads, N, D)."""
    return 2 * query.shape[:-1].numel() * key.shape[-2] * query.element_size()
