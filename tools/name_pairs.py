"""Have people name what pairs of a table show, and write into it how many readings of each they named.

    python tools/name_pairs.py concepts.tsv --each 2 --parts 12 --out blind
    python tools/name_pairs.py concepts.tsv --judged blind/judged.tsv --out blind --readings readings.tsv

The first draws the best pairs of each thing that nobody was asked about, by their seeds (tools/try_pairs.py), and writes numbered
pictures in shuffled order: blind/1/sheet-1.png, ... are for the first of so many people, who know nothing. Each sees one reading
of a pair and no other of it. The second is given what they said, compared with blind/key.json by somebody who saw no picture:
each line a number, then 1 or 0 for "the first name means what was asked for" (what they say lies on its side or its head is 0),
then the name. It adds that to all that was ever said of pictures by these weights (tools/readings.tsv has other weights', too:
``--since`` the line where these begin), and counts what is said of each picture that the table shows.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from try_pairs import write

from phosphene.drawing import run
from phosphene.errors import UserError
from phosphene.images import save_png, sheet, to_images
from phosphene.models.cascade import Cascade, open_cascade
from phosphene.sampler import last
from phosphene.tasks.anagram import anagram
from phosphene.tasks.sketches import read
from phosphene.tasks.tried import Tried
from phosphene.views import view

CELL, COLUMNS, ROWS = 192, 5, 4
READINGS = Path(__file__).parent / "readings.tsv"
HEAD = ("view", "first", "second", "seed", "reading", "named", "right")


def chosen(tried: Sequence[Tried], each: int) -> list[Tried]:
    """Of each thing the ``each`` best pairs, whatever the view, less those that people were asked about."""
    of: dict[str, list[Tried]] = defaultdict(list)
    for pair in sorted(tried, key=lambda pair: -pair.reads):
        for thing in pair[1:3]:
            of[thing].append(pair)
    best = {pair: None for own in of.values() for pair in own[:each]}
    return [pair for pair in best if pair.named is None]


def dealt(pairs: Sequence[Tried], parts: int, chance: random.Random) -> list[list[tuple[Tried, int]]]:
    """Readings (pair, 0 or 1) for each of ``parts`` people, in shuffled order: none sees both readings of a pair."""
    found: list[list[tuple[Tried, int]]] = [[] for _ in range(parts)]
    for k, pair in enumerate(chance.sample(pairs, len(pairs))):
        other = (k + chance.randrange(1, parts)) % parts
        for which, part in enumerate(chance.sample((k % parts, other), 2)):
            found[part].append((pair, which))
    return [chance.sample(part, len(part)) for part in found]


def readings(cascade: Cascade, pair: Tried) -> list[Image.Image]:
    """The picture of ``pair`` as either sees it."""
    cascade.encode([None, *pair[1:3]])
    picture = last(run(anagram(pair[1:3], [pair.view]), cascade, [pair.seed])).clamp(-1, 1)
    return [to_images(seen)[0].resize((CELL, CELL)) for seen in (picture, view(pair.view).apply(picture))]


def write_sheets(cascade: Cascade, parts: Sequence[Sequence[tuple[Tried, int]]], out: Path) -> None:
    """Sheets for each of ``parts``, numbered on and on, and the key of all."""
    pictures = {pair: readings(cascade, pair) for pair in dict.fromkeys(pair for part in parts for pair, _ in part)}
    key, number = {}, 0
    for k, part in enumerate(parts, 1):
        for first in range(0, len(part), COLUMNS * ROWS):
            page = part[first : first + COLUMNS * ROWS]
            numbers = [str(number + place + 1) for place in range(len(page))]
            key |= {one: [*pair[:3], pair.seed, which] for one, (pair, which) in zip(numbers, page, strict=True)}
            cells = [pictures[pair][which] for pair, which in page]
            rows, labels = ([of[c : c + COLUMNS] for c in range(0, len(page), COLUMNS)] for of in (cells, numbers))
            path = out / str(k) / f"sheet-{first // (COLUMNS * ROWS) + 1}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_png(sheet(rows, captions=labels), path, {})
            number += len(page)
    (out / "key.json").write_text(json.dumps(key, indent=0) + "\n")


def said_of(key: dict[str, list], judged: Path) -> list[list[str]]:
    """Rows of readings.tsv: view, prompts, seed, which reading, its name, and if that is right. UserError where one lacks."""
    said = dict(line.split(maxsplit=1) for line in judged.read_text().splitlines() if line.strip())
    if set(said) != set(key) or any(told[:1] not in ("0", "1") for told in said.values()):
        raise UserError(f"{judged}: must have each number of the key once, followed by 0 or 1.")
    return [[*map(str, key[number][:4]), str(key[number][4] + 1), told[1:].strip(), told[0]] for number, told in said.items()]


def counted(tried: Sequence[Tried], readings: Sequence[Sequence[str]]) -> list[Tried]:
    """``tried`` with what ``readings`` say of each picture: how many more than half named, and the share of the weaker."""
    said: dict[tuple, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    for *picture, which, _, right in readings:
        said[tuple(picture)][int(which) - 1].append(int(right))

    def told(pair: Tried) -> Tried:
        both = said.get((*pair[:3], str(pair.seed)))
        if both is None:
            return pair
        share = min((1 + sum(one)) / (2 + len(one)) for one in both)
        return pair._replace(named=sum(2 * sum(one) > len(one) for one in both), share=share)

    return [told(pair) for pair in tried]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path, help="beside its sheet: concepts.tsv beside concepts.png")
    parser.add_argument("--each", type=int, default=2, help="pairs of each thing")
    parser.add_argument("--parts", type=int, default=2, help="people; two or more")
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shuffle", type=int, default=0, help="of the order")
    parser.add_argument("--judged", type=Path)
    parser.add_argument("--readings", type=Path, default=READINGS, help="all that was ever said, which this is added to")
    parser.add_argument("--since", type=int, default=2, metavar="LINE", help="of it, where these weights' begin; the first is 1")
    parser.add_argument("--out", type=Path, default=Path("blind"))
    options = parser.parse_args()
    tried = read(options.table.with_suffix(".png")).tried
    if options.judged is None:
        parts = dealt(chosen(tried, options.each), options.parts, random.Random(options.shuffle))
        write_sheets(open_cascade(options.model, options.device), parts, options.out)
        return
    more = said_of(json.loads((options.out / "key.json").read_text()), options.judged)
    before = options.readings.read_text(encoding="utf-8").splitlines() if options.readings.is_file() else ["\t".join(HEAD)]
    lines = [*before, *("\t".join(row) for row in more)]
    options.readings.write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = counted(tried, [line.split("\t") for line in lines[options.since - 1 :]])
    write(rows, options.table)
    print(f"{sum(row.named == 2 for row in rows)} of {sum(row.named is not None for row in rows)} pairs read to people")


if __name__ == "__main__":
    main()
