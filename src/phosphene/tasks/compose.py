"""Prompts by region: one thing where a mask is white, another where it is black."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.errors import UserError
from phosphene.expression import Expression, masked
from phosphene.models.cascade import Stage
from phosphene.sampler import Step
from phosphene.tasks.generate import DEFAULT, GUIDANCE, Settings, asked, by_stages

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


def regions(
    stage: Stage, prompts: Sequence[str], mask: Tensor, guidance: float = GUIDANCE[0], negative: str | None = None
) -> Expression:
    """``prompts[0]`` where ``mask`` (1, 1, H, W; 0..1) is 1, ``prompts[1]`` where it is 0; the mask is fitted to the stage."""
    if len(prompts) != 2:
        raise UserError(f"PROMPT: {len(prompts)} are given; compose takes two, for inside and outside of the mask.")
    fitted = F.interpolate(mask, size=stage.image_shape[1:], mode="area")
    inside, outside = (asked(stage, [prompt], negative, guidance) for prompt in prompts)
    return masked(inside, outside, fitted)


def compose(
    stages: Sequence[Stage],
    prompts: Sequence[str],
    mask: Tensor,
    seeds: Sequence[int],
    guidance: Sequence[float] = GUIDANCE,
    negative: str | None = None,
    settings: Sequence[Settings | None] = (DEFAULT, None),
) -> Iterator[Step]:
    """Draw a picture for each seed with every one of ``stages``: see :func:`regions`."""
    return by_stages(stages, lambda stage, scale: regions(stage, prompts, mask, scale, negative), seeds, guidance, settings)
