"""Draw a sheet of every ground and one of every manner: ``python tools/scene_sheets.py docs/images``.

Grounds are rows of numbers, so they need no pictures; the manners are shown on the samples that ship with the package, which the
embedded model drew.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from PIL import Image

from phosphene import images
from phosphene.training.text_to_image import phrases, places
from phosphene.training.text_to_image.grounds import draw_grounds
from phosphene.training.text_to_image.manners import MANNERS

SIDE, SEED, COLUMNS = 128, 180, 10
SAMPLES = Path(images.__file__).parent / "assets" / "images"


def drawn_grounds(generator: torch.Generator) -> tuple[list[Image.Image], list[str]]:
    """Each kind of place by day, and at another time that it has."""
    chance, rows, names = random.Random(SEED), [], []
    for kind, times in phrases.TIMES_OF.items():
        for time in dict.fromkeys((times[0], chance.choice([t for t in times if t != times[0]] or times))):
            place = places.made(kind, time, chance)
            rows.append(place.ground.row())
            names.append(f"{kind}, {time}")
    made = draw_grounds(torch.tensor(rows), 2 * SIDE, generator)
    made = torch.nn.functional.avg_pool2d(made, 2)  # as for training: drawn at twice the size
    return images.to_images(made * 2 - 1), names


def mannered(path: Path, generator: torch.Generator) -> list[Image.Image]:
    """The picture in ``path`` as it is, and in every manner."""
    picture = Image.open(path).convert("RGB").resize((2 * SIDE, 2 * SIDE))
    x = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(1, 2 * SIDE, 2 * SIDE, 3).permute(0, 3, 1, 2) / 255
    made = torch.cat([x, *(manner(torch.cat([x, x]), generator)[1:] for manner, _ in MANNERS.values())])
    return images.to_images(torch.nn.functional.avg_pool2d(made, 2) * 2 - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out, generator = parser.parse_args().out, torch.Generator().manual_seed(SEED)
    cells, names = drawn_grounds(generator)
    rows = [cells[k : k + COLUMNS] for k in range(0, len(cells), COLUMNS)]
    images.sheet(rows, captions=[names[k : k + COLUMNS] for k in range(0, len(names), COLUMNS)]).save(
        out / "grounds.webp", quality=85
    )
    rows = [mannered(path, generator) for path in (SAMPLES / "clock-tower.png", SAMPLES / "castle-hill.png")]
    labels = ["as drawn", *MANNERS]
    images.sheet(rows, captions=[labels for _ in rows]).save(out / "manners.webp", quality=85)


if __name__ == "__main__":
    main()
