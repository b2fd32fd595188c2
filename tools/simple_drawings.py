"""Draw things as those draw them who do not draw, of a few plain shapes: ``python tools/simple_drawings.py OUT.tar --size 80``.

A house is a box with a triangle upon it, a fish an oval with one behind it. The sets have hardly a picture like that, yet it is
what people put on paper and then ask a model to go on from. Each thing is drawn many times over, no two alike, half of them with
a pen and half in flat colours. The shard is trained on beside the others.
"""

from __future__ import annotations

import argparse
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import simple_buildings as buildings
import simple_things as things
from PIL import Image
from shrink_shards import add
from simple_shapes import Drawn, Hand, drawn
from words import Table

from phosphene.training.text_to_image.captions import Subject
from phosphene.training.text_to_image.casting import FLAT, PEN

EACH = 24
"""So many drawings of a thing in each style, where nobody says."""
DRAWINGS: dict[str, Callable[[Hand], Drawn]] = {draw.__name__.replace("_", " "): draw for draw in (*buildings.ALL, *things.ALL)}


def drawing(name: str, style: str, k: int, size: int) -> Image.Image:
    """The ``k``-th drawing of a thing."""
    chance = random.Random(f"{name} {style} {k}")
    return drawn(list(DRAWINGS[name](Hand(chance))), style, size, chance)


def draw_sheet(size: int, each: int = 6) -> Image.Image:
    """A column for each thing, drawings in flat colours above those with a pen."""
    whole = Image.new("RGB", (len(DRAWINGS) * size, 2 * each * size), "white")
    for column, name in enumerate(DRAWINGS):
        for row, (style, k) in enumerate((style, k) for style in (FLAT, PEN) for k in range(each)):
            made = drawing(name, style, k, size)
            whole.paste(made, (column * size, row * size), made)
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="a shard; with --sheet a picture")
    parser.add_argument("--sheet", action="store_true", help="six drawings of each thing in each style instead, to look at")
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--each", type=int, default=EACH, help="drawings of a thing in each style")
    parser.add_argument(
        "--first", type=int, default=0, help="number of each thing's first drawing; those from 1000 on taught nobody"
    )
    parser.add_argument("--captions", type=Path, default=Path(__file__).with_name("captions.tsv"))
    options = parser.parse_args()
    if options.sheet:
        draw_sheet(options.size).save(options.out, quality=85)
        return
    known = Table(options.captions).by_name()
    count = 0
    with tarfile.open(options.out, "w") as tar:
        for name in DRAWINGS:
            words = known[name]
            for style in (FLAT, PEN):
                for k in range(options.first, options.first + options.each):
                    subject = Subject(name, style, f"drawn {name}", *words, "phosphene")
                    add(tar, f"drawing-{count:06d}", drawing(name, style, k, options.size), subject)
                    count += 1
    print(f"{count:,} drawings of {len(DRAWINGS)} things")


if __name__ == "__main__":
    main()
