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
from shrink_shards import add
from simple_shapes import FLAT, PEN, Drawn, Hand, drawn
from words import Table

from phosphene.training.text_to_image.captions import Subject

EACH = 24
"""So many drawings of a thing in each style."""
DRAWINGS: dict[str, Callable[[Hand], Drawn]] = {draw.__name__.replace("_", " "): draw for draw in (*buildings.ALL, *things.ALL)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=80)
    parser.add_argument("--captions", type=Path, default=Path(__file__).with_name("captions.tsv"))
    options = parser.parse_args()
    known = Table(options.captions).by_name()
    count = 0
    with tarfile.open(options.out, "w") as tar:
        for name, parts in DRAWINGS.items():
            words = known[name]
            for style in (FLAT, PEN):
                for k in range(EACH):
                    chance = random.Random(f"{name} {style} {k}")
                    subject = Subject(name, style, f"drawn {name}", *words, "phosphene")
                    add(tar, f"drawing-{count:06d}", drawn(list(parts(Hand(chance))), style, options.size, chance), subject)
                    count += 1
    print(f"{count:,} drawings of {len(DRAWINGS)} things")


if __name__ == "__main__":
    main()
