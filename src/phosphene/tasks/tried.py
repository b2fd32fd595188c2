"""Pairs of prompts that were drawn as anagrams and judged beforehand: a table beside the sheet (``tools/try_pairs.py``)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
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

    ``reads``: how surely judges took the weaker reading of the best of ``seeds`` pictures for what was asked, 0..1.
    ``seed``: that of this picture; None where the pair is another's, turned round: its pictures are others.
    ``named``: how many of its two readings people called by their names who did not know them, more than half of those who were
    asked; None where nobody was asked.
    ``share``: of those who were asked, how many named the reading that fewer did, as (1 + named) / (2 + asked), so that two of
    two count less than four of four (Laplace's rule of succession); None where nobody was asked.
    """

    view: str
    first: str
    second: str
    reads: float
    seeds: int
    seed: int | None = None
    named: int | None = None
    share: float | None = None

    @property
    def worth(self) -> float:
        """What tried pairs are ordered by: what people read before what judges do, and what people did not read last, both by how
        many did. Judges decide what people do not: hundredths of theirs."""
        by_people = self.reads if self.share is None else self.share + self.reads / 100
        return self.reads if self.named is None else by_people + (-2, -1, 1)[self.named]


def readable(tried: Iterable[Tried]) -> float:
    """The share of pairs of which people named both readings, of those that they were shown, 0..1; of few it says little."""
    asked = [pair.named == 2 for pair in tried if pair.named is not None]
    return sum(asked) / (len(asked) + 4)


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
            asked = int(cells[6]) if cells[6] else None
            share = float(cells[7]) if cells[7] else None
            pair = Tried(cells[0], cells[1], cells[2], float(cells[3]), int(cells[4]), int(cells[5]), asked, share)
            exists(pair.view)
            fits = number > 1 and len(cells) == len(Tried._fields) and {pair.first, pair.second} <= known
            fits = fits and 0 <= pair.reads <= 1 and 0 <= pair.seed < 2**63 and pair.named in (None, 0, 1, 2)
            fits = fits and (share is None or 0 <= share <= 1)
        except (ValueError, IndexError):
            fits = False
        if not fits:
            raise UserError(f"{path}: line {number} is no pair of the things on the sheet; {AGAIN}.")
        found.append(pair)
    return tuple(found)


def experience(tried: Sequence[Tried], through: View | None) -> dict[tuple[str, str], Tried]:
    """The pairs that were ``tried`` in the view ``through``, by their first and second prompt.

    A picture is tried in two views at once: what shows b where it is turned to the left shows a where b is turned to the right.
    """
    found: dict[tuple[str, str], Tried] = {}
    if through is None:
        return found
    x = torch.arange(3.0 * REFERENCE_SIZE**2).view(1, 3, REFERENCE_SIZE, REFERENCE_SIZE)
    shown, views = through.apply(x), {name: view(name) for name in {pair.view for pair in tried}}
    same = {name for name, v in views.items() if torch.equal(v.apply(x), shown)}
    turned = {name for name, v in views.items() if torch.equal(v.invert(x), shown)}
    for pair in tried:
        other = pair._replace(first=pair.second, second=pair.first, seed=None)
        for one in [pair] * (pair.view in same) + [other] * (pair.view in turned):
            known = found.setdefault(one[1:3], one)
            if one.worth > known.worth:
                found[one[1:3]] = one
    return found


def best_tried(tried: Sequence[Tried], prompt: str | None, count: int, hard: Collection[str] = ()) -> list[Tried]:
    """The ``count`` pairs that are worth most of all views, those with ``prompt`` as one of the two, if it is given.

    No pair stands there twice, none that hardly reads to judges and was not named by people, and none with what is ``hard`` to
    name, but for the prompt.
    """
    found: dict[frozenset[str], Tried] = {}
    unfit = frozenset(hard)
    for pair in sorted(tried, key=lambda pair: -pair.worth):
        both = frozenset(pair[1:3])
        reads = pair.reads >= WORTH or pair.named == 2
        if reads and (prompt is None or prompt in both) and not (both - {prompt}) & unfit:
            found.setdefault(both, pair)
    return list(found.values())[:count]
