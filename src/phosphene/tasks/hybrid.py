"""Hybrid pictures: one thing from afar and another from near; in grey and in colour; at rest and in motion.

Different prompts rule different components of one picture (Oliva et al. 2006; Geng et al. 2024, "Factorized Diffusion").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

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
"""What is kept of a photo: what the first prompt would rule, whatever the kind, or the rest."""
KEPT = {
    "frequency": ("low frequencies", "high frequencies"),
    "color": ("the light", "the colours"),
    "motion": ("what sweeping by leaves", "what sweeping by takes"),
    "scale": ("half", "half"),
}
"""What that is called."""
COARSE, MOTION = Low(2.0), Swept()


def part_of(kind: str, sigma: float = 2.0, motion: Swept = MOTION) -> Component:
    """The component of a picture that the first prompt of a hybrid rules."""
    if kind not in KINDS:
        raise UserError(f"--kind {kind}: choose one of {', '.join(KINDS)}.")
    return {"frequency": Low(sigma), "color": Grey(), "motion": motion, "scale": _half}[kind]


def _half(x: Tensor) -> Tensor:
    return x / 2


def parted(
    stage: Stage,
    prompts: Sequence[str],
    kind: str = "frequency",
    sigmas: Sequence[float] | None = None,
    guidance: float = GUIDANCE[0],
    negative: str | None = None,
    motion: Swept = MOTION,
) -> Expression:
    """What ``stage`` is asked for: of ``frequency``, two or three prompts from the coarsest band to the finest.

    ``color``: the first rules the grey picture, the second its colours; ``motion``: the first what is seen when the
    picture sweeps by as ``motion`` says, the second the rest; ``scale``: both rule all of it, by halves. UserError where
    prompts or sigmas do not fit the kind.
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
    return factored(*parts, part_of(kind, motion=motion))


def hybrid(
    stages: Sequence[Stage],
    prompts: Sequence[str],
    seeds: Sequence[int],
    kind: str = "frequency",
    sigmas: Sequence[float] | None = None,
    guidance: Sequence[float] = GUIDANCE,
    negative: str | None = None,
    settings: Sequence[Settings | None] = (DEFAULT, None),
    motion: Swept = MOTION,
) -> Iterator[Step]:
    """Draw a hybrid of ``prompts`` for each seed with every one of ``stages``: see :func:`parted`."""
    return by_stages(
        stages, lambda stage, scale: parted(stage, prompts, kind, sigmas, scale, negative, motion), seeds, guidance, settings
    )


def completed(
    stage: Stage,
    expression: Asked,
    image: Tensor,
    band: str,
    source: Sequence[torch.Generator],
    component: Component = COARSE,
    settings: Settings = DEFAULT,
) -> Iterator[Step]:
    """An inverse hybrid: ``component`` of ``image`` (1, C, H, W; in [-1, 1]) stays, or all but that, the rest is drawn.

    ``band`` is one of BANDS. A second stage keeps it too where :func:`~phosphene.tasks.generate.enlarge` is given the
    ``edit`` that :func:`keeping` makes for it; else it draws its own.
    """
    edit = keeping(stage, image, band, source, component)
    noise = draw(source, len(source), stage.image_shape, stage.device)
    return sampled(stage, expression, noise, timesteps(stage, settings), source, settings, edit=edit)


def keeping(
    stage: Stage, image: Tensor, band: str, source: Sequence[torch.Generator], component: Component = COARSE
) -> Callable[[Step], Tensor]:
    """What is done after every step of ``stage``: the ``band`` is put back, from ``image`` noised as far as the step has come."""
    if band not in BANDS:
        raise UserError(f"--band {band}: choose low or high.")
    if tuple(image.shape) != (1, *stage.image_shape):
        raise UserError(f"--from: the picture is {tuple(image.shape)}; this stage draws {stage.image_shape}.")
    image = image.to(stage.device)

    def keep(step: Step) -> Tensor:
        kept = image.expand_as(step.xt)
        if step.t != CLEAN:
            kept = stage.schedule.add_noise(kept, step.t, draw(source, len(source), stage.image_shape, stage.device))
        first, rest = (kept, step.xt) if band == "low" else (step.xt, kept)
        return rest + component(first - rest)

    return keep
