"""Several processes that do together what one would: which this one is, whose part is whose, and how parts become a whole.

Accelerate finds out where the process stands (``torchrun``, ``accelerate launch``, or alone). Works with gloo on CPUs and
NCCL on GPUs.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from phosphene.devices import choose_device
from phosphene.errors import UserError
from phosphene.launch import shared_by


class Place:
    """Where this process stands: ``rank`` of ``world``, on ``device``."""

    def __init__(self, device: str = "auto", alone: bool = False) -> None:
        self.rank, self.world = 0, 1
        if shared_by()[1] > 1 and not alone:
            from accelerate import PartialState

            # Accelerate must be told of a machine without GPU: it would leave its processes to train alone, each for itself.
            state = PartialState(cpu=choose_device(device).type == "cpu")
            self.rank, self.world, self.device = state.process_index, state.num_processes, state.device
            atexit.register(state.destroy_process_group)
        else:
            self.device = choose_device(device)
            if self.device.type == "cuda" and self.device.index is not None:
                torch.cuda.set_device(self.device)  # streams and graphs are made where the thread is, not where tensors lie

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
        return self.share(batch_size)

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

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leading process goes through the block alone, the others after it: they find what it fetched."""
        if not self.leads:
            self.wait()
        yield
        if self.leads:
            self.wait()

    def share(self, count: int) -> range:
        """Which of ``count`` rows are this process's: every n-th, so that the shares differ by one at most."""
        return range(self.rank, count, self.world)

    def gathered(self, own: Tensor, count: int) -> Tensor:
        """All ``count`` rows, in every process, of each one's ``own`` (N, ...), which are its :meth:`share` of them."""
        if self.world == 1:
            return own
        mine = own.new_zeros(-(-count // self.world), *own.shape[1:], device=self.device)  # where the exchange finds it
        mine[: len(own)] = own
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        dist.all_gather(parts, mine)
        return torch.stack(parts, 1).flatten(0, 1)[:count].to(own.device)

    def joined(self, own: Any, count: int) -> Any:
        """As :meth:`gathered`, of a tuple of tensors; None, of a process that has no rows."""
        if self.world == 1:
            return own
        parts, fields = self._everyones(own), []
        for field, of_the_leader in enumerate(parts[0]):
            fields.append(of_the_leader.new_empty(count, *of_the_leader.shape[1:]))
            for rank, part in enumerate(parts):
                if part is not None:
                    fields[-1][rank :: self.world] = part[field]
        return type(parts[0])(*fields)

    def dealt(self, own: Sequence[Any], count: int) -> list[Any]:
        """As :meth:`gathered`, of whatever it be."""
        parts = self._everyones(own)
        return [parts[k % self.world][k // self.world] for k in range(count)]

    def _everyones(self, value: Any) -> list[Any]:
        """What ``value`` is in each process."""
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def generators(self, own: Sequence[torch.Generator], count: int) -> Sequence[torch.Generator]:
        """As :meth:`gathered`, of generators on the CPU, each at the place where its process left it."""
        if self.world == 1:
            return own
        size = len(torch.Generator().get_state())
        states = torch.stack([g.get_state() for g in own]) if own else torch.empty(0, size, dtype=torch.uint8)
        return [torch.Generator().set_state(state.clone()) for state in self.gathered(states, count)]


ALONE = Place("cpu", alone=True)
"""A process that shares nothing, whatever there is beside it."""
