"""The moving average of a network in training: what is sampled from and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Average:
    """``network`` follows ``source``, a copy of it: ``average += (1 - decay) (weights - average)``, statistics alike.

    ``decay`` is smaller at first: ``(1 + count) / (10 + count)`` after ``count`` steps, a tensor that is read on its own
    device.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.network, self.decay = copy.deepcopy(source).requires_grad_(False), decay
        self._own, self._theirs = _floats(self.network), _floats(source)

    @torch.no_grad()
    def follow(self, count: Tensor) -> None:
        decay = torch.clamp((1 + count) / (10 + count), max=self.decay)
        change = torch._foreach_sub(self._theirs, self._own)
        torch._foreach_mul_(change, 1 - decay)
        torch._foreach_add_(self._own, change)


def _floats(network: nn.Module) -> list[Tensor]:
    return [v for v in network.state_dict().values() if v.is_floating_point()]
