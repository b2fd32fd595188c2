"""Frequency bands: a separable Gaussian low-pass, the Laplacian pyramid, and blending in it.

A low-pass is a fold over estimates and never a view: it is not invertible. ``high = identity - low`` by construction,
so bands always add up to the picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.errors import UserError

REFERENCE_SIZE = 64
"""Pixels of the pictures that sigmas, lengths and views are thought for; they mean the same in larger ones."""


def gaussian_taps(sigma: float, size: int | None = None) -> Tensor:
    """The normalised odd taps of a Gaussian of ``sigma`` pixels, float32; ``size`` taps, by default out to 3 sigma."""
    if not (sigma > 0 and math.isfinite(sigma)):
        raise UserError(f"--sigma {sigma}: must be a positive number of pixels.")
    size = 2 * max(1, math.ceil(3 * sigma)) + 1 if size is None else size
    if size < 1 or size % 2 == 0:
        raise UserError(f"kernel size {size}: must be odd and positive.")
    reach = torch.arange(size, dtype=torch.float64) - size // 2
    taps = torch.exp(-reach.square() / (2 * sigma**2))
    return (taps / taps.sum()).float()


def low_pass(x: Tensor, sigma: float, size: int | None = None) -> Tensor:
    """Gaussian blur of (B, C, H, W) by ``sigma`` pixels, a row pass and a column pass; borders are reflected."""
    taps = gaussian_taps(sigma, size).to(x.device, x.dtype)
    x = _along(x, taps, axis=-1)
    return _along(x, taps, axis=-2)


def _along(x: Tensor, taps: Tensor, axis: int) -> Tensor:
    # Reflection cannot reach past the picture: a kernel wider than that is cut and renormalised.
    reach = min(len(taps) // 2, x.shape[axis] - 1)
    spare = len(taps) // 2 - reach
    taps = taps[spare : len(taps) - spare]
    taps = taps / taps.sum()
    shape = (1, 1, 1, -1) if axis == -1 else (1, 1, -1, 1)
    padding = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
    rows = F.pad(x.reshape(-1, 1, *x.shape[-2:]), padding, mode="reflect")
    return F.conv2d(rows, taps.view(shape)).view(x.shape)


class Component(Protocol):
    """A linear part of a picture, such as its low frequencies; the rest is the picture less the part."""

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Low:
    """What a Gaussian blur leaves; ``sigma`` in pixels of a 64-pixel picture."""

    sigma: float = 2.0

    def __post_init__(self) -> None:
        gaussian_taps(self.sigma, 1)  # refuses what is no sigma

    def __call__(self, x: Tensor) -> Tensor:
        return low_pass(x, self.sigma * x.shape[-2] / REFERENCE_SIZE)


@dataclass(frozen=True)
class Grey:
    """The mean of the channels; the rest is colour without light."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True).expand_as(x)


@dataclass(frozen=True)
class Swept:
    """What passing by leaves: the mean along ``length`` pixels of a 64-pixel picture, from left to right."""

    length: float = 15.0

    def __post_init__(self) -> None:
        if not (self.length > 1 and math.isfinite(self.length)):
            raise UserError(f"--length {self.length}: must be more than a pixel, such as 15.")

    def __call__(self, x: Tensor) -> Tensor:
        count = 2 * max(1, round(self.length * x.shape[-1] / REFERENCE_SIZE / 2)) + 1
        return _along(x, torch.full((count,), 1 / count, device=x.device, dtype=x.dtype), axis=-1)


def laplacian_pyramid(x: Tensor, levels: int) -> list[Tensor]:
    """Band-pass pictures from fine to coarse, the low-pass rest last; each level has half the size (Burt & Adelson 1983)."""
    if levels < 1 or min(x.shape[-2:]) < 2 ** (levels - 1):
        raise UserError(f"levels {levels}: a {x.shape[-1]}x{x.shape[-2]} picture cannot be halved {levels - 1} times.")
    bands = []
    for _ in range(levels - 1):
        coarse = low_pass(x, sigma=1.0)[..., ::2, ::2]
        bands.append(x - _grown(coarse, x))
        x = coarse
    return [*bands, x]


def collapse(bands: list[Tensor]) -> Tensor:
    """The picture of a Laplacian pyramid: exact, because each band holds just what growing the next one lost."""
    x = bands[-1]
    for band in reversed(bands[:-1]):
        x = band + _grown(x, band)
    return x


def blend(inside: Tensor, outside: Tensor, mask: Tensor, levels: int = 5) -> Tensor:
    """Multi-resolution spline: ``inside`` where ``mask`` (B or 1, 1, H, W; 0..1) is 1, with seams as wide as each band."""
    masks = [mask]
    for _ in range(levels - 1):
        masks.append(low_pass(masks[-1], sigma=1.0)[..., ::2, ::2])
    pairs = zip(laplacian_pyramid(inside, levels), laplacian_pyramid(outside, levels), masks, strict=True)
    return collapse([m * a + (1 - m) * b for a, b, m in pairs])


def _grown(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
