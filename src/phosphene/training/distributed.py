"""Several processes that learn what one would: shared gradients and shared BatchNorm statistics, two all-reduces."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn


def average(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in one exchange."""
    tensors = list(tensors)
    flat = torch.cat([t.flatten() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose batch is the global one. (torch's SyncBatchNorm does the same, but on GPUs only.)"""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        world = dist.get_world_size()
        count = world * x.numel() // x.shape[1]
        with torch.autocast(x.device.type, enabled=False):
            flat = x.float().transpose(0, 1).flatten(1)
            mean = dist_nn.all_reduce(flat.sum(1)) / count
            square = dist_nn.all_reduce((flat - mean[:, None]).square().sum(1)) / count
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(square * count / (count - 1), self.momentum)
            gain = self.weight * (square + self.eps).rsqrt()
            shift = self.bias - mean * gain
            return (x.float() * gain[:, None, None] + shift[:, None, None]).to(x.dtype)


def share_statistics(network: nn.Module) -> None:
    """Turn every BatchNorm of ``network`` into a shared one, in place."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
