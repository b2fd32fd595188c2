"""Autoguidance (Karras et al. 2024): away from what a weaker network makes of the same prompt, and not of none.

    toward: eps(x, t, c) of the network ----------------+
                                                         +--> away + scale (toward - away)
    away:   eps(x, t, Weak(c)) of a weaker network ------+

Classifier-free guidance also moves a picture away from what other prompts would show, which costs variety. A weaker network makes
the same mistakes with the same prompt, only more of them, and so the difference points away from mistakes alone.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from phosphene.defaults import SKIP
from phosphene.devices import memory
from phosphene.errors import UserError
from phosphene.expression import Asked, Cond, Guide, cond, of_parts
from phosphene.models.if_stage import MOST_READ
from phosphene.models.patch_stage import PatchNetwork
from phosphene.models.protocol import Estimate
from phosphene.models.stage import Stage


@dataclass(frozen=True)
class Weak:
    """A condition that the weaker network is asked for."""

    condition: Hashable | None


def autoguided(asked: Asked) -> Asked:
    """``asked``, with all of its guidance away from the weaker network's answer to what it leads toward.

    Where there is a negative prompt, it is that which the weaker network is asked for. Rows stay as many as they were.
    """
    asked = of_parts(asked, autoguided)
    if not isinstance(asked, Guide):
        return asked
    toward, away = asked.parts
    return replace(asked, parts=(toward, _weakly(toward if away == cond(None) else away)))


def _weakly(asked: Asked) -> Asked:
    """``asked`` of the weaker network, in all of its leaves."""
    if isinstance(asked, Cond):
        return Cond(tuple(Weak(condition) for condition in asked.conditions))
    return of_parts(asked, _weakly)


class Autoguided:
    """A stage, and a weaker one that answers where a condition is :class:`Weak`. In all else it is the stage.

    An embedding is the network's with a column more, which is 1 where the weaker one is meant. UserError, naming what the weaker
    one is ``called``, where the two do not draw the same pictures at the same levels of noise, from texts of one shape.
    """

    def __init__(self, stage: Stage, weak: Stage, called: str = "") -> None:
        self.stage, self.weak = stage, weak
        self._texts: dict[tuple, tuple] = {}
        own, other = ("x".join(map(str, each.image_shape)) for each in (stage, weak))
        if own != other or weak.low_res_schedule is not None:
            raise UserError(f"--autoguidance {called}: draws pictures of {other}, the model {own}; take one of the same kind.")
        if not torch.equal(stage.schedule.abar, weak.schedule.abar):
            raise UserError(f"--autoguidance {called}: has other levels of noise than the model; take one of the same schedule.")
        if stage.embed(None).shape != weak.embed(None).shape:
            raise UserError(
                f"--autoguidance {called}: reads texts of another shape than the model; take one that reads the same."
            )

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stage, name)

    def embed(self, condition: Hashable | None) -> Tensor:
        weak = isinstance(condition, Weak)
        told = self.weak.embed(condition.condition) if weak else self.stage.embed(condition)
        return torch.cat([told, told.new_full((*told.shape[:-1], 1), float(weak))], -1)

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        parts, order = self._parted(embedding)
        said = [network(x[rows], t[rows], told) for network, rows, told in parts if len(rows)]
        noise = torch.cat([one.noise for one in said])[order]
        # Guidance takes the variance of what it leads toward, so that the weaker one's counts for nothing; it may have none.
        variance = [one.noise * 0 if one.variance is None else one.variance for one in said]
        return Estimate(noise, torch.cat(variance)[order] if self.stage.learned else None)

    def _parted(self, embedding: Tensor) -> tuple[list[tuple[Stage, Tensor, Tensor]], Tensor]:
        """Each network with its rows and what it is told in them, and where the answers belong, one after the other.

        The same memory, unchanged since, is the same text: it is kept, so that to look which rows are whose makes the host wait
        for the device once a run, and each network finds the texts that it has read where they were.
        """
        key = memory(embedding)
        if key not in self._texts:
            if len(self._texts) == MOST_READ:
                self._texts.clear()
            weakly = embedding[:, 0, -1] > 0
            each = [(network, rows.nonzero()[:, 0]) for network, rows in ((self.stage, ~weakly), (self.weak, weakly))]
            parts = [(network, rows, embedding[rows, ..., :-1]) for network, rows in each]
            self._texts[key] = embedding, parts, torch.cat([rows for _, rows in each]).argsort()
        return self._texts[key][1:]


def without_block(stage: Stage, which: str) -> Stage:
    """``stage`` without the block of its transformer that ``which`` names (``skip:4``; from 0), whose weights the two share.

    A network that skips layers is a weaker one that nobody has to train (Hyung et al. 2024). UserError where there is none such.
    """
    network, block = stage.network, which.removeprefix(SKIP)
    if not isinstance(network, PatchNetwork):
        raise UserError(f"--autoguidance {which}: is for models that are transformers, as glyph is; name a weaker model.")
    count = len(network.transformer.transformer_blocks)
    if not (block.isdecimal() and int(block) < count):
        raise UserError(f"--autoguidance {which}: must name a block of 0..{count - 1}, such as {SKIP}{count // 2}.")
    return replace(stage, network=network.without_block(int(block)))
