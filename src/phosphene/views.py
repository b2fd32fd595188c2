"""Views: orthogonal, invertible transforms of the image, with value equality.

A view only moves pixels or flips their sign. That keeps unit Gaussian noise unit Gaussian, which is what lets a
denoiser look at a picture through a view (Geng et al. 2024, "Visual Anagrams", section 3.3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from phosphene.errors import require_one_of
from phosphene.moved import Mark, require_square
from phosphene.notation import view_parts
from phosphene.pieces import InnerCircle, Jigsaw, Patches, Rubik, Skew, SquareHinge


class View(Protocol):
    """A transform of (..., C, H, W) pictures; ``invert(apply(x)) == x`` exactly. Hashable and comparable by value."""

    sign: int  # -1 where the view negates: a variance follows the geometry of a view but never its sign
    mark: Mark  # what a printed picture needs for it

    def apply(self, x: Tensor) -> Tensor: ...

    def invert(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Identity:
    """The picture as it is."""

    sign: ClassVar[int] = 1
    mark: ClassVar[Mark] = Mark("none", "Look at it as it lies.")

    def apply(self, x: Tensor) -> Tensor:
        return x

    invert = apply


@dataclass(frozen=True)
class Mirror:
    """A reflection: ``axis`` -2 turns the picture upside down, -1 swaps left and right."""

    axis: int
    sign: ClassVar[int] = 1

    @property
    def mark(self) -> Mark:
        where = "above" if self.axis == -2 else "to the right of"
        return Mark("mirror", f"Stand a mirror upright on the dashed line {where} the picture, and look at the picture in it.")

    def apply(self, x: Tensor) -> Tensor:
        return x.flip(self.axis)

    invert = apply


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

    @property
    def mark(self) -> Mark:
        how = ("not at all", "a quarter turn to the left", "upside down", "a quarter turn to the right")[self.quarters]
        return Mark("arrow", f"Turn the sheet {how}.")

    def _turned(self, x: Tensor, quarters: int) -> Tensor:
        if quarters % 2:
            require_square(f"rotate-{90 * self.quarters}", x)
        return torch.rot90(x, quarters, dims=(-2, -1))


@dataclass(frozen=True)
class Negate:
    """Light for dark, in a model whose pictures lie in [-1, 1]."""

    sign: ClassVar[int] = -1
    mark: ClassVar[Mark] = Mark("beside", "Look at it through a camera that inverts colours, as many telephones can.")

    def apply(self, x: Tensor) -> Tensor:
        return -x

    invert = apply


VIEWS: dict[str, View] = {
    "identity": Identity(),
    "flip": Mirror(-2),
    "mirror": Mirror(-1),
    "rotate-90": Turn(1),
    "rotate-180": Turn(2),
    "rotate-270": Turn(3),
    "negate": Negate(),
    "skew": Skew(),
    "patches": Patches(),
    "pixels": Patches(None),
    "jigsaw": Jigsaw(),
    "inner-circle": InnerCircle(),
    "square-hinge": SquareHinge(),
    "rubik": Rubik(),
}


def view(name: str, seed: int = 0) -> View:
    """The view called ``name``: ``patches:8`` has 8 by 8 pieces, ``jigsaw@3`` lays them by a seed of its own, not by ``seed``."""
    known, pieces, own = view_parts(name)
    require_one_of("--view", known, VIEWS)  # a warp is none of them
    found = VIEWS[known]
    if pieces is not None:
        found = replace(found, grid=pieces)
    return replace(found, seed=seed if own is None else own) if hasattr(found, "seed") else found
