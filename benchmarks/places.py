"""How often do people read a pair, by how well its two things fit among all others? What ``phosphene pairs A B`` says it by.

    python benchmarks/places.py

Of the pairs that people were shown (tools/readings.tsv), by whatever weights, those whose things are on the sheet that ships. The
place is that of tasks/pairs.together: of all other things, how many fit the first less well in that view. They were shown because
judges, or people before, had found something in them; by lot fewer would read.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from phosphene.defaults import CONCEPTS
from phosphene.tasks.pairs import compared, promised, through
from phosphene.tasks.sketches import read
from phosphene.views import view

READINGS = Path(__file__).parent.parent / "tools" / "readings.tsv"
BOUNDS = (0.0, 0.5, 0.75, 0.9, 0.95, 0.98, 1.0)


def main() -> None:
    known = read(CONCEPTS)
    at = {prompt: k for k, prompt in enumerate(known.prompts)}
    said: dict[tuple[str, str, str], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    with READINGS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["first"] in at and row["second"] in at:
                said[row["view"], row["first"], row["second"]][row["reading"]].append(int(row["right"]))
    found = []
    for name in {name for name, *_ in said}:
        promise = promised(*compared(known, known, through(view(name))))
        for (own, first, second), readings in said.items():
            if own == name and len(readings) == 2:
                row = promise[at[first]]
                below = (row < row[at[second]]).sum().item() - (row[at[first]] < row[at[second]]).item()
                both = all(2 * sum(each) > len(each) for each in readings.values())
                found.append((below / (len(row) - 2), both))
    print(f"{len(found)} pairs\n| place | pairs | read both ways |\n|---|---|---|")
    for low, high in zip(BOUNDS, BOUNDS[1:], strict=False):
        own = [both for place, both in found if low <= place < high or place == high == 1]
        print(f"| {low:g} to {high:g} | {len(own)} | {sum(own) / max(len(own), 1):.1%} |")


if __name__ == "__main__":
    main()
