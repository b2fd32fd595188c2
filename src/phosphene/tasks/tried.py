"""Pairs of prompts that were drawn as anagrams and judged beforehand: a table beside the sheet (``tools/try_pairs.py``)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from phosphene.errors import UserError
from phosphene.files import is_file
from phosphene.frequency import REFERENCE_SIZE
from phosphene.readers import read_lines
from phosphene.views import View, view

WORTH = 0.05
"""A pair that reads less surely is not worth trying again."""
AGAIN = "make it again with tools/try_pairs.py, or remove it"


class Tried(NamedTuple):
    """An anagram of ``first`` as it is and ``second`` through ``view``.

    ``reads``: how surely judges took the weaker of the readings for what was asked, 0..1, in the mean over ``seeds`` pictures.
    """

    view: str
    first: str
    second: str
    reads: float
    seeds: int


def read_tried(path: Path, prompts: Collection[str]) -> tuple[Tried, ...]:
    """The table in ``path``, of pairs of ``prompts``; nothing where there is no such file.

    UserError where it is no such table.
    """
    if not is_file(path):
        return ()
    known, exists, found = set(prompts), cache(view), []
    for number, line in enumerate(read_lines(path, str(path), AGAIN), 1):
        cells = line.split("\t")
        if number == 1 and tuple(cells) == Tried._fields:
            continue
        try:
            pair = Tried(cells[0], cells[1], cells[2], float(cells[3]), int(cells[4]))
            exists(pair.view)
            fits = number > 1 and len(cells) == len(Tried._fields) and {pair.first, pair.second} <= known and 0 <= pair.reads <= 1
        except (ValueError, IndexError):
            fits = False
        if not fits:
            raise UserError(f"{path}: line {number} is no pair of the things on the sheet; {AGAIN}.")
        found.append(pair)
    return tuple(found)


def experience(tried: Sequence[Tried], through: View | None) -> dict[tuple[str, str], float]:
    """Of the pairs that were ``tried`` in the view ``through``, first and second prompt, how they read.

    A picture is tried in two views at once: what shows b where it is turned to the left shows a where b is turned to the right.
    """
    found: dict[tuple[str, str], float] = {}
    if through is None:
        return found
    x = torch.arange(3.0 * REFERENCE_SIZE**2).view(1, 3, REFERENCE_SIZE, REFERENCE_SIZE)
    shown, views = through.apply(x), {name: view(name) for name in {pair.view for pair in tried}}
    same = {name for name, v in views.items() if torch.equal(v.apply(x), shown)}
    turned = {name for name, v in views.items() if torch.equal(v.invert(x), shown)}
    for pair in tried:
        both = [pair[1:3]] * (pair.view in same) + [pair[2:0:-1]] * (pair.view in turned)
        for prompts in both:
            found[prompts] = max(pair.reads, found.get(prompts, 0.0))
    return found


def best_tried(tried: Sequence[Tried], prompt: str | None, count: int, hard: Collection[str] = ()) -> list[Tried]:
    """The ``count`` pairs that read best of all views, those with ``prompt`` as one of the two, if it is given.

    No pair stands there twice, none that hardly reads, and none with what is ``hard`` to name, but for the prompt itself.
    """
    found: dict[frozenset[str], Tried] = {}
    unfit = frozenset(hard)
    for pair in sorted(tried, key=lambda pair: -pair.reads):
        both = frozenset(pair[1:3])
        if pair.reads >= WORTH and (prompt is None or prompt in both) and not (both - {prompt}) & unfit:
            found.setdefault(both, pair)
    return list(found.values())[:count]
