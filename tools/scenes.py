"""Put pictures of one style together into scenes that the set lacks: ``python tools/scenes.py PICTURES SCENES.tar --size 80``.

A campfire is in the set as one black icon; made of its logs and its fire it is there in every style that has both. The
shard is trained on beside the others.
"""

from __future__ import annotations

import argparse
import tarfile
from pathlib import Path

from PIL import Image
from shrink_shards import add

from phosphene.training.captions import MASK, Subject
from phosphene.training.pictures import read

# What a scene is called, other words for it, and its parts from back to front: caption, width, where the middle is, turn.
SCENES = {
    "campfire": (
        ("camp fire", "bonfire", "burning logs", "fire"),
        (("wood", 0.60, (0.56, 0.74), 64), ("fire", 0.66, (0.5, 0.36), 0), ("wood", 0.60, (0.44, 0.76), -64)),
    ),
    "house on fire": (
        ("burning house", "fire", "house"),
        (("house", 0.80, (0.5, 0.60), 0), ("fire", 0.40, (0.36, 0.26), 0), ("fire", 0.46, (0.66, 0.30), 0)),
    ),
}


def scene(parts: dict[str, Image.Image], layout: tuple, size: int) -> Image.Image:
    """One (size, size) picture of ``parts``, laid one before the other."""
    canvas = Image.new("RGBA", (size, size))
    for caption, width, (x, y), turn in layout:
        part = parts[caption]
        part = part.rotate(turn, Image.Resampling.BICUBIC, expand=True)
        part = part.crop(part.getbbox())
        scale = width * size / max(part.size)
        part = part.resize((round(part.width * scale), round(part.height * scale)), Image.Resampling.LANCZOS)
        layer = Image.new("RGBA", (size, size))
        layer.paste(part, (round(x * size - part.width / 2), round(y * size - part.height / 2)))
        canvas = Image.alpha_composite(canvas, layer)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--size", type=int, default=80)
    options = parser.parse_args()
    wanted = {caption for _, layout in SCENES.values() for caption, *_ in layout}
    styles: dict[str, dict[str, Image.Image]] = {}
    for image, subject in read(options.source):
        if subject.caption in wanted and subject.style != MASK:
            styles.setdefault(subject.style, {})[subject.caption] = image
    with tarfile.open(options.target, "w") as tar:
        for caption, (keywords, layout) in SCENES.items():
            for style, parts in sorted(styles.items()):
                if not {part for part, *_ in layout} <= parts.keys():
                    continue
                # Drawn large and then made small: edges of parts must not be sampled twice at the final size.
                small = scene(parts, layout, 4 * options.size).resize((options.size,) * 2, Image.Resampling.BOX)
                key = f"{caption} {style}".replace(" ", "-")
                add(tar, key, small, Subject(caption, style, keywords, f"scene/{caption}"))


if __name__ == "__main__":
    main()
