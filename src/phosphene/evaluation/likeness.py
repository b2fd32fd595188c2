"""How like two pictures are: PSNR and SSIM."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from phosphene.frequency import low_pass


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal to noise of pictures (B, C, H, W) in [-1, 1] in decibels, (B,): infinite where they are equal."""
    return 10 * torch.log10(4 / (x - y).square().flatten(1).mean(1))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of pictures (B, C, H, W) in [-1, 1], (B,): 1 where they are equal.

    Wang et al. 2004, eq. 13, with Gaussian windows of sigma 1.5 and 11 pixels, over all channels.
    """
    blurred = partial(low_pass, sigma=1.5, size=11)
    x, y = (x + 1) / 2, (y + 1) / 2  # it is made for brightness, which is not negative
    mx, my = blurred(x), blurred(y)
    vx, vy, both = blurred(x * x) - mx * mx, blurred(y * y) - my * my, blurred(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mx * my + c1) * (2 * both + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.flatten(1).mean(1)
