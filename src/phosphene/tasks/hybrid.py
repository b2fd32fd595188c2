"""Hybrid pictures: one thing from afar and another from near; in grey and in colour; at rest and in motion.

Different prompts rule different components of one picture (Oliva et al. 2006; Geng et al. 2024, "Factorized Diffusion").
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from phosphene.drawing import Reading, Task
from phosphene.errors import UserError
from phosphene.expression import Expression, bands, factored, mean
from phosphene.frequency import Grey, Low, Swept
from phosphene.models.protocol import Denoiser
from phosphene.tasks.generate import asked, asking
from phosphene.tasks.score import score

KINDS = ("frequency", "color", "motion", "scale")
SIGMAS = {2: (2.0,), 3: (3.0, 1.2)}
"""Blurs that part two or three prompts, in pixels of a 64-pixel picture; 2 is Part A's."""
BANDS = ("low", "high")
WALKING_AWAY = [Reading(distance=away) for away in (1, 2, 4, 8)]


def hybrid(
    prompts: Sequence[str], *, kind: str = "frequency", sigmas: Sequence[float] | None = None, negative: str | None = None
) -> Task:
    """Of ``frequency``, two or three prompts from the coarsest band to the finest.

    ``color``: the first rules the grey picture, the second its colours; ``motion``: the first what is seen when the
    picture sweeps by, the second the rest; ``scale``: both rule all of it, by halves. The best of several is the one in
    which the first prompt is read in what it rules, and the others in the whole. UserError where prompts or sigmas do not
    fit the kind.
    """
    if kind not in KINDS:
        raise UserError(f"--kind {kind}: choose one of {', '.join(KINDS)}.")
    most = 3 if kind == "frequency" else 2
    if not 2 <= len(prompts) <= most:
        raise UserError(f"--kind {kind}: takes {'two or three prompts' if most == 3 else 'two prompts'}, not {len(prompts)}.")
    if sigmas is not None and kind != "frequency":
        raise UserError(f"--sigma {list(sigmas)}: is of --kind frequency; leave it out.")
    blurs = SIGMAS[len(prompts)] if sigmas is None else sigmas

    def asks(stage: Denoiser, scale: float) -> Expression:
        parts = [asked(stage, [prompt], negative, scale) for prompt in prompts]
        if kind == "frequency":
            return bands(*parts, sigmas=blurs)
        return mean(*parts) if kind == "scale" else factored(*parts, ruled)

    ruled = {"frequency": Low(max(blurs)), "color": Grey(), "motion": Swept()}.get(kind, Reading().look)
    looks = [ruled, *[Reading().look] * (len(prompts) - 1)]
    return Task(
        asks,
        judge=lambda stage, pictures: score(stage, pictures, prompts, looks),
        readings=WALKING_AWAY if kind == "frequency" else [Reading(), Reading(look=ruled)],
    )


def completed(image: Tensor, prompt: str, *, band: str = "low", sigma: float = 2.0, negative: str | None = None) -> Task:
    """An inverse hybrid: one band of ``image`` (1, C, H, W; in [-1, 1]) stays, the other is drawn as ``prompt``."""
    if band not in BANDS:
        raise UserError(f"--band {band}: choose low or high.")
    low = Low(sigma)

    def keep(drawn: Tensor, kept: Tensor) -> Tensor:
        coarse, fine = (kept, drawn) if band == "low" else (drawn, kept)
        return fine + low(coarse - fine)

    return Task(asking([prompt], negative), image=image, edit=keep, readings=WALKING_AWAY)
