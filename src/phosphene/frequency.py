"""Frequency bands: a separable Gaussian low-pass, and other linear components of a picture.

A low-pass is a fold over estimates and never a view: it is not invertible. ``high = identity - low`` by construction,
so bands always add up to the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import SWEEP, SWEPT_AT
from phosphene.errors import UserError, require_finite, require_length, require_sigma

REFERENCE_SIZE = 64
"""Pixels of the pictures that sigmas, lengths and views are thought for; they mean the same in larger ones."""


def gaussian_taps(sigma: float, size: int | None = None) -> Tensor:
    """The normalised odd taps of a Gaussian of ``sigma`` pixels, float32; ``size`` taps, by default out to 3 sigma."""
    require_sigma(sigma)
    size = 2 * max(1, math.ceil(3 * sigma)) + 1 if size is None else size
    if size < 1 or size % 2 == 0:
        raise UserError(f"kernel size {size}: must be odd and positive.")
    reach = torch.arange(size, dtype=torch.float64) - size // 2
    taps = torch.exp(-reach.square() / (2 * sigma**2))
    return (taps / taps.sum()).float()


def low_pass(x: Tensor, sigma: float, size: int | None = None) -> Tensor:
    """Gaussian blur of (B, C, H, W) by ``sigma`` pixels, a row pass and a column pass; borders are reflected."""
    taps = tuple(gaussian_taps(sigma, size).tolist())
    down, along = (_weighed(taps, length, x.device, x.dtype) for length in x.shape[-2:])
    return down @ (x @ along.T)


@lru_cache(maxsize=64)
def _weighed(taps: tuple[float, ...], length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The (length, length) matrix that weighs each pixel's neighbours along an axis by ``taps``.

    A product of matrices is far quicker than a convolution with one channel, on CPUs above all.
    """
    # Reflection cannot reach past the picture: a kernel wider than that is cut and renormalised.
    reach = min(len(taps) // 2, length - 1)
    spare = len(taps) // 2 - reach
    cut = torch.tensor(taps[spare : len(taps) - spare], dtype=torch.float64)
    rows = F.pad(torch.eye(length, dtype=torch.float64)[None], (reach, reach), mode="reflect")[0]
    matrix = rows.unfold(1, len(cut), 1) @ (cut / cut.sum())  # [j, i]: the share of pixel j in what becomes pixel i
    return matrix.T.contiguous().to(device, dtype)


Component = Callable[[Tensor], Tensor]
"""A linear part of a picture, such as its low frequencies; the rest is the picture less the part."""


@dataclass(frozen=True)
class LowPass:
    """What a Gaussian blur leaves; ``sigma`` in pixels of a 64-pixel picture."""

    sigma: float = 2.0

    def __post_init__(self) -> None:
        require_sigma(self.sigma)

    def __call__(self, x: Tensor) -> Tensor:
        return low_pass(x, self.sigma * x.shape[-2] / REFERENCE_SIZE)


@dataclass(frozen=True)
class Grayscale:
    """The mean of the channels; the rest is colour without light."""

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(dim=1, keepdim=True).expand_as(x)


@dataclass(frozen=True)
class MotionBlur:
    """What passing by leaves: the mean along ``length`` pixels of a 64-pixel picture.

    ``angle`` is the way it passes, in degrees: 0 from left to right, 90 from below to above; the way back blurs the same.
    """

    length: float = SWEEP
    angle: float = SWEPT_AT

    def __post_init__(self) -> None:
        require_length("--length", self.length)
        require_finite("--angle", self.angle)

    def __call__(self, x: Tensor) -> Tensor:
        reach = max(1, round(self.length * x.shape[-1] / REFERENCE_SIZE / 2))
        if self.angle % 180 == 0:
            return x @ _weighed((1.0,) * (2 * reach + 1), x.shape[-1], x.device, x.dtype).T
        reach = min(reach, min(x.shape[-2:]) - 1)  # reflection cannot reach past the picture
        kernel = _line(reach, self.angle % 180, x.device, x.dtype).expand(x.shape[1], 1, -1, -1)
        return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), kernel, groups=x.shape[1])


@lru_cache(maxsize=16)
def _line(reach: int, angle: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Equal weights at each pixel's length along a line, shared among the pixels between which they lie."""
    along, pixel = (torch.arange(-reach, reach + 1, dtype=torch.float64) for _ in range(2))
    x, y = math.cos(math.radians(angle)) * along, -math.sin(math.radians(angle)) * along
    down, across = ((1 - (place[:, None] - pixel).abs()).clamp(min=0) for place in (y, x))
    return (down.T @ across / len(along)).to(device, dtype)
