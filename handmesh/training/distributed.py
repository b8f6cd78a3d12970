"""What processes that train together share: counts, and the statistics of batch normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

_apart = False


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _apart else 1


@contextmanager
def apart() -> Iterator[None]:
    """Inside, this process is alone: for figures of its own samples that the others do not make with it."""
    global _apart
    _apart = True
    try:
        yield
    finally:
        _apart = False


def mean_over_processes(count: Tensor) -> Tensor:
    """The mean of a count over the processes, without gradient.

    A sum over one's own samples divided by it gives, averaged over the processes as gradients are,
    the mean over all samples.
    """
    if processes() == 1:
        return count
    total = count.detach().clone()
    dist.all_reduce(total)
    return total / processes()


class _Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: object, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    backward = forward


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all processes' batches, on any device.

    torch's own `SyncBatchNorm` knows no CPU. Every process must hold equally many samples.
    """

    def forward(self, image: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(image)
        return _normalised_together(self, image)


class SyncedBatchNormAct2d(BatchNormAct2d):
    """The same with timm's activation after it."""

    def forward(self, image: Tensor) -> Tensor:
        if not self.training or processes() == 1:
            return super().forward(image)
        return self.act(self.drop(_normalised_together(self, image)))


def _normalised_together(norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    """The training forward pass of `norm`, with sums over all processes."""
    count = image.shape[0] * image.shape[2] * image.shape[3] * processes()
    x = image.float()
    mean = _Sum.apply(x.sum((0, 2, 3))) / count
    centred = x - mean[:, None, None]
    variance = _Sum.apply(centred.square().sum((0, 2, 3))) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean += norm.momentum * (mean - norm.running_mean)
        norm.running_var += norm.momentum * (variance * count / (count - 1) - norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return (centred * scale[:, None, None] + norm.bias[:, None, None]).to(image.dtype)


_SYNCED = {nn.BatchNorm2d: SyncedBatchNorm2d, BatchNormAct2d: SyncedBatchNormAct2d}


def synchronise_batch_norm(network: nn.Module, device_type: str) -> nn.Module:
    """Let the batch normalisations in `network` share their statistics; weights and their names stay."""
    if device_type == "cuda":  # torch's own is fused there
        return convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) in _SYNCED:
            module.__class__ = _SYNCED[type(module)]
    return network
