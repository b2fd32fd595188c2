"""GPU kernels for the training step: BatchNorm and GELU in one pass each way, in channels-last memory.

At 28x28 and width 64 the convolutions of a step are done in a third of its time; the rest goes to layers that only
move memory. Stock PyTorch reads and writes a map nine times for BatchNorm, GELU and their gradients; these kernels do
it five times. Written in Triton, which comes with torch on GPUs; elsewhere nothing of this file is used.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

ROWS, COLUMNS = 64, 64  # of a tile; a map is a matrix of (images * height * width) rows and (channels) columns
PROGRAMS = 264  # of a reduction: two for each multiprocessor of an H100


@triton.jit
def _statistics(x, pivot, partial, rows, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Partial sums of (x - pivot) and its square. The pivot (the running mean) keeps the difference of squares exact."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < channels
    shift = tl.load(pivot + column, inside, 0.0)
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        value = tl.load(x + row[:, None] * channels + column[None, :], mask, 0.0).to(tl.float32)
        value = tl.where(mask, value - shift[None, :], 0.0)
        first += value
        second += value * value
    place = partial + tl.program_id(0) * 2 * channels + column
    tl.store(place, tl.sum(first, 0), inside)
    tl.store(place + channels, tl.sum(second, 0), inside)


@triton.jit
def _settle(partial, programs, rows, momentum, eps, running_mean, running_var, mean, rstd, channels, PARTS: tl.constexpr,
            COLUMNS: tl.constexpr):  # fmt: skip
    """Mean and 1 / deviation of the batch from the partial sums, and the running statistics."""
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.arange(0, PARTS)
    mask = (part < programs)[:, None] & (column < channels)[None, :]
    place = partial + part[:, None] * 2 * channels + column[None, :]
    first = tl.sum(tl.load(place, mask, 0.0), 0) / rows
    second = tl.sum(tl.load(place + channels, mask, 0.0), 0) / rows
    inside = column < channels
    old_mean = tl.load(running_mean + column, inside, 0.0)
    old_var = tl.load(running_var + column, inside, 0.0)
    variance = second - first * first
    centre = old_mean + first
    tl.store(mean + column, centre, inside)
    tl.store(rstd + column, 1 / tl.sqrt(variance + eps), inside)
    tl.store(running_mean + column, old_mean + momentum * (centre - old_mean), inside)
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
def _gradient_sums(x, dy, pitch, mean, rstd, weight, bias, partial, rows, channels, ROWS: tl.constexpr,
                   COLUMNS: tl.constexpr):  # fmt: skip
    """Partial sums of the inner gradient g and of g * normalised(x)."""
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.zeros((ROWS, COLUMNS), tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS):
        row = start + tl.arange(0, ROWS)
        mask = (row < rows)[:, None] & (column < channels)[None, :]
        hat, gradient = _inner_gradient(x, dy, pitch, mean, rstd, weight, bias, row, column, mask, channels)
        first += gradient
        second += gradient * hat
    place = partial + tl.program_id(0) * 2 * channels + column
    tl.store(place, tl.sum(first, 0), column < channels)
    tl.store(place + channels, tl.sum(second, 0), column < channels)


@triton.jit
def _settle_gradient(partial, programs, dweight, dbias, channels, PARTS: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.arange(0, PARTS)
    mask = (part < programs)[:, None] & (column < channels)[None, :]
    place = partial + part[:, None] * 2 * channels + column[None, :]
    tl.store(dbias + column, tl.sum(tl.load(place, mask, 0.0), 0), column < channels)
    tl.store(dweight + column, tl.sum(tl.load(place + channels, mask, 0.0), 0), column < channels)


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
        columns, programs, tiles = _grid(rows, channels)
        partial = torch.empty(programs, 2, channels, device=x.device)
        mean, rstd, y = torch.empty_like(running_mean), torch.empty_like(running_mean), torch.empty_like(x)
        _statistics[programs, columns](x, running_mean, partial, rows, channels, ROWS, COLUMNS)
        _settle[(triton.cdiv(channels, 8),)](
            partial,
            programs,
            rows,
            momentum,
            eps,
            running_mean,
            running_var,
            mean,
            rstd,
            channels,
            triton.next_power_of_2(programs),
            8,
        )
        _apply[tiles, columns](x, y, mean, rstd, weight, bias, rows, channels, ROWS, COLUMNS)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        x, mean, rstd, weight, bias = ctx.saved_tensors
        dy, pitch = _pitched(dy)
        channels, rows = x.shape[1], x.numel() // x.shape[1]
        columns, programs, tiles = _grid(rows, channels)
        partial = torch.empty(programs, 2, channels, device=x.device)
        dweight, dbias, dx = torch.empty_like(weight), torch.empty_like(bias), torch.empty_like(x)
        _gradient_sums[programs, columns](x, dy, pitch, mean, rstd, weight, bias, partial, rows, channels, ROWS, COLUMNS)
        _settle_gradient[(triton.cdiv(channels, 8),)](
            partial, programs, dweight, dbias, channels, triton.next_power_of_2(programs), 8
        )
        _apply_gradient[tiles, columns](x, dy, pitch, dx, mean, rstd, weight, bias, dweight, dbias, rows, channels, ROWS, COLUMNS)
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


def _grid(rows: int, channels: int) -> tuple[int, int, int]:
    tiles = triton.cdiv(rows, ROWS)
    return triton.cdiv(channels, COLUMNS), min(tiles, PROGRAMS), tiles


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


def tune(network: nn.Module) -> None:
    """Swap the layers of ``network`` for those above, in place. Names and values of its parameters stay."""
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and len(module) == 3 and type(module[1]) is nn.BatchNorm2d:
            module[1].__class__ = BatchNormGelu2d
            module[2] = nn.Identity()
        if type(module) is nn.Conv2d and min(module.in_channels, module.out_channels) < 8:
            module.__class__ = ThinConv2d
