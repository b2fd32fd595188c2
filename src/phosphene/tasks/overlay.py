"""Transparencies that each show something, and something else when they are laid upon each other.

The idea is that of the hidden overlays of Diffusion Illusions (Burgert et al. 2024); how it is sampled is said in
:mod:`phosphene.folds`.
"""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.drawing import Task
from phosphene.errors import UserError
from phosphene.expression import Expression, sheets
from phosphene.folds import Overlaid, Sheet
from phosphene.models.protocol import Denoiser
from phosphene.notation import require_overlay
from phosphene.tasks.generate import asked
from phosphene.tasks.score import read_best


def overlay(prompts: Sequence[str], *, weights: Sequence[float] | None = None, negative: str | None = None) -> Task:
    """Sheets that show ``prompts[:-1]``, one each, and ``prompts[-1]`` when all are laid upon each other.

    What is drawn has the channels of all sheets, then those of what they show together, which is their product, exactly:
    see :class:`~phosphene.folds.Overlaid`, whose ``weights`` (one for each prompt) say how much each counts. The best of
    several is the one whose weakest reading is the surest. UserError where there are fewer than three prompts, where
    weights do not fit them, and where the pictures of a model do not lie in [-1, 1].
    """
    count = len(prompts)
    require_overlay(count, weights)
    looks = [Sheet(k, count).apply for k in range(count)]

    def asks(stage: Denoiser, scale: float) -> Expression:
        if tuple(stage.value_range) != (-1, 1):
            raise UserError(f"--model: overlay needs a model of pictures in [-1, 1]; this one has {tuple(stage.value_range)}.")
        return sheets(*(asked(stage, [prompt], negative, scale) for prompt in prompts))

    return read_best(asks, prompts, looks, fold=Overlaid(tuple(weights or [1.0] * count)))
