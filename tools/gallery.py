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
    "police-cow": ("a police car", "a cow", "flip", 189),
    "bicycle-mouse": ("a bicycle", "a mouse face", "flip", 193),
    "anchor-whale": ("an anchor", "a spouting whale", "rotate-90", 187),
    "scorpion-rooster": ("a scorpion", "a rooster", "rotate-180", 189),
    "martini-volcano": ("a martini glass", "a volcano", "rotate-180", 191),
    "parachute-tent": ("a parachute", "a circus tent", "rotate-180", 194),
    "heart-apple": ("a heart", "a red apple", "rotate-90", 186),
    "pretzel-pumpkin": ("a pretzel", "a pumpkin", "flip", 194),
    "book-telephone": ("a book", "a telephone", "jigsaw", 188),
    "alien-salad": ("an alien", "a green salad", "flip", 195),
    "bee-tree": ("a bee", "a christmas tree", "rotate-90", 189),
    "pushpin-screwdriver": ("a pushpin", "a screwdriver", "rotate-180", 190),
    "book-shirt": ("a green book", "a t-shirt", "rotate-90", 188),
    "bank-piano": ("a classical building", "a musical keyboard", "rotate-180", 193),
    "balloon-fire": ("a hot air balloon", "fire", "inner-circle", 188),
    "heel-flag": ("a high-heeled shoe", "a triangular flag", "flip", 188),
    "castle-bank": ("a castle", "a bank", "flip", 190),
    "sunglasses-pawn": ("sunglasses", "a chess pawn", "rotate-90", 191),
    "wine-pawn": ("a glass of wine", "a chess pawn", "square-hinge", 182),
    "drop-campfire": ("a water drop", "a campfire", "negate", 184),
    "sunglasses-pen": ("sunglasses", "a pen", "skew", 191),
    "apple-balloon": ("an apple", "a balloon", "rotate-180", 185),
    "mushroom-frown": ("a mushroom", "a disappointed face", "flip", 183),
    "bird-apple": ("a bird", "an apple", "rotate-180", 187),
}
HYBRIDS = {
    "tree-owl": ("a tree", "an owl", 3.0, 181),
    "planet-frog": ("a planet", "a frog face", 3.0, 183),
    "house-dog": ("a house", "a dog face", 3.0, 182),
    "cookie-clock": ("a cookie", "a clock", 3.0, 180),
    "tree-castle": ("a tree", "a castle", 3.0, 183),
    "tree-lion": ("a tree", "a lion face", 3.0, 181),
    "house-cat": ("a house", "a cat face", 3.0, 180),
    "house-owl": ("a house", "an owl", 3.0, 181),
    "tomato-ladybug": ("a tomato", "a ladybug", 3.0, 182),
    "tree-skull": ("a tree", "a skull", 3.0, 180),
    "mountain-wolf": ("a mountain", "a wolf", 3.0, 180),
    "planet-cat": ("a planet", "a cat face", 3.0, 182),
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
draws, as it is and in the view. Most pairs are of the table of `phosphene pairs` (how it was made:
[illusions.md](illusions.md)); four are of an earlier sheet (a water drop and a campfire, an apple and a balloon, a bird
and an apple, a mushroom and a disappointed face). Of each, ten or sixteen seeds were drawn, of which retrieval models
took the one that read best to them. Judges are easily pleased: of 96 pairs that read best to them, two people who knew
nothing both named nine right both ways. So people chose: {count} of some two hundred such pictures, by their looks and
by the names that others had given them. It is a choice of pairs and of seeds, as galleries are. How often pairs read
that nobody chose stands in [illusions.md](illusions.md).

"Named" is what somebody said who saw each reading by itself, as a numbered picture among {pictures} in shuffled order, and
knew nothing of prompts or views; the first name counts (a chess piece is a pawn, a fire a campfire, a sad face a disappointed
one, a cocktail glass a martini glass, a temple a classical building but no bank, and a bowl no salad). **In {both} of {count}
both readings were named right**, in {one} exactly one, in {none} neither; a second person, whose names are not shown, named both
right in 20. Neither of the two had had a say in the choice. The failures stay where they are.

    python tools/gallery.py --again    # draws all of it

| | command | named | reads |
|---|---|---|---|
{rows}
## Hybrids

Here are {hybrids}, of frequencies, chosen by looks from some two hundred pictures of sixty pairs, three or four seeds each. "From
afar" is the picture as an eye sees it that blurs by the sigma, shrunk to a pixel a sigma (`FromAfar` in `tasks/hybrid.py`). Two
people who knew nothing saw half of all readings each, and of no hybrid both. **{change} of {hybrids} change**: what was
named from afar is the first prompt (a globe is a planet) and what was named from near the second. Of twelve that were shown
before, seven of them a fruit or a heart with a face, five had changed by the same rule, and are among these; a face on an
orange was "an orange". Named are the first names, from afar and from near.

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
        pictures=2 * len(ANAGRAMS),
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
