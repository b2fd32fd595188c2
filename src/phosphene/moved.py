"""What cuts a picture into pieces and lays them anew, and what a hand needs to do the same on paper."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from phosphene.errors import UserError


class Mark(NamedTuple):
    """How a view is seen by hand on a printed picture."""

    kind: str  # what is drawn for it: see printed.MARKINGS
    how: str  # what the reader does, in whole sentences


MOST_CUT = 16
"""Pieces along a side that a hand can cut."""


class Plan(NamedTuple):
    """A picture cut into pieces that move and turn. Places are (y, x) in pixels, pixel (0, 0) being centred at (0.5, 0.5)."""

    piece: Tensor  # (size * size,) integers: whose each pixel is
    source: Tensor  # (pieces, 2) float64: the point about which a piece turns, where it was
    target: Tensor  # (pieces, 2) float64: and where that point comes to lie
    turns: Tensor  # (pieces,) counter-clockwise quarter turns


@dataclass(frozen=True)
class Moved(ABC):
    """A view that cuts the picture into pieces and lays them anew: see :meth:`plan`. Pictures must be square."""

    sign: ClassVar[int] = 1
    name: ClassVar[str]
    mark: ClassVar[Mark] = Mark("pieces", "Cut along the lines and lay the pieces anew, as their numbers in the plan say.")

    @abstractmethod
    def plan(self, size: int) -> Plan:
        """The pieces of a picture of ``size`` pixels; UserError where they do not fit it."""

    def apply(self, x: Tensor) -> Tensor:
        return self._picked(x, 0)

    def invert(self, x: Tensor) -> Tensor:
        return self._picked(x, 1)

    def _picked(self, x: Tensor, way: int) -> Tensor:
        require_square(self.name, x)
        return x.flatten(-2)[..., _sources(self, x.shape[-1], x.device)[way]].view(x.shape)

    def _cells(self, size: int, grid: int) -> tuple[Tensor, Tensor]:
        """The cell of each pixel, (size * size,), in a grid of ``grid`` by ``grid``, and the middles of the cells."""
        if size % grid:
            fit = ", ".join(f"{self.name}:{k}" for k in range(2, size // 2 + 1, 2) if size % k == 0) or "another view"
            raise UserError(f"--view {self.name}:{grid}: does not cut {size} pixels evenly; choose {fit}.")
        side, place = size // grid, torch.arange(size)
        return (place[:, None] // side * grid + place // side).flatten(), pixel_centres(grid) * side


def require_square(view: object, x: Tensor) -> None:
    """UserError where pictures ``x`` (..., H, W) are not square, as ``view`` wants them."""
    if x.shape[-1] != x.shape[-2]:
        raise UserError(f"--view {view}: needs a square picture, this one is {x.shape[-1]}x{x.shape[-2]}; crop it.")


def pixel_centres(size: int) -> Tensor:
    """(size * size, 2) float64."""
    along = torch.arange(size, dtype=torch.float64) + 0.5
    return torch.cartesian_prod(along, along)


def turned(offset: Tensor, quarters: Tensor) -> Tensor:
    """Offsets (N, 2; y and x) after counter-clockwise quarter turns (N,): exact."""
    y, x = offset.unbind(1)
    sine, cosine = (torch.tensor(v, dtype=offset.dtype)[quarters % 4] for v in ([0, 1, 0, -1], [1, 0, -1, 0]))
    return torch.stack([cosine * y - sine * x, sine * y + cosine * x], 1)


@lru_cache(maxsize=64)
def _sources(view: Moved, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each pixel of the view comes from, and where each pixel of the picture comes from in the view."""
    plan, at = view.plan(size), pixel_centres(size)
    to = plan.target[plan.piece] + turned(at - plan.source[plan.piece], plan.turns[plan.piece])
    y, x = to.floor().long().unbind(1)
    arrives = y * size + x
    return arrives.argsort().to(device), arrives.to(device)
