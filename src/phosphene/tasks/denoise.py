"""What noise does to a picture, and what undoes it: blur, one step, many steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.drawing import Sampling, threshold
from phosphene.errors import UserError
from phosphene.expression import Expression
from phosphene.forward import Evaluation
from phosphene.frequency import low_pass
from phosphene.models.stage import Stage
from phosphene.sampler import draw

TIMES = (250, 500, 750)
TIMESTEPS = tuple(range(990, -1, -30))
START = 10
"""Part A's: levels of noise, the timesteps of the many steps, and which of them is the first."""
BLUR, TAPS = 2.0, 7


class Level(NamedTuple):
    """A picture noised to timestep ``t`` and two attempts to undo it, each (B, C, H, W)."""

    t: int
    noisy: Tensor
    blurred: Tensor
    estimate: Tensor


@torch.no_grad()
def levels(
    stage: Stage, expression: Expression, image: Tensor, times: Sequence[int], source: Sequence[torch.Generator]
) -> list[Level]:
    """Noise ``image`` (1, C, H, W; in [-1, 1]) to each of ``times``; blur it, and estimate it in one step.

    The same noise serves all times, one draw of each of ``source``. The blur is Part A's: sigma 2, 7 taps.
    """
    last = stage.schedule.steps - 1
    for t in times:
        if not 0 <= t <= last:
            raise UserError(f"--t {t}: must lie in 0..{last}, the model's timesteps.")
    noise = draw(source, len(source), stage.image_shape, stage.device)
    evaluate, mend, found = Evaluation(expression, stage), threshold(stage), []
    for t in times:
        noisy = stage.schedule.add_noise(image.to(noise), t, noise)
        estimate = stage.schedule.clean_estimate(noisy, t, evaluate(noisy, t).noise)
        found.append(Level(t, noisy, low_pass(noisy, BLUR, TAPS), estimate if mend is None else mend(estimate)))
    return found


def many_steps(stage: Stage, sampling: Sampling) -> Sampling:
    """``sampling``, with Part A's timesteps where it names none."""
    if sampling.timesteps is not None or sampling.steps is not None:
        return sampling
    return sampling._replace(timesteps=[t for t in TIMESTEPS if t < stage.schedule.steps])
