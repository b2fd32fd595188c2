"""Measure a text-to-image model as docs/embedded-model.md does, and draw its grids.

    python benchmarks/glyph_results.py MODEL --judge JUDGE --data SHARDS --out FOLDER [--steps 34] [--device cuda]

JUDGE is a folder of phosphene train retrieval; SHARDS are the pictures that both learned from. First seeds, nothing
picked. Writes figures.json and three sheets. ``--real`` measures the pictures of SHARDS themselves instead of drawn ones:
what the judge makes of what is right, for which style it takes paintings, and icons that are filled as training fills them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import judge as measure
import torch
from torch import Tensor

from phosphene.autoguidance import Autoguided, without_block
from phosphene.drawing import Sampling, run
from phosphene.evaluation.matching import open_judge
from phosphene.images import save_png, sheet, to_images
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.casting import TAKEN
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.phrases import with_article
from phosphene.training.text_to_image.staging import alone

SEED, ROWS, EACH = 180, 100, 5


def grid(pictures: Tensor, captions: list[str], path: Path, columns: int = 10) -> None:
    cells = to_images(pictures, 2)
    rows = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    save_png(sheet(rows, captions=[captions[k : k + columns] for k in range(0, len(cells), columns)]), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--solver")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--guidance-interval", type=int, nargs=2, metavar=("LOW", "HIGH"), help="at these timesteps alone")
    parser.add_argument("--autoguidance", metavar="skip:BLOCK", help="guidance away from the model without this block")
    parser.add_argument("--count", type=int, default=200, help="of seen captions; half as many compositions")
    parser.add_argument("--things", type=int, default=0, help="of each of four groups, instead of captions and compositions")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if not options.real and options.model is None:
        parser.error("name a MODEL, or give --real")
    judge = open_judge(options.judge, options.device)
    cutouts = Cutouts.open(options.data, 80)
    options.out.mkdir(parents=True, exist_ok=True)
    stage = None if options.real else open_cascade(options.model, device=options.device).stages[0]
    if options.autoguidance is not None:
        stage = Autoguided(stage, without_block(stage, options.autoguidance))
    bent = {"guidance": options.guidance, "guidance_interval": options.guidance_interval}
    sampling = Sampling(options.solver, options.steps, max_rows=2 * ROWS, **bent)

    def draw(prompts: list[str]) -> Tensor:
        parts = []
        for k in range(0, len(prompts), ROWS):
            asked = prompts[k : k + ROWS]
            seeds = range(SEED + k, SEED + k + len(asked))
            parts.append(last(run(generate(asked), stage, seeds, sampling=sampling)).cpu())
        return torch.cat(parts)

    def write(figures: dict) -> None:
        (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(json.dumps(figures, indent=2))

    if options.things:
        some, names = measure.things(cutouts, options.things), [thing.name for thing in measure.things(cutouts)]
        prompts = [with_article(thing.name) for thing in some]
        drawn = alone(cutouts, [thing.index for thing in some], 64) if options.real else draw(prompts)
        found = measure.ranks(judge, drawn, [with_article(name) for name in names], [names.index(t.name) for t in some])
        missed = [t.name for t, rank in zip(some, found.tolist(), strict=True) if rank >= 5 and t.asked == len(TAKEN) - 1]
        by_kind = measure.shares((found < 5).tolist(), [thing.kind for thing in some])
        grid(drawn, prompts, options.out / "things.png")
        write({f"things, top-5 of {len(names)}": by_kind, "missed of those that are asked for first": missed})
        return
    asked = measure.seen(cutouts, options.count)
    new = measure.compositions(cutouts, options.count // 2)
    able, right = measure.made(cutouts, new, 64)
    if stage is None:
        prompts, drawn = [a.prompt for a in asked], alone(cutouts, [a.index for a in asked], 64)
        figures = measure.known(judge, cutouts, asked, drawn)
        own, shown = measure.in_style(cutouts, options.count)
        figures["styles, real"] = measure.composed(judge, shown, own)._asdict()
        figures["paintings are taken for"] = measure.confusion(judge, shown, own)
        grid(drawn, prompts, options.out / "seen.png")
    else:
        figures, known, new_ones = measure.judged(judge, cutouts, draw, options.count)
        distance, _ = measure.nearest(known.pictures, cutouts)
        figures["nearest"] = {"median": distance.median().item(), "below 0.1": (distance < 0.1).float().mean().item()}
        rows = [k for k, c in enumerate(new) if c in able]
        figures["compositions that can be real"] = measure.composed(judge, new_ones.pictures[rows], able)._asdict()
        grid(known.pictures, known.prompts, options.out / "seen.png")
        grid(new_ones.pictures, new_ones.prompts, options.out / "compositions.png")
        own, _ = measure.in_style(cutouts, options.count // 2)
        figures["painted things in a style that they have"] = measure.composed(
            judge, draw([c.told() for c in own]), own
        )._asdict()
        prompts = [a.prompt for a in asked[: options.count // 10] for _ in range(EACH)]
        drawn = draw(prompts)
        same, other = measure.diversity(judge, drawn, EACH)
        figures["diversity"] = {"one prompt": same, "different prompts": other}
        grid(drawn, prompts, options.out / "seeds.png")
    figures["compositions, real"] = measure.composed(judge, right, able)._asdict()
    grid(right, [c.told() for c in able], options.out / "compositions-real.png")
    write(figures)


if __name__ == "__main__":
    main()
