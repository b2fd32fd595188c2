"""``phosphene evaluate anagrams``: how well the anagrams of a model read, as papers tell it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common, options
from phosphene.cli.drawing import Drawing, Scale, Solver, Steps
from phosphene.cli.measure import evaluate
from phosphene.defaults import CASCADE, PAPER_VIEWS, SEED
from phosphene.errors import UserError
from phosphene.files import write_text
from phosphene.notation import judge_parts, require_sharing

if TYPE_CHECKING:
    from phosphene.models.cascade import Cascade

JUDGED = (
    "A and C are the means of alignment and concealment; a tenth of the pictures is above A.9 and C.9. denoiser is the network "
    "that drew them, and compares with no other network's; retrieval is a model of ours; clip is what papers ask."
)


def _is_view(option: str, value: str) -> None:
    require_sharing(value, None, None)


def _is_judge(option: str, value: str) -> None:
    kind, where = judge_parts(value)
    if kind == "retrieval" and not Path(where).is_dir():
        raise UserError(f"{option} {value}: no such folder; name one that phosphene train retrieval wrote.")


def _are_pairs(option: str, value: Path) -> None:
    from phosphene.readers import read_pairs_file

    read_pairs_file(value, option)


class _Judged(Drawing):
    """What is drawn to be judged: the second stage only where it is asked for."""

    def require_use(self, cascade: Cascade) -> None:
        super().require_use(cascade)
        if self.upscale and len(cascade.stages) == 1:
            raise UserError(f"--upscale: is of a second stage, and {self.model} has none; leave it out.")


@evaluate.command("anagrams")
def evaluate_anagrams(
    pairs: Annotated[
        Path | None,
        options.checked("Text: two prompts a line, a comma between. By default 45 pairs of CIFAR-10.", _are_pairs),
    ] = None,
    view: Annotated[
        list[str] | None, options.checked(f"Several may be named; by default {', '.join(PAPER_VIEWS)}.", _is_view)
    ] = None,
    judge: Annotated[
        list[str] | None,
        options.checked("denoiser (by default), retrieval:FOLDER or clip:MODEL; several may be named.", _is_judge),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Pictures of each pair in each view.")] = 1,
    model: options.CascadeName = CASCADE,
    upscale: Annotated[
        bool, typer.Option("--upscale", help="Judge what the second stage makes; the denoiser never does.")
    ] = False,
    solver: Solver = None,
    steps: Steps = None,
    guidance: Scale = None,
    seed: options.Seed = SEED,
    embeddings: options.Embeddings = None,
    device: options.Device = "auto",
    figures: options.Figures = None,
) -> None:
    """Measure how well anagrams read: alignment and concealment (Geng et al. 2024), of all pictures, none chosen.

    Seeds are the same for every pair and view.
    """
    views, judges = list(dict.fromkeys(view or PAPER_VIEWS)), list(dict.fromkeys(judge or ["denoiser"]))
    if upscale and judges == ["denoiser"]:
        raise UserError("--upscale: changes nothing that the denoiser judges; name another --judge too, or leave it out.")
    from phosphene.readers import read_pairs_file
    from phosphene.tasks import anagram_table as task

    asked = task.cifar_pairs() if pairs is None else read_pairs_file(pairs, "--pairs")
    how = {"solver": solver, "steps": steps, "guidance": guidance, "seed": seed, "upscale": upscale}
    drawing, place = _Judged(model=model, device=device, embeddings=embeddings, **how), common.place(device)
    named = {name: task.judge_named(name, place.device) for name in judges}
    cascade = drawing.open([None, *dict.fromkeys(prompt for pair in asked for prompt in pair)])
    used = drawing.sampling().of(cascade.stages[0])
    how |= {"solver": used.solver, "steps": used.steps, "guidance": used.guidance}
    todo = [(name, pair) for name in views for pair in asked]
    own = []
    with common.bar("measuring") as advance:
        for index in place.share(len(todo)):
            advance(index, len(todo), f"{todo[index][0]}, {' / '.join(todo[index][1])}")
            own.append(task.rated(cascade, *todo[index], named, range(seed, seed + count), used))
    found = [one for several in place.dealt(own, len(todo)) for one in several]
    _tell(task.table(found))
    if figures is not None and place.leads:
        story = common.provenance("evaluate anagrams", model, {**how, "views": views, "count": count})
        told = {"machine": common.machine(place.device), "date": common.now(), "table": [r._asdict() for r in task.table(found)]}
        write_text(figures, json.dumps({**story, **told, "pairs": [one._asdict() for one in found]}, indent=2) + "\n")
        common.say(f"figures in {figures}")


def _tell(rows: list) -> None:
    """The table, and what it means."""
    cells = [[row.view, row.judge, str(row.pictures), *(f"{value:.3f}" for value in row[3:])] for row in rows]
    common.table(["view", "judge", "pictures", "A", "A.9", "C", "C.9"], cells, left=2)
    common.say(JUDGED)
