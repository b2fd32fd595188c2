"""Draw the illusions of docs/gallery.md: each by its command, the best of sixteen seeds, nothing picked by hand.

    python tools/gallery.py [--only NAME ...] [--again]

Pictures that are there already stay, unless ``--again``. ``READS`` is what a person said who looked at them and knew the prompts.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from phosphene.images import read_provenance

DOCS = Path(__file__).parent.parent / "docs"
PICTURES = DOCS / "images" / "gallery"

ANAGRAMS = {
    "tulip-bell": ("a tulip", "a bell", "flip"),
    "umbrella-sailboat": ("an umbrella", "a sailboat", "flip"),
    "heart-spade": ("a red heart", "a spade suit", "flip"),
    "happy-sad": ("a happy face", "a sad face", "rotate-180"),
    "glass-mushroom": ("a wine glass", "a mushroom", "rotate-180"),
    "balloon-bulb": ("a hot air balloon", "a light bulb", "rotate-180"),
    "mushroom-jellyfish": ("a mushroom", "a jellyfish", "flip"),
    "castle-dog": ("a castle", "a dog face", "flip"),
    "beard-curls": ("a man with beard", "a woman with curly hair", "rotate-180"),
    "skull-ghost": ("a skull on a black background", "a ghost icon", "negate"),
    "moon-banana": ("a crescent moon", "a banana", "rotate-90"),
    "heart-strawberry": ("a red heart", "a strawberry", "jigsaw"),
}
HYBRIDS = {
    "heart-cat": ("a red heart", "a cat face", "frequency", ("--sigma", "2")),
    "tree-dog": ("a green tree", "a dog face", "frequency", ("--sigma", "2")),
    "star-smile": ("a yellow star", "a smiling face", "frequency", ("--sigma", "2")),
    "pumpkin-man": ("an orange pumpkin", "an old man", "frequency", ("--sigma", "2.5")),
    "tiger-apple": ("a tiger face", "a green apple", "color", ()),
    "skull-sunflower": ("a skull", "a sunflower", "color", ()),
}
SHARED = ("--solver", "dpm", "--best-of", "16")

READS: dict[str, str] = {}


def command(name: str) -> list[str]:
    """What makes the picture called ``name``."""
    if name in ANAGRAMS:
        first, second, view = ANAGRAMS[name]
        return ["phosphene", "anagram", first, second, "--view", view, *SHARED, "-o", f"{name}.png"]
    first, second, kind, more = HYBRIDS[name]
    return ["phosphene", "hybrid", first, second, "--kind", kind, *more, *SHARED, "-o", f"{name}.png"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=[*ANAGRAMS, *HYBRIDS], default=[*ANAGRAMS, *HYBRIDS])
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in options.only:
        if options.again or not (PICTURES / f"{name}.png").exists():
            done = subprocess.run([sys.executable, "-m", *command(name)], cwd=PICTURES, check=True, capture_output=True, text=True)
            print(f"{name}: {done.stdout.strip().splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
