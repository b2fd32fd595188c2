"""Image to image (SDEdit, Meng et al. 2022): noise a picture a little or a lot, and denoise it as something asked for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from phosphene.defaults import STARTS
from phosphene.drawing import Task
from phosphene.errors import UserError, require_strength
from phosphene.tasks.generate import asking


def starts_of(steps: int) -> list[int]:
    """Those of Part A's starts that a run of so many ``steps`` has."""
    return [start for start in STARTS if start < steps] or [0]


def start_of(strength: float, steps: int) -> int:
    """The start index that leaves ``strength`` of ``steps`` steps to be taken, as diffusers counts; 1 is pure noise."""
    require_strength("--strength", strength)
    if int(steps * strength) < 1:
        raise UserError(f"--strength {strength:g}: leaves none of {steps} steps to take; choose a larger share, such as 0.7.")
    return steps - int(steps * strength)


def edit(image: Tensor, starts: Sequence[int], prompt: str | None = None, *, negative: str | None = None) -> Task:
    """Noise ``image`` to timestep number ``starts[k]`` of the run (one for all seeds, or one for each), denoise it as ``prompt``.

    ``image``: (1 or B, C, H, W) in [-1, 1], of the first stage's size. At start 0 little of it is left; a high one changes
    little. Pictures join the run when their start has come, and are those that would be made alone. Where nothing is said,
    ``load("glyph-unprompted")`` is made for it, and is what the command draws with.
    """
    if not starts:
        raise UserError("--start: is empty; give at least one, such as 10.")
    return Task(asking([prompt], negative), image=image, starts=tuple(starts))
