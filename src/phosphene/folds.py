"""Folds in x0: several sheets are denoised as one state, and after each step their clean estimates are made to agree.

Where what is seen is no orthogonal transform of what is drawn, noise cannot be looked at through it, and no expression of
noise estimates says what is wanted. So the state holds each picture that a prompt speaks of, the sheets and what is seen of
them, as channels one after the other, each with noise of its own. The denoiser is asked of each in one pass, and a fold
replaces the clean estimates by the nearest that agree. (The idea of several sheets that show something else together is that
of Diffusion Illusions, Burgert et al. 2024, who optimise the sheets by the gradient of a score instead.)

A fold obeys three laws. What it returns agrees exactly. What agrees already is returned as it is. And of the energy, the
squared distance to the estimates, weighted, what it returns has no more than the sheets have as they are estimated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from phosphene.errors import UserError


@dataclass(frozen=True)
class Sheet:
    """Picture ``index`` of the ``of`` that a state holds; beside views on the way to a leaf, but no view: it has no inverse."""

    index: int
    of: int
    sign: ClassVar[int] = 1

    def apply(self, x: Tensor) -> Tensor:
        """(B, of * C, H, W) to (B, C, H, W)."""
        return x.unflatten(1, (self.of, -1))[:, self.index]


class Fold(Protocol):
    """From the clean estimates of ``sheets`` pictures, (B, sheets * C, H, W), to such as agree."""

    sheets: int

    def __call__(self, x0: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Overlaid:
    """Transparencies, and last what they show when they are laid upon each other: the product of the light each lets through.

    A pixel of x in [-1, 1] lets through the share ``u = (x + 1) / 2`` of the light. ``weights``, one for each sheet and the
    last for what they show together, are those of the energy

        sum_k weights[k] |u_k - e_k|^2 + weights[-1] |prod_k u_k - e_last|^2,  all u_k in 0..1,

    where e are the estimates. With all sheets but one held, it is a parabola in each pixel of that one, whose lowest point
    within 0..1 is known: each is put there in turn, ``sweeps`` times. UserError where weights are not positive.
    """

    weights: tuple[float, ...]
    sweeps: int = 8

    def __post_init__(self) -> None:
        if len(self.weights) < 3 or not all(math.isfinite(w) and w > 0 for w in self.weights):
            given = ", ".join(f"{weight:g}" for weight in self.weights)
            raise UserError(
                f"--weights {given}: give a positive number for each of two or more sheets, and one for all together."
            )

    @property
    def sheets(self) -> int:
        return len(self.weights)

    def __call__(self, x0: Tensor) -> Tensor:
        *own, together = estimates = self._light(x0)
        last = self.weights[-1]
        light = estimates[:-1].clamp(0, 1)
        for _ in range(self.sweeps):
            for k, weight in enumerate(self.weights[:-1]):
                others = torch.cat([light[:k], light[k + 1 :]]).prod(0)
                # Written as a step from the estimate, so that what agrees is not moved by rounding.
                step = last * others * (together - others * own[k]) / (weight + last * others.square())
                light[k] = (own[k] + step).clamp(0, 1)
        return self._pictures(torch.cat([light, light.prod(0, keepdim=True)]))

    def energy(self, x0: Tensor, estimates: Tensor) -> Tensor:
        """Of each of the pictures ``x0``, given ``estimates`` (both (B, sheets * C, H, W)): (B,)."""
        away = (self._light(x0) - self._light(estimates)).square().flatten(2).sum(2)
        return torch.tensor(self.weights).to(away) @ away

    def _light(self, x: Tensor) -> Tensor:
        """(sheets, B, C, H, W)."""
        return (x.unflatten(1, (self.sheets, -1)).transpose(0, 1) + 1) / 2

    def _pictures(self, light: Tensor) -> Tensor:
        return (2 * light - 1).transpose(0, 1).flatten(1, 2)
