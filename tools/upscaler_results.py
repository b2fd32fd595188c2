"""Measure how well a second stage enlarges pictures of concepts it was not trained on, against plain interpolation.

    python tools/upscaler_results.py MODEL --data SHARDS [--count 32] [--out SHEET.png]

SHARDS are the captioned pictures at the size the stage draws. Each is made small, enlarged again, and compared with itself:
PSNR, SSIM, and how steep its edges are (the root mean square step between neighbours, as a share of the original's).
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.drawing import Sampling, run
from phosphene.evaluation.likeness import psnr, ssim
from phosphene.images import save_png, sheet, to_images
from phosphene.models.cascade import open_cascade
from phosphene.sampler import last
from phosphene.tasks.generate import enlarge
from phosphene.training.text_to_image.captions import held_out
from phosphene.training.text_to_image.pictures import premultiplied, read

SEED = 180


def originals(shards: Path, count: int, size: int) -> Tensor:
    """``count`` held-out pictures on white, spread over all of them, (count, 3, size, size) in [-1, 1]."""
    new = [image for image, subject in read(shards) if held_out(subject.concept)]
    chosen = islice(new, 0, None, max(1, len(new) // count))
    layers = torch.stack([premultiplied(image, size) for image in chosen])[:count].float() / 255
    return (layers[:, :3] + 1 - layers[:, 3:]) * 2 - 1


def steepness(x: Tensor) -> float:
    return float((x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()).sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a name or a folder")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    stage = open_cascade(options.model).stages[-1]
    size = stage.image_shape[-1]
    whole = originals(options.data, options.count, size)
    small = F.interpolate(whole, size=size // 4, mode="area")
    tried = {"bicubic": F.interpolate(small, size=(size, size), mode="bicubic").clamp(-1, 1)}
    for level, solver, steps in ((0, "dpm", 8), (100, "dpm", 4), (100, "dpm", 8), (100, "ancestral", 34), (250, "dpm", 8)):
        sampling = Sampling(upscale_solver=solver, upscale_steps=steps, noise_level=level, max_rows=8)
        made = run(enlarge(small), stage, range(SEED, SEED + len(small)), sampling=sampling)
        tried[f"level {level}, {solver} {steps}"] = last(made)
    print(f"{'':24}  PSNR   SSIM   steepness of edges")
    for name, made in tried.items():
        near, alike = (float(measure(made, whole).mean()) for measure in (psnr, ssim))
        print(f"{name:24}  {near:5.2f}  {alike:.4f}  {steepness(made) / steepness(whole):.2f}", flush=True)
    if options.out:
        shown = (F.interpolate(small, scale_factor=4, mode="nearest"), tried["level 100, dpm 8"], whole)
        save_png(sheet([to_images(pictures[:8]) for pictures in shown]), options.out)


if __name__ == "__main__":
    main()
