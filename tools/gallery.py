"""Draw the anagrams and hybrids of docs/gallery.md, each by its command, and write the page: python tools/gallery.py [--again]

Pictures that are there already stay, unless ``--again`` (``--only NAME ...``: of these). What somebody named them who saw each
reading by itself, as a numbered picture, stands in docs/images/gallery/read.json: the two names, and which were right ("both",
"first", "second" or "neither").
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "images" / "gallery"

ANAGRAMS = {
    "police-koala": ("a police car", "a koala", "flip", 192),
    "wine-cupcake": ("a glass of wine", "a cupcake", "flip", 190),
    "car-sunglasses": ("a car", "a face with sunglasses", "flip", 187),
    "motorcycle-tiger": ("a motorcycle", "a tiger", "flip", 190),
    "duck-palm": ("a duck", "a palm tree", "flip", 192),
    "cocktail-tree": ("a cocktail", "a christmas tree", "flip", 193),
    "castle-elephant": ("a castle", "an elephant", "rotate-180", 193),
    "butterfly-fox": ("a butterfly", "a fox", "rotate-180", 190),
    "mushroom-tomato": ("a mushroom", "a tomato", "rotate-180", 190),
    "martini-volcano": ("a martini glass", "a volcano", "rotate-180", 186),
    "snowman-cone": ("a snowman", "an ice cream cone", "rotate-180", 195),
    "cake-santa": ("a birthday cake", "santa claus", "rotate-180", 188),
    "tiger-runner": ("a tiger", "a runner", "rotate-90", 195),
    "giraffe-helicopter": ("a giraffe", "a helicopter", "rotate-90", 195),
    "pawn-sunglasses": ("a chess pawn", "sunglasses", "rotate-90", 188),
    "truck-padlock": ("a delivery truck", "a padlock", "rotate-90", 192),
    "chick-baby": ("a chick", "a baby", "rotate-90", 192),
    "telephone-backpack": ("a telephone", "a backpack", "jigsaw", 192),
    "strawberry-mouth": ("a strawberry", "a mouth", "jigsaw", 192),
    "tent-frog": ("a tent", "a frog", "inner-circle", 193),
    "eye-spider": ("an eye", "a spider", "square-hinge", 191),
    "leaf-crab": ("a maple leaf", "a crab", "square-hinge", 191),
    "nose-lightning": ("a nose", "lightning", "skew", 186),
    "whale-pumpkin": ("a whale", "a pumpkin", "negate", 188),
}
HYBRIDS = {
    "tree-owl": ("a tree", "an owl", 3.0, 183),
    "tree-skull": ("a tree", "a skull", 3.0, 180),
    "tree-bear": ("a tree", "a bear face", 3.0, 180),
    "house-dog": ("a house", "a dog face", 3.0, 180),
    "house-robot": ("a house", "a robot", 3.0, 183),
    "house-monkey": ("a house", "a monkey face", 3.0, 180),
    "mushroom-house": ("a mushroom", "a house", 3.0, 181),
    "bell-penguin": ("a bell", "a penguin", 3.0, 182),
    "tent-fox": ("a tent", "a fox", 3.0, 180),
    "strawberry-owl": ("a strawberry", "an owl", 3.0, 182),
    "bell-owl": ("a bell", "an owl", 3.0, 180),
    "house-bear": ("a house", "a bear face", 3.0, 180),
}
"""What is seen from afar, what from near, the blur that parts them, and a seed."""
READ = PICTURES / "read.json"


def command(name: str) -> list[str]:
    """What makes the sheet called ``name``, and the picture beside it."""
    if name in HYBRIDS:
        kind, (first, second, sigma, seed) = "hybrid", HYBRIDS[name]
        how = ["--sigma", f"{sigma:g}"]
    else:
        kind, (first, second, view, seed) = "anagram", ANAGRAMS[name]
        how = ["--view", view]
    return ["phosphene", kind, first, second, *how, "--seed", str(seed), "--sheet", "-o", f"{name}.png"]


PAGE = """# Gallery

Here are {count} anagrams in {views} views by the embedded model, 256x256 pixels, unretouched: each is what its command
draws, as it is and in the view. All pairs are of the table of `phosphene pairs` (how it was made:
[illusions.md](illusions.md)). Of each, ten seeds were drawn, of which retrieval models took the one that read best to them.
Judges are easily pleased, so people chose: {count} of the pairs whose two readings others had named right, by their
looks. Three of a first choice, which neither of two people named both ways, were replaced. It is a choice of pairs and of
seeds, as galleries are. How often pairs read that nobody chose stands in [illusions.md](illusions.md).

"Named" is what somebody said who saw each reading by itself, as a numbered picture among sixty in shuffled order
(the three among twenty), and knew nothing of prompts or views; the first name counts (a cocktail glass is a martini
glass, red lips are a mouth, a person running is a runner, but a truck no delivery truck; a thing that lies on its head or
its side is none). **In {both} of {count} both readings were named right**, in {one} exactly one, in {none} neither; a second
person, whose names are not shown, named both right in 17. Neither of the two had had a say in the choice, and who compared
the names with the prompts had seen no picture.
The failures stay where they are.

    python tools/gallery.py --again    # draws all of it

| | command | named | reads |
|---|---|---|---|
{rows}
## Hybrids

Here are {hybrids}, of frequencies, pairs and seeds that were chosen by looks from some 150 pictures of 42 pairs, three or
four seeds each, by earlier weights, and drawn by these. "From afar" is the picture as an eye sees it that blurs by the
sigma, shrunk to a pixel a sigma (`FromAfar` in `tasks/hybrid.py`). Two people who knew nothing saw half of all readings
each, and of no hybrid both. **{change} of {hybrids} change**: what was named from afar is the first prompt and what was
named from near the second (a fox's head is a fox, a man's face no robot). Named are the first names, from afar and from near.

| | command | named | reads |
|---|---|---|---|
{hybrid_rows}"""


def rows(names: Iterable[str], read: Mapping[str, Sequence[str]]) -> str:
    """Lines of a table: picture, command, the two names, and which of them were right."""
    lines = []
    for name in names:
        first, second, right = read.get(name, ["", "", "not named yet"])
        picture = f"![{name}](images/gallery/{name}.png)"
        lines.append(f"| {picture} | `{shlex.join(command(name))}` | {first}; {second} | {right} |\n")
    return "".join(lines)


def page() -> str:
    """docs/gallery.md."""
    read = json.loads(READ.read_text()) if READ.is_file() else {}
    reads, hybrids = ([read.get(name, [""])[-1] for name in names] for names in (ANAGRAMS, HYBRIDS))
    return PAGE.format(
        count=len(ANAGRAMS),
        views=len({view for *_, view, _ in ANAGRAMS.values()}),
        both=reads.count("both"),
        one=sum(r in ("first", "second") for r in reads),
        none=reads.count("neither") or "none",
        hybrids=len(HYBRIDS),
        change=hybrids.count("both"),
        rows=rows(ANAGRAMS, read),
        hybrid_rows=rows(HYBRIDS, read),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*ANAGRAMS, *HYBRIDS], default=[*ANAGRAMS, *HYBRIDS])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--pairs", type=Path, metavar="FILE", help="write the anagrams' prompts, for evaluate anagrams, and end")
    options = parser.parse_args()
    if options.pairs is not None:
        options.pairs.write_text("".join(f"{first}, {second}\n" for first, second, *_ in ANAGRAMS.values()))
        return
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        if options.again or not (PICTURES / f"{name}.png").exists():
            subprocess.run([sys.executable, "-m", *command(name)], cwd=PICTURES, check=True, capture_output=True)
            (PICTURES / f"{name}-1.png").unlink()  # the gallery shows sheets
            print(name, flush=True)
    (DOCS / "gallery.md").write_text(page())


if __name__ == "__main__":
    main()
