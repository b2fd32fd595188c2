"""Adam, the moving average and the half-precision copies as one Triton kernel over flat memory."""

from __future__ import annotations

import math
from itertools import accumulate

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from phosphene.training.ema import Average
from phosphene.training.mnist.half import InHalf
from phosphene.training.mnist.kernels.layers import Aside

ALIGNED = 64  # numbers, of which tensors in flat memory begin at a multiple: tensor cores want it


@triton.jit
def _adam(value, average, first, second, half, gradient, count, lr, decay, eps, learnt, size, BETA1: tl.constexpr,
          BETA2: tl.constexpr, LOG1: tl.constexpr, LOG2: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Adam on the first ``learnt`` of ``size`` numbers, the average of all. Beyond ``learnt`` gradient and moments are 0."""
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    weights, inside = i < learnt, i < size
    steps = tl.load(count)
    g = tl.load(gradient + i, weights, 0.0)
    m = tl.load(first + i, weights, 0.0)
    v = tl.load(second + i, weights, 0.0)
    w = tl.load(value + i, inside, 0.0)
    e = tl.load(average + i, inside, 0.0)
    m += (1 - BETA1) * (g - m)
    v = BETA2 * v + (1 - BETA2) * g * g
    # 1 - beta^steps in float64: at first four of float32's seven digits would cancel.
    seen1 = (1 - tl.exp2(steps.to(tl.float64) * LOG1)).to(tl.float32)
    seen2 = (1 - tl.exp2(steps.to(tl.float64) * LOG2)).to(tl.float32)
    w -= tl.load(lr) / seen1 * m / (tl.sqrt(v / seen2) + eps)
    e += (1 - tl.minimum((1 + steps) / (10 + steps), decay)) * (w - e)
    tl.store(first + i, m, weights)
    tl.store(second + i, v, weights)
    tl.store(value + i, w, inside)
    tl.store(average + i, e, inside)
    tl.store(half + i, w.to(half.dtype.element_ty), weights)


class FlatStep:
    """Adam, the average and the half-precision copies in one kernel: it reads and writes each number once.

    For that, weights, statistics, averages, moments and copies are laid one behind the other; the tensors of ``halved`` and
    its network, of ``average`` and of the optimiser's state become views of it and keep their names and shapes.
    ``optimiser``, an Adam without weight decay, only keeps the rate and that state.
    """

    def __init__(self, halved: InHalf, average: Average, optimiser: torch.optim.Adam, count: Tensor, aside: Aside) -> None:
        self.count, self.decay, self.aside, self.group = count, average.decay, aside, optimiser.param_groups[0]
        self.weights = dict(halved.network.named_parameters())
        self.halves = halved.halves
        places, self.value = _laid_out(halved.network)
        _, self.average = _laid_out(average.network)
        self.places, self.learnt = dict(zip(self.weights, places, strict=False)), places[len(self.weights)]
        self.gradient, self.first, self.second = (torch.zeros_like(self.value[: self.learnt]) for _ in range(3))
        self.half = self.value[: self.learnt].to(next(iter(self.halves.values())).dtype)
        for name, p in self.weights.items():
            optimiser.state[p] = {
                "step": count,
                "exp_avg": self._view(self.first, name, p),
                "exp_avg_sq": self._view(self.second, name, p),
            }
            if name in self.halves:
                self.halves[name].data = self._view(self.half, name, p)

    def _view(self, flat: Tensor, name: str, like: Tensor) -> Tensor:
        return flat[self.places[name] :].as_strided(like.shape, like.stride())

    @torch.no_grad()
    def step(self) -> Tensor:
        """From the gradients of the copies (of matrices) and of the weights (the rest). Returns the norm of all."""
        self.aside.join()
        copies: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for name, p in self.weights.items():
            gradient = self.halves.get(name, p).grad
            order = torch.channels_last if gradient.ndim == 4 else torch.contiguous_format  # as flat memory has it
            gradient = gradient.contiguous(memory_format=order)
            # A view that strides over dimensions of size 1 as the gradient does: else PyTorch would copy tensor by tensor.
            mine, theirs = copies.setdefault(gradient.dtype, ([], []))
            mine.append(self._view(self.gradient, name, gradient))
            theirs.append(gradient)
        for mine, theirs in copies.values():
            torch._foreach_copy_(mine, theirs)
        norm = torch.linalg.vector_norm(self.gradient)
        beta1, beta2 = self.group["betas"]
        _adam[(triton.cdiv(len(self.value), 1024),)](
            self.value, self.average, self.first, self.second, self.half, self.gradient, self.count, self.group["lr"],
            self.decay, self.group["eps"], self.learnt, len(self.value), beta1, beta2, math.log2(beta1), math.log2(beta2), 1024,
        )  # fmt: skip
        return norm


def _laid_out(network: nn.Module) -> tuple[list[int], Tensor]:
    """Make parameters, then floating buffers, views of one tensor: where each begins and the last one ends, and the tensor."""
    tensors = [*network.parameters(), *(b for b in network.buffers() if b.is_floating_point())]
    places = list(accumulate((-(-x.numel() // ALIGNED) * ALIGNED for x in tensors), initial=0))
    flat = torch.zeros(places[-1], device=tensors[0].device)
    for x, place in zip(tensors, places, strict=False):
        x.data = flat[place:].as_strided(x.shape, x.stride()).copy_(x.data)
    return places, flat
