"""Draw pairs of the things on a sheet as anagrams, have judges look, and keep how they read: the table beside the sheet.

    python tools/try_pairs.py --judge retrieval:A --judge retrieval:B --device cuda --batch 384
    python tools/try_pairs.py --judge ... --first everyday.txt --readings tools/readings.tsv --partners 100 8

For each thing its best partners by their sketches (tasks/sketches.py) are drawn from four seeds in few steps; those that read
best are drawn again as the command draws them, from ten seeds, and the best of these pictures is what the table says of the pair.
What a judge reads is a softmax over all things of the sheet; what counts is the weaker reading, by the mean of the judges'
log-probabilities. Judges should have learned from things turned by chance (phosphene train retrieval --turned 0.5): else they
take a car on its roof for whatever they are asked about. Left out are pairs of one thing under two names, such as show both
prompts at once, and things that are hard to name (tools/hard.txt). The table is read where it lies beside its sheet:
concepts.tsv for concepts.png. What people make of the pairs is written into it by tools/name_pairs.py.

What they have said already tells more of a pair than judges do: with ``--readings`` partners are those alone that people know
when they see them in an anagram. ``--first`` names things, a line each, whose pairs are tried, also such as are hard to name.
For other weights than a table was made with, ``--again TABLE`` draws its pairs anew, and no others.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from phosphene.defaults import CONCEPTS, SEED
from phosphene.drawing import Sampling, Task, run
from phosphene.evaluation.matching import Matcher, open_matcher
from phosphene.expression import cond, guide, mean, viewed
from phosphene.models.cascade import open_cascade
from phosphene.models.stage import Stage
from phosphene.sampler import last
from phosphene.tasks import pairs, sketches
from phosphene.tasks.generate import generate
from phosphene.tasks.tried import Tried, experience, read_tried
from phosphene.views import view

PARTNERS = {name: (32, 5) for name in ("flip", "rotate-180", "rotate-90")}
PARTNERS |= {name: (8, 2) for name in ("inner-circle", "jigsaw", "square-hinge")}
"""Of each thing so many are tried in each view, and so many of these again."""
FIRST, THEN = range(SEED, SEED + 4), range(SEED + 6, SEED + 16)
STEPS = (8, 16)
READABLE = 0.2
"""A thing that judges do not take for itself so surely when it is drawn alone is in no pair."""
SAME, APART, LEAST = 0.65, 0.75, 0.02
"""Cosine of two prompts from which on they are one thing; how surely a reading must be told from the other prompt, and read."""

KNOWN, BEFORE = 0.35, 3
"""Partners are what people named in so many of their readings; to those of each thing so many are added of the mean of all."""

Pair = tuple[str, str]


class Found(NamedTuple):
    """Log-probabilities (judges, readings, prompts) of one picture."""

    said: Tensor

    @property
    def reads(self) -> float:
        """How sure the weaker reading is of its own prompt."""
        return float(self.said.mean(0).diagonal().amin().exp())

    @property
    def told_apart(self) -> float:
        """How surely the weaker reading shows its own prompt rather than the other."""
        return float(self.said.mean(0).softmax(1).diagonal().amin())


def batches(jobs: Sequence[tuple], size: int) -> Iterator[tuple[Sequence, Sequence]]:
    """Parts of ``jobs``, and each filled up to ``size``: a network is compiled for one size."""
    for start in range(0, len(jobs), size):
        part = jobs[start : start + size]
        yield part, [*part, *[part[-1]] * (size - len(part))]


class Trial:
    """A stage that draws and judges that look, over the things of a sheet."""

    def __init__(self, stage: Stage, judges: Sequence[Matcher], things: sketches.Concepts, batch: int) -> None:
        self.stage, self.judges, self.things, self.batch = stage, judges, things, batch
        self.at = {prompt: k for k, prompt in enumerate(things.prompts)}
        self.before = len(FIRST)  # so many of what is found of a pair came before it was drawn as the command draws it
        self.texts = [judge.texts(things.prompts) for judge in judges]
        self.found: dict[str, dict[Pair, list[Found]]] = defaultdict(lambda: defaultdict(list))

    def said(self, pictures: Tensor, asked: Sequence[Sequence[str]]) -> Tensor:
        """Log-probabilities (judges, prompts, N): of picture k, those of the prompts ``asked[...][k]`` among all things."""
        own = torch.tensor([[self.at[prompt] for prompt in prompts] for prompts in asked])
        found = []
        for judge, texts in zip(self.judges, self.texts, strict=True):
            scores = (judge.pictures(pictures.float()) @ texts.T * judge.sharpness).log_softmax(1).cpu()
            found.append(scores.gather(1, own.T).T)
        return torch.stack(found)

    def alone(self) -> Tensor:
        """How surely each thing is read that is drawn alone, (things,)."""
        how = Sampling("dpm", STEPS[0], guidance=self.things.guidance, max_rows=4 * self.batch)
        jobs, sure = [(prompt, seed) for prompt in self.things.prompts for seed in FIRST], []
        for part, whole in batches(jobs, 2 * self.batch):
            prompts, seeds = zip(*whole, strict=True)
            pictures = last(run(generate(prompts), self.stage, seeds, sampling=how))[: len(part)]
            sure.append(self.said(pictures, [prompts[: len(part)]]).mean(0)[0].exp())
        return torch.cat(sure).view(-1, len(FIRST)).mean(1)

    def draw(self, todo: Sequence[Pair], name: str, seeds: Sequence[int], steps: int) -> None:
        """Draw each pair from ``seeds`` in the view ``name``, and keep what judges say."""
        how = Sampling("dpm", steps, guidance=self.things.guidance, max_rows=4 * self.batch)
        turn = view(name)
        for part, whole in batches([(*pair, seed) for pair in todo for seed in seeds], self.batch):
            firsts, seconds, own = zip(*whole, strict=True)

            def asks(_: Stage, scale: float, firsts=firsts, seconds=seconds):
                return mean(guide(cond(*firsts), scale=scale), viewed(guide(cond(*seconds), scale=scale), turn))

            drawn = last(run(Task(asks), self.stage, own, sampling=how))[: len(part)].clamp(-1, 1)
            asked = [firsts[: len(part)], seconds[: len(part)]]
            said = torch.stack([self.said(drawn, asked), self.said(turn.apply(drawn), asked)], 1)
            for k, (first, second, _) in enumerate(part):
                self.found[name][first, second].append(Found(said[..., k]))

    def reads(self, name: str, pair: Pair) -> float:
        """How a pair reads that was drawn from the FIRST seeds, in the mean."""
        own = self.found[name][pair][: len(FIRST)]
        return sum(found.reads for found in own) / len(own)

    def again(self, name: str, count: int, wanted: Collection[str]) -> list[Pair]:
        """Of each thing of ``wanted`` the ``count`` pairs that read best."""
        of, either = defaultdict(list), _undoes_itself(name)
        for pair in self.found[name]:
            for thing in pair if either else pair[:1]:
                if thing in wanted:
                    of[thing].append(pair)
        best = (sorted(own, key=lambda pair: -self.reads(name, pair))[:count] for own in of.values())
        return sorted({pair for own in best for pair in own}, key=lambda pair: -self.reads(name, pair))

    def table(self) -> list[Tried]:
        """What was found of pairs that were drawn again, less what is no pair."""
        alike = sum(texts @ texts.T for texts in self.texts).cpu() / len(self.texts)
        rows = []
        for name, tried in self.found.items():
            for (first, second), own in tried.items():
                again = own[self.before :]
                if not again or alike[self.at[first], self.at[second]] >= SAME:
                    continue
                seed, best = max(zip(THEN, again, strict=False), key=lambda one: one[1].reads)
                if best.told_apart >= APART and best.reads >= LEAST:
                    rows.append(Tried(name, first, second, best.reads, len(again), seed))
        return sorted(rows, key=lambda row: (row.view, row.first, -row.reads))


def _undoes_itself(name: str) -> bool:
    return ("b", "a") in experience([Tried(name, "a", "b", 1.0, 1)], view(name))


def candidates(things: sketches.Concepts, name: str, wanted: Tensor, partners: Tensor, count: int) -> list[Pair]:
    """Of each ``wanted`` thing (things,) the ``count`` best of its ``partners`` in the view ``name``, by their sketches.

    No pair twice where it is the same either way round.
    """
    promise = pairs.promised(*pairs.compared(things, things, pairs.through(view(name))))
    promise[:, ~partners] = promise[~wanted] = -torch.inf
    promise.fill_diagonal_(-torch.inf)
    either, chosen = _undoes_itself(name), {}
    for a, row in enumerate(promise):
        for b in row.topk(min(count, len(row) - 1)).indices.tolist():
            if row[b] > -torch.inf and not (either and (b, a) in chosen):
                chosen[a, b] = None
    return [(things.prompts[a], things.prompts[b]) for a, b in chosen]


def known(path: Path, prompts: Sequence[str]) -> Tensor:
    """In what share of its readings people named each of ``prompts``, (prompts,), by the table of readings in ``path``."""
    right = defaultdict(list)
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            right[row["first"] if row["reading"] == "1" else row["second"]].append(int(row["right"]))
    mean_of_all = sum(map(sum, right.values())) / sum(map(len, right.values()))
    return torch.tensor([(sum(right[each]) + BEFORE * mean_of_all) / (len(right[each]) + BEFORE) for each in prompts])


def write(rows: Sequence[Tried], path: Path) -> None:
    lines = ["\t".join(Tried._fields)]
    for row in rows:
        shown = {"reads": f"{row.reads:.2f}", "share": "" if row.share is None else f"{row.share:.2f}"}
        cells = row._replace(**shown, named="" if row.named is None else row.named)
        lines.append("\t".join(map(str, cells)))
    path.write_text("\n".join(lines) + "\n")


def draw_again(trial: Trial, rows: Sequence[Tried]) -> Iterator[str]:
    """The pairs of ``rows``, from the seeds of which the best is kept; what was done, view by view."""
    trial.before = 0
    for name in dict.fromkeys(row.view for row in rows):
        todo = [row[1:3] for row in rows if row.view == name]
        trial.draw(todo, name, THEN, STEPS[1])
        yield f"{name}: {len(todo)} pairs again"


def draw_new(trial: Trial, options: argparse.Namespace) -> Iterator[str]:
    """Pairs of all things, or of some, by what their sketches promise; what was done, view by view."""
    things = trial.things
    easy = torch.tensor([prompt not in things.hard for prompt in things.prompts])
    wanted = partners = (trial.alone() >= READABLE) & easy
    if options.readings:
        partners = partners & (known(options.readings, things.prompts) >= KNOWN)
    if options.first:
        named = options.first.read_text(encoding="utf-8").split("\n")
        wanted = torch.tensor([prompt in named for prompt in things.prompts])
    yield f"{int(partners.sum())} partners for {int(wanted.sum())} of {len(things.prompts)} things"
    asked = {prompt for prompt, each in zip(things.prompts, wanted.tolist(), strict=True) if each}
    for name in PARTNERS:
        tries, again = options.partners or PARTNERS[name]
        trial.draw(todo := candidates(things, name, wanted, partners, tries), name, FIRST, STEPS[0])
        trial.draw(trial.again(name, again, asked), name, THEN, STEPS[1])
        shares = [trial.reads(name, pair) for pair in todo] or [0.0]
        yield f"{name}: {len(todo)} pairs, {sum(shares) / len(shares):.2f} in the mean"


def keep(trial: Trial, done: Iterator[str], out: Path) -> None:
    """Write the table anew whenever something is ``done``, for a machine may be taken away."""
    for said in done:
        write(trial.table(), out)
        print(said, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--concepts", type=Path, default=CONCEPTS, help="a sheet of tools/concept_sheet.py")
    parser.add_argument("--judge", action="append", required=True, help="retrieval:FOLDER or clip:MODEL; several are asked")
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16, help="pictures at a time")
    parser.add_argument("--things", type=int, help="try so many alone, the first")
    parser.add_argument("--first", type=Path, metavar="FILE", help="try pairs of these things alone, a line each")
    parser.add_argument("--readings", type=Path, metavar="FILE", help="partners are what people named there")
    parser.add_argument("--partners", type=int, nargs=2, metavar=("N", "AGAIN"), help="of each thing, in every view")
    parser.add_argument("--again", type=Path, metavar="TABLE", help="draw its pairs anew, with these weights")
    parser.add_argument("--out", type=Path, default=Path("tried.tsv"))
    options = parser.parse_args()
    if options.again is not None and not options.again.is_file():
        parser.error(f"--again {options.again}: is no file; name a table that was made before")
    things = sketches.read(options.concepts)
    things = things._replace(prompts=things.prompts[: options.things], sketches=things.sketches[: options.things])
    cascade = open_cascade(options.model, options.device, stages=1)
    cascade.encode([None, *things.prompts])
    stage = cascade.stages[0]
    if options.device != "cpu":
        stage.network.compile()
    trial = Trial(stage, [open_matcher(name, options.device) for name in options.judge], things, options.batch)
    done = draw_again(trial, read_tried(options.again, things.prompts)) if options.again else draw_new(trial, options)
    keep(trial, done, options.out)
    print(f"{len(trial.table())} pairs in {options.out}")


if __name__ == "__main__":
    main()
