"""Autoguidance (Karras et al. 2024): away from what a weaker network makes of the same prompt, and not of none.

    toward: eps(x, t, c) of the network ----------------+
                                                         +--> away + scale (toward - away)
    away:   eps(x, t, Weak(c)) of a weaker network ------+

Classifier-free guidance also moves a picture away from what other prompts would show, which costs variety. A weaker network makes
the same mistakes with the same prompt, only more of them, and so the difference points away from mistakes alone.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from phosphene.defaults import SKIP
from phosphene.errors import UserError
from phosphene.expression import Asked, Cond, Guide, cond, of_parts
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
        if name in ("stage", "weak"):  # as long as they are not there: see copy and pickle
            raise AttributeError(name)
        return getattr(self.stage, name)

    def embed(self, condition: Hashable | None) -> Tensor:
        weak = isinstance(condition, Weak)
        told = self.weak.embed(condition.condition) if weak else self.stage.embed(condition)
        return torch.cat([told, told.new_full((*told.shape[:-1], 1), float(weak))], -1)

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        weakly = embedding[:, 0, -1] > 0
        each = [(self.stage, (~weakly).nonzero()[:, 0]), (self.weak, weakly.nonzero()[:, 0])]
        said = [network(x[rows], t[rows], embedding[rows, ..., :-1]) for network, rows in each if len(rows)]
        order = torch.cat([rows for _, rows in each]).argsort()
        noise = torch.cat([one.noise for one in said])[order]
        # Guidance takes the variance of what it leads toward, so that the weaker one's counts for nothing; it may have none.
        variance = [one.noise * 0 if one.variance is None else one.variance for one in said]
        return Estimate(noise, torch.cat(variance)[order] if self.stage.learned else None)


def without_block(stage: Stage, block: str) -> Stage:
    """``stage`` without block number ``block`` (from 0) of its transformer, whose weights the two share.

    A network that skips layers is a weaker one that nobody has to train (Hyung et al. 2024). UserError where there is none such.
    """
    network = stage.network
    count = len(network.transformer.transformer_blocks) if isinstance(network, PatchNetwork) else 0
    if not count:
        raise UserError(f"--autoguidance {SKIP}{block}: is for models that are transformers, as glyph is; name a weaker model.")
    if not (block.isdecimal() and int(block) < count):
        raise UserError(f"--autoguidance {SKIP}{block}: must name a block of 0..{count - 1}, such as {SKIP}{count // 2}.")
    transformer = copy.copy(network.transformer)  # its modules are the same; only what is changed below is its own
    transformer._modules = dict(transformer._modules)
    blocks = transformer.transformer_blocks
    transformer.transformer_blocks = nn.ModuleList(b for k, b in enumerate(blocks) if k != int(block))
    weaker = PatchNetwork(transformer)
    weaker.quick = network.quick
    return replace(stage, network=weaker.eval())
