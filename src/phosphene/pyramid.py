"""The Laplacian pyramid, and blending two pictures in it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from phosphene.errors import UserError
from phosphene.frequency import low_pass


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
    """``x`` at the size of ``like``, each pixel where it came from, which is every second one from the first on."""
    height, width = x.shape[-2:]
    # With one more at the end, corners meet corners; else each level would slip by half a pixel, and all of them by many.
    grown = F.interpolate(
        F.pad(x, (0, 1, 0, 1), mode="replicate"), (2 * height + 1, 2 * width + 1), mode="bilinear", align_corners=True
    )
    return grown[..., : like.shape[-2], : like.shape[-1]]
