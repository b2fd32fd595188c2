"""What helps several readings of one picture to agree: weights that follow which is behind, last steps that one has alone.

Both are of a task: the first is its ``steer``, the second what it asks for. The third means, a mean of estimates that is
as large as they are, is :func:`~phosphene.expression.mean`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor

from phosphene import sampler
from phosphene.errors import UserError
from phosphene.expression import Expression, Mean
from phosphene.models.protocol import Denoiser
from phosphene.notation import last_parts
from phosphene.schedule import CLEAN
from phosphene.tasks.score import Reading, score
from phosphene.views import View, view

LOOKS = 5
"""A run is cut into so many equal parts, and between two of them the readings are scored."""
SHARES = (0.5, 0.65)
"""Of the schedule: fewer noise levels than a finished picture is judged at, because it is only a guide."""
KEENNESS = 25.0
"""How much a lead counts: a reading 0.04 behind another, in the share of the noise's error, has e times its weight."""


def balanced(gain: Tensor) -> Tensor:
    """Weights (N, readings) with the sum 1, the larger the smaller a reading's ``gain`` (N, readings) is; equal if those are."""
    return (-KEENNESS * gain).softmax(1)


def following(prompts: Sequence[str], looks: Sequence[Reading]) -> Callable[[Denoiser, Expression, sampler.Step], Expression]:
    """A task's ``steer``: now and then the clean estimate is scored, and the readings of a mean weighed by :func:`balanced`.

    Each picture has weights of its own, which depend on it alone. The idea is that of Xu et al. 2025, "noise vector
    balancing", who ask CLIP after each step; here it is the denoiser that says what it sees. It costs a pass of readings x
    prompts for each of SHARES, LOOKS - 1 times a run.
    """

    def steer(stage: Denoiser, expression: Expression, step: sampler.Step) -> Expression:
        due = (step.index + 1) * LOOKS // step.total > step.index * LOOKS // step.total
        if step.t == CLEAN or not due or not isinstance(expression, Mean):
            return expression
        found = score(stage, step.x0, prompts, looks, shares=SHARES).gain.diagonal(dim1=1, dim2=2)
        weights = balanced(found.to(step.x0)).T[..., None, None, None]
        return replace(expression, weights=tuple(weights))

    return steer


def ending(text: str, views: Sequence[View], seed: int = 0) -> tuple[int, int]:
    """Which of ``views`` ``VIEW:STEPS`` names (``patches:8:2`` has a view with a number), and how many steps it has alone."""
    name, steps = last_parts(text)
    named = view(name, seed)
    if named not in views:
        raise UserError(f"--last {text}: {name} is none of the views that this picture is read in; name one of those.")
    return views.index(named), steps
