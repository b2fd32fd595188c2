"""Image to image (SDEdit, Meng et al. 2022): noise a picture a little or a lot, and denoise it as something asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.models.cascade import Stage
from phosphene.sampler import Step, draw
from phosphene.tasks.generate import DEFAULT, Asked, Settings, require_fit, sampled, solver_of, timesteps

STARTS = (1, 3, 5, 7, 10, 20)
"""Part A's: how many steps of the run are left out."""
SOLVERS = ("ancestral", "ddim")
"""Those whose step depends on the picture before it and on nothing else, so that a picture may join a run under way."""


def start_of(strength: float, steps: int) -> int:
    """The start index that leaves ``strength`` of ``steps`` steps to be taken, as diffusers counts; 1 is pure noise."""
    if not 0 < strength <= 1 or int(steps * strength) < 1:
        raise UserError(f"--strength {strength:g}: must lie in (0, 1] and leave one of {steps} steps to take, such as 0.7.")
    return steps - int(steps * strength)


def edit(
    stage: Stage,
    expression: Asked,
    image: Tensor,
    starts: Sequence[int],
    source: Sequence[torch.Generator],
    settings: Settings = DEFAULT,
) -> Iterator[Step]:
    """Picture k of the batch starts at timestep number ``starts[k]`` of the run, from ``image`` noised to it.

    ``image``: (1 or B, C, H, W) in [-1, 1], of the stage's size; one generator for each start; ``expression`` is the same
    for all. Pictures join the run when their start has come, and until then cost nothing; picture k is the one that
    :func:`~phosphene.tasks.generate.image_to_image` makes alone. UserError where a start lies outside of the run.
    """
    times = timesteps(stage, settings)
    if settings.route.solver not in SOLVERS:
        raise UserError(f"--solver {settings.route.solver}: remembers its last step, and starts here have none; take ancestral.")
    for start in starts:
        if not 0 <= start < len(times):
            raise UserError(f"--start {start}: must lie in 0..{len(times) - 1}, the steps of this run.")
    if not starts or len(starts) != len(source):
        raise UserError(f"--start {list(starts)}: {len(source)} seeds for {len(starts)} starts; give one for each.")
    require_fit(stage, image, len(source))
    noise = draw(source, len(source), stage.image_shape, stage.device)
    image = image.to(noise).expand_as(noise)
    state = torch.cat(
        [stage.schedule.add_noise(image[k : k + 1], times[start], noise[k : k + 1]) for k, start in enumerate(starts)]
    )
    return _joining(stage, expression, state, starts, times, source, settings)


def _joining(
    stage: Stage,
    expression: Asked,
    state: Tensor,
    starts: Sequence[int],
    times: Sequence[int],
    source: Sequence[torch.Generator],
    settings: Settings,
) -> Iterator[Step]:
    """From each start to the next: the pictures whose start has come, as one batch."""
    estimates, begun, index = state.clone(), sorted(set(starts)), 0
    total = len(solver_of(stage, settings.route)(stage.schedule, times[begun[0] :]))
    for begin, end in zip(begun, [*begun[1:], None], strict=True):
        active = [k for k, start in enumerate(starts) if start <= begin]
        for step in sampled(stage, expression, state[active], times[begin:], [source[k] for k in active], settings):
            state, estimates = state.clone(), estimates.clone()  # what was yielded stays as it was
            state[active], estimates[active] = step.xt, step.x0
            yield Step(index, total, step.t, state, estimates)
            index += 1
            if end is not None and step.t == times[end]:
                break
