"""Which mean of two states of a run does a judge like best? Many of them in one process, for weights to be chosen by.

    python benchmarks/means.py OLD NEW --judge JUDGE --data SHARDS --shares 0,0.5,0.7,0.8,0.9,1 --out means [--device cuda]

OLD and NEW are folders of runs, as tools/blend.py takes them. Each mean draws what benchmarks/glyph_results.py asks for, first
seeds, and the same of other prompts by lot, which nothing was ever chosen by: what is chosen among many by 300 pictures owes
some of its figures to luck. Writes a line for each into means.json, and the mean that falls least short of the BARS, with most
to spare where none falls short, into OUT/best.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import judge as measure
import torch
from safetensors.torch import load_file
from torch import Tensor

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, run
from phosphene.evaluation.matching import open_judge
from phosphene.models.cascade import open_cascade
from phosphene.models.stage import Stage
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.cutouts import Cutouts

BARS = {"captions": 0.95, "objects": 0.85, "words": 0.90}
"""Of seen captions the first, of compositions the object, and the colour or style."""
SPREAD = {"captions": 0.015, "objects": 0.036, "words": 0.030}
"""Standard errors of these, of 200 captions and 100 compositions."""
OTHER = 1
"""The lot that other prompts are drawn by."""


def weights(run_folder: Path) -> dict[str, Tensor]:
    """Of the network of the stage that a run has trained."""
    parts = sorted((run_folder / "model" / "transformer").glob("*.safetensors"))
    return {name: tensor for part in parts for name, tensor in load_file(part).items()}


def take(stage: Stage, old: dict[str, Tensor], new: dict[str, Tensor], share: float) -> None:
    """``stage`` draws by the mean of two weights from now on, ``share`` of it the ``new``."""
    own = stage.network.state_dict()
    mixed = {name: torch.lerp(old[name].float(), new[name].float(), share) for name in new}
    prefix = "" if set(mixed) == set(own) else "transformer."
    stage.network.load_state_dict({prefix + name: tensor for name, tensor in mixed.items()})


def same_text(old: Path, new: Path) -> bool:
    """Whether two runs have the same text encoder: a mean draws by that of the second, and is written with the mean of both."""
    one, other = (load_file(run / "model" / "text_encoder" / "model.safetensors") for run in (old, new))
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def told(figures: dict) -> dict[str, float]:
    return {
        "captions": figures["seen"]["top1"],
        "objects": figures["compositions"]["object"],
        "words": figures["compositions"]["word"],
    }


def spare(found: dict[str, float]) -> tuple[float, float]:
    """How far ``found`` falls short of the BARS, and then what it has to spare, in standard errors: the larger the better."""
    left = [(found[name] - bar) / SPREAD[name] for name, bar in BARS.items()]
    return sum(min(one, 0.0) for one in left), min(left)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--shares", default="0,0.5,0.6,0.7,0.8,0.9,1", help="of NEW")
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--guidance-interval", type=int, nargs=2, metavar=("LOW", "HIGH"))
    parser.add_argument("--count", type=int, default=200, help="of seen captions; half as many compositions")
    parser.add_argument("--batch", type=int, default=100, help="pictures at a time")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if (options.out / "best").exists():
        parser.error(f"--out {options.out}: has a best already; name another folder")
    if not same_text(options.old, options.new):
        parser.error(f"{options.new}: has learned another text encoder than {options.old}, and means of these are not measured")
    judge, cutouts = open_judge(options.judge, options.device), Cutouts.open(options.data, 80)
    stage = open_cascade(options.new / "model", options.device, stages=1).stages[0]
    old, new = weights(options.old), weights(options.new)
    how = Sampling(guidance=options.guidance, guidance_interval=options.guidance_interval, max_rows=2 * options.batch)

    def draw(prompts: list[str]) -> Tensor:
        parts = [prompts[k : k + options.batch] for k in range(0, len(prompts), options.batch)]
        begins = range(SEED, SEED + len(prompts), options.batch)
        drawn = [
            last(run(generate(part), stage, range(k, k + len(part)), sampling=how)) for k, part in zip(begins, parts, strict=True)
        ]
        return torch.cat(drawn).float()

    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict] = []
    for share in map(float, options.shares.split(",")):
        take(stage, old, new, share)
        figures, other = (measure.judged(judge, cutouts, draw, options.count, lot)[0] for lot in (0, OTHER))
        found = told(figures)
        rows.append({"share": share, **found, "spare": spare(found), "of other prompts": told(other), "figures": figures})
        print(json.dumps({name: value for name, value in rows[-1].items() if name != "figures"}), flush=True)
        (options.out / "means.json").write_text(json.dumps(rows, indent=2) + "\n")
    best = max(rows, key=lambda row: row["spare"])["share"]
    blend = Path(__file__).parent.parent / "tools" / "blend.py"
    command = [sys.executable, blend, options.old, options.new, options.out / "best", "--share", str(best)]
    subprocess.run(list(map(str, command)), check=True)
    print(f"{best:g} of {options.new} is in {options.out / 'best'}")


if __name__ == "__main__":
    main()
