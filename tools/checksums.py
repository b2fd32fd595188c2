"""What thirty commands draw, as checksums of their pixels: before a change and after it, to see that pictures stay.

    python tools/checksums.py --write before.json      # in the state before
    python tools/checksums.py --compare before.json    # in the state after; exit code 1 where a picture is another

Of pixels and not of files, for these say which version made them; on one machine, for processors round differently.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

from PIL import Image, ImageSequence

from phosphene.__main__ import main as phosphene

DRAW, SMALL = "--steps 4 --seed 3", "--steps 3 --no-upscale --seed 5"
COMMANDS = f"""
digits 3 {DRAW}
digits 0123456789 --solver dpm {DRAW} --sheet
digits 7 --solver heun {DRAW} --guidance 3
digits 5 --model class-10-flow {DRAW}
digits --unconditional --model time-20 --count 3 {DRAW}
ambigram 69 {DRAW}
denoise-digits --dataset digits --sigma 0.5,1 --seed 2
generate "a castle" {SMALL}
generate "a castle" "a red apple" --solver ancestral {SMALL}
generate "a castle" --steps 3 --upscale-steps 2 --seed 5
generate "a cat" --count 3 --sheet {SMALL}
generate "a cat" --negative "a dog" --guidance 3 {SMALL}
generate "a cat" --guidance-interval 200,800 {SMALL}
generate "a boat" --solver ddim --eta 0.5 {SMALL}
generate "a boat" --timesteps 990,660,330,0 --no-upscale
morph "a cat face" "a castle" {SMALL}
edit sketch-house --prompt "a house" --start 1,2 {SMALL}
edit clock-tower {SMALL} --start 1
inpaint castle-hill castle-hill-mask --prompt "a house" {SMALL}
inpaint castle-hill castle-hill-mask --prompt "a house" --compare --steps 3 --upscale-steps 1 --seed 5
compose "a cat face" "a castle" --mask circle {SMALL}
anagram "a castle" "a dog face" --view flip {SMALL}
anagram "a castle" "a dog face" --view jigsaw@2 --best-of 2 {SMALL}
anagram "a tree" "a cow" --view rotate-90 --rectify --weights 1,2 {SMALL}
anagram "a tree" "a cow" --view skew --reduce alternate --resample 2 {SMALL}
anagram "a red apple" "a smiling face" --view rotate:135 {SMALL}
hybrid "a red apple" "an angry face" {SMALL}
hybrid "a tree" "an owl" --kind color {SMALL}
hybrid "a tree" "an owl" --kind motion {SMALL}
overlay "a heart" "a star" "a face" {SMALL}
"""


def lines() -> list[str]:
    return [line for line in COMMANDS.splitlines() if line]


def pixels(folder: Path) -> str:
    """SHA-256 of names, sizes and pixels of all pictures in ``folder``."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            for frame in ImageSequence.Iterator(image):
                found.update(f"{path.name} {frame.mode} {frame.size}".encode())
                found.update(frame.tobytes())
    return found.hexdigest()


def drawn(line: str) -> str:
    """The checksum of what the command ``line`` draws, or how it failed."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()):
        code = phosphene([*shlex.split(line), "-o", "it.png", "--device", "cpu"])
        return pixels(Path(folder)) if code == 0 else f"exit code {code}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--write", type=Path, metavar="JSON")
    which.add_argument("--compare", type=Path, metavar="JSON")
    options = parser.parse_args()
    before = json.loads(options.compare.read_text()) if options.compare else {}
    out = options.write.absolute() if options.write else None
    found, others = {}, 0
    for line in lines():
        found[line] = drawn(line)
        other = options.compare and before.get(line) != found[line]
        others += bool(other)
        if other or not found[line].isalnum():
            print(f"{'another picture' if other else 'none'}: phosphene {line} ({before.get(line)}, {found[line]})", flush=True)
    if out:
        out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"{len(found)} commands" + (f", {len(found) - others} of them draw what they did" if options.compare else ""))
    sys.exit(1 if others else 0)


if __name__ == "__main__":
    main()
