"""A second process draws with the code that the first compiled: how long to its picture, from start to end.

    python benchmarks/second_process.py [--shape IF-I-M] [--steps 20] [--device cuda] [--json FILE]

A model of the real shape and random weights is written, the text's embeddings beside it; then the command line draws one picture
without compiling, compiles, and draws with what was compiled: three times, a process each. Seconds are of whole processes,
imports and loading in them. That what was compiled draws the same picture in each process is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from deepfloyd import SCHEDULER, SHAPES, TOLD, config
from safetensors.torch import save_file
from timing import told

from phosphene.models.if_unet import IFUNet
from phosphene.readers import read_picture

PROMPT = "a tulip"


def write_model(folder: Path, shape: str, device: str) -> None:
    """A first stage in the layout of diffusers, in half precision, and ``words.pth`` beside it."""
    stage = folder / "stage-1"
    for part in ("unet", "scheduler"):
        (stage / part).mkdir(parents=True)
    (stage / "model_index.json").write_text(json.dumps({"_class_name": "IFPipeline"}))
    (stage / "unet" / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel", **config(shape)}))
    (stage / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDPMScheduler", **SCHEDULER}))
    torch.manual_seed(0)
    with torch.device(device):
        weights = IFUNet(config(shape)).half().state_dict()
    path = stage / "unet" / "diffusion_pytorch_model.fp16.safetensors"
    save_file({name: weight.cpu().contiguous() for name, weight in weights.items()}, path)
    torch.save({prompt: torch.randn(1, 77, TOLD) for prompt in ("", PROMPT)}, folder / "words.pth")


def drawn(folder: Path, out: Path, options: argparse.Namespace, *more: str) -> float:
    """Seconds of a process that draws one picture of the model in ``folder``."""
    command = [sys.executable, "-m", "phosphene", "generate", PROMPT, "--model", str(folder), "--embeddings", "words.pth"]
    command += ["--steps", str(options.steps), "--device", options.device, "-o", str(out), *more]
    begun = time.perf_counter()
    subprocess.run(
        command, check=True, cwd=folder, env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}, capture_output=True
    )
    return time.perf_counter() - begun


def measure(options: argparse.Namespace) -> dict:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        write_model(folder, options.shape, options.device)
        pictures = [Path(name) / f"{k}.png" for k in range(5)]
        seconds = [drawn(folder, path, options, *(["--compile"] if k else [])) for k, path in enumerate(pictures)]
        first, *rest = (np.asarray(read_picture(path), dtype=np.float32) for path in pictures[1:])
        apart = max(float(np.abs(other - first).mean()) for other in rest)
        assert apart < 1, f"the pictures differ by {apart:.1f} of 255"
        code = sum(path.stat().st_size for path in (folder / "cache").rglob("*.code"))
    return {
        "without compiling": seconds[0],
        "compiles": seconds[1],
        "the next processes": [statistics.median(seconds[2:]), min(seconds[2:]), max(seconds[2:])],
        "code, MB": code / 1e6,
        "apart, of 255": apart,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="IF-I-M")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    told(measure(options), torch.device(options.device), options.json)


if __name__ == "__main__":
    main()
