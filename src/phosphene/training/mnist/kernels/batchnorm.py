"""BatchNorm, GELU and their gradients as four Triton kernels, which go over a map five times instead of nine."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

# A map is a matrix of (images * height * width) rows and (channels) columns.
TILE = (64, 64)  # rows and columns that a program of an element-wise kernel has
SUMS = (256, 32)  # rows and columns that a program of a reduction reads at once
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
