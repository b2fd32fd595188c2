"""Creatures, plants, vehicles and signs, of plain shapes: see simple_drawings.py."""

from __future__ import annotations

import math

from simple_buildings import spire
from simple_shapes import INK, PAINTS, Drawn, Hand, Part


def tree(h: Hand) -> Drawn:
    half, foot, green = h(0.04, 0.07), h(0.92, 0.97), h.colour("green", "dark green", "green", "orange")
    yield h.box(0.5 - half, 0.5, 0.5 + half, foot, h.colour("brown", "wood"), bold=True)
    if h.often(0.5):
        yield h.oval(0.5, 0.36, h(0.26, 0.36), h(0.26, 0.32), green, bold=True)
    else:
        for x, y in ((0.34, 0.44), (0.66, 0.44), (0.5, 0.26)):
            yield h.oval(x + h(-0.03, 0.03), y, h(0.18, 0.23), h(0.17, 0.2), green, bold=True)


def pine_tree(h: Hand) -> Drawn:
    count, green, wide = h.chance.choice((1, 2, 3, 3)), h.colour("dark green", "green"), h(0.26, 0.36)
    yield h.box(0.46, 0.78, 0.54, h(0.92, 0.97), h.colour("brown", "wood"), bold=True)
    for k in reversed(range(count)):
        top, low = 0.05 + 0.2 * k, 0.84 - 0.21 * (count - 1 - k)
        half = wide * (1 - 0.22 * (count - 1 - k))
        yield h.shape((0.5 - half, low), (0.5, top), (0.5 + half, low), fill=green, bold=True)


def fish(h: Hand) -> Drawn:
    body, tall = h.colour("orange", "blue", "red", "yellow", "green", "purple"), h(0.16, 0.26)
    fin, long, x = h.colour("orange", "red", "yellow", "navy", "sky"), h(0.3, 0.36), 0.42
    back = x + long - 0.03
    yield h.shape((back, 0.5), (h(0.9, 0.97), 0.5 - h(0.14, 0.22)), (h(0.88, 0.95), 0.5 + h(0.14, 0.22)), fill=fin, bold=True)
    if h.often(0.7):
        yield h.shape(
            (x - 0.1, 0.5 - tall * 0.9),
            (x + h(0.0, 0.06), 0.5 - tall - h(0.08, 0.14)),
            (x + 0.14, 0.5 - tall * 0.85),
            fill=fin,
            bold=True,
        )
    yield h.oval(x, 0.5, long, tall, body, bold=True)
    for k in range(h.chance.choice((0, 1, 2, 3))):
        yield h.bow(x - 0.08 + 0.11 * k, 0.5, 0.05, tall * 0.7, -70, 70, h.colour("white", "navy"))
    r = h(0.025, 0.045)
    yield h.oval(x - long * 0.62, 0.5 - tall * 0.3, r, r, PAINTS["white"])
    yield h.oval(x - long * 0.62, 0.5 - tall * 0.3, r * 0.5, r * 0.5, INK)
    yield h.bow(x - long * 0.75, 0.5 + tall * 0.2, 0.08, 0.06, 20, 130, INK)


def sailboat(h: Hand) -> Drawn:
    hull, deck, foot, mast = h.colour("brown", "red", "blue", "wood", "navy"), h(0.68, 0.74), h(0.86, 0.93), h(0.44, 0.56)
    sail = h.colour("white", "cream", "yellow", "sky")
    yield h.line((mast, deck), (mast, h(0.06, 0.12)), fill=INK)
    yield h.shape((mast + 0.02, 0.12), (mast + 0.02, deck - 0.06), (h(0.82, 0.92), deck - 0.06), fill=sail, bold=True)
    if h.often(0.75):
        yield h.shape((mast - 0.02, 0.2), (mast - 0.02, deck - 0.06), (h(0.12, 0.22), deck - 0.06), fill=sail, bold=True)
    yield h.shape((h(0.05, 0.12), deck), (h(0.88, 0.95), deck), (h(0.74, 0.8), foot), (h(0.2, 0.27), foot), fill=hull, bold=True)


def car(h: Hand) -> Drawn:
    body, roof = h.colour("red", "blue", "yellow", "green", "orange"), h(0.32, 0.4)
    yield h.shape((0.24, 0.54), (0.33, roof), (0.64, roof), (0.76, 0.54), fill=body, bold=True)
    yield h.box(0.06, 0.52, 0.94, 0.72, body, bold=True)
    for left, right in ((0.31, 0.48), (0.52, 0.67)):
        yield h.shape((left, 0.52), (left + 0.05, roof + 0.04), (right - 0.02, roof + 0.04), (right, 0.52), fill=h.colour("sky"))
    for x in (0.26, 0.74):
        yield h.oval(x, 0.73, h(0.09, 0.12), 0.1, INK, bold=True)
        yield h.oval(x, 0.73, 0.045, 0.045, PAINTS["gray"])


def sun(h: Hand) -> Drawn:
    r, gold, count = h(0.2, 0.26), h.colour("yellow", "orange"), h.chance.choice((8, 10, 12))
    for k in range(count):
        a = 2 * math.pi * k / count
        yield h.line(*((0.5 + d * math.cos(a), 0.5 + d * math.sin(a)) for d in (r + 0.06, r + h(0.14, 0.2))), fill=gold)
    yield h.oval(0.5, 0.5, r, r, gold, bold=True)


def flower(h: Hand) -> Drawn:
    petal, count, y, long = (
        h.colour("red", "pink", "yellow", "purple", "white", "blue"),
        h.chance.choice((5, 6, 8)),
        0.34,
        h(0.13, 0.16),
    )
    yield h.line((0.5, y), (0.5 + h(-0.04, 0.04), 0.95), fill=PAINTS["green"])
    for side in (-1, 1):
        yield h.oval(0.5 + side * 0.11, h(0.7, 0.78), 0.11, 0.045, PAINTS["green"], bold=True, turn=-side * 0.5)
    for k in range(count):
        a = 2 * math.pi * k / count
        yield h.oval(0.5 + long * math.cos(a), y + long * math.sin(a), 0.12, 0.6 * long, petal, bold=True, turn=a)
    yield h.oval(0.5, y, 0.08, 0.08, h.colour("yellow", "orange", "brown"), bold=True)


def _features(h: Hand, x: float, y: float, r: float) -> Drawn:
    for side in (-1, 1):
        yield h.oval(x + side * r * 0.4, y - r * 0.2, r * h(0.08, 0.14), r * h(0.1, 0.16), INK)
    if h.often(0.5):
        yield h.line((x, y - r * 0.05), (x - r * 0.08, y + r * 0.2), (x + r * 0.06, y + r * 0.2), fill=INK)
    yield h.bow(x, y + r * 0.25, r * h(0.35, 0.5), r * h(0.2, 0.35), 15, 165, INK)


def face(h: Hand) -> Drawn:
    r = h(0.34, 0.4)
    yield h.oval(0.5, 0.54, r, r * h(0.95, 1.08), h.colour("skin", "yellow", "tan"), bold=True)
    for k in range(h.chance.choice((0, 5, 7, 9))):
        x = 0.5 + r * (k - 4) * 0.17
        yield h.line((x, 0.2), (x + h(-0.02, 0.02), h(0.05, 0.1)), fill=INK)
    yield from _features(h, 0.5, 0.54, r)


def person(h: Hand) -> Drawn:
    shirt, r = h.colour("red", "blue", "green", "yellow", "purple"), h(0.1, 0.13)
    for side in (-1, 1):
        yield h.line((0.5 + side * 0.03, 0.62), (0.5 + side * h(0.08, 0.16), 0.95), fill=PAINTS["navy"])
        yield h.line((0.5, 0.4), (0.5 + side * h(0.2, 0.28), h(0.3, 0.6)), fill=PAINTS["skin"])
    if h.often(0.5):
        yield h.shape((0.4, 0.34), (0.6, 0.34), (0.62, 0.64), (0.38, 0.64), fill=shirt, bold=True)
    else:
        yield h.line((0.5, 0.3), (0.5, 0.64), fill=shirt)
    yield h.oval(0.5, 0.2, r, r, h.colour("skin", "tan"), bold=True)
    yield from _features(h, 0.5, 0.2, r)


def cat(h: Hand) -> Drawn:
    fur, r = h.colour("orange", "gray", "black", "tan", "white"), h(0.3, 0.35)
    for side in (-1, 1):
        ear = (0.5 + side * r * 0.9, 0.45), (0.5 + side * r * 0.85, h(0.1, 0.16)), (0.5 + side * r * 0.25, 0.3)
        yield h.shape(*ear, fill=fur, bold=True)
    yield h.oval(0.5, 0.56, r * 1.08, r, fur, bold=True)
    light, whisker = (PAINTS["white"], PAINTS["gray"]) if sum(fur) < 300 else (INK, INK)
    for side in (-1, 1):
        yield h.oval(0.5 + side * 0.14, 0.5, 0.035, 0.05, light)
        for slant in (-0.04, 0.03):
            yield h.line((0.5 + side * 0.14, 0.64), (0.5 + side * 0.42, 0.64 + slant), fill=whisker)
    yield h.shape((0.46, 0.59), (0.54, 0.59), (0.5, 0.64), fill=PAINTS["pink"])
    yield h.bow(0.46, 0.65, 0.04, 0.04, 0, 150, light)
    yield h.bow(0.54, 0.65, 0.04, 0.04, 30, 180, light)


def bird(h: Hand) -> Drawn:
    body = h.colour("blue", "red", "yellow", "brown", "green")
    yield h.shape((0.68, 0.5), (0.95, h(0.36, 0.46)), (0.93, h(0.54, 0.62)), fill=body, bold=True)
    for x in (0.44, 0.54):
        yield h.line((x, 0.68), (x, 0.9), (x - 0.05, 0.92), fill=PAINTS["orange"])
    yield h.oval(0.5, 0.54, h(0.23, 0.27), 0.19, body, bold=True)
    yield h.shape((0.18, 0.34), (0.05, h(0.36, 0.41)), (0.18, 0.42), fill=PAINTS["orange"], bold=True)
    yield h.oval(0.29, 0.36, 0.14, 0.13, body, bold=True)
    yield h.oval(0.25, 0.33, 0.025, 0.025, INK)
    yield h.bow(0.54, 0.5, 0.14, 0.12, 10, 170, h.colour("white", "navy"))


def butterfly(h: Hand) -> Drawn:
    one, two = h.colour("purple", "orange", "blue", "pink"), h.colour("yellow", "pink", "sky", "red")
    for side in (-1, 1):
        yield h.oval(0.5 + side * 0.22, 0.36, 0.22, h(0.17, 0.2), one, bold=True, turn=-side * 0.5)
        yield h.oval(0.5 + side * 0.18, 0.66, 0.17, h(0.13, 0.16), two, bold=True, turn=side * 0.5)
        yield h.oval(0.5 + side * 0.24, 0.36, 0.07, 0.06, two)
        yield h.line((0.5, 0.26), (0.5 + side * 0.12, 0.1), fill=INK)
    yield h.oval(0.5, 0.5, 0.045, 0.26, INK, bold=True)


def snowman(h: Hand) -> Drawn:
    snow = PAINTS["white"]
    for y, r in ((0.74, h(0.21, 0.24)), (0.45, 0.16), (0.24, 0.12)):
        yield h.oval(0.5, y, r, r * 0.96, snow, bold=True)
    if h.often(0.7):
        yield h.box(0.42, 0.02, 0.58, 0.13, INK, bold=True)
        yield h.line((0.36, 0.14), (0.64, 0.14), fill=INK)
    for x in (0.46, 0.54):
        yield h.oval(x, 0.21, 0.015, 0.015, INK)
    yield h.shape((0.5, 0.24), (0.62, 0.27), (0.5, 0.28), fill=PAINTS["orange"])
    for side in (-1, 1):
        yield h.line((0.5 + side * 0.14, 0.44), (0.5 + side * 0.34, h(0.3, 0.4)), fill=PAINTS["brown"])
    for y in (0.4, 0.48):
        yield h.oval(0.5, y, 0.015, 0.015, INK)


def rocket(h: Hand) -> Drawn:
    body, fin = h.colour("white", "gray", "sky", "cream"), h.colour("red", "blue", "orange")
    half, low = h(0.11, 0.15), h(0.7, 0.76)
    for side in (-1, 1):
        yield h.shape(
            (0.5 + side * half, low - 0.18),
            (0.5 + side * (half + 0.14), low + 0.08),
            (0.5 + side * half, low),
            fill=fin,
            bold=True,
        )
    yield h.shape((0.5 - 0.08, low), (0.5, h(0.9, 0.97)), (0.5 + 0.08, low), fill=h.colour("orange", "yellow"), bold=True)
    yield h.box(0.5 - half, 0.3, 0.5 + half, low, body, bold=True)
    yield from spire(h, 0.5 - half, 0.5 + half, 0.3, h(0.2, 0.26), fin)
    yield h.oval(0.5, 0.42, 0.06, 0.06, h.colour("sky", "navy"), bold=True)


def apple(h: Hand) -> Drawn:
    red = h.colour("red", "red", "green", "yellow")
    yield h.line((0.5, 0.3), (h(0.5, 0.56), 0.1), fill=PAINTS["brown"])
    yield h.oval(0.62, 0.17, 0.1, 0.045, PAINTS["green"], bold=True, turn=-0.4)
    round_ = []
    for k in range(48):
        a = 2 * math.pi * k / 48
        r = 0.32 * (
            1 - 0.22 * math.exp(-(((a - 1.5 * math.pi) / 0.35) ** 2)) - 0.1 * math.exp(-(((a - 0.5 * math.pi) / 0.3) ** 2))
        )
        round_.append((0.5 + r * 1.08 * math.cos(a), 0.58 + r * math.sin(a)))
    yield Part(round_, red, bold=True)


def mushroom(h: Hand) -> Drawn:
    yield h.shape((0.4, 0.5), (0.6, 0.5), (0.64, h(0.86, 0.93)), (0.36, 0.9), fill=h.colour("cream", "white"), bold=True)
    cap = [
        (0.5 + 0.38 * math.cos(math.pi + math.pi * k / 20), 0.54 + 0.4 * math.sin(math.pi + math.pi * k / 20)) for k in range(21)
    ]
    yield Part(cap, h.colour("red", "brown", "orange"), bold=True)
    for x, y in ((0.36, 0.4), (0.52, 0.28), (0.66, 0.42)):
        yield h.oval(x, y, h(0.03, 0.06), h(0.03, 0.05), PAINTS["white"])


def balloon(h: Hand) -> Drawn:
    yield h.line((0.5, 0.66), (h(0.46, 0.5), 0.8), (h(0.5, 0.54), 0.96), fill=INK)
    yield h.oval(0.5, 0.35, h(0.22, 0.27), 0.3, h.colour("red", "blue", "yellow", "green", "pink"), bold=True)
    yield h.shape((0.5, 0.63), (0.46, 0.7), (0.54, 0.7), fill=PAINTS["red"], bold=True)


def hot_air_balloon(h: Hand) -> Drawn:
    one, two = h.colour("red", "blue", "purple", "orange"), h.colour("yellow", "white", "sky")
    for side in (-1, 1):
        yield h.line((0.5 + side * 0.2, 0.55), (0.5 + side * 0.08, 0.8), fill=INK)
    yield h.oval(0.5, 0.34, 0.3, h(0.29, 0.32), one, bold=True)
    yield h.oval(0.5, 0.34, h(0.12, 0.16), 0.3, two)
    yield h.box(0.41, 0.8, 0.59, h(0.92, 0.96), h.colour("brown", "wood"), bold=True)


def mountains(h: Hand) -> Drawn:
    rock, low = h.colour("gray", "slate", "purple", "brown"), 0.9
    for x, top, half in ((h(0.68, 0.76), h(0.34, 0.44), 0.26), (h(0.3, 0.42), h(0.12, 0.2), 0.34)):
        yield h.shape((x - half, low), (x, top), (x + half, low), fill=rock, bold=True)
        share = h(0.25, 0.35)
        y, side = top + (low - top) * share, half * share
        yield h.shape(
            (x - side, y),
            (x, top),
            (x + side, y),
            (x + side / 2, y - 0.03),
            (x, y + 0.03),
            (x - side / 2, y - 0.03),
            fill=PAINTS["white"],
            bold=True,
        )


def heart(h: Hand) -> Drawn:
    angles = (2 * math.pi * k / 48 for k in range(48))
    curve = [
        (16 * math.sin(a) ** 3, 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)) for a in angles
    ]
    wide = h(0.022, 0.026)
    yield Part([(0.5 + x * wide, 0.47 - y * 0.025) for x, y in curve], h.colour("red", "pink"), bold=True)


def star(h: Hand) -> Drawn:
    turn, inner = h(-0.2, 0.2), h(0.17, 0.2)
    corners = [(0.43 if k % 2 == 0 else inner, turn - math.pi / 2 + math.pi * k / 5) for k in range(10)]
    yield Part([(0.5 + r * math.cos(a), 0.52 + r * math.sin(a)) for r, a in corners], h.colour("yellow", "orange"), bold=True)


def train(h: Hand) -> Drawn:
    body, cab = h.colour("red", "blue", "green", "black"), h(0.2, 0.28)
    yield h.box(0.66, cab, 0.92, 0.72, body, bold=True)
    yield h.box(0.71, cab + 0.07, 0.87, cab + 0.2, h.colour("sky", "yellow"))
    yield h.box(0.14, 0.42, 0.68, 0.7, body, bold=True)
    yield h.shape((0.22, 0.42), (0.2, 0.22), (0.36, 0.22), (0.34, 0.42), fill=h.colour("slate", "yellow"), bold=True)
    yield h.shape((0.14, 0.62), (0.02, 0.78), (0.16, 0.78), fill=PAINTS["gray"], bold=True)
    for x, r in ((0.26, 0.09), (0.48, 0.09), (0.78, 0.12)):
        yield h.oval(x, 0.8, r, r, h.colour("slate", "black"), bold=True)
        yield h.oval(x, 0.8, r * 0.4, r * 0.4, PAINTS["gray"])


def cloud(h: Hand) -> Drawn:
    white, y = h.colour("white", "white", "sky", "gray"), h(0.56, 0.62)
    puffs = [(0.5 + h(-0.06, 0.06), y - h(0.1, 0.16), h(0.18, 0.24))]
    puffs += [(0.5 + side * h(0.2, 0.26), y, h(0.13, 0.18)) for side in (-1, 1)]
    for x, top, r in puffs:
        yield h.oval(x, top, r, r * h(0.7, 0.9), white, bold=True)
    yield h.oval(0.5, y + 0.08, h(0.34, 0.42), h(0.08, 0.12), white, bold=True)


CREATURES = (fish, face, person, cat, bird, butterfly, snowman)
OTHERS = (tree, pine_tree, sun, cloud, flower, apple, mushroom, mountains, heart, star)
VEHICLES = (sailboat, car, rocket, balloon, hot_air_balloon, train)
ALL = (*CREATURES, *OTHERS, *VEHICLES)
