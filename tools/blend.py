"""Mix the weights of two states of one run: ``python tools/blend.py OLD NEW OUT --share 0.5``.

OLD, NEW and OUT are folders of runs (``model`` and ``log.jsonl``), NEW having gone on from OLD. The mean of two states that
training led one into the other lies in the same valley, and often generalises better than its ends (Wortsman et al.
2022, Robust fine-tuning of zero-shot models). OUT has NEW's log, and its recipe says what was mixed.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of NEW, 0 to 1")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        parser.error(f"--share {options.share:g}: must lie in 0..1")
    if options.out.exists():
        parser.error(f"{options.out}: exists; choose another OUT")
    files = sorted((options.new / "model").rglob("*.safetensors"))
    old = {path.relative_to(options.old): load_file(path) for path in (options.old / "model").rglob("*.safetensors")}
    shutil.copytree(options.new / "model", options.out / "model")
    shutil.copy(options.new / "log.jsonl", options.out)
    for path in files:
        place = path.relative_to(options.new)
        mixed = {
            name: torch.lerp(old[place][name].float(), weight.float(), options.share).to(weight.dtype)
            for name, weight in load_file(path).items()
        }
        save_file(mixed, options.out / place, metadata={"format": "pt"})
    told = [json.loads((run / "model" / "recipe.json").read_text()) for run in (options.old, options.new)]
    mixed_of = {"blend": {"images": [each["images"] for each in told], "share": options.share}}
    (options.out / "model" / "recipe.json").write_text(json.dumps(told[1] | mixed_of, indent=2) + "\n")


if __name__ == "__main__":
    main()
