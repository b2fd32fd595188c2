"""What the course's assignment asks for, in both of its editions, and where the page shows it.

``course.tsv`` has a line for each figure, number and formula: the part, the assignment's own number, what is asked for, the
section that shows it, its figures and formulas there, the command that makes it, and the models that it takes: what takes one
of which neither weights nor samples ship is not there yet, and has no section.
"""

from __future__ import annotations

import csv
from collections.abc import Container
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from phosphene.report.samples import place

COURSE = Path(__file__).parent / "course.tsv"


@dataclass(frozen=True)
class Asked:
    """A deliverable: ``section`` is the name of the one that shows it, "" for none yet; ``shown`` are files, without their
    ends, of its figures, and names of its formulas."""

    part: str
    number: str
    what: str
    section: str
    shown: tuple[str, ...]
    command: str


def asked() -> list[Asked]:
    """All that the assignment asks for, in its order."""
    with COURSE.open(encoding="utf-8", newline="") as file:
        return [_row(**row) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


def _row(models: str, section: str, shown: str, **row: str) -> Asked:
    there = all(place(name) for name in models.split())
    return Asked(**row, section=section if there else "", shown=tuple(shown.split()) if there else ())


def checklist(sections: Container[str]) -> list[tuple[str, list[tuple[Asked, bool]]]]:
    """The deliverables of each part, and whether the section that shows them is among ``sections``, those of a page."""
    return [(part, [(each, each.section in sections) for each in group]) for part, group in groupby(asked(), lambda a: a.part)]


def table() -> str:
    """The deliverables as tables in Markdown, a heading for each part: docs/course.md."""
    lines: list[str] = []
    for part, group in groupby(asked(), lambda each: each.part):
        lines += [f"## {part}", "", "| | asked for | section | shown as | command |", "|---|---|---|---|---|"]
        for each in group:
            shown = ", ".join(f"`{name}`" for name in each.shown)
            cells = [each.number, each.what, f"`{each.section}`" if each.section else "not yet", shown]
            lines.append(f"| {' | '.join(cells)} | {f'`{each.command}`' if each.command else 'not yet'} |")
        lines.append("")
    return "\n".join(lines)
