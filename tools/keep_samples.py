"""Keep what a network drew that does not ship: python tools/keep_samples.py NAME RUN/model-05 [--log RUN/log.jsonl]

NAME says what it is, as models are named (class-5-ddpm, time-1-flow, denoiser-1, denoiser-5-pure). Drawn is what the page shows:
four of each digit at guidance 5, or forty of whatever comes, in 300 ancestral steps (noise prediction) or 16 of dpm (flow); of a
denoiser its answers to the ten test digits at sigma 0.5, or to pure noise. Its mean squared error is measured on MNIST's test
digits, which PHOSPHENE_DATA must name.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from PIL import Image

from phosphene.defaults import MOST_SIGMA, SEED
from phosphene.drawing import Sampling, run
from phosphene.models import catalogue, folders
from phosphene.report.part_b import FEW, real_digits
from phosphene.report.samples import EPOCHS, SAMPLES
from phosphene.sampler import last
from phosphene.tasks.denoise_digits import denoise_at
from phosphene.tasks.digits import digits
from phosphene.training.log import NAME
from phosphene.training.mnist.data import load_dataset


def sampling_of(name: str) -> Sampling:
    """That of the assignment for noise prediction, few steps for flow."""
    return Sampling("ancestral", 300) if name.endswith("-ddpm") else FEW


def drawn(name: str, model: object) -> torch.Tensor:
    """Digits (N, 1, 28, 28) in [0, 1]."""
    wanted = [digit for _ in range(4) for digit in range(10)] if name.startswith("class") else None
    task, sampling = digits(wanted), sampling_of(name)
    seeds = range(SEED, SEED + 40)
    return last(run(task, model, seeds, sampling=sampling._replace(guidance=5.0 if wanted else 0.0)))


def answered(name: str, model: object) -> torch.Tensor:
    """What a denoiser makes of the ten test digits, noised."""
    sigma = MOST_SIGMA if name.endswith("-pure") else 0.5
    return denoise_at(model, real_digits(False).images[:10], SEED, [sigma]).estimates[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("model", type=Path)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    model, denoiser = catalogue.load(options.model), options.name.startswith("denoiser")
    made = (answered if denoiser else drawn)(options.name, model).clamp(0, 1)
    config = {k: v for k, v in catalogue.read_config(folders.folder(options.model)).items() if k != "storage"}
    if denoiser and not options.name.endswith("-pure"):
        digits_of_mnist = load_dataset("mnist", fetch=False).test.images.float() / 255
        config["error"] = float(denoise_at(model, digits_of_mnist, SEED, [0.5]).error[0])
    if not denoiser:
        config["drawn"] = f"in {sampling_of(options.name).steps} steps of {sampling_of(options.name).solver}"
    out = EPOCHS / options.name
    out.mkdir(parents=True, exist_ok=True)
    rows = [torch.cat(list(made[k : k + 10, 0]), 1) for k in range(0, len(made), 10)]
    Image.fromarray((torch.cat(rows) * 255).round().byte().numpy()).save(out / SAMPLES, optimize=True)
    (out / folders.CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    if options.log:
        shutil.copy(options.log, out / NAME)


if __name__ == "__main__":
    main()
