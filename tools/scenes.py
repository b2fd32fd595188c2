"""Draw scenes that the set lacks, of its parts and logs of our own: ``python tools/scenes.py PICTURES SCENES.tar --size 80``.

A campfire is in the set as one black icon, and a burning house not at all; put together they are there in every style
that has a fire. The shard is trained on beside the others.
"""

from __future__ import annotations

import argparse
import random
import tarfile
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw
from shrink_shards import add

from phosphene.training.text_to_image.captions import MASK, Subject
from phosphene.training.text_to_image.pictures import read

CAMPFIRES = 12
"""Of each style, no two alike: what makes a campfire is logs under flames, not one outline."""
NAMES = ("camp fire", "bonfire", "burning logs", "fire")
BARK = {
    "fluent flat": ("#8c5543", "#6d3f33", None),
    "noto": ("#9a6a3c", "#7a4f2a", "#5b3a1e"),
    "firefox": ("#a0703c", "#855a2d", None),
}
SHADED = ("#9a5c48", "#744447", None)
"""Colours of the log in front, of those behind and of outlines, by style; in other styles light falls on them from above."""


def log(length: float, thick: float, bark: str, outline: str | None, shaded: bool) -> Image.Image:
    """A log lying from left to right in the middle of a square, its cut end at the right."""
    side, fine = round(length + 2 * thick), max(2, round(thick / 10))
    image = Image.new("RGBA", (side, side))
    pen = ImageDraw.Draw(image)
    x, y = thick, (side - thick) / 2
    pen.rounded_rectangle((x, y, x + length, y + thick), thick / 2, bark, outline, fine if outline else 0)
    if shaded:
        dark = Image.new("RGBA", (side, side))
        slope = Image.linear_gradient("L").resize((side, round(thick))).point(lambda v: v * 0.55)
        dark.paste((30, 10, 25), (0, round(y)), slope)
        dark.putalpha(ImageChops.darker(dark.getchannel("A"), image.getchannel("A")))
        image = Image.alpha_composite(image, dark)
        pen = ImageDraw.Draw(image)
    for along, down in ((0.30, 0.45), (0.62, 0.56)):  # the bark is torn
        left, line = x + along * length, y + down * thick
        pen.line((left, line, left + 0.13 * length, line), outline or "#4a2a22", fine)
    end = x + length
    pen.ellipse((end - 0.85 * thick, y, end, y + thick), "#e9b987", outline, fine if outline else 0)
    pen.ellipse((end - 0.62 * thick, y + 0.25 * thick, end - 0.23 * thick, y + 0.75 * thick), None, "#b77a4b", fine)
    return image


def over(canvas: Image.Image, part: Image.Image, middle: tuple[float, float], width: float | None = None) -> Image.Image:
    """``part`` laid on ``canvas``, its middle there and as wide as that, both as shares of the canvas."""
    size = canvas.width
    if width is not None:
        part = part.crop(part.getbbox())
        scale = width * size / max(part.size)
        part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
    layer = Image.new("RGBA", canvas.size)
    layer.paste(part, (round(middle[0] * size - part.width / 2), round(middle[1] * size - part.height / 2)))
    return Image.alpha_composite(canvas, layer)


def campfire(fire: Image.Image, style: str, size: int, chance: random.Random) -> Image.Image:
    """Two or three logs that cross each other under a fire, one of them in front of it."""
    near, far, outline = BARK.get(style, SHADED)
    thick, length = chance.uniform(0.12, 0.15) * size, chance.uniform(0.62, 0.74) * size
    lean, low, tall = chance.uniform(14, 24), chance.uniform(0.78, 0.81), chance.uniform(0.60, 0.68)
    lean *= chance.choice((-1, 1))
    behind = [lean, chance.uniform(-4, 4)][: chance.choice((1, 1, 2))]

    def laid(canvas: Image.Image, turn: float, bark: str, middle: tuple[float, float]) -> Image.Image:
        one = log(length, thick, bark, outline, style not in BARK)
        one = one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else one
        return over(canvas, one.rotate(turn, Image.Resampling.BICUBIC), middle)

    canvas = Image.new("RGBA", (size, size))
    for turn in behind:
        canvas = laid(canvas, turn, far, (0.5, low))
    canvas = over(canvas, fire, (0.5 + chance.uniform(-0.02, 0.02), low - tall / 2 + 0.02), tall)
    return laid(canvas, -lean, near, (0.5, low + 0.02))


def burning(house: Image.Image, fire: Image.Image, size: int) -> Image.Image:
    """A house with flames out of its roof."""
    canvas = Image.new("RGBA", (size, size))
    for part, width, middle in ((house, 0.80, (0.5, 0.60)), (fire, 0.40, (0.36, 0.26)), (fire, 0.46, (0.66, 0.30))):
        canvas = over(canvas, part, middle, width)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--size", type=int, default=80)
    options = parser.parse_args()
    fires, houses = {}, {}
    for image, subject in read(options.source):
        if subject.style != MASK and subject.caption in ("fire", "house"):
            (fires if subject.caption == "fire" else houses)[subject.style] = image
    large = 4 * options.size  # drawn large and then made small: the edges of parts are sampled once at the final size
    with tarfile.open(options.target, "w") as tar:

        def keep(image: Image.Image, key: str, subject: Subject) -> None:
            add(tar, key, image.resize((options.size,) * 2, Image.Resampling.BOX), subject)

        for style, fire in sorted(fires.items()):
            name, chance = style.replace(" ", "-"), random.Random(style)
            for k in range(CAMPFIRES):
                subject = Subject("campfire", style, NAMES, "scene/campfire")
                keep(campfire(fire, style, large, chance), f"campfire-{name}-{k:02d}", subject)
            if style in houses:
                subject = Subject("house on fire", style, ("burning house", "fire", "house"), "scene/house on fire")
                keep(burning(houses[style], fire, large), f"house-on-fire-{name}", subject)


if __name__ == "__main__":
    main()
