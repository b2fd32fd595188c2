"""Do the pairs that the matchmaker suggests read more often than pairs drawn by lot? For the same first prompts, side by side.

    python benchmarks/pairs.py CONCEPTS --model MODEL --out DIR [--steps 16] [--best-of 4] [--guidance 3] [--firsts 8]

CONCEPTS is a sheet of tools/concept_sheet.py. First prompts and their views stand below, ordinary things, none chosen to suit;
the second of a suggested pair is the first of the list, that of a random pair drawn by lot of the same things. Both are drawn
with the same seeds, and of each pair the one kept that the model itself says reads best. The judge is the denoiser, on noise
other than that of the choice; it is the model's own opinion. DIR has its figures, a sheet of numbered pictures, each as it is and
in its view, for somebody who knows nothing, and key.json, which says what they were to show.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from pathlib import Path

import torch
from PIL import Image

from phosphene.defaults import OWN_USUAL
from phosphene.drawing import Sampling, run
from phosphene.images import save_png, sheet, to_images
from phosphene.models.cascade import open_cascade
from phosphene.tasks import pairs, sketches
from phosphene.tasks.anagram import anagram
from phosphene.tasks.anagram_table import JUDGED_FROM
from phosphene.tasks.score import Score, score
from phosphene.views import view

SEED, CELL, ACROSS = 180, 192, 4
FIRSTS = (
    ("a duck", "rotate-90"),
    ("a house", "flip"),
    ("a cat", "rotate-180"),
    ("a tree", "flip"),
    ("a car", "rotate-180"),
    ("a rabbit", "rotate-90"),
    ("a mushroom", "flip"),
    ("an owl", "rotate-180"),
)
GROUPS = ("suggested", "random")


def asked(known: sketches.Concepts, opened: object, count: int) -> list[dict]:
    """The pairs of both groups, by turns."""
    found, lots = [], random.Random(SEED)
    for first, name in FIRSTS[:count]:
        sharing = pairs.through(view(name))
        suggested = pairs.suggested(known, sharing, len(known.prompts), first, opened=opened)
        for group, pair in zip(GROUPS, (suggested[0], lots.choice(suggested)), strict=True):
            found.append(
                {"group": group, "view": name, "first": first, "second": pair.second, "fit": pair.fit, "alike": pair.alike}
            )
    return found


def drawn(stage: object, pair: dict, sampling: Sampling, best_of: int) -> tuple[torch.Tensor, Score]:
    """The best picture of ``pair``, (1, C, H, W), and what the judge says of it."""
    prompts, seeds = (pair["first"], pair["second"]), range(SEED, SEED + best_of)
    *_, step = run(anagram(prompts, [pair["view"]]), stage, seeds, sampling=sampling, best_of=best_of)
    picture = step.xt.clamp(-1, 1)
    return picture, score(stage, picture, prompts, [view("identity").apply, view(pair["view"]).apply], seed=JUDGED_FROM)


def shown(picture: torch.Tensor, name: str) -> list[Image.Image]:
    """``picture`` as it is, and in its view."""
    both = torch.cat([picture, view(name).apply(picture)])
    return [image.resize((CELL, CELL), Image.Resampling.BICUBIC) for image in to_images(both)]


def write_sheets(cells: list[list[Image.Image]], found: list[dict], out: Path) -> None:
    """Numbered pictures in an order drawn by lot, and the key."""
    order, rows, labels = random.Random(1).sample(range(len(found)), len(found)), [], []
    for start in range(0, len(order), ACROSS // 2):
        part = list(enumerate(order))[start : start + ACROSS // 2]
        rows.append([image for _, k in part for image in cells[k]])
        labels.append([f"{number + 1}{way}" for number, _ in part for way in "ab"])
    save_png(sheet(rows, captions=labels), out / "blind.png", {})
    key = {str(number + 1): found[k] for number, k in enumerate(order)}
    (out / "key.json").write_text(json.dumps(key, indent=2) + "\n")


def told(found: list[dict]) -> list[str]:
    """A table in Markdown."""
    lines = ["| | pairs | fit | alignment | concealment | both ways |", "|---|---|---|---|---|---|"]
    for group in GROUPS:
        own = [one for one in found if one["group"] == group and "worst" in one]
        if not own:
            continue
        means = [f"{statistics.mean(one[what] for one in own):.3f}" for what in ("fit", "alignment", "concealment")]
        reads = sum(one["worst"] > 0.5 for one in own)
        lines.append(f"| {group} | {len(own)} | {' | '.join(means)} | {reads} of {len(own)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("concepts", type=Path)
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--best-of", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=OWN_USUAL.guidance)
    parser.add_argument("--firsts", type=int, default=len(FIRSTS))
    parser.add_argument("--out", type=Path, default=Path("pairs"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cascade, known = open_cascade(options.model, options.device, stages=1), sketches.read(options.concepts)
    stage = cascade.stages[0]
    found = asked(known, lambda prompts: stage, options.firsts)
    cascade.encode([None, *dict.fromkeys(pair[which] for pair in found for which in ("first", "second"))])
    sampling, cells = Sampling("dpm", options.steps, guidance=options.guidance, max_rows=64), []
    for number, pair in enumerate(found, 1):
        picture, said = drawn(stage, pair, sampling, options.best_of)
        pair |= {what: float(getattr(said, what)) for what in ("alignment", "concealment", "worst")}
        cells.append(shown(picture, pair["view"]))
        write_sheets(cells, found[:number], options.out)  # after each, for a machine may be taken away
        (options.out / "figures.json").write_text(json.dumps(found[:number], indent=2) + "\n")
        print(", ".join(f"{k} {v:.3f}" if isinstance(v, float) else v for k, v in pair.items()), flush=True)
    print("\n".join(told(found)))
    print(f"torch {torch.__version__}, {len(known.prompts)} things")


if __name__ == "__main__":
    main()
