"""Views: orthogonal, invertible transforms of the image, with value equality.

A view only moves pixels or flips their sign. That keeps unit Gaussian noise unit Gaussian, which is what lets a
denoiser look at a picture through a view (Geng et al. 2024, "Visual Anagrams", section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from phosphene.errors import UserError


class View(Protocol):
    """A transform of (..., C, H, W) pictures; ``invert(apply(x)) == x`` exactly. Hashable and comparable by value."""

    sign: int  # -1 where the view negates: a variance follows the geometry of a view but never its sign

    def apply(self, x: Tensor) -> Tensor: ...

    def invert(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Identity:
    """The picture as it is."""

    sign: ClassVar[int] = 1

    def apply(self, x: Tensor) -> Tensor:
        return x

    def invert(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class Mirror:
    """A reflection: ``axis`` -2 turns the picture upside down, -1 swaps left and right."""

    axis: int
    sign: ClassVar[int] = 1

    def apply(self, x: Tensor) -> Tensor:
        return x.flip(self.axis)

    def invert(self, x: Tensor) -> Tensor:
        return x.flip(self.axis)


@dataclass(frozen=True)
class Turn:
    """A counter-clockwise rotation by ``quarters`` quarter turns. Odd turns need square pictures."""

    quarters: int
    sign: ClassVar[int] = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "quarters", self.quarters % 4)  # five quarter turns are one, and equal to it

    def apply(self, x: Tensor) -> Tensor:
        return self._turned(x, self.quarters)

    def invert(self, x: Tensor) -> Tensor:
        return self._turned(x, -self.quarters)

    def _turned(self, x: Tensor, quarters: int) -> Tensor:
        if quarters % 2 and x.shape[-1] != x.shape[-2]:
            raise UserError(
                f"view rotate-{90 * self.quarters}: needs a square picture, "
                f"this one is {x.shape[-1]}x{x.shape[-2]}; use rotate-180 or crop it."
            )
        return torch.rot90(x, quarters, dims=(-2, -1))


@dataclass(frozen=True)
class Negate:
    """Light for dark, in a model whose pictures lie in [-1, 1]."""

    sign: ClassVar[int] = -1

    def apply(self, x: Tensor) -> Tensor:
        return -x

    def invert(self, x: Tensor) -> Tensor:
        return -x


VIEWS: dict[str, View] = {
    "identity": Identity(),
    "flip": Mirror(-2),
    "mirror": Mirror(-1),
    "rotate-90": Turn(1),
    "rotate-180": Turn(2),
    "rotate-270": Turn(3),
    "negate": Negate(),
}


def view(name: str) -> View:
    """The view called ``name``."""
    if name not in VIEWS:
        raise UserError(f"--view {name}: unknown; choose one of {', '.join(VIEWS)}.")
    return VIEWS[name]
