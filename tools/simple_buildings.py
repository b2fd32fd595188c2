"""Buildings and things of people's making that stand, of plain shapes: see simple_drawings.py."""

from __future__ import annotations

import math

from simple_shapes import INK, PAINTS, PALE, Colour, Drawn, Hand, Part, Point


def _windows(h: Hand, x: float, y: float, half: float, crossed: bool) -> Drawn:
    pane = h.colour("sky", "slate", "yellow", "navy")
    yield h.box(x - half, y - half, x + half, y + half, pane)
    if crossed:
        yield h.line((x, y - half), (x, y + half), fill=INK)
        yield h.line((x - half, y), (x + half, y), fill=INK)


def house(h: Hand) -> Drawn:
    left, right, eaves, foot = h(0.1, 0.24), h(0.76, 0.9), h(0.4, 0.52), h(0.84, 0.95)
    roof, wall = h.colour("red", "brick", "brown", "slate", "navy"), h.colour("cream", "beige", "yellow", "white", "pink", "sky")
    over, ridge = h(0.0, 0.08), h(0.1, 0.24)
    if h.often(0.6):
        x = h.chance.choice((h(0.28, 0.36), h(0.64, 0.7)))
        yield h.box(x, ridge + 0.02, x + h(0.07, 0.12), eaves - 0.04, h.colour("brick", "gray"), bold=True)
    yield h.box(left, eaves, right, foot, wall, bold=True)
    flat = h(0.1, 0.3) if h.often(0.25) else 0.0
    yield h.shape((left - over, eaves), (0.5 - flat, ridge), (0.5 + flat, ridge), (right + over, eaves), fill=roof, bold=True)
    door, wide, crossed = h.chance.choice((0.5, 0.5, 0.36, 0.64)), h(0.06, 0.09), h.often(0.5)
    yield h.box(door - wide, h(0.6, 0.68), door + wide, foot, h.colour("brown", "wood", "red", "green"))
    for x in (left + 0.13, right - 0.13):
        if abs(x - door) > wide + 0.08:
            yield from _windows(h, x, eaves + h(0.1, 0.14), h(0.05, 0.07), crossed)


def _battlements(h: Hand, left: float, right: float, top: float, fill: Colour) -> Drawn:
    count = h.chance.choice((3, 4, 5))
    step = (right - left) / (2 * count - 1)
    outline = [(left, top + 0.05)]
    for k in range(count):
        x = left + 2 * k * step
        outline += [(x, top), (x + step, top)]
        if k < count - 1:
            outline += [(x + step, top + 0.05), (x + 2 * step, top + 0.05)]
    yield Part([*outline, (right, top + 0.05)], fill, bold=True)


def spire(h: Hand, left: float, right: float, top: float, high: float, fill: Colour) -> Drawn:
    over = h(0.0, 0.03)
    yield h.shape((left - over, top), ((left + right) / 2, top - high), (right + over, top), fill=fill, bold=True)


def tower(h: Hand) -> Drawn:
    half, top, foot = h(0.1, 0.17), h(0.2, 0.32), h(0.9, 0.97)
    wall, roof = h.colour("stone", "beige", "gray", "brick", "cream"), h.colour("red", "brown", "purple", "navy", "slate")
    yield h.box(0.5 - half, top, 0.5 + half, foot, wall, bold=True)
    if h.often(0.65):
        yield from spire(h, 0.5 - half, 0.5 + half, top, h(0.13, 0.2), roof)
    else:
        yield from _battlements(h, 0.5 - half - 0.02, 0.5 + half + 0.02, top - 0.06, wall)
    for k in range(h.chance.choice((2, 3))):
        y = top + 0.12 + 0.16 * k
        yield h.box(0.47, y, 0.53, y + 0.07, h.colour("slate", "navy", "black"))
    yield h.box(0.45, foot - 0.13, 0.55, foot, h.colour("brown", "black"))


def clock_tower(h: Hand) -> Drawn:
    half, top, foot, head = h(0.1, 0.15), h(0.24, 0.3), h(0.9, 0.97), h(0.2, 0.26)
    wall, roof = h.colour("beige", "cream", "brick", "stone"), h.colour("red", "brown", "green", "slate", "navy")
    over = h(0.01, 0.04)
    yield h.box(0.5 - half, top + head, 0.5 + half, foot, wall, bold=True)
    yield h.box(0.5 - half - over, top, 0.5 + half + over, top + head, h.colour("cream", "beige", "white"), bold=True)
    yield from spire(h, 0.5 - half - over, 0.5 + half + over, top, h(0.14, 0.22), roof)
    y, r = top + head / 2, min(half, head / 2) * h(0.7, 0.85)
    yield h.oval(0.5, y, r, r, PAINTS["white"], bold=True)
    a, b = h(0, 6.28), h(0, 6.28)
    yield h.line((0.5, y), (0.5 + 0.75 * r * math.cos(a), y + 0.75 * r * math.sin(a)), fill=INK)
    yield h.line((0.5, y), (0.5 + 0.5 * r * math.cos(b), y + 0.5 * r * math.sin(b)), fill=INK)
    for k in range(h.chance.choice((1, 2, 3))):
        yield h.box(0.47, top + head + 0.06 + 0.13 * k, 0.53, top + head + 0.13 + 0.13 * k, h.colour("slate", "navy"))
    yield h.box(0.45, foot - 0.1, 0.55, foot, h.colour("brown", "black"))


def lighthouse(h: Hand) -> Drawn:
    low, high, top, foot = h(0.14, 0.2), h(0.08, 0.12), h(0.26, 0.32), h(0.88, 0.95)
    count, red, white = h.chance.choice((3, 4, 5)), h.colour("red", "red", "navy", "orange"), PAINTS["white"]

    def half(y: float) -> float:
        return high + (low - high) * (y - top) / (foot - top)

    for k in range(count):
        a, b = top + (foot - top) * k / count, top + (foot - top) * (k + 1) / count
        sides = (0.5 - half(a), a), (0.5 + half(a), a), (0.5 + half(b), b), (0.5 - half(b), b)
        yield h.shape(*sides, fill=(red, white)[k % 2], bold=True)
    yield h.box(0.5 - high - 0.03, top - 0.02, 0.5 + high + 0.03, top + 0.01, INK, bold=True)
    yield h.box(0.5 - high * 0.7, top - 0.12, 0.5 + high * 0.7, top - 0.02, h.colour("yellow", "cream"), bold=True)
    yield from spire(h, 0.5 - high * 0.8, 0.5 + high * 0.8, top - 0.12, h(0.06, 0.1), red)
    if h.often(0.4):
        for side in (-1, 1):
            for slant in (-0.05, 0.05):
                x = 0.5 + side * (high + 0.05)
                yield h.line((x, top - 0.07), (x + side * 0.14, top - 0.07 + slant), fill=PAINTS["yellow"])


def castle(h: Hand) -> Drawn:
    foot, wall_top = h(0.86, 0.95), h(0.5, 0.6)
    stone, roof = h.colour("stone", "gray", "beige", "cream", "pink"), h.colour("purple", "red", "navy", "blue", "slate")
    side, half = h(0.16, 0.22), h(0.08, 0.11)
    spires = h.often(0.7)
    yield h.box(side, wall_top + 0.04, 1 - side, foot, stone, bold=True)
    yield from _battlements(h, side, 1 - side, wall_top, stone)
    middle = [(0.5, h(0.3, 0.4), half * h(1.0, 1.3))] if h.often(0.75) else []
    for x, top, wide in [*middle, (side, h(0.38, 0.48), half), (1 - side, h(0.38, 0.48), half)]:
        yield h.box(x - wide, top, x + wide, foot, stone, bold=True)
        if spires:
            yield from spire(h, x - wide, x + wide, top, h(0.14, 0.22), roof)
        else:
            yield from _battlements(h, x - wide - 0.01, x + wide + 0.01, top - 0.05, stone)
        yield h.box(x - 0.02, top + 0.06, x + 0.02, top + 0.13, h.colour("black", "navy", "slate"))
    wide, rise = h(0.07, 0.1), h(0.12, 0.16)
    arch = [(0.5 + wide * math.cos(math.pi * k / 12), foot - rise - wide * math.sin(math.pi * k / 12)) for k in range(13)]
    yield Part([*arch, (0.5 - wide, foot), (0.5 + wide, foot)], h.colour("brown", "black", "purple"))


def church(h: Hand) -> Drawn:
    wall, roof = h.colour("cream", "white", "stone", "brick"), h.colour("red", "brown", "slate", "navy")
    foot, left, tower_half, top = h(0.86, 0.95), h(0.2, 0.28), h(0.09, 0.12), h(0.3, 0.38)
    yield h.box(left, 0.58, 0.92, foot, wall, bold=True)
    yield h.shape((left, 0.58), (left + 0.08, 0.42), (0.84, 0.42), (0.94, 0.58), fill=roof, bold=True)
    yield h.box(left - tower_half, top, left + tower_half, foot, wall, bold=True)
    yield from spire(h, left - tower_half, left + tower_half, top, h(0.14, 0.2), roof)
    tip = top - 0.16
    yield h.line((left, tip), (left, tip - 0.1), fill=INK)
    yield h.line((left - 0.04, tip - 0.06), (left + 0.04, tip - 0.06), fill=INK)
    for x in (0.5, 0.64, 0.78):
        yield h.oval(x, 0.7, 0.035, 0.06, h.colour("navy", "sky", "slate"))
    yield h.box(left - 0.05, foot - 0.14, left + 0.05, foot, h.colour("brown", "wood"))


def windmill(h: Hand) -> Drawn:
    wall, foot, top = h.colour("cream", "white", "beige", "brick", "gray"), h(0.9, 0.96), h(0.38, 0.44)
    yield h.shape((0.4, top), (0.6, top), (0.68, foot), (0.32, foot), fill=wall, bold=True)
    yield from spire(h, 0.39, 0.61, top, h(0.1, 0.14), h.colour("red", "brown", "slate"))
    yield h.box(0.45, foot - 0.14, 0.55, foot, h.colour("brown", "wood"))
    turn, x, y, long = h(0.2, 1.3), 0.5, top - 0.02, h(0.3, 0.36)
    sail = h.colour("white", "wood", "sky", "cream")
    for k in range(4):
        a = turn + k * math.pi / 2
        c, s, wide = math.cos(a), math.sin(a), 0.07
        near, far = (x + 0.08 * c, y + 0.08 * s), (x + long * c, y + long * s)
        yield h.shape(
            near, far, (far[0] - wide * s, far[1] + wide * c), (near[0] - wide * s, near[1] + wide * c), fill=sail, bold=True
        )
        yield h.line((x, y), far, fill=INK)


def cup(h: Hand) -> Drawn:
    body = h.colour("white", "red", "blue", "yellow", "pink")
    handle = INK if sum(body) > PALE else body  # a line has no outline
    yield h.bow(0.7, 0.5, h(0.14, 0.18), 0.15, -90, 90, handle)
    yield h.shape((0.2, 0.3), (0.72, 0.3), (h(0.62, 0.7), 0.78), (h(0.22, 0.3), 0.78), fill=body, bold=True)
    yield h.oval(0.46, 0.3, 0.26, 0.06, h.colour("brown", "white"), bold=True)
    for x in (0.38, 0.54) if h.often(0.5) else ():
        yield h.line((x, 0.2), (x + 0.03, 0.14), (x - 0.02, 0.07), fill=PAINTS["gray"])


def umbrella(h: Hand) -> Drawn:
    cloth = h.colour("red", "purple", "blue", "yellow", "green")
    yield h.line((0.5, 0.1), (0.5, 0.86), fill=INK)
    yield h.bow(0.43, 0.86, 0.07, 0.07, 0, 180, INK)
    dome = [
        (0.5 + 0.42 * math.cos(math.pi + math.pi * k / 20), 0.5 + 0.36 * math.sin(math.pi + math.pi * k / 20)) for k in range(21)
    ]
    hem = [(0.5 + 0.42 - 0.84 * k / 8, 0.5 - (0.05 if k % 2 else 0.0)) for k in range(1, 8)]
    yield Part([*dome, *hem], cloth, bold=True)


def bridge(h: Hand) -> Drawn:
    deck, y, stone = h(0.5, 0.56), 0.9, h.colour("stone", "gray", "brick", "brown")
    outline: list[Point] = [(0.05, deck), (0.95, deck), (0.95, y)]
    count = h.chance.choice((1, 2, 3))
    wide = 0.9 / count
    for k in reversed(range(count)):
        x, half = 0.05 + wide * (k + 0.5), wide * 0.38
        outline += [
            (x + half * math.cos(math.pi * j / 14), y - (y - deck) * 0.72 * math.sin(math.pi * j / 14)) for j in range(15)
        ]
    yield Part([*outline, (0.05, y)], stone, bold=True)
    yield h.line((0.05, deck - 0.1), (0.95, deck - 0.1), fill=stone)
    for k in range(9):
        yield h.line((0.06 + 0.11 * k, deck), (0.06 + 0.11 * k, deck - 0.1), fill=stone)


def table(h: Hand) -> Drawn:
    wood, top = h.colour("wood", "brown", "tan"), h(0.36, 0.44)
    for x in (0.16, 0.76):
        yield h.box(x, top + 0.08, x + h(0.06, 0.09), h(0.86, 0.92), wood, bold=True)
    yield h.box(0.06, top, 0.94, top + 0.09, wood, bold=True)


def chair(h: Hand) -> Drawn:
    wood, seat = h.colour("wood", "brown", "red", "blue"), h(0.52, 0.58)
    for x in (0.28, 0.66):
        yield h.box(x, seat, x + 0.06, 0.94, wood, bold=True)
    yield h.box(0.28, h(0.06, 0.12), 0.35, seat, wood, bold=True)
    yield h.box(0.28, seat, 0.74, seat + 0.08, wood, bold=True)
    for y in (0.2, 0.34):
        yield h.box(0.28, y, h(0.36, 0.42), y + 0.05, wood)


def vase(h: Hand) -> Drawn:
    body, belly = h.colour("blue", "orange", "red", "white", "green"), h(0.2, 0.28)
    right = [(0.5 + x, y) for x, y in ((0.12, 0.1), (0.08, 0.24), (belly, 0.5), (belly * 0.9, 0.7), (0.12, 0.92))]
    yield Part([*right, *((1 - x, y) for x, y in reversed(right))], body, bold=True)
    for y in (0.48, 0.58):
        yield h.line((0.5 - belly * 0.95, y), (0.5 + belly * 0.95, y), fill=h.colour("white", "navy", "yellow"))


def book(h: Hand) -> Drawn:
    cover, top = h.colour("red", "blue", "green", "brown"), h(0.24, 0.3)
    for side in (-1, 1):
        yield h.shape((0.5, top + 0.06), (0.5 + side * 0.42, top), (0.5 + side * 0.42, 0.74), (0.5, 0.82), fill=cover, bold=True)
        yield h.shape(
            (0.5, top + 0.04),
            (0.5 + side * 0.38, top - 0.02),
            (0.5 + side * 0.38, 0.7),
            (0.5, 0.77),
            fill=PAINTS["white"],
            bold=True,
        )
        for k in range(4):
            y = top + 0.12 + 0.11 * k
            yield h.line((0.5 + side * 0.07, y), (0.5 + side * 0.32, y - 0.04), fill=PAINTS["gray"])


ALL = (house, tower, clock_tower, lighthouse, castle, church, windmill, bridge, table, chair, vase, cup, book, umbrella)
