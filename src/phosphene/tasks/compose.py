"""Prompts by region: one thing where a mask is white, another where it is black."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.drawing import Task
from phosphene.errors import UserError
from phosphene.expression import Expression, masked
from phosphene.models.protocol import Denoiser
from phosphene.tasks.generate import asked

SHAPES = ("left", "top", "circle")


def shape(name: str, size: int) -> Tensor:
    """The mask called ``name``, (1, 1, size, size) of 0 and 1: the left or upper half, or a disc of 0.6 the width."""
    along = (torch.arange(size) + 0.5) / size - 0.5
    inside = {
        "left": (along < 0).expand(size, size),
        "top": (along < 0)[:, None].expand(size, size),
        "circle": along.square() + along[:, None].square() < 0.09,
    }
    if name not in inside:
        raise UserError(f"--mask {name}: choose one of {', '.join(SHAPES)}, or a picture.")
    return inside[name].float()[None, None]


def compose(prompts: Sequence[str], mask: Tensor, *, negative: str | None = None) -> Task:
    """``prompts[0]`` where ``mask`` (1, 1, H, W; 0..1) is 1, ``prompts[1]`` where it is 0; the mask is fitted to each stage."""
    if len(prompts) != 2:
        raise UserError(f"PROMPT: {len(prompts)} are given; compose takes two, for inside and outside of the mask.")

    def asks(stage: Denoiser, scale: float) -> Expression:
        fitted = F.interpolate(mask, size=stage.image_shape[1:], mode="area")
        return masked(*(asked(stage, [prompt], negative, scale) for prompt in prompts), fitted)

    return Task(asks)
