"""A strip between two prompts and two seeds: the noise is interpolated on the sphere, the estimates of the prompts mixed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.expression import Expression, masked
from phosphene.models.cascade import Stage
from phosphene.sampler import Step, draw, generators
from phosphene.tasks.generate import DEFAULT, GUIDANCE, Settings, asked, onward, sampled, timesteps


def slerp(one: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """From ``one`` (C, H, W) to ``other`` at ``shares`` (N,) of the angle between them: (N, C, H, W).

    Between two draws of Gaussian noise all points are as long as either, which those of a straight line are not
    (Shoemake 1985; for noise: White 2016).
    """
    a, b = one.flatten(), other.flatten()
    angle = torch.arccos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
    weights = shares.view(-1, *[1] * one.ndim)
    if float(angle.sin()) < 1e-4:
        return one * (1 - weights) + other * weights
    return (torch.sin((1 - weights) * angle) * one + torch.sin(weights * angle) * other) / torch.sin(angle)


def between(
    stage: Stage, prompts: Sequence[str], shares: Tensor, guidance: float = GUIDANCE[0], negative: str | None = None
) -> Expression:
    """Picture k is asked for ``prompts[0]`` by 1 - shares[k] and for ``prompts[1]`` by shares[k].

    Mixing what the network answers, and not what the prompts are encoded as, because texts of different lengths have
    no middle.
    """
    one, other = (asked(stage, [prompt], negative, guidance) for prompt in prompts)
    return masked(other, one, shares.view(-1, 1, 1, 1))


def morph(
    stages: Sequence[Stage],
    prompts: Sequence[str],
    frames: int,
    seeds: tuple[int, int],
    guidance: Sequence[float] = GUIDANCE,
    negative: str | None = None,
    settings: Sequence[Settings | None] = (DEFAULT, None),
) -> Iterator[Step]:
    """``frames`` pictures on the way from ``prompts[0]`` with ``seeds[0]`` to ``prompts[1]`` with ``seeds[1]``.

    What a solver adds on the way is the noise of the first seed for all frames, so that they differ by their place alone;
    with ddim, which adds none, the last frame of the first stage is the second prompt's picture of the second seed.
    """
    if len(prompts) != 2:
        raise UserError(f"PROMPT: {len(prompts)} are given; morph takes two, where it begins and where it ends.")
    if frames < 2:
        raise UserError(f"--frames {frames}: must be at least 2.")
    stage, shares = stages[0], torch.linspace(0, 1, frames, device=stages[0].device)
    ends = draw(generators(seeds), 2, stage.image_shape, stage.device)
    source = generators([seeds[0]] * frames)
    draw(source, frames, stage.image_shape)  # the starts of all frames; those between are made of the ends

    def asks(stage: Stage, scale: float) -> Expression:
        return between(stage, prompts, shares, scale, negative)

    start = slerp(ends[0], ends[1], shares)
    manner = settings[0] or DEFAULT
    first = sampled(stage, asks(stage, guidance[0]), start, timesteps(stage, manner), source, manner)
    return onward(stages, first, asks, source, guidance, settings)
