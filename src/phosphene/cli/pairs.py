"""``phosphene pairs``: which prompts can share one picture."""

from __future__ import annotations

import json
import shlex
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common, options
from phosphene.cli.common import app
from phosphene.cli.drawing import Drawing
from phosphene.defaults import CASCADE, CONCEPTS, HYBRIDS, VIEWS
from phosphene.errors import UserError
from phosphene.files import is_file, write_text
from phosphene.notation import require_second, require_sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from phosphene.models.stage import Stage
    from phosphene.tasks.pairs import Pair
    from phosphene.tasks.sketches import Concepts
    from phosphene.tasks.tried import Tried


MEANS = {
    "fit": "how alike their sketches are as the illusion shows them, -1 to 1",
    "alike": "the same where they should differ",
    "reads": "how surely judges find both in the best picture, 0 to 1",
    "seeds": "how many were tried",
    "seed": "that of the best",
    "place": "of all things that are known, how many share a picture with the first less well in this view, 0 to 1",
    "named": "how many of its two readings most people named who did not know them",
    "share": "how likely the next one names the reading that fewer named: (1 + who did) / (2 + who were asked)",
    "alignment": "of the denoiser, how surely it finds the weaker reading",
    "concealment": "how well it tells the two apart",
    "worst": "how surely it finds what it finds least",
}
"""What the columns say."""
HARDLY = 0.5
"""Pairs with a place below were read both ways by hardly anybody; see :func:`phosphene.tasks.pairs.together`."""


_is_sheet = options.there("make a sheet with tools/concept_sheet.py, or leave it out", "no such file", is_file)


@app.command()
def pairs(
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT]", help="The first of two, or one of them where no --view is named; left out: the best of all."
        ),
    ] = None,
    second: Annotated[
        str | None, typer.Argument(metavar="[SECOND]", help="The other of the two: in which view they share a picture best.")
    ] = None,
    view: Annotated[str | None, typer.Option(help="Of an anagram: flip, rotate-90, ...; see phosphene anagram.")] = None,
    kind: Annotated[str | None, options.chosen(HYBRIDS, "of a hybrid, in the place of --view")] = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="Pairs to list.")] = 12,
    rerank: Annotated[
        int,
        typer.Option(min=0, max=1000, help="So many of the best the model itself orders anew; a second or two each on a CPU."),
    ] = 0,
    concepts: Annotated[
        Path | None, options.checked("A sheet of sketches by tools/concept_sheet.py; by default glyph's.", _is_sheet)
    ] = None,
    model: options.CascadeName = CASCADE,
    embeddings: options.Embeddings = None,
    text_encoder: options.TextEncoder = "auto",
    device: options.Device = "auto",
    figures: Annotated[Path | None, options.checked("Write the pairs.", options.is_writable, "--json")] = None,
) -> None:
    """List the prompts that can share one picture: an anagram seen in a --view, or a hybrid of a --kind.

    They are looked for among the broad shapes of many things as the model begins to draw them; those that were tried and read
    come first. A PROMPT that is none of those is drawn on the spot. With neither: the best that were tried, in whatever view; of
    two prompts: the views in which they share a picture best.
    """
    require_sharing(view, kind, prompt)
    if rerank and view is None and kind is None:
        raise UserError(f"--rerank {rerank}: is of one --view or --kind; name one, or leave it out.")
    require_second(second, view, kind)
    sheet = concepts or CONCEPTS
    from phosphene.tasks.sketches import read

    how = {"embeddings": embeddings, "text_encoder": text_encoder}
    drawing = Drawing(model=model, device=device, upscale=False, **how)
    known = read(sheet)
    found = _found(known, prompt, second, view, kind, count, rerank, drawing)
    if not found:
        raise UserError(f"--concepts {sheet}: has too few things that can be named; take another sheet.")
    way = ["hybrid", "--kind", kind] if kind is not None else ["anagram", "--view", view or found[0].view]
    drawn = ["--best-of", "16"] if found[0].seed is None else ["--seed", str(found[0].seed)]
    command, which = [way[0], found[0].first, found[0].second, *way[1:], *drawn], "the first of them"
    if kind is None and (turned := _turned(found[0], way[2], known.tried)) is not None:
        command = ["anagram", turned.first, turned.second, "--view", turned.view, "--seed", str(turned.seed)]
        which = "the first of them, the other way round,"
    _show(found, command, which, [] if concepts is None else ["--concepts", str(concepts)])
    if figures is not None:
        arguments = {"prompt": prompt, "second": second, "view": view, "kind": kind, "rerank": rerank, "concepts": sheet.name}
        story = common.provenance("pairs", model, arguments)
        write_text(figures, json.dumps({**story, "pairs": [pair._asdict() for pair in found]}, indent=2) + "\n")
        common.say(f"pairs in {figures}")


def _found(
    known: Concepts,
    prompt: str | None,
    second: str | None,
    view: str | None,
    kind: str | None,
    count: int,
    rerank: int,
    drawing: Drawing,
) -> list[Pair] | list[Tried]:
    """What is listed: two prompts in all views, one or none in one way or in what was tried; UserError where nothing was."""
    from phosphene.tasks import pairs as task
    from phosphene.tasks.sketches import bare
    from phosphene.views import view as named

    def opened(asked: Sequence[str | None]) -> Stage:
        return drawing.open(asked).stages[0]

    if second is not None:
        return task.together(known, prompt, second, VIEWS[1:], opened=opened)[:count]
    if view is not None or kind is not None:
        sharing = task.parted(kind) if view is None else task.through(named(view))
        return task.suggested(known, sharing, count, prompt, rerank=rerank, opened=opened)
    if found := task.anywhere(known, prompt, count):
        return found
    if prompt is not None and known.of(prompt) is None:
        called = {bare(each): each for each in known.prompts}
        near = [called[each] for each in get_close_matches(bare(prompt), called, 1, 0.75)]
        meant = f"did you mean {near[0]!r}? Else" if near else "name another, or"
        raise UserError(f"PROMPT {prompt!r}: is none of the {len(known.prompts)} things that are known; {meant} give a --view.")
    of = "is missing" if prompt is None else f"of {prompt!r} nothing that reads is known yet"
    raise UserError(f"--view: {of}; name one of {', '.join(VIEWS[1:])}, or a --kind of hybrid.")


def _turned(pair: Pair | Tried, through: str, tried: Sequence[Tried]) -> Tried | None:
    """What ``pair`` in the view ``through`` is the other way round of, where that was ``tried`` and not it."""
    if pair.reads is None or pair.seed is not None:
        return None
    from phosphene.tasks.tried import experience
    from phosphene.views import view as named

    own = (each for each in tried if (each.second, each.first, each.reads) == (pair.first, pair.second, pair.reads))
    return next((each for each in own if (pair.first, pair.second) in experience([each], named(through))), None)


def _show(found: Sequence[Pair | Tried], command: Sequence[str], which: str, known: Sequence[str]) -> None:
    """A table of the pairs, the ``command`` that draws ``which``, and what else is asked of the things that are ``known``."""
    names = ["first", "second", *(name for name in found[0]._fields if name not in ("first", "second"))]
    columns = [name for name in names if any(getattr(pair, name) is not None for pair in found)]
    common.table(columns, [[_cell(getattr(pair, name)) for name in columns] for pair in found], left=2)
    common.say("\n".join(f"{name}: {MEANS[name]}" for name in columns if name in MEANS))
    lead = f"{which} is drawn" if found[0].reads is not None else f"{which}, which was not tried, is drawn"
    if found[0].named in (0, 1):
        lead = f"people read none of these both ways; name a --view for what was not tried; {which} is drawn"
    place = getattr(found[0], "place", None)
    if place is not None and place < HARDLY and found[0].reads is None:
        better = shlex.join(["phosphene", "pairs", found[0].first, "--view", found[0].view, *known])
        common.say(f"of pairs with so low a place people read 2 in 100 both ways: these two hardly do; for what does: {better}")
    common.say(f"{lead} by: phosphene {shlex.join(command)}")


def _cell(value: str | float | None) -> str:
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
