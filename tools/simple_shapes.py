"""Plain shapes as a hand draws them, and drawings that are put together of them: see simple_drawings.py."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageDraw

from phosphene.training.text_to_image.casting import PEN

FINE = 4
"""Drawn so many times as large, and averaged."""
PALE = 600
"""Sum of the three bytes of a colour from which on it needs an outline, to be seen on white paper."""

Point = tuple[float, float]
Colour = tuple[int, int, int]


class Part(NamedTuple):
    """A closed outline, or an open line, in the unit square, y downwards; ``fill`` is its colour in flat colours."""

    points: list[Point]
    fill: Colour
    closed: bool = True
    bold: bool = False  # a thing of its own and not a part of another's surface: outlined where there are outlines


class Hand:
    """Chance, and the shapes that a hand makes."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance

    def __call__(self, low: float, high: float) -> float:
        return self.chance.uniform(low, high)

    def often(self, share: float) -> bool:
        return self.chance.random() < share

    def colour(self, *names: str) -> Colour:
        """About one of these colours."""
        return tuple(min(max(c + self.chance.randint(-14, 14), 0), 255) for c in PAINTS[self.chance.choice(names)])

    def box(self, left: float, top: float, right: float, bottom: float, fill: Colour, bold: bool = False) -> Part:
        return Part([(left, top), (right, top), (right, bottom), (left, bottom)], fill, bold=bold)

    def shape(self, *points: Point, fill: Colour, bold: bool = False) -> Part:
        return Part(list(points), fill, bold=bold)

    def oval(self, x: float, y: float, wide: float, tall: float, fill: Colour, bold: bool = False, turn: float = 0.0) -> Part:
        """Half as ``wide`` and as ``tall`` as that, turned by so many radians."""
        steps = [2 * math.pi * k / 40 for k in range(40)]
        round_ = [(wide * math.cos(a), tall * math.sin(a)) for a in steps]
        turned = [(x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn)) for a, b in round_]
        return Part(turned, fill, bold=bold)

    def bow(self, x: float, y: float, wide: float, tall: float, begin: float, end: float, fill: Colour) -> Part:
        """An open piece of an oval, from one angle to another (degrees, clockwise from the right)."""
        angles = [math.radians(begin + (end - begin) * k / 20) for k in range(21)]
        return Part([(x + wide * math.cos(a), y + tall * math.sin(a)) for a in angles], fill, closed=False)

    def line(self, *points: Point, fill: Colour) -> Part:
        return Part(list(points), fill, closed=False)


PAINTS: dict[str, Colour] = {
    "red": (206, 62, 54), "brick": (176, 92, 68), "orange": (238, 146, 60), "yellow": (246, 206, 78), "cream": (244, 228, 190),
    "beige": (216, 192, 152), "brown": (128, 84, 54), "wood": (168, 116, 72), "green": (92, 158, 80), "dark green": (48, 108, 66),
    "blue": (70, 128, 204), "sky": (142, 196, 236), "navy": (48, 66, 118), "purple": (112, 82, 158), "pink": (238, 150, 170),
    "gray": (164, 164, 172), "stone": (196, 190, 196), "slate": (104, 112, 130), "white": (248, 248, 246), "black": (40, 38, 46),
    "skin": (244, 206, 170), "tan": (206, 160, 118),
}  # fmt: skip
INK = PAINTS["black"]
PENS = ("black", "black", "black", "black", "navy", "red", "brown", "dark green")

Drawn = Iterator[Part]


def _wobbling(points: list[Point], closed: bool, by: float, chance: random.Random) -> list[Point]:
    """``points`` joined as a hand joins them: in small steps that stray a little from straight, smoothly."""
    ends = [*points, points[0]] if closed else points
    path: list[Point] = []
    for (x, y), (u, v) in zip(ends, ends[1:], strict=False):
        steps = max(1, round(math.hypot(u - x, v - y) / 0.02))
        path += [(x + (u - x) * k / steps, y + (v - y) * k / steps) for k in range(steps)]
    path.append(ends[-1])
    waves = [(chance.uniform(2, 9), chance.uniform(0, 6.28), chance.uniform(0, 6.28)) for _ in range(4)]

    def strayed(x: float, y: float) -> Point:
        along = sum(math.sin(6.28 * pace * x + one) + math.sin(6.28 * pace * y + two) for pace, one, two in waves) / 5
        across = sum(math.cos(6.28 * pace * y + one) + math.cos(6.28 * pace * x + two) for pace, one, two in waves) / 5
        return x + by * along, y + by * across

    return [strayed(x, y) for x, y in path]


def drawn(parts: list[Part], style: str, size: int, chance: random.Random) -> Image.Image:
    """``parts`` one over the other, transparent around them: filled in FLAT, by their lines alone in PEN."""
    side = size * FINE
    image = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(image)
    mirrored, by = chance.random() < 0.5, chance.uniform(0.004, 0.012) if style == PEN else chance.choice((0.0, 0.0, 0.006))
    ink = tuple(PAINTS[chance.choice(PENS)]) if style == PEN else INK
    wide = chance.uniform(0.012, 0.03) * side
    pale = any(part.bold and sum(part.fill) > PALE for part in parts)
    outlined = style == PEN or pale or chance.random() < 0.3
    for part in parts:
        path = _wobbling(part.points, part.closed, by, chance)
        path = [((1 - x if mirrored else x) * side, y * side) for x, y in path]
        if part.closed:
            pen.polygon(path, (0, 0, 0, 0) if style == PEN else (*part.fill, 255))
        if style == PEN or not part.closed or (outlined and part.bold):
            colour = ink if style == PEN or part.closed else part.fill
            pen.line([*path, path[0]] if part.closed else path, (*colour, 255), round(wide), "curve")
            r = wide / 2
            for x, y in (path[0], path[-1]):
                pen.ellipse((x - r, y - r, x + r, y + r), (*colour, 255))
    return image.resize((size, size), Image.Resampling.BOX)
