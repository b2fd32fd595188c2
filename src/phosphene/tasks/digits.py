"""Digits on demand: sampling the MNIST models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from phosphene.errors import UserError
from phosphene.expression import Expression, given, guide
from phosphene.models.digits import DigitDiffusion
from phosphene.sampler import (
    Generators,
    Route,
    Step,
    clamp,
    denoise,
    draw,
    generators,
)

STEPS = {"ancestral": 300, "ddim": 50, "dpm": 8, "heun": 8}
"""Of each solver where none are named; docs/results-mnist.md has what they are worth."""


def timesteps(model: DigitDiffusion, route: Route) -> list[int]:
    """The timesteps of ``route``: where it names no number, as many as its solver needs."""
    route.table()
    return model.schedule.timesteps(min(STEPS[route.solver], model.schedule.steps) if route.steps is None else route.steps)


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
    route: Route = Route(),
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
        timesteps(model, route),
        solver=route.table(),
        threshold=clamp(*model.value_range),
        generators=source,
        max_rows=max_rows,
    )
