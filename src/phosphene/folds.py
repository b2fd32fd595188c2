"""Folds in x0: several pictures are denoised as one state, and after each step their clean estimates are made to agree.

Where what is seen is no orthogonal transform of what is drawn, noise cannot be looked at through it, and no expression of
noise estimates says what is wanted. So the state holds each picture that a prompt speaks of, the sheets and what is seen of
them, as channels one after the other, each with noise of its own. The denoiser is asked of each in one pass, and a fold
replaces the clean estimates by the nearest that agree. (The idea of several sheets that show something else together is that
of Diffusion Illusions, Burgert et al. 2024, who optimise the sheets by the gradient of a score instead.)

A fold obeys three laws. What it returns agrees exactly. What agrees already is returned as it is. And of the energy, the
squared distance to the estimates, weighted, what it returns has no more than the sheets have as they are estimated. Two are
here: transparencies laid upon each other, and a picture with what is seen of it through warps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.views import Identity, View
from phosphene.warps import Warp


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
    drawn: int  # how many of them, from the first on, are what was asked for; the others show what is seen of those

    def __call__(self, x0: Tensor) -> Tensor: ...

    def noise(self, z: Tensor) -> Tensor:
        """From independent unit noise, shaped as ``x0``, to what each picture is noised by: unit noise too."""


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

    drawn = sheets

    def noise(self, z: Tensor) -> Tensor:
        return z

    def __call__(self, x0: Tensor) -> Tensor:
        *own, together = estimates = (x0.unflatten(1, (self.sheets, -1)).transpose(0, 1) + 1) / 2  # (sheets, B, C, H, W)
        last = self.weights[-1]
        light = estimates[:-1].clamp(0, 1)
        for _ in range(self.sweeps):
            for k, weight in enumerate(self.weights[:-1]):
                others = torch.cat([light[:k], light[k + 1 :]]).prod(0)
                # Written as a step from the estimate, so that what agrees is not moved by rounding.
                step = last * others * (together - others * own[k]) / (weight + last * others.square())
                light[k] = (own[k] + step).clamp(0, 1)
        return (2 * torch.cat([light, light.prod(0, keepdim=True)]) - 1).transpose(0, 1).flatten(1, 2)


@dataclass(frozen=True)
class Seen:
    """A picture, and what is seen of it: the first of ``views`` is the picture as it is, the others are views or warps.

    With V the views and e the estimates, the fold is the picture x of least energy

        sum_k weights[k] |V_k x - e_k|^2,

    and what is returned is V_k x of each: a linear map, the orthogonal projection (by the weights) on all that agrees.
    Where a view shrinks the picture it says nothing of detail, and other views decide; where it enlarges, it decides: so
    nothing is blurred by averages of what one view knows and another does not. (Chang et al. 2025, "LookingGlass", have
    for that a pyramid, whose levels they average by how much each view shrinks.) The normal equations are solved for the way
    from e_0 by conjugate gradients, as many steps as the condition number wants; so what agrees is not moved by rounding.

    Each picture has noise of its own, as like the first's as unit noise may be (:meth:`phosphene.warps.Warp.noise`); where
    all views are orthogonal, a run of a deterministic solver is that of their mean. UserError where the first is not
    the picture as it is, or weights are not positive.
    """

    views: tuple[View | Warp, ...]
    weights: tuple[float, ...]
    drawn: ClassVar[int] = 1

    ACCURACY: ClassVar[float] = 1e-5

    def __post_init__(self) -> None:
        if not self.views or not isinstance(self.views[0], Identity):
            raise UserError("--view: the picture as it is must be among them, and first here; add identity.")
        if len(self.weights) != len(self.views) or not all(math.isfinite(w) and w > 0 for w in self.weights):
            given = ", ".join(f"{weight:g}" for weight in self.weights)
            raise UserError(f"--weights {given}: give a positive number for each of {len(self.views)} views.")

    @property
    def sheets(self) -> int:
        return len(self.views)

    def noise(self, z: Tensor) -> Tensor:
        first, *others = z.chunk(self.sheets, 1)
        pairs = zip(self.views[1:], others, strict=True)
        return torch.cat([first, *(v.noise(first, own) if isinstance(v, Warp) else v.apply(first) for v, own in pairs)], 1)

    def __call__(self, x0: Tensor) -> Tensor:
        first, *others = x0.chunk(self.sheets, 1)
        away = [e - v.apply(first) for v, e in zip(self.views[1:], others, strict=True)]
        x = first + self._solved(self._back(away))
        return torch.cat([v.apply(x) for v in self.views], 1)

    @property
    def steps(self) -> int:
        """Of conjugate gradients, until the error is about ACCURACY of what it was at first (Shewchuk 1994, eq. 52)."""
        of = [v.norm() if isinstance(v, Warp) else 1.0 for v in self.views[1:]]
        root = math.sqrt(1 + sum(w * n for w, n in zip(self.weights[1:], of, strict=True)) / self.weights[0])
        return math.ceil(math.log(2 / self.ACCURACY) / math.log((root + 1) / (root - 1))) if root > 1 else 0

    def _back(self, seen: list[Tensor]) -> Tensor:
        """The weighted sum of what is ``seen`` in all views but the first, brought back by their transposes."""
        parts = zip(self.weights[1:], self.views[1:], seen, strict=True)
        return sum(w * (v.adjoint(s) if isinstance(v, Warp) else v.invert(s)) for w, v, s in parts)

    def _solved(self, right: Tensor) -> Tensor:
        """The picture whose normal equations have this ``right`` side, each channel of each picture by itself."""
        x, rest = torch.zeros_like(right), right
        way, length = rest, _squared(rest)
        for _ in range(self.steps):
            pushed = self.weights[0] * way + self._back([v.apply(way) for v in self.views[1:]])
            gone = length / (way * pushed).sum((-2, -1), keepdim=True).clamp(min=1e-30)
            x, rest = x + gone * way, rest - gone * pushed
            before, length = length, _squared(rest)
            way = rest + length / before.clamp(min=1e-30) * way
        return x


def _squared(x: Tensor) -> Tensor:
    return x.square().sum((-2, -1), keepdim=True)
