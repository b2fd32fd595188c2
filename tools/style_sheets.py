"""Numbered pictures for people who say in which of five styles each is, and the score of what they say.

    python tools/style_sheets.py SHARDS --model MODEL --model OTHER --asked SHARDS --out sheets
    python tools/style_sheets.py --key sheets/key.json --said sheets/said.tsv

The first writes reference.png, a row of the same things in each style, A to E, and sheet-1.png, ...: icons that each MODEL
drew in a style, as benchmarks/styles.py asks for them, and as many paintings of things that are in no other picture here, in
an order by chance. The second reads a number and a letter a line and says how many are right, of paintings and of each
model, and how many are where the styles FINE, one design drawn in two ways, count as one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

import torch
from blind_sheets import write_sheets

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.images import save_png, sheet, to_images
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.staging import alone

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from judge import STYLED, compositions
from styles import CALLED, KEPT, SIDE

FINE = ("3d", "glossy")
THINGS, LETTERS = 12, "ABCDE"


def paintings(cutouts: Cutouts, each: int, chance: random.Random) -> tuple[list[list[int]], list[tuple[str, int]]]:
    """Rows of the reference, things that are painted in every style; and ``each`` other paintings of each, with its style."""
    known: dict[str, dict[str, int]] = {}
    for k, subject in enumerate(cutouts.subjects):
        if subject.style in KEPT and not subject.drawn:
            known.setdefault(subject.called, {})[subject.style] = k
    shown = chance.sample([name for name, of in known.items() if len(of) == len(KEPT)], THINGS)
    others = [name for name in known if name not in shown]
    rows = [[known[name][style] for name in shown] for style in KEPT]
    found = []
    for word, style in zip(CALLED, KEPT, strict=True):
        names = chance.sample([name for name in others if style in known[name]], each)
        found += [(word, known[name][style]) for name in names]
        others = [name for name in others if name not in names]
    return rows, found


def score(key: dict[str, str], said: dict[str, str]) -> str:
    """A line for paintings and for each model. ``key``: the source and the style of each number; ``said``: its letter."""
    if missing := [number for number in key if said.get(number) not in tuple(LETTERS)]:
        raise UserError(f"--said: says none of {LETTERS} of number {missing[0]}; write a number, a tab and a letter a line.")
    lines = []
    for source in dict.fromkeys(value.rpartition(", ")[0] for value in sorted(key.values())):
        own = [(value.rpartition(", ")[2], number) for number, value in key.items() if value.rpartition(", ")[0] == source]
        taken = [(word, CALLED[LETTERS.index(said[number])]) for word, number in own]
        right = sum(word == found for word, found in taken)
        fine = sum(word == found or {word, found} == set(FINE) for word, found in taken)
        lines.append(f"{source}: {right} of {len(own)}; {fine} where {' and '.join(FINE)} are one")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="?", metavar="SHARDS")
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--asked", type=Path, metavar="SHARDS", help="of which the icons are, where not of all")
    parser.add_argument("--each", type=int, default=8, help="pictures of a style and source")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--key", type=Path)
    parser.add_argument("--said", type=Path)
    options = parser.parse_args()
    if options.key is not None and options.said is not None:
        lines = [line.partition("\t")[::2] for line in options.said.read_text().splitlines()]
        said = {number.strip(): letter.strip().upper() for number, letter in lines}
        print(score(json.loads(options.key.read_text()), said))
        return
    if options.data is None or options.out is None:
        parser.error("name SHARDS and --out, or give --key and --said")
    chance, cutouts = random.Random(options.seed), Cutouts.open(options.data, SIDE)
    rows, real = paintings(cutouts, options.each, chance)
    options.out.mkdir(parents=True, exist_ok=True)
    captions = [[letter, *[""] * (THINGS - 1)] for letter in LETTERS]
    save_png(
        sheet([to_images(alone(cutouts, row, SIDE), 2) for row in rows], captions=captions), options.out / "reference.png", {}
    )
    pictures = to_images(alone(cutouts, [k for _, k in real], SIDE))
    said = [f"paintings, {word}" for word, _ in real]
    known = cutouts if options.asked is None else Cutouts.open(options.asked, 16)
    styled = [c for c in compositions(known, 300) if c.template == STYLED and c.word in CALLED]
    asked = [c for word in CALLED for c in chance.sample([c for c in styled if c.word == word], options.each)]
    for model in options.model:
        stage = open_cascade(model, stages=1).stages[0]
        seeds = range(options.seed, options.seed + len(asked))
        drawn = last(run(generate([c.told() for c in asked]), stage, seeds, sampling=Sampling(max_rows=40)))
        pictures += to_images(torch.as_tensor(drawn))
        said += [f"{model}, {c.word}" for c in asked]
    write_sheets(pictures, said, options.out, options.seed)


if __name__ == "__main__":
    main()
