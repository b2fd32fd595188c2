"""Draw the illusions of docs/gallery.md, each by its command, the best of sixteen seeds by the model itself, and write the page.

    python tools/gallery.py [--only NAME ...] [--again]

Pictures that are there already stay, unless ``--again``. What a person said of them, who looked and knew the prompts,
stands in docs/images/gallery/read.json: "both", "first", "second" or "neither", and why.
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
    "tulip-bell": ("a tulip", "a bell", "flip"),
    "blood-balloon": ("a drop of blood", "a red balloon", "flip"),
    "heart-spade": ("a black heart", "a spade suit", "flip"),
    "thumbs": ("a thumbs up", "a thumbs down", "flip"),
    "six-nine": ("keycap 6", "keycap 9", "rotate-180"),
    "triangles": ("a red triangle pointed up", "a red triangle pointed down", "flip"),
    "peach-heart": ("a peach", "a red heart", "rotate-180"),
    "moons": ("a waxing crescent moon", "a waning crescent moon", "mirror"),
    "beard-curls": ("a man with beard", "a woman with curly hair", "rotate-180"),
    "pear-bulb": ("a pear", "a light bulb", "flip"),
    "castle-dog": ("a castle", "a dog face", "rotate-180"),
    "droplet-balloon": ("a blue droplet", "a blue balloon", "flip"),
}
HYBRIDS = {
    "heart-smile": ("a red heart", "a smiling face", "frequency", ("--sigma", "2.5")),
    "apple-frown": ("a red apple", "a frowning face", "frequency", ("--sigma", "2")),
    "tangerine-smile": ("a tangerine", "a smiling face", "frequency", ("--sigma", "2.5")),
    "skull-apple": ("a skull", "a green apple", "color", ()),
    "owl-tulip": ("an owl", "a tulip", "color", ()),
    "cat-lemon": ("a cat face", "a lemon", "color", ()),
}
SAID, READ = PICTURES / "said.json", PICTURES / "read.json"
SHARED = ("--solver", "dpm", "--best-of", "16", "--sheet")


def command(name: str) -> list[str]:
    """What makes the picture called ``name``."""
    if name in ANAGRAMS:
        first, second, view = ANAGRAMS[name]
        return ["phosphene", "anagram", first, second, "--view", view, *SHARED, "-o", f"{name}.png"]
    first, second, kind, more = HYBRIDS[name]
    return ["phosphene", "hybrid", first, second, "--kind", kind, *more, *SHARED, "-o", f"{name}.png"]


PAGE = """# Gallery

**Drawn by the `glyph` of emoji and icons that shipped before: today's makes other pictures of these commands.**

Twelve anagrams and six hybrids of the embedded model, 256x256 pixels, unretouched. Of each, sixteen seeds (180 to 195) were drawn
at 64x64 in twenty steps of DPM-Solver++, and the second stage enlarged the one that the model itself judged to read best
(`--best-of 16`). The pairs were chosen to suit it, from some hundred and forty that were tried, so this is a choice of pairs, not
of seeds: of the last forty-eight, thought up without trying, some eight read both ways, and four that failed here were replaced
by plainer ones (a triangle, two moons). "Reads" is the verdict of somebody
who knew the prompts, had not drawn the pictures, and was asked whether a critical visitor would see both. The failures that are
left stay where they are. All of it is made again by `python tools/gallery.py --again`.

**Readable both ways: {anagrams} of {of_anagrams} anagrams, {hybrids} of {of_hybrids} hybrids.**

## Anagrams

{anagram_rows}
## Hybrids

Frequency hybrids are shown at shrinking sizes, as from afar; look from across the room, or at the smallest. Colour hybrids are
shown with the grey picture that the first prompt rules; of the colours it is asked that they are those of the second prompt, no
more.

{hybrid_rows}"""


def page() -> str:
    """docs/gallery.md."""
    said, read = (json.loads(path.read_text()) if path.is_file() else {} for path in (SAID, READ))

    def rows(names: dict) -> str:
        lines = ["| | command | seed | reads |", "|---|---|---|---|"]
        for name in names:
            seed = said.get(name, "").partition(":")[0].removeprefix("seed ")
            verdict = ": ".join(read.get(name, ["not looked at yet"]))
            line = shlex.join(command(name))
            lines.append(f"| ![{name}](images/gallery/{name}.png) | `{line}` | {seed} | {verdict} |")
        return "\n".join(lines) + "\n"

    good = [sum(read.get(name, [""])[0] == "both" for name in names) for names in (ANAGRAMS, HYBRIDS)]
    return PAGE.format(
        anagrams=good[0],
        hybrids=good[1],
        of_anagrams=len(ANAGRAMS),
        of_hybrids=len(HYBRIDS),
        anagram_rows=rows(ANAGRAMS),
        hybrid_rows=rows(HYBRIDS),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*ANAGRAMS, *HYBRIDS], default=[*ANAGRAMS, *HYBRIDS])
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    said = json.loads(SAID.read_text()) if SAID.is_file() else {}
    for name in options.only:
        if options.again or name not in said or not (PICTURES / f"{name}.png").exists():
            done = subprocess.run(
                [sys.executable, "-m", *command(name)], cwd=PICTURES, check=True, capture_output=True, text=True
            )
            (PICTURES / f"{name}-1.png").unlink()  # the gallery shows sheets
            said[name] = done.stdout.strip().splitlines()[-1].partition(";")[0]
            SAID.write_text(json.dumps(said, indent=2) + "\n")
            print(f"{name}: {said[name]}", flush=True)
    (DOCS / "gallery.md").write_text(page())


if __name__ == "__main__":
    main()
