"""A network that computes in half precision from weights kept in float32."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call


class InHalf:
    """``network`` called with bf16 copies of its matrices, made and their gradients returned in one launch each.

    Autocast alone would cast some sixty weights, and their gradients back, one by one at every step. The copies hold
    what :meth:`refresh` last gave them.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network, self.config = network, network.config
        self.weights = {name: p for name, p in network.named_parameters() if p.ndim >= 2}
        self.halves = {name: p.detach().to(torch.bfloat16).requires_grad_() for name, p in self.weights.items()}
        self.gradients = [torch.zeros_like(p) for p in self.weights.values()]

    @torch.no_grad()
    def refresh(self) -> None:
        torch._foreach_copy_(list(self.halves.values()), list(self.weights.values()))

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        for half in self.halves.values():
            half.grad = None
        return functional_call(self.network, self.halves, inputs)

    def return_gradients(self) -> None:
        torch._foreach_copy_(self.gradients, [half.grad for half in self.halves.values()])
        for weight, gradient in zip(self.weights.values(), self.gradients, strict=True):
            weight.grad = gradient
