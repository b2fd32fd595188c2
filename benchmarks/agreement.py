"""What helps the readings of an anagram to agree: each means beside plain sampling, on the same pairs, seeds and steps.

    python benchmarks/agreement.py [--steps 12] [--seeds 4] [--guidance 7] [--weak MODEL] [--json FILE]

Ordinary words, none chosen to suit the model, and no picture left out. The judge is the denoiser itself (tasks/score.py), on
noise that no weights were steered by; it errs, and favours what its own network finds easy. A picture reads both ways
where each reading, seen in its view, is more surely its own prompt than any other and than none (more than one half).
Differences from plain are of the same pair and seed; beside each stands its standard error.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from phosphene.autoguidance import Autoguided, without_block
from phosphene.defaults import SKIP
from phosphene.drawing import Sampling, run
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.anagram import anagram
from phosphene.tasks.score import Score, score
from phosphene.views import view

SEED, JUDGED_FROM = 180, 1000
PAIRS = (
    ("a cat", "a teapot", "flip"),
    ("a house", "a dog", "flip"),
    ("an apple", "an owl", "rotate-90"),
    ("a fish", "a tree", "rotate-90"),
    ("a car", "a flower", "rotate-180"),
    ("a horse", "a guitar", "rotate-180"),
    ("the moon", "a bear", "negate"),
    ("a shoe", "a bird", "negate"),
)
PLAIN = "plain"
METHODS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    PLAIN: ({}, {}, ""),
    "--guidance-interval 200,800": ({}, {"guidance_interval": (200, 800)}, ""),
    "--guidance-parallel 0": ({}, {"guidance_parallel": 0.0}, ""),
    "--rectify": ({"rectified": True}, {}, ""),
    "--weights auto": ({"weights": "auto"}, {}, ""),
    "--last identity:2": ({"last": "identity:2"}, {}, ""),
}
TRIED = (("skip:2", (1.5, 2.0, 3.0)), ("skip:3", (2.0,)), ("skip:5", (2.0, 3.0)), ("WEAK", (2.0, 3.0, 5.0)))
METHODS |= {
    f"--autoguidance {weak} --guidance {scale:g}": ({}, {"guidance": scale}, weak) for weak, scales in TRIED for scale in scales
}
"""Each on the command line, as arguments of the task, as fields of the sampling, and the weaker network, if there is one."""


class Counted:
    """A stage that counts the rows it is asked for."""

    def __init__(self, stage: Any) -> None:
        self.stage, self.rows = stage, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stage, name)

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Any:
        self.rows += len(embedding)
        return self.stage(x, t, embedding)


def drawn(
    stage: Any, weaker: dict[str, Any], pair: tuple[str, str, str], method: str, seeds: range, sampling: Sampling
) -> tuple[Score, int]:
    """What the judge says of the pictures of ``pair``, and the rows that drawing them took."""
    *prompts, name = pair
    of_the_task, of_the_sampling, weak = METHODS[method]
    counted, other = Counted(stage), Counted(weaker[weak])
    asked = Autoguided(counted, other, weak) if weak else counted
    task = anagram(prompts, [name], **of_the_task)
    pictures = last(run(task, asked, seeds, sampling=sampling._replace(**of_the_sampling)))
    looks = [view("identity").apply, view(name).apply]
    return score(stage, pictures, prompts, looks, seed=JUDGED_FROM), counted.rows + other.rows


def difference(values: list[float], plain: list[float]) -> str:
    """The mean of the differences and its standard error, in thousandths."""
    apart = [1000 * (a - b) for a, b in zip(values, plain, strict=True)]
    return f"{statistics.mean(apart):+.1f} ± {statistics.stdev(apart) / math.sqrt(len(apart)):.1f}"


def table(found: dict[str, dict[str, list[float]]], seeds: int) -> list[str]:
    """The rows of a table in Markdown."""
    lines = [
        "| | alignment | against plain, ‰ | concealment | against plain, ‰ | both ways | pairs with one that does | rows |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method, of in found.items():
        reads = [w > 0.5 for w in of["worst"]]
        pairs = [any(reads[k : k + seeds]) for k in range(0, len(reads), seeds)]
        cells = [PLAIN if method == PLAIN else f"`{method}`"]
        for what in ("alignment", "concealment"):
            cells += [f"{statistics.mean(of[what]):.3f}"]
            cells += ["" if method == PLAIN else difference(of[what], found[PLAIN][what])]
        cells += [f"{sum(reads)} of {len(reads)}", f"{sum(pairs)} of {len(pairs)}"]
        cells += [f"{statistics.mean(of['rows']):.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--guidance", type=float, default=7.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--weak", help="a cascade trained for less long, that --autoguidance is tried with")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cascade = open_cascade("glyph", options.device, stages=1)
    words = [None, *dict.fromkeys(word for pair in PAIRS for word in pair[:2])]
    cascade.encode(words)
    sampling = Sampling("dpm", options.steps, guidance=options.guidance, max_rows=64)
    seeds = range(SEED, SEED + options.seeds)
    (stage,) = cascade.stages
    skipped = {of[2] for of in METHODS.values() if of[2].startswith(SKIP)}
    weaker = {"": stage} | {name: without_block(stage, name) for name in skipped}
    if options.weak:
        weak = open_cascade(options.weak, options.device, stages=1)
        weak.encode(words)
        weaker["WEAK"] = weak.stages[0]
    methods = [method for method, of in METHODS.items() if of[2] in weaker]
    found: dict[str, dict[str, list[float]]] = {
        method: {what: [] for what in ("alignment", "concealment", "worst", "rows")} for method in methods
    }
    for pair in PAIRS:
        for method, of in found.items():
            said, rows = drawn(stage, weaker, pair, method, seeds, sampling)
            for what in ("alignment", "concealment", "worst"):
                of[what] += getattr(said, what).tolist()
            of["rows"].append(rows / len(seeds))
        print(", ".join(pair), flush=True)
        if options.json:  # after each, for a machine may be taken away
            options.json.write_text(json.dumps(found, indent=2) + "\n")
    print("\n".join(table(found, len(seeds))))
    print(f"torch {torch.__version__}")


if __name__ == "__main__":
    main()
