"""Several processes that learn what one would: shared gradients and shared BatchNorm statistics.

Accelerate finds out where the process stands (``torchrun``, ``accelerate launch``, or alone); the arithmetic is two
all-reduces. Works with gloo on CPUs and NCCL on GPUs.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as dist_nn
from torch import Tensor, nn

from phosphene.devices import choose_device
from phosphene.errors import UserError


class Place:
    """Where this process stands: ``rank`` of ``world``, on ``device``."""

    def __init__(self, device: str = "auto") -> None:
        self.rank, self.world = 0, 1
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            # Accelerate must be told of a machine without GPU: it would leave its processes to train alone, each for itself.
            state = PartialState(cpu=choose_device(device).type == "cpu")
            self.rank, self.world, self.device = state.process_index, state.num_processes, state.device
            atexit.register(state.destroy_process_group)
        else:
            self.device = choose_device(device)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()

    def rows(self, batch_size: int) -> range:
        """Which pictures of a batch are this process's. UserError where they cannot be shared out evenly."""
        if batch_size % self.world:
            raise UserError(f"--batch-size {batch_size}: must be a multiple of the {self.world} processes.")
        return range(self.rank, batch_size, self.world)

    def of_the_leader(self, value: Any) -> Any:
        """What ``value`` is in the leading process, in all of them."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process."""
        if self.world == 1:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.float32, device=self.device)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return [bool(flag) for flag in found]


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
