"""What a network in training draws: one sheet an epoch, from its moving average."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import nn

from phosphene.drawing import Sampling, Task, run
from phosphene.evaluation.classifier import accuracy
from phosphene.expression import Expression, cond, guide
from phosphene.images import rescaled, sheet, to_images
from phosphene.models import catalogue
from phosphene.models.protocol import Denoiser
from phosphene.sampler import draw, generators, last
from phosphene.training.mnist.data import Split

ROWS, STEPS = 4, 20


def preview(average: nn.Module, config: dict, test: Split, seed: int) -> tuple[Image.Image | None, dict]:
    """A sheet of samples and figures for the log: digits for a diffusion model, before and after for a denoiser,
    the test accuracy for a classifier."""
    device = next(average.parameters()).device
    model = catalogue.build(config, average.state_dict(), Path("the run"), device, torch.float32)
    if config["kind"] == "classifier":
        return None, {"test_accuracy": accuracy(model, test.images.float() / 255, test.labels)}
    if config["kind"] == "denoiser":
        clean = test.images[:10].float() / 255
        noise = draw(generators(range(seed, seed + len(clean))), len(clean), clean.shape[1:])
        noisy = clean + config["sigma"] * noise
        with torch.no_grad():
            mended = model(noisy.to(device)).float().cpu()
        mse = (mended - clean).square().mean().item()
        rows = [to_images(rescaled(several), 2) for several in (clean, noisy, mended)]
        return sheet(rows, row_labels=["clean", "noisy", "estimate"]), {"mse_of_10": mse}
    columns = model.classes or 10
    count = ROWS * columns

    def asks(_: Denoiser, scale: float) -> Expression:
        return guide(cond(*[k % columns for k in range(count)]), scale=scale) if model.classes else cond(None)

    sampling = Sampling("ddim", steps=min(STEPS, model.schedule.steps), guidance=3)
    steps = run(Task(asks), model, range(seed, seed + count), sampling=sampling)
    pictures = to_images(rescaled(last(steps)), 2)
    return sheet([pictures[r * columns : (r + 1) * columns] for r in range(ROWS)]), {}
