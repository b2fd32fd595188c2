"""Hybrid pictures: one thing from afar and another from near; in grey and in colour; at rest and in motion.

Different prompts rule different components of one picture (Oliva et al. 2006; Geng et al. 2024, "Factorized Diffusion").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.expression import Expression, bands, factored, mean
from phosphene.frequency import Component, Grey, Low, Swept
from phosphene.models.cascade import Stage
from phosphene.sampler import Step, draw
from phosphene.schedule import CLEAN
from phosphene.tasks.generate import DEFAULT, GUIDANCE, Asked, Settings, asked, by_stages, sampled, timesteps

KINDS = ("frequency", "color", "motion", "scale")
SIGMAS = {2: (2.0,), 3: (3.0, 1.2)}
"""Blurs that part two or three prompts, in pixels of a 64-pixel picture; 2 is Part A's."""
BANDS = ("low", "high")


def parted(
    stage: Stage,
    prompts: Sequence[str],
    kind: str = "frequency",
    sigmas: Sequence[float] | None = None,
    guidance: float = GUIDANCE[0],
    negative: str | None = None,
) -> Expression:
    """What ``stage`` is asked for: of ``frequency``, two or three prompts from the coarsest band to the finest.

    ``color``: the first rules the grey picture, the second its colours; ``motion``: the first what is seen when the
    picture sweeps by, the second the rest; ``scale``: both rule all of it, by halves. UserError where prompts or sigmas
    do not fit the kind.
    """
    if kind not in KINDS:
        raise UserError(f"--kind {kind}: choose one of {', '.join(KINDS)}.")
    most = 3 if kind == "frequency" else 2
    if not 2 <= len(prompts) <= most:
        raise UserError(f"--kind {kind}: takes {'two or three prompts' if most == 3 else 'two prompts'}, not {len(prompts)}.")
    if sigmas is not None and kind != "frequency":
        raise UserError(f"--sigma {list(sigmas)}: is of --kind frequency; leave it out.")
    parts = [asked(stage, [prompt], negative, guidance) for prompt in prompts]
    if kind == "frequency":
        return bands(*parts, sigmas=SIGMAS[len(prompts)] if sigmas is None else sigmas)
    if kind == "scale":
        return mean(*parts)
    return factored(*parts, Grey() if kind == "color" else Swept())


def hybrid(
    stages: Sequence[Stage],
    prompts: Sequence[str],
    seeds: Sequence[int],
    kind: str = "frequency",
    sigmas: Sequence[float] | None = None,
    guidance: Sequence[float] = GUIDANCE,
    negative: str | None = None,
    settings: Sequence[Settings | None] = (DEFAULT, None),
) -> Iterator[Step]:
    """Draw a hybrid of ``prompts`` for each seed with every one of ``stages``: see :func:`parted`."""
    return by_stages(
        stages, lambda stage, scale: parted(stage, prompts, kind, sigmas, scale, negative), seeds, guidance, settings
    )


def completed(
    stage: Stage,
    expression: Asked,
    image: Tensor,
    band: str,
    source: Sequence[torch.Generator],
    sigma: float = 2.0,
    settings: Settings = DEFAULT,
) -> Iterator[Step]:
    """An inverse hybrid: one band of ``image`` (1, C, H, W; in [-1, 1]) stays, the other is drawn.

    After every step the band is put back, from the original noised as far as the step has come.
    """
    if band not in BANDS:
        raise UserError(f"--band {band}: choose low or high.")
    if tuple(image.shape) != (1, *stage.image_shape):
        raise UserError(f"--from: the picture is {tuple(image.shape)}; this stage draws {stage.image_shape}.")
    low: Component = Low(sigma)
    noise = draw(source, len(source), stage.image_shape, stage.device)
    image = image.to(noise).expand_as(noise)

    def keep(step: Step) -> Tensor:
        shown = image
        if step.t != CLEAN:
            shown = stage.schedule.add_noise(image, step.t, draw(source, len(source), stage.image_shape, stage.device))
        coarse, fine = (shown, step.xt) if band == "low" else (step.xt, shown)
        return fine + low(coarse - fine)

    return sampled(stage, expression, noise, timesteps(stage, settings), source, settings, edit=keep)
