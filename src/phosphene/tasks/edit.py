"""Image to image (SDEdit, Meng et al. 2022): noise a picture a little or a lot, and denoise it as something asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.models.cascade import Stage
from phosphene.sampler import Step, draw
from phosphene.tasks.generate import DEFAULT, Asked, Settings, sampled, timesteps

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

    ``image``: (1 or B, C, H, W) in [-1, 1], of the stage's size; one generator for each start. All go through the loop
    together: those whose start is yet to come are put there when it comes, so that picture k is the one that
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
    if tuple(image.shape[1:]) != stage.image_shape or len(image) not in (1, len(starts)):
        shape, size = ("x".join(str(n) for n in of) for of in (image.shape, stage.image_shape))
        raise UserError(f"image: is {shape}; this stage draws {size}, and there must be one for all starts or one for each.")
    noise = draw(source, len(source), stage.image_shape, stage.device)
    image, first = image.to(noise).expand_as(noise), min(starts)
    late = torch.tensor(list(starts)).view(-1, 1, 1, 1)
    waiting = Waiting(source, starts, first)

    def put(step: Step) -> Tensor:
        moved = step.t < times[waiting.now]  # else the run stays where it is: --resample
        waiting.now += moved
        held = late >= waiting.now if moved else late > waiting.now
        return (
            torch.where(held.to(noise.device), stage.schedule.add_noise(image, step.t, noise), step.xt) if held.any() else step.xt
        )

    start = stage.schedule.add_noise(image, times[first], noise)
    return sampled(stage, expression, start, times[first:], waiting, settings, edit=put)


class Waiting(Sequence):
    """Generators of pictures that start by and by: until its start has come, a picture uses up none of its noise."""

    def __init__(self, source: Sequence[torch.Generator], starts: Sequence[int], now: int) -> None:
        self.source, self.starts, self.now, self.spare = source, starts, now, torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> torch.Generator:
        return self.source[index] if self.starts[index] <= self.now else self.spare
