"""Views that cut a picture into pieces: which pieces, and where each of them is laid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from phosphene.errors import UserError
from phosphene.frequency import REFERENCE_SIZE
from phosphene.moved import MOST_CUT, Mark, Moved, Plan, pixel_centres


@dataclass(frozen=True)
class Patches(Moved):
    """``grid`` by ``grid`` squares, laid in an order drawn from ``seed``; with ``grid`` None single pixels, 64 a side at most."""

    grid: int | None = 4
    seed: int = 0

    @property
    def name(self) -> str:
        return "pixels" if self.grid is None else "patches"

    @property
    def mark(self) -> Mark:
        if (self.grid or REFERENCE_SIZE) <= MOST_CUT:
            return Moved.mark
        return Mark("beside", "Its pieces are too small to cut; the small picture shows what they make.")

    def plan(self, size: int) -> Plan:
        # Of a large picture blocks move, as many as a small one has pixels: the same view in both stages of a cascade.
        grid = self.grid or (REFERENCE_SIZE if size % REFERENCE_SIZE == 0 else size)
        cell, middles = self._cells(size, grid)
        order = torch.randperm(grid * grid, generator=torch.Generator().manual_seed(self.seed))
        return Plan(cell, middles, middles[order], torch.zeros(grid * grid, dtype=torch.long))


@dataclass(frozen=True)
class Skew(Moved):
    """Columns slide down, each by its distance from the middle, and come in again on the other side."""

    name: ClassVar[str] = "skew"
    mark: ClassVar[Mark] = Mark(
        "strips",
        "Cut along the lines, and slide each strip down by the millimetres above it, or up where there is a minus. What leaves "
        "the picture on one side is cut off and laid on the other.",
    )

    def plan(self, size: int) -> Plan:
        at = pixel_centres(size)
        target = at.clone()
        target[:, 0] = (at[:, 0] + (at[:, 1].floor() - size // 2)) % size
        return Plan(torch.arange(size * size), at, target, torch.zeros(size * size, dtype=torch.long))


@dataclass(frozen=True)
class InnerCircle(Moved):
    """A disc of 0.8 the picture's width turns upside down; around it nothing moves."""

    name: ClassVar[str] = "inner-circle"
    mark: ClassVar[Mark] = Mark("pieces", "Cut out the circle, and turn it upside down in its place.")

    def plan(self, size: int) -> Plan:
        away = (pixel_centres(size) - size / 2).square().sum(1)
        middle = torch.full((2, 2), size / 2, dtype=torch.float64)
        return Plan((away < (0.4 * size) ** 2).long(), middle, middle, torch.tensor([0, 2]))


@dataclass(frozen=True)
class SquareHinge(Moved):
    """``grid`` by ``grid`` squares, as if hinged at their corners: neighbours turn a quarter, one left and one right."""

    grid: int = 4
    name: ClassVar[str] = "square-hinge"
    mark: ClassVar[Mark] = Mark("pieces", "Cut along the lines, and turn each square a quarter: neighbours opposite ways.")

    def plan(self, size: int) -> Plan:
        cell, middles = self._cells(size, self.grid)
        row, column = torch.arange(self.grid)[:, None], torch.arange(self.grid)
        return Plan(cell, middles, middles, torch.where((row + column) % 2 == 0, 1, 3).flatten())


@dataclass(frozen=True)
class Jigsaw(Moved):
    """A puzzle of ``grid`` by ``grid`` pieces (an even number), each laid in another place that it fits, drawn from ``seed``.

    Pieces of even row plus column have knobs left and right and hollows above and below; the others the reverse. So an
    inner piece fits each inner place, a corner each corner, and an edge every second place along the edges, turned.
    """

    grid: int = 4
    seed: int = 0
    name: ClassVar[str] = "jigsaw"

    KNOB: ClassVar[float] = 0.19  # radius of the circle of a knob, in sides of a cell
    REACH: ClassVar[float] = 0.13  # of its centre beyond the edge

    def __post_init__(self) -> None:
        if self.grid < 2 or self.grid % 2:
            raise UserError(f"--view jigsaw:{self.grid}: must be an even number, such as jigsaw:4.")

    def plan(self, size: int) -> Plan:
        n = self.grid
        piece, middles = self._cells(size, n)
        side = size / n
        y, x = ((pixel_centres(size) - middles[piece]) / side).unbind(1)  # within the cell, -0.5..0.5
        row, column = piece // n, piece % n
        odd = (row + column) % 2 == 1
        deep = 0.5 - self.REACH

        def bitten(across: Tensor, along: Tensor) -> Tensor:
            """Where the knob of the neighbour towards positive ``across`` comes in."""
            return (across - deep).square() + along.square() < self.KNOB**2

        cut = piece.clone()
        for inside, knob, step in (
            (column < n - 1, odd & bitten(x, y), 1),
            (column > 0, odd & bitten(-x, y), -1),
            (row < n - 1, ~odd & bitten(y, x), n),
            (row > 0, ~odd & bitten(-y, x), -n),
        ):
            cut = torch.where(inside & knob, piece + step, cut)
        target, turns = self._laid()
        return Plan(cut, middles, middles[target], turns)

    def _laid(self) -> tuple[Tensor, Tensor]:
        """The place of each piece, and its quarter turns on the way."""
        n, generator = self.grid, torch.Generator().manual_seed(self.seed)
        alike: dict[tuple, list[tuple[int, int]]] = {}  # pieces of one shape: their numbers and how far each is turned
        for number in range(n * n):
            row, column = divmod(number, n)
            # Counter-clockwise from the top: 0 for a border of the puzzle, 1 for a hollow, 2 for a knob.
            straight = enumerate((row == 0, column == 0, row == n - 1, column == n - 1))
            sides = [0 if at else 1 + (row + column + k) % 2 for k, at in straight]
            ways = [(*sides[k:], *sides[:k]) for k in range(4)]
            alike.setdefault(min(ways), []).append((number, ways.index(min(ways))))
        target, turns = torch.empty(n * n, dtype=torch.long), torch.empty(n * n, dtype=torch.long)
        sizes = [len(pieces) for pieces in alike.values()]
        drawn = [(torch.randperm(k, generator=generator), torch.randint(2, (k,), generator=generator)) for k in sizes]
        for (shape, pieces), (order, halves) in zip(alike.items(), drawn, strict=True):
            # Only what leaves a piece in its place is drawn again, after all the rest, so that other seeds mean what they did.
            while bool((order == torch.arange(len(pieces))).any()):
                order = torch.randperm(len(pieces), generator=generator)
            halves = halves * (0 not in shape)  # an inner piece alone fits either way round
            for (number, turn), k, half in zip(pieces, order.tolist(), halves.tolist(), strict=True):
                place, wanted = pieces[k]
                target[number] = place
                turns[number] = (wanted - turn + 2 * half) % 4
        return target, turns


@dataclass(frozen=True)
class Rubik(Moved):
    """``grid`` by ``grid`` squares, of which rows and columns slide in a circle, by turns: four slides, drawn from ``seed``.

    What pixels are left over when the picture is cut into so many squares stays as a border.
    """

    grid: int = 3
    seed: int = 0
    name: ClassVar[str] = "rubik"

    @property
    def mark(self) -> Mark:
        if self.grid > MOST_CUT:
            return Mark("beside", "Its squares are too small to cut; the small picture shows what they make.")
        ways = (("to the left", "to the right"), ("up", "down"))
        moves = [f"{('row', 'column')[way]} {line + 1} {ways[way][by > 0]}" for way, line, by in self.slides()]
        how = "Cut along the lines, and slide by a square, so that what leaves on one side comes in on the other"
        return Mark("pieces", f"{how}: {', '.join(moves)}.")

    def slides(self) -> list[tuple[int, int, int]]:
        """In order: 0 for a row or 1 for a column, which of them, and 1 for right and down or -1 for left and up."""
        generator = torch.Generator().manual_seed(self.seed)
        lines = torch.stack([torch.randperm(self.grid, generator=generator)[:2] for _ in range(2)])
        by = torch.randint(2, (2, 2), generator=generator) * 2 - 1
        return [(way, int(lines[way, k]), int(by[way, k])) for k in range(2) for way in range(2)]

    def cut(self, size: int) -> tuple[int, int]:
        """Where the squares begin, and how wide they are: in a large picture where they are in a small one."""
        scale, small = (size // REFERENCE_SIZE, REFERENCE_SIZE) if size % REFERENCE_SIZE == 0 else (1, size)
        if small < self.grid:
            raise UserError(f"--view rubik:{self.grid}: does not cut {size} pixels; choose rubik:{max(size // 2, 2)} or fewer.")
        return small % self.grid // 2 * scale, small // self.grid * scale

    def plan(self, size: int) -> Plan:
        (begin, side), n = self.cut(size), self.grid
        at = (torch.arange(size) - begin).div(side, rounding_mode="floor")
        inside = (at >= 0) & (at < n)
        piece = torch.where(inside[:, None] & inside, at[:, None] * n + at, n * n).flatten()  # the border is one more
        middles = torch.cat([begin + pixel_centres(n) * side, torch.zeros(1, 2, dtype=torch.float64)])
        order = torch.arange(n * n).view(n, n)
        for way, line, by in self.slides():
            own = (line,) if way == 0 else (slice(None), line)
            order[own] = order[own].roll(by)
        target = middles.clone()
        target[order.flatten()] = middles[:-1]
        return Plan(piece, middles, target, torch.zeros(n * n + 1, dtype=torch.long))
