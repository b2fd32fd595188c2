"""Digits on demand: what the MNIST models are asked for."""

from __future__ import annotations

from collections.abc import Sequence

from phosphene.drawing import Task
from phosphene.errors import UserError
from phosphene.expression import Expression, cond, guide
from phosphene.models.digits import DigitDiffusion


def digits(wanted: Sequence[int] | None) -> Task:
    """The digits ``wanted``, one for each seed or one for all; None: whatever comes, unguided."""

    def asks(model: DigitDiffusion, scale: float) -> Expression:
        if wanted is None:
            return cond(None)
        if not model.classes:
            raise UserError("--model: knows no classes, so no digit can be asked for; take --unconditional, or --model class-20.")
        return guide(cond(*wanted), scale=scale)

    return Task(asks)
