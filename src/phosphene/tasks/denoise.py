"""What noise does to a picture, and what undoes it: blur, one step, many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.frequency import low_pass
from phosphene.models.stage import Stage
from phosphene.sampler import draw, generators
from phosphene.tasks.edit import edit

TIMESTEPS = tuple(range(990, -1, -30))
"""Part A's: the timesteps of the many steps, of which number START (``defaults``) is the first."""
BLUR, TAPS = 2.0, 7
UNGUIDED = 1.0


class Level(NamedTuple):
    """A picture noised to timestep ``t`` and two attempts to undo it, each (B, C, H, W)."""

    t: int
    noisy: Tensor
    blurred: Tensor
    estimate: Tensor


def levels(
    stage: Stage,
    image: Tensor,
    times: Sequence[int],
    seeds: Sequence[int],
    prompt: str | None = None,
    *,
    negative: str | None = None,
    sampling: Sampling = Sampling(),
) -> list[Level]:
    """Noise ``image`` (1, C, H, W; in [-1, 1]) to each of ``times``; blur it, and estimate it as ``prompt`` in one step.

    The estimate is the clean one of a run of one timestep, sampled as ``sampling`` says. It is the mean of all pictures that
    may lie under the noise, and guided it is the mean of none: where no scale is named there is no guidance, whatever a
    run of many steps takes. A seed's noise is the same at all times. The blur is Part A's: sigma 2, 7 taps. UserError where
    a time is none of the model's timesteps.
    """
    last = stage.schedule.steps - 1
    for t in times:
        if not 0 <= t <= last:
            raise UserError(f"--t {t}: must lie in 0..{last}, the model's timesteps.")
    noise = draw(generators(seeds), len(seeds), stage.image_shape, stage.device)
    guidance = UNGUIDED if sampling.guidance is None else sampling.guidance
    task, found = edit(image, [0], prompt, negative=negative), []
    for t in times:
        noisy = stage.schedule.add_noise(image.to(noise), t, noise)
        (step,) = run(task, stage, seeds, sampling=sampling._replace(steps=None, timesteps=[t], guidance=guidance))
        found.append(Level(t, noisy, low_pass(noisy, BLUR, TAPS), step.x0))
    return found


def many_steps(stage: Stage, sampling: Sampling) -> Sampling:
    """``sampling``, ancestral and with Part A's timesteps where it names no other."""
    if sampling.solver is None and sampling.eta is None:
        sampling = sampling._replace(solver="ancestral")
    if sampling.timesteps is not None or sampling.steps is not None:
        return sampling
    return sampling._replace(timesteps=[t for t in TIMESTEPS if t < stage.schedule.steps])
