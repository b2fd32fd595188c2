"""What a one-step denoiser can and cannot do: test digits at rising noise, before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from phosphene.defaults import NOISE_LEVELS
from phosphene.errors import require_noise
from phosphene.images import rescaled, sheet, to_images
from phosphene.sampler import draw, generators


class Denoised(NamedTuple):
    """Of each sigma: the noisy pictures, the estimates (S, N, 1, 28, 28), and the mean squared errors (S,) of both."""

    noisy: Tensor
    estimates: Tensor
    noisy_error: Tensor
    error: Tensor


@torch.no_grad()
def denoise_at(
    network: nn.Module, clean: Tensor, seed: int, sigmas: Sequence[float] = NOISE_LEVELS, batch: int = 500
) -> Denoised:
    """Noise ``clean`` (N, 1, 28, 28; in [0, 1]) at each sigma, with the same noise for all, and denoise in one step."""
    require_noise(sigmas)
    parameter = next(network.parameters())
    noise = draw(generators(range(seed, seed + len(clean))), len(clean), clean.shape[1:])
    noisy = torch.stack([clean + sigma * noise for sigma in sigmas])
    rows = noisy.flatten(0, 1).split(batch)
    estimates = torch.cat([network(r.to(parameter.device, parameter.dtype)).float().cpu() for r in rows]).view_as(noisy)
    axes = (1, 2, 3, 4)
    return Denoised(noisy, estimates, (noisy - clean).square().mean(axes), (estimates - clean).square().mean(axes))


def before_and_after(result: Denoised, sigmas: Sequence[float], scale: int) -> Image.Image:
    """Two rows of pictures for each of ``sigmas``, with their mean squared errors, on a sheet."""
    rows, labels = [], []
    for k, sigma in enumerate(sigmas):
        rows += [to_images(rescaled(several[k]), scale) for several in (result.noisy, result.estimates)]
        labels += [f"sigma {sigma:g}: noisy, mse {result.noisy_error[k]:.4f}", f"estimate, mse {result.error[k]:.4f}"]
    return sheet(rows, row_labels=labels)
