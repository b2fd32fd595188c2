"""Draw small early sketches of known things, for ``phosphene pairs``: see ``tasks/pairs.py``.

    python tools/concept_sheet.py --model glyph --guidance 4 --out concepts.png

The things are those of ``captions.tsv``, what ordinary people name first: those that most captions mean, of kinds that one can
draw, in one to three words. A sheet says which prompts it shows, so that it can be read without this table.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from phosphene.models.cascade import open_cascade
from phosphene.tasks.pairs import AT_ONCE, drawn, read, write
from phosphene.training.text_to_image.phrases import with_article

CAPTIONS = Path(__file__).parent / "captions.tsv"
KINDS = (
    *("animal", "food", "plant", "object", "tool", "container", "clothing", "vehicle", "building", "furniture", "instrument"),
    *("toy", "sport", "celestial", "weather", "fantasy", "body", "face", "person", "place", "device"),
)
SKIPPED = frozenset(
    (
        *("family", "thing", "object", "dice", "cannabis", "sperm", "syringe", "bandage", "gun", "pistol", "rifle", "shotgun"),
        *("magazine", "bullet", "bomb", "mine", "bloody", "blood", "bone", "virus", "rolodex", "playing", "tarot", "middle"),
        *("neutral", "expressionless", "torso", "spine", "outlet", "thermostat", "metronome"),
    )
)
"""Words of what is drawn in a hundred ways, is hard to tell, or is none of what people come for."""
PEOPLE = 40
"""Persons and faces at most of each: there are hundreds, and they are alike."""


def things(most: int) -> list[str]:
    """Prompts, the most ordinary first."""
    rows = [line.split("\t") for line in CAPTIONS.read_text().splitlines()[1:]]
    kinds = {name: kind for _, name, kind, *_ in rows if kind in KINDS}
    times = Counter(name for _, name, *_ in rows if name in kinds)
    # Things that are a caption of their own are called so by those who drew them; other names put several together.
    own = {caption for caption, *_ in rows}
    order = sorted(times, key=lambda name: (-times[name] - (name in own), len(name.split()), name))
    taken: list[str] = []
    left = Counter({"person": PEOPLE, "face": PEOPLE, "weather": PEOPLE, "device": PEOPLE})
    for name in order:
        if len(name.split()) > 3 or not SKIPPED.isdisjoint(name.split()) or not name.isascii():
            continue
        if kinds[name] in ("person", "face", "weather", "device"):
            left[kinds[name]] -= 1
            if left[kinds[name]] < 0:
                continue
        taken.append(with_article(name))
    return list(dict.fromkeys(taken))[:most]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--count", type=int, default=1000, help="of things")
    parser.add_argument("--each", type=int, default=2, help="seeds of each")
    parser.add_argument("--out", type=Path, default=Path("concepts.png"))
    parser.add_argument("--resume", action="store_true", help="go on with the sheet at --out, of the same model")
    options = parser.parse_args()
    prompts = things(options.count)
    cascade = open_cascade(options.model, options.device, stages=1)
    cascade.encode([None, *prompts])
    cascade.free_text()
    whole = read(options.out, "--out") if options.resume else None
    if whole is not None and (whole.prompts != tuple(prompts[: len(whole.prompts)]) or whole.each != options.each):
        parser.error(f"--resume: {options.out} has other things, or other seeds")
    while whole is None or len(whole.prompts) < len(prompts):
        part = prompts[0 if whole is None else len(whole.prompts) :][:AT_ONCE]
        more = drawn(cascade.stages[0], part, options.each, options.guidance)
        whole = more if whole is None else whole.joined(more)
        write(whole, options.out, command="concept_sheet", model=Path(options.model).name)  # a machine may be taken away
        print(f"{len(whole.prompts)} of {len(prompts)} drawn", flush=True)
    print(f"{len(prompts)} things, {options.out.stat().st_size:,} bytes, in {options.out}")


if __name__ == "__main__":
    main()
