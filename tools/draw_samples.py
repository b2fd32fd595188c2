"""Draw the sample pictures and masks of src/phosphene/assets/images: python tools/draw_samples.py

Ours, from scratch, of a few shapes each, 256x256, so that every command has something to work on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

OUT = Path(__file__).parent.parent / "src" / "phosphene" / "assets" / "images"
SIZE, FINE = 256, 4
INK = (40, 38, 46)


def at(*points: float) -> list[float]:
    return [p * FINE for p in points]


def sky(top: tuple[int, int, int], bottom: tuple[int, int, int]) -> Image.Image:
    column = Image.new("RGB", (1, SIZE))
    for y in range(SIZE):
        share = y / (SIZE - 1)
        column.putpixel((0, y), tuple(round(a + (b - a) * share) for a, b in zip(top, bottom, strict=True)))
    return column.resize((SIZE * FINE, SIZE * FINE))


def clock_tower() -> Image.Image:
    """A slender tower with a clock, a roof and a flag, over trees."""
    image = sky((98, 160, 222), (226, 238, 246))
    pen = ImageDraw.Draw(image)
    for x, y, r in ((40, 60, 16), (58, 54, 20), (80, 62, 15), (196, 90, 13), (212, 86, 16)):
        pen.ellipse(at(x - r, y - r * 0.7, x + r, y + r * 0.7), (248, 250, 252))
    for x in range(-10, 270, 22):
        r = 24 + 6 * math.sin(x)
        pen.ellipse(at(x - r, 214 - r, x + r, 214 + r), (64, 128 + int(10 * math.cos(x)), 72))
    pen.rectangle(at(0, 222, 256, 256), (120, 170, 88))
    pen.rectangle(at(104, 96, 152, 232), (214, 190, 150))
    pen.rectangle(at(140, 96, 152, 232), (190, 164, 124))
    pen.rectangle(at(98, 84, 158, 98), (236, 218, 184))
    pen.rectangle(at(104, 46, 152, 84), (226, 204, 166))
    pen.polygon(at(98, 46, 158, 46, 128, 8), (176, 66, 52))
    pen.polygon(at(128, 8, 158, 46, 140, 46), (150, 52, 42))
    pen.ellipse(at(112, 49, 144, 81), (250, 248, 240), INK, 2 * FINE)
    pen.line(at(128, 65, 128, 54), INK, 2 * FINE)
    pen.line(at(128, 65, 137, 69), INK, 2 * FINE)
    for y in (114, 146, 178):
        pen.rounded_rectangle(at(122, y, 134, y + 18), 5 * FINE, (92, 108, 132))
    pen.rounded_rectangle(at(118, 206, 138, 240), 8 * FINE, (96, 64, 44))
    pen.line(at(128, 10, 128, 0), INK, FINE)
    return image


def castle_hill() -> Image.Image:
    """A castle of three towers on a green hill, the sun behind."""
    image = sky((250, 196, 132), (254, 236, 206))
    pen = ImageDraw.Draw(image)
    pen.ellipse(at(166, 36, 214, 84), (255, 244, 180))
    pen.ellipse(at(-90, 176, 190, 420), (92, 142, 84))
    pen.ellipse(at(60, 156, 340, 420), (118, 170, 92))
    stone, shade, roof = (196, 192, 200), (164, 160, 172), (92, 72, 140)
    pen.rectangle(at(92, 120, 180, 178), stone)
    for x in range(92, 180, 16):
        pen.rectangle(at(x, 112, x + 8, 122), stone)
    for x, top, width in ((80, 92, 24), (168, 92, 24), (122, 66, 28)):
        pen.rectangle(at(x, top, x + width, 180), stone)
        pen.rectangle(at(x + width * 0.66, top, x + width, 180), shade)
        pen.polygon(at(x - 4, top, x + width + 4, top, x + width / 2, top - 38), roof)
        pen.rounded_rectangle(at(x + width / 2 - 4, top + 14, x + width / 2 + 4, top + 30), 4 * FINE, INK)
    pen.pieslice(at(122, 140, 150, 196), 180, 360, (88, 58, 40))
    pen.polygon(at(128, 168, 144, 168, 170, 256, 104, 256), (226, 204, 158))
    for x, y in ((26, 206), (52, 220), (214, 190), (236, 206)):
        pen.polygon(at(x - 12, y, x + 12, y, x, y - 36), (46, 104, 70))
        pen.rectangle(at(x - 2, y, x + 2, y + 8), (104, 72, 48))
    return image


def lighthouse() -> Image.Image:
    """A striped lighthouse on a rock, the sea before it and a boat."""
    image = sky((120, 176, 226), (250, 226, 190))
    pen = ImageDraw.Draw(image)
    pen.rectangle(at(0, 176, 256, 256), (44, 104, 150))
    for y in range(184, 256, 14):
        for x in range(-20 + y % 37, 256, 46):
            pen.line(at(x, y, x + 18, y), (110, 164, 200), 2 * FINE)
    pen.polygon(at(0, 200, 30, 168, 84, 160, 122, 178, 146, 206, 110, 224, 0, 236), (104, 92, 86))
    for k, (low, high) in enumerate(((166, 140), (140, 114), (114, 88), (88, 64))):
        below, above = 20 - (166 - low) * 0.07, 20 - (166 - high) * 0.07
        colour = (200, 58, 50) if k % 2 else (246, 242, 234)
        pen.polygon(at(72 - below, low, 72 + below, low, 72 + above, high, 72 - above, high), colour)
    pen.rectangle(at(54, 58, 90, 64), INK)
    pen.rectangle(at(62, 42, 82, 58), (255, 232, 140))
    pen.polygon(at(58, 42, 86, 42, 72, 26), (150, 44, 40))
    pen.polygon(at(176, 188, 232, 188, 222, 202, 186, 202), (120, 70, 44))
    pen.line(at(204, 188, 204, 132), INK, 2 * FINE)
    pen.polygon(at(208, 134, 208, 184, 236, 184), (250, 248, 240))
    pen.polygon(at(200, 146, 200, 184, 180, 184), (240, 226, 204))
    return image


def stroke(pen: ImageDraw.ImageDraw, points: list[tuple[float, float]], chance: random.Random, closed: bool = False) -> None:
    """A line as by hand: a little off, and not of one breadth."""
    points = [*points, points[0]] if closed else points
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        steps = max(2, int(math.dist((x0, y0), (x1, y1)) / 3))
        bend = chance.uniform(-2.5, 2.5)
        for k in range(steps + 1):
            share = k / steps
            off = bend * math.sin(math.pi * share)
            x, y = x0 + (x1 - x0) * share + off, y0 + (y1 - y0) * share - off
            r = chance.uniform(2.0, 2.9)
            pen.ellipse(at(x - r, y - r, x + r, y + r), INK)


def arc(cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360) -> list[tuple[float, float]]:
    angles = [math.radians(start + (end - start) * k / 24) for k in range(25)]
    return [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]


def sketched(draw: Callable[[ImageDraw.ImageDraw, random.Random], None], seed: int) -> Image.Image:
    image = Image.new("RGB", (SIZE * FINE, SIZE * FINE), "white")
    draw(ImageDraw.Draw(image), random.Random(seed))
    return image


def house(pen: ImageDraw.ImageDraw, chance: random.Random) -> None:
    stroke(pen, [(60, 118), (60, 214), (196, 214), (196, 118)], chance)
    stroke(pen, [(44, 124), (128, 46), (212, 124), (44, 124)], chance)
    stroke(pen, [(112, 214), (112, 160), (146, 160), (146, 214)], chance)
    stroke(pen, [(74, 140), (98, 140), (98, 164), (74, 164)], chance, closed=True)
    stroke(pen, [(160, 140), (184, 140), (184, 164), (160, 164)], chance, closed=True)
    stroke(pen, [(164, 78), (164, 52), (184, 52), (184, 98)], chance)


def fish(pen: ImageDraw.ImageDraw, chance: random.Random) -> None:
    stroke(pen, arc(116, 128, 76, 48), chance)
    stroke(pen, [(186, 110), (232, 82), (222, 128), (232, 174), (186, 146)], chance)
    stroke(pen, arc(76, 114, 6, 6), chance)
    stroke(pen, arc(70, 140, 16, 10, 20, 120), chance)
    stroke(pen, [(104, 82), (128, 54), (148, 86)], chance)
    stroke(pen, arc(104, 128, 12, 30, -80, 80), chance)
    stroke(pen, arc(130, 128, 12, 28, -80, 80), chance)


def face(pen: ImageDraw.ImageDraw, chance: random.Random) -> None:
    stroke(pen, arc(128, 140, 78, 82), chance)
    stroke(pen, arc(100, 122, 9, 11), chance)
    stroke(pen, arc(156, 122, 9, 11), chance)
    stroke(pen, [(128, 134), (118, 160), (134, 162)], chance)
    stroke(pen, arc(128, 170, 36, 22, 10, 170), chance)
    for k in range(7):
        stroke(pen, [(70 + 18 * k, 84 - 10 * math.sin(k * 0.52)), (66 + 20 * k, 40 - 14 * math.sin(k * 0.52))], chance)


def mask(draw: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    image = Image.new("L", (SIZE * FINE, SIZE * FINE))
    draw(ImageDraw.Draw(image))
    return image


PICTURES = {
    "clock-tower": clock_tower,
    "castle-hill": castle_hill,
    "lighthouse": lighthouse,
    "sketch-house": lambda: sketched(house, 1),
    "sketch-fish": lambda: sketched(fish, 2),
    "sketch-face": lambda: sketched(face, 3),
    "clock-tower-mask": lambda: mask(lambda pen: pen.rectangle(at(92, 0, 164, 98), 255)),
    "castle-hill-mask": lambda: mask(lambda pen: pen.rectangle(at(70, 20, 202, 184), 255)),
    "circle-mask": lambda: mask(lambda pen: pen.ellipse(at(56, 56, 200, 200), 255)),
}


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        image = draw().resize((SIZE, SIZE), Image.Resampling.LANCZOS)
        image.save(OUT / f"{name}.png", optimize=True)
        print(OUT / f"{name}.png")


if __name__ == "__main__":
    main()
