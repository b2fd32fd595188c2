"""Numbered sheets for somebody who does not know the prompts, and the score of what they say.

    python tools/blind_sheets.py docs/prompts.txt --model glyph --out blind
    python tools/blind_sheets.py --edits 7 --out blind
    python tools/blind_sheets.py --edits 7 --scenes DRAWINGS.tar --count 64 --out blind
    python tools/blind_sheets.py --key blind/key.json --judged blind/judged.tsv

The first writes sheet-1.png, ..., pictures of one seed in shuffled order with nothing but their numbers, and key.json; the second
the same of what no prompt makes of the sample pictures, noised as at that start of 34, of three seeds; the third of simple
scenes, a seed each, of the drawings that ``simple_drawings.py DRAWINGS.tar --size 80 --first 1000 --each 4`` makes. There, with
``--judge FOLDER``, a retrieval model names them instead, at 64 pixels. The last counts: each line of judged.tsv is a number, then
1 or 0 for "the main object is right" and for "the whole prompt is right", as somebody finds who compares the names with the key.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from phosphene.defaults import CASCADE, UNPROMPTED
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.evaluation.matching import open_judge
from phosphene.images import enlarged, fitted, save_png, sheet, to_images, to_tensor
from phosphene.models.catalogue import load
from phosphene.readers import read_picture
from phosphene.sampler import last
from phosphene.tasks.denoise import TIMESTEPS
from phosphene.tasks.edit import edit
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.casting import FLAT, Casting
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.phrases import with_article
from phosphene.training.text_to_image.scenes import KINDS
from phosphene.training.text_to_image.staging import drawn as compose
from phosphene.training.text_to_image.staging import staged

CELL, COLUMNS, ROWS = 192, 6, 4
AT_ONCE = 12
TRIES = 100
"""For a scene whose parts go together."""
EDITED = {"clock-tower": "a tower", "castle-hill": "a castle", "sketch-house": "a house", "sketch-fish": "a fish"}
"""Sample pictures, and what they show."""


def read_prompts(path: Path) -> list[str]:
    """The lines of ``path`` that are neither empty nor a comment. UserError where one stands twice."""
    prompts = [line.strip() for line in path.read_text().splitlines() if line.strip() and not line.startswith("#")]
    if not prompts or len(set(prompts)) < len(prompts):
        raise UserError(f"{path}: must hold prompts, a line each, and none twice.")
    return prompts


def draw(prompts: list[str], model: str, sampling: Sampling, seed: int) -> list:
    """A picture of each prompt, all of the same seed."""
    drawer, pictures = load(model), []
    for k in range(0, len(prompts), AT_ONCE):
        part = prompts[k : k + AT_ONCE]
        *_, done = run(generate(part), drawer, [seed] * len(part), sampling=sampling)
        pictures += to_images(done.xt)
        print(f"{len(pictures)} of {len(prompts)} drawn", flush=True)
    return pictures


def edited(model: str, start: int, seed: int, solver: str | None = None) -> tuple[list, list[str]]:
    """What no prompt makes of each of EDITED from timestep number ``start`` of 34, of three seeds; and what each should show."""
    drawer, seeds, pictures, said = load(model), range(seed, seed + 3), [], []
    for name, shown in EDITED.items():
        image = to_tensor(fitted(read_picture(Path(name)), drawer.stages[0].image_shape[1:]))
        pictures += to_images(_unprompted(drawer, image, start, seeds, solver))
        said += [f"{shown} (seed {each})" for each in seeds]
    return pictures, said


def edited_scenes(model: str, start: int, seed: int, solver: str | None, drawings: Path, count: int) -> tuple[list, list[str]]:
    """The same of ``count`` simple scenes, each of a seed of its own."""
    images, shown, _ = simple_scenes(drawings, count)
    made = _each_unprompted(load(model), images, start, seed, solver)
    return to_images(made), [f"{name} (scene {k})" for k, name in enumerate(shown)]


def retrieved(folder: Path, model: str, start: int, seed: int, solver: str | None, drawings: Path, count: int) -> str:
    """Of how many simple scenes, and of what the first stage makes of them, the judge in ``folder`` finds the name."""
    judge, drawer = open_judge(folder), load(model).stages[0]
    images, shown, names = simple_scenes(drawings, count)
    edits = _each_unprompted(drawer, images, start, seed, solver)
    texts = judge.texts([with_article(name) for name in names])
    found = [(judge.pictures(x) @ texts.T).argmax(1).tolist() for x in (edits, images)]
    made, scenes = (sum(names[k] == name for k, name in zip(each, shown, strict=True)) for each in found)
    return f"{made} of {count}, among {len(names)} names; of the scenes themselves {scenes}"


def _unprompted(drawer, image: Tensor, start: int, seeds: Sequence[int], solver: str | None) -> Tensor:
    return last(run(edit(image, [start] * len(seeds)), drawer, seeds, sampling=Sampling(solver, timesteps=TIMESTEPS)))


def _each_unprompted(drawer, images: Tensor, start: int, seed: int, solver: str | None) -> Tensor:
    """What is made of each of ``images``, of a seed of its own."""
    parts, first = [], seed
    for part in images.split(AT_ONCE):
        parts.append(_unprompted(drawer, part, start, range(first, first + len(part)), solver))
        first += len(part)
    return torch.cat(parts)


def simple_scenes(drawings: Path, count: int) -> tuple[Tensor, list[str], list[str]]:
    """As many of the drawings in flat colours in simple places: (N, 3, 64, 64) in [-1, 1], what each shows, and all names."""
    cutouts, scenes = Cutouts.open(drawings, 80), []
    cast = Casting(cutouts.subjects, cutouts.shapes, [subject.style == FLAT for subject in cutouts.subjects])
    for k in range(count):
        chance = random.Random(f"simple scene {k}")
        scenes.append(next(filter(None, (KINDS["simple"](cast, chance) for _ in range(TRIES))), None))
    if None in scenes:
        raise UserError(f"--scenes {drawings}: holds too few drawings for a scene; make more: simple_drawings.py --each 4.")
    made = torch.cat([compose(staged([scene]), cutouts, 64, torch.Generator().manual_seed(k)) for k, scene in enumerate(scenes)])
    shown = [cutouts.subjects[scene.layers[-1].index].called for scene in scenes]
    return made, shown, sorted({subject.called for subject in cutouts.subjects})


def write_sheets(pictures: list, prompts: list[str], out: Path, shuffle: int) -> None:
    """Sheets of numbered pictures in an order drawn from ``shuffle``, and their key."""
    order = random.Random(shuffle).sample(range(len(prompts)), len(prompts))
    out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(order), COLUMNS * ROWS):
        page = order[first : first + COLUMNS * ROWS]
        cells = [enlarged(pictures[k], max(1, CELL // pictures[k].width)).resize((CELL, CELL)) for k in page]
        numbers = [str(first + place + 1) for place in range(len(page))]
        rows, labels = ([of[k : k + COLUMNS] for k in range(0, len(page), COLUMNS)] for of in (cells, numbers))
        save_png(sheet(rows, captions=labels), out / f"sheet-{first // (COLUMNS * ROWS) + 1}.png", {})
    key = {str(place + 1): prompts[k] for place, k in enumerate(order)}
    (out / "key.json").write_text(json.dumps(key, indent=2) + "\n")


def score(key: Path, judged: Path) -> str:
    """The shares of right objects and right pictures. UserError where a number of the key is not judged, or twice."""
    asked = json.loads(key.read_text())
    rows = [line.split() for line in judged.read_text().splitlines() if line.strip() and not line.startswith("#")]
    if sorted(row[0] for row in rows) != sorted(asked) or any(set(row[1:]) - {"0", "1"} or len(row) != 3 for row in rows):
        raise UserError(f"{judged}: must have each number of {key} once, followed by two of 0 and 1.")
    objects, whole = (sum(row[k] == "1" for row in rows) for k in (1, 2))
    return (
        f"object right {objects} of {len(rows)}, {objects / len(rows):.0%}; whole prompt right {whole}, {whole / len(rows):.0%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prompts", nargs="?", type=Path)
    parser.add_argument("--model", help=f"{CASCADE} by default, of edits {UNPROMPTED}")
    parser.add_argument("--solver")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--guidance-every", type=int)
    parser.add_argument("--guidance-interval", type=int, nargs=2, metavar=("LOW", "HIGH"))
    parser.add_argument("--seed", type=int, default=180)
    parser.add_argument("--shuffle", type=int, default=0, help="of the order")
    parser.add_argument("--edits", type=int, metavar="START", help="unprompted edits instead of prompts")
    parser.add_argument("--scenes", type=Path, metavar="DRAWINGS", help="of simple scenes instead of the sample pictures")
    parser.add_argument("--count", type=int, default=64, help="of the scenes")
    parser.add_argument("--judge", type=Path, help="of the scenes: what a retrieval model makes of them, instead of sheets")
    parser.add_argument("--out", type=Path, default=Path("blind"))
    parser.add_argument("--key", type=Path)
    parser.add_argument("--judged", type=Path)
    options = parser.parse_args()
    guided = {name: getattr(options, name) for name in ("guidance", "guidance_every", "guidance_interval")}
    if options.judged is not None and options.key is not None:
        print(score(options.key, options.judged))
        return
    if options.scenes is not None and (options.edits is None or options.count < 1):
        parser.error("--scenes are edited: say --edits START, and a --count of at least 1")
    if options.judge is not None and options.scenes is None:
        parser.error("--judge looks at what becomes of --scenes: name them")
    if options.edits is not None:
        if options.prompts or options.steps or any(guided.values()):
            parser.error("--edits says what is drawn and how: leave out prompts, steps and guidance")
        how = options.model or UNPROMPTED, options.edits, options.seed, options.solver
        if options.judge is not None:
            print(retrieved(options.judge, *how, options.scenes, options.count))
            return
        made = edited(*how) if options.scenes is None else edited_scenes(*how, options.scenes, options.count)
        write_sheets(*made, options.out, options.shuffle)
        return
    if options.prompts is None:
        parser.error("name a file of prompts, --edits, or --key and --judged")
    prompts = read_prompts(options.prompts)
    sampling = Sampling(options.solver, options.steps, **guided)
    write_sheets(draw(prompts, options.model or CASCADE, sampling, options.seed), prompts, options.out, options.shuffle)


if __name__ == "__main__":
    main()
