"""How many scenes, with their captions as tokens, one core makes up in a second: what a process that feeds a training does.

python benchmarks/scenes.py --data DIR --model MODEL [--count 512] [--runs 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch
from timing import timed

from phosphene.models import tokens
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.run import saved_recipe
from phosphene.training.text_to_image.stories import Stories


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="whose recipe and tokenizer are used")
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    recipe, _ = saved_recipe(options.model)
    tokenizer, _ = tokens.load(options.model / "tokenizer")
    stories = Stories(Cutouts.open(options.data, 16), tokenizer, replace(recipe, batch_size=options.count), None)
    batch = count()  # a batch that was made before is made no quicker, but another is fairer
    seconds = timed(lambda: stories[next(batch)], torch.device("cpu"), options.runs)
    median, most, least = (options.count / s for s in seconds)
    print(f"{median:.0f} scenes a second ({least:.0f} to {most:.0f})")
    if options.json:
        told = {"machine": f"one of {os.cpu_count()} cores", "torch": torch.__version__, "command": sys.argv}
        options.json.write_text(json.dumps(told | {"scenes a second": [median, least, most]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
