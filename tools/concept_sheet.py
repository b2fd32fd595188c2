"""Draw small early sketches of known things, for ``phosphene pairs``: see ``tasks/sketches.py``.

    python tools/concept_sheet.py --model glyph --out concepts.png

The things are those of ``concepts.txt``, a prompt a line: what most of the pictures that glyph learned from show, less what
is hard to tell or none of what people come for. Those of ``hard.txt`` were not named right by somebody who saw glyph's first
drawing of each alone, and are nobody's partners. A sheet says which prompts it shows, so that it can be read without that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from blind_sheets import read_prompts

from phosphene.defaults import OWN_USUAL
from phosphene.models.cascade import open_cascade
from phosphene.tasks.sketches import AT_ONCE, drawn, read, write

THINGS, HARD = (Path(__file__).parent / name for name in ("concepts.txt", "hard.txt"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--guidance", type=float, default=OWN_USUAL.guidance)
    parser.add_argument("--things", type=Path, default=THINGS, help="a text file with a prompt a line")
    parser.add_argument("--hard", type=Path, help="those of them that are hard to name, likewise; by default glyph's, for glyph")
    parser.add_argument("--each", type=int, default=2, help="seeds of each")
    parser.add_argument("--out", type=Path, default=Path("concepts.png"))
    parser.add_argument("--resume", action="store_true", help="go on with the sheet at --out, of the same model")
    options = parser.parse_args()
    prompts = read_prompts(options.things)
    listed = options.hard or (HARD if options.model == "glyph" else None)
    hard = frozenset(read_prompts(listed) if listed else ()) & {*prompts}
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
    write(whole._replace(hard=hard), options.out, command="concept_sheet", model=Path(options.model).name)
    print(f"{len(prompts)} things, {options.out.stat().st_size:,} bytes, in {options.out}")


if __name__ == "__main__":
    main()
