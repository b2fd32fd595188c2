"""Weights in int8, a scale for each output: half the memory of half precision, for answers that are a little off.

A weight is a whole number of -127..127 times the scale of its row, the largest of which is the largest weight of that row (Jacob
et al. 2018, section 2; here of weights alone). They are made whole again a layer at a time, when it is called.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 2**16
"""Weights of a layer from which it is worth it. First and last layers, which matter most to the answer, have fewer."""


class Int8Linear(nn.Linear):
    """A linear layer that :func:`quantized` changed."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias)


class Int8Conv2d(nn.Conv2d):
    """A convolution that :func:`quantized` changed."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight * self.scale, self.bias)


KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Int8Linear, nn.Conv2d: Int8Conv2d}


def quantized(network: nn.Module, device: torch.device) -> nn.Module:
    """``network``, the weights of its large layers in int8 from now on: rounded on ``device``, one layer after the other, they
    lie where they did."""
    for layer in network.modules():
        kind = KINDS.get(type(layer))
        if kind is None or layer.weight.numel() < LEAST:
            continue
        weight = layer.weight.detach().to(device)
        others = tuple(range(1, weight.ndim))
        # As it is kept, which half precision rounds; the least that it knows is above 0, so that a row of zeros stays one.
        scale = (weight.abs().amax(others, keepdim=True).float() / 127).clamp(min=2.0**-24).to(weight.dtype)
        whole = (weight.float() / scale.float()).round().clamp(-127, 127).to(torch.int8)
        layer.weight = nn.Parameter(whole.to(layer.weight.device), requires_grad=False)
        layer.scale = nn.Parameter(scale.to(layer.weight.device), requires_grad=False)
        layer.__class__ = kind
    return network
