"""Put a trained stage into the cascade that ships, and write its sums and its card.

    python tools/ship_cascade.py stage-1 RUN FIGURES.json     from benchmarks/glyph_results.py
    python tools/ship_cascade.py                              the card and the sums anew

``RUN`` holds ``model`` and ``log.jsonl``. A stage that shipped before is replaced whole.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

from phosphene.models import folders
from phosphene.models.cascade import describe

HERE = folders.EMBEDDED / "glyph"

CARD = """# glyph

A text-to-image model that runs on any laptop: it draws emoji and icons from words. `phosphene generate "a castle"`.

{stages}
## What it learned from

11,527 captioned pictures of some 5,700 concepts, each composed anew whenever it was shown: inks, grounds, mirrors, places and
sizes by chance, with words for all of it, and synonyms and hypernyms from WordNet (Princeton University).

| pictures | of | licence |
|---|---|---|
| 4,635 | [Fluent Emoji](https://github.com/microsoft/fluentui-emoji), Microsoft: 3D, Color, Flat | MIT |
| 1,652 | [Noto Emoji](https://github.com/googlefonts/noto-emoji), Google | OFL-1.1 |
| 1,011 | [FxEmojis](https://github.com/mozilla/fxemoji), Mozilla | CC-BY-4.0 |
| 4,106 | [game-icons.net](https://game-icons.net), Lorc, Delapouite and contributors | CC-BY-3.0 |
| 123 | game-icons.net | CC0-1.0 |

None of these pictures is in the package. The weights were trained by us and are under Apache-2.0, as the package; whoever shows
pictures that are close to one of the above should name its makers.

## How it was made

A text encoder learned by retrieval which words belong to which picture (1.3 million pictures shown), and was frozen; the drawing
network is a patch transformer that predicts the clean picture and is penalised in velocity, trained on one NVIDIA H100. Some
pictures were put together or drawn by us (`tools/scenes.py`), and what ships is the mean of two states of its training.
The second stage enlarges what the first drew, told how noisy it was shown that, and reads no prompt: 1.2 million of the same
pictures at 256 pixels. All of it, with what failed: docs/embedded-model.md. In each stage's folder stand its recipe
(`recipe.json`) and its log (`log.jsonl`).

## What it is worth

{figures}
By a judge of its own kind, a retrieval model of another seed that was not the text encoder's teacher; the real pictures have
97.5 % and 100 % (`python benchmarks/glyph_results.py`).

## Limits

- It knows emoji and icons, and draws in their manner: one thing on a plain ground. No photographs, no scenes, no lettering.
- It is small. Common things (faces, animals, hearts, fruit, vehicles) come out as anyone would name them; rare icons are
  often shapes only, and things that the pictures show in one style alone are poor in the others.
- It has seen these pictures often. The share of drawings that are nearly a training picture is in the table above.
- What it takes for granted is what emoji take for granted: people are yellow or light-skinned unless a word says otherwise
  (skin tones were left out of the training pictures), families and professions look as the vendors drew them, and names are
  English. It says nothing about how things or people are.
"""


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
    """What benchmarks/glyph_results.py measured."""
    seen, parts, near, spread = (figures[k] for k in ("seen", "compositions", "nearest", "diversity"))
    rows = [
        ("200 seen captions, all styles: top-1, top-5", f"{seen['top1']:.1%}, {seen['top5']:.1%}"),
        (f"100 compositions never seen: the object right, among {parts['objects']:.0f}", f"{parts['object']:.0%}"),
        (f"the same: colour or style right, among {parts['words']:.1f}", f"{parts['word']:.0%}"),
        (
            "distance between seeds of one prompt, between prompts",
            f"{spread['one prompt']:.2f}, {spread['different prompts']:.2f}",
        ),
        ("nearest training picture: median distance; nearer than 0.1", f"{near['median']:.2f}; {near['below 0.1']:.1%}"),
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {figure} |" for what, figure in rows)]) + "\n"


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
    figures = json.loads((HERE / "figures.json").read_text())
    (HERE / "README.md").write_text(CARD.format(stages=stages_table(), figures=figures_table(figures)))
    held = sorted(path for path in HERE.rglob("*") if path.is_file())
    sums = (f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE).as_posix()}\n" for path in held)
    (HERE / folders.SUMS).write_text("".join(sums))


if __name__ == "__main__":
    main()
