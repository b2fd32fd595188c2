"""A strip between two prompts and two seeds: the noise is interpolated on the sphere, the estimates of the prompts mixed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from phosphene.defaults import FROM_TO
from phosphene.drawing import Task
from phosphene.errors import UserError, require_two
from phosphene.expression import Expression, masked
from phosphene.models.protocol import Denoiser
from phosphene.tasks.generate import asked


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


def morph(prompts: Sequence[str], frames: int, *, negative: str | None = None) -> Task:
    """``frames`` pictures on the way from ``prompts[0]`` with the first seed to ``prompts[1]`` with the last.

    Picture k is asked for both prompts by shares. What the network answers is mixed, and not what the prompts are encoded
    as, because texts of different lengths have no middle. What a solver adds on the way is the noise of the first seed for
    all frames, so that they differ by their place alone; with ddim, which adds none, the last frame of the first stage is
    the second prompt's picture of the last seed.
    """
    require_two(prompts, *FROM_TO)
    if frames < 2:
        raise UserError(f"--frames {frames}: must be at least 2.")
    shares = torch.linspace(0, 1, frames)

    def asks(stage: Denoiser, scale: float) -> Expression:
        one, other = (asked(stage, [prompt], negative, scale) for prompt in prompts)
        return masked(other, one, shares.view(-1, 1, 1, 1))

    return Task(asks, mix=lambda ends: slerp(ends[0], ends[-1], shares.to(ends)))
