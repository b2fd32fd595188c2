"""Draw the anagrams of docs/gallery.md, each by its command, and write the page: python tools/gallery.py [--again]

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
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "images" / "gallery"

ANAGRAMS = {
    "tree-pepper": ("a tree", "a bell pepper", "flip", 181),
    "mushroom-basket": ("a mushroom", "a basket", "flip", 189),
    "house-strawberry": ("a house", "a strawberry", "flip", 192),
    "house-face": ("a house", "a flushed face", "flip", 184),
    "house-frown": ("a house", "a confused face", "flip", 181),
    "mushroom-frown": ("a mushroom", "a disappointed face", "flip", 183),
    "castle-bank": ("a castle", "a bank", "flip", 190),
    "heart-barn": ("a heart", "a barn", "flip", 181),
    "tree-melon": ("a tree", "a melon", "flip", 186),
    "boat-calendar": ("a boat", "a calendar", "flip", 194),
    "sunglasses-pawn": ("sunglasses", "a chess pawn", "rotate-90", 191),
    "duck-cow": ("a duck", "a cow", "rotate-90", 194),
    "snail-crystal": ("a snail", "a crystal ball", "rotate-90", 180),
    "skull-sunglasses": ("a skull", "sunglasses", "rotate-180", 182),
    "bird-apple": ("a bird", "an apple", "rotate-180", 187),
    "apple-balloon": ("an apple", "a balloon", "rotate-180", 185),
    "owl-worker": ("an owl", "an office worker", "rotate-180", 188),
    "drop-campfire": ("a water drop", "a campfire", "negate", 184),
    "drop-underwear": ("a water drop", "an underwear", "jigsaw", 186),
    "sunglasses-pen": ("sunglasses", "a pen", "skew", 191),
    "plug-sunglasses": ("sunglasses", "an electric plug", "square-hinge", 193),
    "wine-pawn": ("a glass of wine", "a chess pawn", "square-hinge", 182),
    "pushpin-hanger": ("a pushpin", "a clothes hanger", "inner-circle", 191),
    "apple-smile": ("a red apple", "a smiling face", "rotate:135", 180),
}
READ = PICTURES / "read.json"


def command(name: str) -> list[str]:
    """What makes the sheet called ``name``, and the picture beside it."""
    first, second, view, seed = ANAGRAMS[name]
    return ["phosphene", "anagram", first, second, "--view", view, "--seed", str(seed), "--sheet", "-o", f"{name}.png"]


PAGE = """# Gallery

{count} anagrams in {views} views by the embedded model, 256x256 pixels, unretouched: each is what its command draws, as it is
and in the view. All pairs but the last were suggested by `phosphene pairs`, from an earlier sheet of 1,000 things, which had
a flushed face, a disappointed face and "an underwear", too. Of each, sixteen seeds were drawn at 64x64, retrieval models
looked at all of them (S and A of [illusions.md](illusions.md)), and among some hundred and fifty favourites of theirs a
person chose: a choice of pairs and of seeds, as galleries are. How often pairs read that nobody chose stands in
[illusions.md](illusions.md).

"Named" is what somebody said who saw each reading by itself, as a numbered picture among {pictures} in shuffled order, and
knew nothing of prompts or views; the first name counts (a chess piece is a pawn, a fire a campfire, a sad face a confused or
a disappointed one, a dog's face no flushed one). **In {both} of {count} both readings were named right**, in {one} exactly
one, in {none} neither. Two earlier namers, by whose names these {count} were chosen out of 57, had named both readings right
in 16 of them. The failures stay where they are.

    python tools/gallery.py --again    # draws all of it

| | command | named | reads |
|---|---|---|---|
{rows}"""


def page() -> str:
    """docs/gallery.md."""
    read = json.loads(READ.read_text()) if READ.is_file() else {}
    lines = []
    for name in ANAGRAMS:
        first, second, right = read.get(name, ["", "", "not named yet"])
        picture = f"![{name}](images/gallery/{name}.png)"
        lines.append(f"| {picture} | `{shlex.join(command(name))}` | {first}; {second} | {right} |\n")
    reads = [read.get(name, [""])[-1] for name in ANAGRAMS]
    told = {
        "none": reads.count("neither"),
        "pictures": 2 * len(ANAGRAMS),
        "both": reads.count("both"),
        "one": sum(r in ("first", "second") for r in reads),
    }
    return PAGE.format(count=len(ANAGRAMS), views=len({view for *_, view, _ in ANAGRAMS.values()}), rows="".join(lines), **told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ANAGRAMS, default=list(ANAGRAMS))
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        if options.again or not (PICTURES / f"{name}.png").exists():
            subprocess.run([sys.executable, "-m", *command(name)], cwd=PICTURES, check=True, capture_output=True)
            (PICTURES / f"{name}-1.png").unlink()  # the gallery shows sheets
            print(name, flush=True)
    (DOCS / "gallery.md").write_text(page())


if __name__ == "__main__":
    main()
