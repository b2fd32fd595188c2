"""Training speed of the class-conditioned MNIST model against a notebook's loop, in one run.

    python benchmarks/mnist_training.py [--epochs 20] [--compile] [--data DIR] [--json FILE]

The notebook's loop is what the course's notebooks have: a DataLoader over torchvision's MNIST with ToTensor (here the
same steps by hand: an array becomes a PIL image, then an array, then a float tensor), fp32, eager, biases before
BatchNorm, ``loss.item()`` at each step. The architecture, the batch and the objective are the same.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

from phosphene.processes import Place
from phosphene.schedule import linear
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.loop import Trainer
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.recipes import recipe

FLOP_PER_IMAGE = 3 * 2 * 267e6  # forward and backward of 267 M multiply-adds
TENSOR_CORES = 800e12  # FLOP/s, measured on an H100 with bf16 matrix products


class Notebook(Dataset):
    def __init__(self, split):
        self.images, self.labels = split.images.numpy(), split.labels.numpy()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = Image.fromarray(self.images[index, 0], mode="L")
        return torch.from_numpy(np.array(image, np.uint8, copy=True)).view(28, 28, 1).permute(
            2, 0, 1
        ).contiguous().float() / 255, int(self.labels[index])


def with_biases(network: nn.Module) -> nn.Module:
    """The same network with a bias in each convolution, as nn.Conv2d has it by default."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is None:
            module.bias = nn.Parameter(torch.zeros(module.out_channels))
    return network


def agreement(dataset, device) -> float:
    """How far the two networks' answers lie apart, of the same weights; AssertionError where that is more than rounding."""
    network = build(recipe("class"), 10)[0].to(device)
    x = dataset.train.images[:64].float().to(device) / 255
    told = torch.linspace(0, 1, len(x), device=device), F.one_hot(dataset.train.labels[:64].long(), 10).float().to(device)
    with torch.no_grad():
        ours = network(x, *told)
        apart = ((with_biases(network).to(device)(x, *told) - ours).norm() / ours.norm()).item()
    assert apart < 1e-3, f"the networks answer {apart:.1e} apart"
    return apart


def notebook_speed(dataset, device, steps: int, warm: int = 20) -> float:
    settings = recipe("class")
    network = with_biases(build(settings, 10)[0]).to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)
    schedule = linear()
    alphas = schedule.abar.float().to(device)
    loader = DataLoader(Notebook(dataset.train), batch_size=settings.batch_size, shuffle=True)
    begun = 0.0
    for step, (x, y) in enumerate(loader):
        if step == warm:
            begun = time.perf_counter()
        if step == warm + steps:
            break
        x, y = x.to(device), y.to(device)
        t = torch.randint(0, 300, (len(x),), device=device)
        noise = torch.randn_like(x)
        abar = alphas[t].view(-1, 1, 1, 1)
        xt = abar.sqrt() * x + (1 - abar).sqrt() * noise
        code = F.one_hot(y, 10).float() * (torch.rand(len(x), 1, device=device) > 0.1)
        loss = F.mse_loss(network(xt, t / 300, code), noise)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
    return steps * settings.batch_size / (time.perf_counter() - begun)


def our_speed(dataset, device, epochs: int, compiled: bool, limit: float) -> tuple[float, float, float]:
    """Images per second after warm-up, seconds of warm-up (to the first report, graph captured), seconds of the rest.

    ``limit``: seconds after which it is enough; infinite to see the epochs through.
    """
    begun = time.perf_counter()
    settings = recipe("class", epochs=epochs)
    network, loss, _ = build(settings, 10)
    trainer = Trainer(settings, network, loss, dataset.train, Place(device), compiled)
    warm = rest = first = last = 0.0
    for progress in trainer.run():
        now = time.perf_counter() - begun
        if not warm:
            warm, first = now, progress.step
        else:
            rest, last = now - warm, (progress.epoch - 1) * progress.steps + progress.step
            if rest > limit:
                break
    else:
        rest, last = time.perf_counter() - begun - warm, epochs * trainer.steps
    return (last - first) * settings.batch_size / rest, warm, rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--steps", type=int, help="of the notebook's loop; by default 200 on a GPU, 40 on a CPU")
    parser.add_argument("--limit", type=float, help="seconds for our loop; by default none on a GPU, 60 on a CPU")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    device = str(Place(options.device).device)
    dataset = load_dataset("mnist", options.data)
    on_gpu = device.startswith("cuda")
    apart = agreement(dataset, device)
    limit = options.limit or (math.inf if on_gpu else 60.0)
    theirs = notebook_speed(dataset, device, options.steps or (200 if on_gpu else 40))
    ours, warm, rest = our_speed(dataset, device, options.epochs, options.compile, limit)
    per_epoch = len(dataset.train) / ours
    floor = FLOP_PER_IMAGE * len(dataset.train) / TENSOR_CORES
    result = {
        "machine": torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "compiled": options.compile,
        "networks apart": apart,
        "notebook images/s": round(theirs),
        "phosphene images/s": round(ours),
        "ratio": round(ours / theirs, 2),
        "warm-up s": round(warm, 1),
        f"{options.epochs} epochs after warm-up s" if rest < limit else "measured s": round(rest, 1),
        "s per epoch": round(per_epoch, 3),
        "times the arithmetic floor": round(per_epoch / floor, 1),
    }
    print("\n".join(f"{key:32} {value}" for key, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
