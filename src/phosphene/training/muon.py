"""Muon, an optimiser for the matrices of a network: every update turns, none stretches.

The momentum of a matrix's gradients is replaced by the nearest rotation, so that the network learns alike along all
directions and not along the strongest first (Jordan et al. 2024). ``torch.optim.Muon`` says the same one matrix after
the other; matrices of one shape go together here, because a hundred small products in a row leave a GPU waiting.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

# Of the odd polynomial a x + b x^3 + c x^5, whose fifth iterate takes singular values of 0.01 and more near 1.
COEFFICIENTS = (3.4445, -4.775, 2.0315)
ITERATIONS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """(K, M, N) to the same shape, singular values between about 0.7 and 1.2: Newton and Schulz's iteration.

    In bfloat16 on a GPU; most other processors take several times as long for that as for float32.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x.bfloat16() if x.is_cuda else x.float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum (Nesterov's), orthogonalised, with decoupled weight decay.

    ``params``: matrices; ValueError for other shapes. An update has the root mean square of 0.2, as those of AdamW tend
    to, so that its ``lr`` and ``weight_decay`` serve here too (Liu et al. 2025, Muon is scalable, section 2.2).
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(f"Muon is for matrices, and this is {tuple(p.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of all matrices that have a gradient."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault(p.shape, []).append(p)
            lr, momentum = group["lr"], group["momentum"]
            for shape, matrices in alike.items():
                gradients = torch.stack([p.grad for p in matrices])
                state = self.state[matrices[0]]  # of all of the shape
                if "momentum" not in state or len(state["momentum"]) != len(matrices):
                    state["momentum"] = torch.zeros_like(gradients)
                average = state["momentum"].lerp_(gradients, 1 - momentum)
                updates = orthogonalised(gradients.lerp_(average, momentum)).to(matrices[0].dtype)
                torch._foreach_mul_(matrices, 1 - lr * group["weight_decay"])
                torch._foreach_add_(matrices, list(updates.unbind()), alpha=-lr * 0.2 * max(shape) ** 0.5)
