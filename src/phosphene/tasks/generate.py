"""Text to image: what a stage is asked for, and the two tasks that ask for nothing else."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from phosphene.drawing import Asks, Task
from phosphene.expression import Expression, cond, guide
from phosphene.models.protocol import Denoiser


def asked(stage: Denoiser, prompts: Sequence[str | None], negative: str | None, guidance: float) -> Expression:
    """For ``prompts`` (one for all images, or one for each), away from ``negative``; a stage that reads no text: nothing."""
    return guide(cond(*prompts), scale=guidance, away=cond(negative or None)) if stage.reads else cond(None)


def asking(prompts: Sequence[str | None], negative: str | None = None) -> Asks:
    """Every stage is asked for ``prompts``: see :func:`asked`."""
    return lambda stage, scale: asked(stage, prompts, negative, scale)


def generate(prompts: Sequence[str | None], *, negative: str | None = None) -> Task:
    """Pictures of ``prompts``: one for all seeds, or one for each; None is nothing in particular."""
    return Task(asking(prompts, negative))


def enlarge(small: Tensor, prompts: Sequence[str | None] = (None,), *, negative: str | None = None) -> Task:
    """Super-resolution: ``small`` (B, C, h, w; in [-1, 1]), a seed for each, drawn large by a second stage alone."""
    return Task(asking(prompts, negative), small=small)
