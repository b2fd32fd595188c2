"""Prompts by region: one thing where a mask is white, another where it is black."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import INSIDE_OUTSIDE
from phosphene.drawing import Task
from phosphene.errors import require_one_of, require_two
from phosphene.expression import Expression, masked
from phosphene.models.protocol import Denoiser
from phosphene.tasks.generate import asked


def shape(name: str, height: int, width: int) -> Tensor:
    """The mask called ``name``, (1, 1, height, width) of 0 and 1: the left or upper half, or a disc of 0.6 the shorter side."""
    y, x = ((torch.arange(n) + 0.5 - n / 2) / min(height, width) for n in (height, width))
    inside = {
        "left": (x < 0).expand(height, width),
        "top": (y < 0)[:, None].expand(height, width),
        "circle": x.square() + y[:, None].square() < 0.09,
    }
    require_one_of("--mask", name, inside)
    return inside[name].float()[None, None]


def compose(prompts: Sequence[str], mask: Tensor, *, negative: str | None = None) -> Task:
    """``prompts[0]`` where ``mask`` (1, 1, H, W; 0..1) is 1, ``prompts[1]`` where it is 0; the mask is scaled to each stage."""
    require_two(prompts, *INSIDE_OUTSIDE)

    def asks(stage: Denoiser, scale: float) -> Expression:
        fitted = F.interpolate(mask, size=stage.image_shape[1:], mode="area")
        return masked(*(asked(stage, [prompt], negative, scale) for prompt in prompts), fitted)

    return Task(asks)
