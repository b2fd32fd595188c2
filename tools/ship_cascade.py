"""Put a trained stage into the cascade that ships, and write its sums and its card.

    python tools/ship_cascade.py stage-1 RUN FIGURES.json
    python tools/ship_cascade.py                              the card and the sums anew

``RUN`` holds ``model`` and ``log.jsonl``. A stage that shipped before is replaced whole. FIGURES.json is what
benchmarks/glyph_results.py writes, and in it under "real" what it says with --real, under "held out" what benchmarks/held_out.py
writes, and under "blind" how many pictures of how many were named right (object, whole, of).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
from pathlib import Path

from phosphene.models import folders
from phosphene.models.cascade import describe

HERE = folders.EMBEDDED / "glyph"

CARD = """# glyph

A text-to-image model that runs on any laptop: it draws things, creatures, people and simple scenes as emoji, icons and clip art
have them, and in eight manners. `phosphene generate "a castle on a hill"`.

{stages}
## What it learned from

{pictures} Each was shown anew whenever it came: alone on paper of some colour, tinted, several, or put into scenes with
others (a ground, a time of day, depth, shadows, relations), through filters that make an oil painting, a watercolour, a
pencil or charcoal drawing, a lithograph, pixel art, stained glass or a photograph of it, with words for all of that, and
synonyms and hypernyms from WordNet (Princeton University). None of these pictures is in the package. The weights were trained
by us and are under Apache-2.0, as the package; whoever shows pictures that are close to one of the originals should name its
makers, who are listed below.

## How it was made

A text encoder learned by retrieval which words belong to which picture, and was frozen; the drawing network is a patch
transformer that predicts the clean picture and is penalised in velocity, with Muon, timesteps shifted towards noise and a
moving average of the weights, on NVIDIA H100 and H200. The second stage enlarges what the first drew, told how noisy it was
shown that, and reads no prompt. All of it, with what failed: docs/embedded-model.md. In each stage's folder stand its recipe
(`recipe.json`) and the log of its last hours (`log.jsonl`).

## What it is worth

{figures}
The blind naming is of `docs/prompts.txt`, whose first seeds two people named who saw numbered pictures only. The judge of
captions is a retrieval model of another seed than the one that taught the text encoder; of the emoji and game icons that it is
asked about it gets {real} of the real pictures. Colours, numbers and sides are measured by detectors, on compositions
that training left out. The commands: docs/embedded-model.md.

## Limits

- It draws in the manner of its pictures. "A photo of" gives an instant print of a drawn thing.
- Which of two things is left and which is right it does not hear; a second thing is often lost or takes the first one's colour.
- It is small. Common things come out as anyone would name them; a barista, or a cat on a chair, does not.
- Things of which the sets have icons alone it knows as icons: asked for in a style of painting, the judge finds that style in
  {styled:.0%} of them. Of icons of one colour it finds {icons} captions (of the real ones {real_icons}), of paintings
  {painted:.0%}.
- What it takes for granted is what emoji take for granted: people are yellow or light-skinned unless a word says otherwise
  (skin tones were left out of the training pictures), families and professions look as the vendors drew them, and names are
  English. It says nothing about how things or people are.

## Pictures and their makers

{sets}
{credits}"""
PICTURES = Path(__file__).parents[1] / "docs" / "pictures.md"


def sets() -> dict[str, str]:
    """What docs/pictures.md says of the pictures: how many, the table of their sets, the credits that licences ask for."""
    text = PICTURES.read_text()
    first = re.search(r"[\d,]+ pictures of [\d,]+ things, in \d+ sets\.", " ".join(text.split()))[0]
    table = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    return {
        "pictures": first,
        "sets": table + "\n",
        "credits": text.split("## Credits\n\n")[1],
    }


def stages_table() -> str:
    """One row a stage, from what the folders say."""
    rows = ["| stage | draws | network | parameters | bytes |", "|---|---|---|---|---|"]
    for stage in describe("glyph")["stages"]:
        folder = Path(stage["folder"])
        held = sum(f.stat().st_size for f in folder.rglob("*.safetensors"))
        rows.append(
            f"| {folder.name} | {stage['size']}x{stage['size']} | {stage['network']}, predicts {stage['predicts']} | "
            f"{held / 2e6:.1f} M{', with text encoder' if stage['text encoder'] else ''} | {held:,} |"
        )
    return "\n".join(rows) + "\n"


def figures_table(figures: dict) -> str:
    """What benchmarks/glyph_results.py, benchmarks/held_out.py and somebody who named pictures blind found."""
    seen, parts, near, spread, blind, kinds = (
        figures[k] for k in ("seen", "compositions", "nearest", "diversity", "blind", "held out")
    )
    found = ", ".join(f"{kind} {of['drawn']:.0%} ({of['composed']:.0%})" for kind, of in kinds.items())
    rows = [
        (
            f"{blind['of']} ordinary prompts, named blind: the main object right; all of it",
            f"{blind['object'] / blind['of']:.0%}; {blind['whole'] / blind['of']:.0%}",
        ),
        ("never shown together: found by detectors (in scenes as composed)", found),
        ("200 seen captions, emoji and game icons: top-1, top-5", f"{seen['top1']:.1%}, {seen['top5']:.1%}"),
        (f"100 compositions never seen: the object right, among {parts['objects']:.0f}", f"{parts['object']:.0%}"),
        (f"the same: colour or style right, among {parts['words']:.1f}", f"{parts['word']:.0%}"),
        (
            "distance in the judge's space between seeds of one prompt, between prompts",
            f"{spread['one prompt']:.2f}, {spread['different prompts']:.2f}",
        ),
        ("nearest training picture: median distance; nearer than 0.1", f"{near['median']:.2f}; {near['below 0.1']:.1%}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]) + "\n"


def card() -> str:
    """The card of what ships, of what its files say."""
    figures = json.loads((HERE / "figures.json").read_text())
    seen, real = figures["seen, by style"], figures["real"]
    painted = [of for style, of in seen.items() if style != "icon"]
    shares = {
        "icons": "{right} of {of}".format(**seen["icon"]),
        "real_icons": real["seen, by style"]["icon"]["right"],
        "styled": figures["compositions, icons painted in a style"]["word"],
        "painted": sum(of["right"] for of in painted) / sum(of["of"] for of in painted),
        "real": f"{real['seen']['top1']:.1%} and {real['seen']['top5']:.1%}",
    }
    return CARD.format(**shares, stages=stages_table(), figures=figures_table(figures), **sets())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", nargs="?", choices=("stage-1", "stage-2"))
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("figures", nargs="?", type=Path)
    options = parser.parse_args()
    if options.stage:
        place = HERE / options.stage
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(options.run / "model", place)
        shutil.copy(options.run / "log.jsonl", place)
    if options.figures:
        shutil.copy(options.figures, HERE / "figures.json")
    (HERE / folders.SUMS).unlink(missing_ok=True)
    (HERE / "README.md").write_text(card())
    held = sorted(path for path in HERE.rglob("*") if path.is_file())
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE).as_posix()}\n" for path in held)
    (HERE / folders.SUMS).write_text("".join(sums))


if __name__ == "__main__":
    main()
