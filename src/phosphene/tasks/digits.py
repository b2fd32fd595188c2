"""Digits on demand: sampling the MNIST models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from phosphene.errors import UserError
from phosphene.expression import Expression, given, guide
from phosphene.models.digits import DigitDiffusion
from phosphene.sampler import (
    SOLVERS,
    Generators,
    Step,
    clamp,
    denoise,
    draw,
    generators,
    solver,
)

ANCESTRAL, FEW = 300, 10
"""Steps of the ancestral and of the other solvers where none are named; docs/results-mnist.md has what they are worth."""


def timesteps(model: DigitDiffusion, name: str, steps: int | None) -> list[int]:
    """The timesteps of solver ``name``: ``steps`` of them, by default many for ``ancestral`` and few for the others."""
    solver(name)
    count = steps if steps is not None else min(ANCESTRAL if name == "ancestral" else FEW, model.schedule.steps)
    return model.schedule.timesteps(count)


def wanted(model: DigitDiffusion, digits: Sequence[int] | None, guidance: float) -> Expression:
    """The expression that asks for one class an image (None: no class at all)."""
    if digits is None:
        return given(None)
    if not model.classes:
        raise UserError("--model: this model knows no classes; take --unconditional, or --model class-20.")
    return guide(given(*digits), scale=guidance)


def sample(
    model: DigitDiffusion,
    expression: Expression,
    seeds: Sequence[int] | torch.Generator,
    count: int | None = None,
    solver_name: str = "ancestral",
    steps: int | None = None,
    max_rows: int | None = None,
) -> Iterator[Step]:
    """Denoise ``len(seeds)`` pictures (or ``count`` from one generator) by ``expression``, x0 clamped to [0, 1]."""
    source: Generators = seeds if isinstance(seeds, torch.Generator) else generators(seeds)
    count = count if isinstance(seeds, torch.Generator) else len(seeds)
    noise = draw(source, count, model.image_shape, model.device)
    return denoise(
        model,
        expression,
        noise,
        timesteps(model, solver_name, steps),
        solver=SOLVERS[solver_name],
        threshold=clamp(*model.value_range),
        generators=source,
        max_rows=max_rows,
    )
