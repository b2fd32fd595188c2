"""The training step of a GPU: what PyTorch's own kernels leave on the table.

At 28x28 and width 64 the convolutions of a step are done in half of its time; the rest goes to layers that only move
memory, and to hundreds of short kernels. So BatchNorm, GELU and their gradients go over a map five times instead of nine;
Adam, the moving average and the half-precision copies read and write each number once; weight gradients and the small
embedders run beside the rest. Written in Triton, which comes with torch on GPUs; elsewhere nothing of this file is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from phosphene.models.unet import MnistUNet

if TYPE_CHECKING:
    from phosphene.training.loop import InHalf

# A map is a matrix of (images * height * width) rows and (channels) columns.
TILE = (64, 64)  # rows and columns that a program of an element-wise kernel has
SUMS = (256, 32)  # rows and columns that a program of a reduction reads at once
ALIGNED = 64  # numbers, of which tensors in flat memory begin at a multiple: tensor cores want it
PROGRAMS = 132  # of a reduction, for each block of columns: one for each multiprocessor of an H100


@triton.jit
def _last(partial, arrived, first, second, column, channels):
    """Store this program's two rows of sums; whether it is the last of its columns to do so, and all are there to be read."""
    place = partial + tl.program_id(0) * 2 * channels + column
    tl.store(place, first, column < channels)
    tl.store(place + channels, second, column < channels)
    tl.debug_barrier()  # every thread has stored before one of them says so
    last = tl.atomic_add(arrived + tl.program_id(1), 1) == tl.num_programs(0) - 1
    if last:
        tl.store(arrived + tl.program_id(1), 0)  # for the next kernel
    return last


@triton.jit
def _totals(partial, column, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The two rows of sums over all programs, always in the same order."""
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, tl.num_programs(0), ROWS):
        part = start + tl.arange(0, ROWS)
        mask = (part < tl.num_programs(0))[:, None] & (column < channels)[None, :]
        place = partial + part[:, None] * 2 * channels + column[None, :]
        first += tl.load(place, mask, 0.0)
        second += tl.load(place + channels, mask, 0.0)
    return tl.sum(first, 0), tl.sum(second, 0)


@triton.jit
def _statistics(x, partial, arrived, momentum, eps, running_mean, running_var, mean, rstd, rows, channels,
                ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Mean and 1 / deviation of the batch, and the running statistics.

    Summed are x - pivot and its square: the pivot (the running mean) keeps the difference of squares exact.
    """
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    pivot = tl.load(running_mean + column, inside, 0.0)
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * channels + column[None, :], mask, 0.0).to(tl.float32)
        value = tl.where(mask, value - pivot[None, :], 0.0)
        first += value
        second += value * value
    if _last(partial, arrived, tl.sum(first, 0), tl.sum(second, 0), column, channels):
        total, squares = _totals(partial, column, channels, ROWS, COLUMNS)
        offset = total / rows
        variance = squares / rows - offset * offset
        centre = pivot + offset
        old_var = tl.load(running_var + column, inside, 0.0)
        tl.store(mean + column, centre, inside)
        tl.store(rstd + column, 1 / tl.sqrt(variance + eps), inside)
        tl.store(running_mean + column, pivot + momentum * (centre - pivot), inside)
        tl.store(running_var + column, old_var + momentum * (variance * rows / (rows - 1) - old_var), inside)


@triton.jit
def _normalised(x, mean, rstd, row, column, mask, channels):
    value = tl.load(x + row[:, None] * channels + column[None, :], mask, 0.0).to(tl.float32)
    inside = column < channels
    return (value - tl.load(mean + column, inside, 0.0)[None, :]) * tl.load(rstd + column, inside, 0.0)[None, :]


@triton.jit
def _gelu(z):
    """The cumulative normal distribution at z, with which GELU multiplies it, and GELU's slope.

    By Abramowitz & Stegun 7.1.26, to 1e-7: slope and distribution share one exponential, and these kernels wait for
    arithmetic, not for memory.
    """
    bell = tl.exp(-0.5 * z * z)
    t = 1 / (1 + 0.2316419 * tl.abs(z))
    tail = 0.5 * bell * t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    below = tl.where(z < 0, tail, 1 - tail)
    return below, below + z * 0.3989422804014327 * bell


@triton.jit
def _apply(x, y, mean, rstd, weight, bias, rows, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """y = gelu(weight * normalised(x) + bias)."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    mask = (row < rows)[:, None] & inside[None, :]
    z = _normalised(x, mean, rstd, row, column, mask, channels)
    z = z * tl.load(weight + column, inside, 0.0)[None, :] + tl.load(bias + column, inside, 0.0)[None, :]
    below, _ = _gelu(z)
    tl.store(y + row[:, None] * channels + column[None, :], (z * below).to(y.dtype.element_ty), mask)


@triton.jit
def _inner_gradient(x, dy, pitch, mean, rstd, weight, bias, row, column, mask, channels):
    """The normalised input, and the gradient before GELU."""
    inside = column < channels
    hat = _normalised(x, mean, rstd, row, column, mask, channels)
    z = hat * tl.load(weight + column, inside, 0.0)[None, :] + tl.load(bias + column, inside, 0.0)[None, :]
    _, slope = _gelu(z)
    gradient = tl.load(dy + row[:, None] * pitch + column[None, :], mask, 0.0).to(tl.float32) * slope
    return hat, gradient


@triton.jit
def _gradient_sums(x, dy, pitch, mean, rstd, weight, bias, partial, arrived, dweight, dbias, rows, channels,
                   ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # fmt: skip
    """Sums of the inner gradient g (for bias) and of g * normalised(x) (for weight)."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        hat, gradient = _inner_gradient(x, dy, pitch, mean, rstd, weight, bias, row, column, mask, channels)
        first += gradient
        second += gradient * hat
    if _last(partial, arrived, tl.sum(first, 0), tl.sum(second, 0), column, channels):
        first_total, second_total = _totals(partial, column, channels, ROWS, COLUMNS)
        tl.store(dbias + column, first_total, inside)
        tl.store(dweight + column, second_total, inside)


@triton.jit
def _apply_gradient(x, dy, pitch, dx, mean, rstd, weight, bias, dweight, dbias, rows, channels, ROWS: tl.constexpr,
                    COLUMNS: tl.constexpr):  # fmt: skip
    """dx = weight / deviation * (g - mean(g) - normalised(x) * mean(g * normalised(x)))."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    mask = (row < rows)[:, None] & inside[None, :]
    hat, gradient = _inner_gradient(x, dy, pitch, mean, rstd, weight, bias, row, column, mask, channels)
    gradient -= (tl.load(dbias + column, inside, 0.0) / rows)[None, :]
    gradient -= hat * (tl.load(dweight + column, inside, 0.0) / rows)[None, :]
    gain = tl.load(weight + column, inside, 0.0) * tl.load(rstd + column, inside, 0.0)
    tl.store(dx + row[:, None] * channels + column[None, :], (gradient * gain[None, :]).to(dx.dtype.element_ty), mask)


class _BatchNormGelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, x: Tensor, weight: Tensor, bias: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, eps: float
    ):
        x = x.contiguous(memory_format=torch.channels_last)
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        partial = torch.empty(PROGRAMS, 2, channels, device=x.device)
        mean, rstd, y = torch.empty_like(running_mean), torch.empty_like(running_mean), torch.empty_like(x)
        _statistics[_grid(rows, channels, SUMS, PROGRAMS)](
            x, partial, _arrived(x.device), momentum, eps, running_mean, running_var, mean, rstd, rows, channels, *SUMS
        )
        _apply[_grid(rows, channels, TILE)](x, y, mean, rstd, weight, bias, rows, channels, *TILE)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        x, mean, rstd, weight, bias = ctx.saved_tensors
        dy, pitch = _pitched(dy)
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        partial = torch.empty(PROGRAMS, 2, channels, device=x.device)
        dweight, dbias, dx = torch.empty_like(weight), torch.empty_like(bias), torch.empty_like(x)
        _gradient_sums[_grid(rows, channels, SUMS, PROGRAMS)](
            x, dy, pitch, mean, rstd, weight, bias, partial, _arrived(x.device), dweight, dbias, rows, channels, *SUMS
        )
        _apply_gradient[_grid(rows, channels, TILE)](
            x, dy, pitch, dx, mean, rstd, weight, bias, dweight, dbias, rows, channels, *TILE
        )
        return dx, dweight, dbias, None, None, None, None


def _pitched(dy: Tensor) -> tuple[Tensor, int]:
    """``dy`` as a matrix of (images * height * width) rows, and how far apart these lie.

    Of two maps that were joined, each has every second part of the rows, and needs no copy.
    """
    _, _, height, width = dy.shape
    pitch = dy.stride(3)
    if dy.stride() == (height * width * pitch, 1, width * pitch, pitch) and min(height, width) > 1:
        return dy, pitch
    return dy.contiguous(memory_format=torch.channels_last), dy.shape[1]


@cache
def _arrived(device: torch.device) -> Tensor:
    """How many programs of each block of columns are done: all zero between two kernels, so one tensor serves them all."""
    return torch.zeros(1024, dtype=torch.int32, device=device)


def _grid(rows: int, channels: int, tile: tuple[int, int], most: int = 1 << 30) -> tuple[int, int]:
    return min(triton.cdiv(rows, tile[0]), most), triton.cdiv(channels, tile[1])


class BatchNormGelu2d(nn.BatchNorm2d):
    """BatchNorm followed by GELU, in training by the kernels above. Statistics and sums are float32."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.gelu(super().forward(x))
        return _BatchNormGelu.apply(x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps)


class ThinConv2d(nn.Conv2d):
    """A convolution from or to fewer than eight channels, padded to eight: cuDNN's tensor-core kernels need that many."""

    def forward(self, x: Tensor) -> Tensor:
        extra_in, extra_out = max(0, 8 - self.in_channels), max(0, 8 - self.out_channels)
        weight = F.pad(self.weight, (0, 0, 0, 0, 0, extra_in, 0, extra_out)).contiguous(memory_format=torch.channels_last)
        x = F.pad(x, (0, 0, 0, 0, 0, extra_in)).contiguous(memory_format=torch.channels_last)
        y = F.conv2d(x, weight, None, self.stride, self.padding)[:, : self.out_channels]
        return y if self.bias is None else y + self.bias.view(-1, 1, 1)


class Aside:
    """A second stream, for work that the next layer does not wait for. Small layers leave half of a GPU idle."""

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()

    @contextmanager
    def work(self, *inputs: Tensor) -> Iterator[None]:
        """Kernels called inside run on the second stream, after what the present one has been given so far."""
        self.stream.wait_stream(torch.cuda.current_stream())
        for x in inputs:
            x.record_stream(self.stream)  # or the present stream's next kernel could be given their memory
        with torch.cuda.stream(self.stream):
            yield

    def join(self) -> None:
        """What the present stream is given from now on comes after everything done aside."""
        torch.cuda.current_stream().wait_stream(self.stream)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, settings: tuple, aside: Aside):
        x = x.to(weight.dtype)
        ctx.save_for_backward(x, weight)
        ctx.settings, ctx.aside = settings, aside
        return torch.ops.aten.convolution(x, weight, None, *settings)

    @staticmethod
    def backward(ctx, dy: Tensor):
        x, weight = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        gradient = torch.ops.aten.convolution_backward
        with ctx.aside.work(dy, x):
            # Handed to the leaf and not to autograd, which could copy it on the present stream before it is there.
            weight.grad = gradient(dy, x, weight, None, *ctx.settings, [False, True, False])[1]
        return gradient(dy, x, weight, None, *ctx.settings, [True, False, False])[0], None, None, None


class AsideConv2d(nn.Conv2d):
    """A convolution without bias whose weight, a leaf, gets its gradient on the second stream."""

    def forward(self, x: Tensor) -> Tensor:
        settings = (self.stride, self.padding, self.dilation, False, (0, 0), self.groups)
        return _Convolution.apply(x, self.weight, settings, self.aside)


class AsideConvTranspose2d(nn.ConvTranspose2d):
    """The same of a transposed convolution. Of single pixels it is one matrix product, which cuDNN does not see."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] == (1, 1) and self.padding == (0, 0):
            y = x.flatten(1).to(self.weight.dtype) @ self.weight.permute(0, 2, 3, 1).flatten(1)
            return y.unflatten(1, (*self.kernel_size, self.out_channels)).permute(0, 3, 1, 2)
        settings = (self.stride, self.padding, self.dilation, True, self.output_padding, self.groups)
        return _Convolution.apply(x, self.weight, settings, self.aside)


class AsideMnistUNet(MnistUNet):
    """The UNet with its small networks for time and class, thirty short kernels each way, on the second stream."""

    def _told(self, t: Tensor | None, c: Tensor | None) -> list[list[Tensor | None]]:
        with self.aside.work(*(x for x in (t, c) if x is not None)):
            told = super()._told(t, c)
        for part in told[0] + told[1]:
            if part is not None:
                part.record_stream(torch.cuda.current_stream())
        return told

    def _condition(self, u: Tensor, told: list[Tensor | None]) -> Tensor:
        self.aside.join()
        return super()._condition(u, told)


def tune(network: nn.Module) -> Aside:
    """Swap the layers of ``network`` for those above, in place. Names and values of its parameters stay.

    Only for an ``InHalf`` with a :class:`FlatStep`, which joins what is returned before it reads the gradients.
    """
    aside = Aside()
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 3 and type(module[1]) is nn.BatchNorm2d:
            module[1].__class__ = BatchNormGelu2d
            module[2] = nn.Identity()
        if type(module) is nn.Conv2d and min(module.in_channels, module.out_channels) < 8:
            module.__class__ = ThinConv2d
        for plain, tuned in ((nn.Conv2d, AsideConv2d), (nn.ConvTranspose2d, AsideConvTranspose2d)):
            if type(module) is plain and module.bias is None:
                module.__class__, module.aside = tuned, aside
    if type(network) is MnistUNet:
        network.__class__, network.aside = AsideMnistUNet, aside
    return aside


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

    For that, weights, statistics, averages, moments and copies are laid one behind the other; the tensors of ``network``,
    ``ema``, ``halved`` and of the optimiser's state become views of it and keep their names and shapes. ``optimiser``, an
    Adam without weight decay, only keeps the rate and that state.
    """

    def __init__(
        self,
        network: nn.Module,
        ema: nn.Module,
        halved: InHalf,
        optimiser: torch.optim.Adam,
        count: Tensor,
        decay: float,
        aside: Aside,
    ) -> None:
        self.count, self.decay, self.aside, self.group = count, decay, aside, optimiser.param_groups[0]
        self.weights = dict(network.named_parameters())
        self.halves = halved.halves
        places, self.value = _laid_out(network)
        _, self.average = _laid_out(ema)
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
