"""What the course's assignment asks for, in both of its editions, and where the page shows it.

``course.tsv`` has a line for each figure, number and formula: the part, the assignment's own number, what is asked for, what of
it a quick page shows where that is less, the sections that show it (the first of them that a page has), its figures and
formulas there, the command that makes it, and the models that it takes: what takes one of which neither weights nor samples
ship is not there yet, and has no section.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from phosphene.report.samples import place

COURSE = Path(__file__).parent / "course.tsv"


@dataclass(frozen=True)
class Asked:
    """A deliverable: ``sections`` are names of those that show it, none for none yet; ``shown`` are files, without their
    ends, of its figures, and names of its formulas; ``quick`` is what a quick page has instead, "" for the same."""

    part: str
    number: str
    what: str
    quick: str
    sections: tuple[str, ...]
    shown: tuple[str, ...]
    command: str


def asked() -> list[Asked]:
    """All that the assignment asks for, in its order."""
    with COURSE.open(encoding="utf-8", newline="") as file:
        return [_row(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def _row(models: str, section: str, shown: str, **row: str) -> Asked:
    there = all(place(name) for name in models.split())
    return Asked(**row, sections=tuple(section.split()) if there else (), shown=tuple(shown.split()) if there else ())


class Line(NamedTuple):
    """A line of a page's checklist: what is asked for, what that page has instead, and the section that shows it, if any."""

    asked: Asked
    instead: str
    section: str


def checklist(quick: Mapping[str, bool]) -> list[tuple[str, list[Line]]]:
    """The deliverables of each part on a page that has the sections ``quick``, by name, each of them made quickly or not."""

    def line(each: Asked) -> Line:
        section = next((name for name in each.sections if name in quick), "")
        return Line(each, each.quick if quick.get(section) else "", section)

    return [(part, [line(each) for each in group]) for part, group in groupby(asked(), lambda each: each.part)]


def table() -> str:
    """The deliverables as tables in Markdown, a heading for each part: docs/course.md."""
    lines: list[str] = []
    for part, group in groupby(asked(), lambda each: each.part):
        lines += [f"## {part}", "", "| | asked for | with --quick | section | shown as | command |", "|---|---|---|---|---|---|"]
        for each in group:
            shown = ", ".join(f"`{name}`" for name in each.shown)
            sections = " or ".join(f"`{name}`" for name in each.sections) or "not yet"
            cells = [each.number, each.what, each.quick, sections, shown]
            lines.append(f"| {' | '.join(cells)} | {f'`{each.command}`' if each.command else 'not yet'} |")
        lines.append("")
    return "\n".join(lines)
