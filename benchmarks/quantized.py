"""What --quantize int8 saves and costs: on random weights of DeepFloyd IF's shapes, and on glyph's, which are trained.

    python benchmarks/quantized.py [--shape IF-I-M] [--pictures 8] [--device cpu] [--json FILE]

Gigabytes of the first stage's weights and milliseconds a call (two rows, as guidance asks), medians of five, with weights in the
usual precision of the device and with those in int8; how far apart their answers are. Glyph refuses the option, being small; here
its first stage is rounded all the same, since of IF no trained weights are at hand: how far apart its pictures are, of 255.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from deepfloyd import SHAPES, TOLD, config
from timing import timed, told
from torch import nn

from phosphene.devices import usual_dtype
from phosphene.drawing import run
from phosphene.models.cascade import open_cascade
from phosphene.models.if_stage import IFNetwork
from phosphene.models.if_unet import IFUNet
from phosphene.models.quantized import Int8Conv2d, Int8Linear, quantized
from phosphene.sampler import last
from phosphene.tasks.generate import generate

PROMPTS = ("a castle", "a red apple", "an old man", "a dog", "a sunset over the sea", "two cats", "a rocket ship", "a lighthouse")


def gigabytes(network: nn.Module) -> float:
    return sum(weight.numel() * weight.element_size() for weight in network.parameters()) / 1e9


@torch.no_grad()
def of_deepfloyd(shape: str, device: torch.device) -> dict[str, object]:
    torch.manual_seed(0)
    dtype = usual_dtype(device)
    with device:
        network = IFUNet(config(shape)).to(dtype).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        x, text = torch.randn(2, 3, 64, 64, dtype=dtype), torch.randn(2, 77, TOLD, dtype=dtype)
    x, t = x.contiguous(memory_format=torch.channels_last), torch.full((2,), 500, device=device)
    found: dict[str, object] = {"shape": shape, "GB": gigabytes(network)}
    called = IFNetwork(network)
    wanted = called(x, t, text)[0].float()
    found["ms a call"] = [each * 1e3 for each in timed(lambda: called(x, t, text), device)]
    rounded = IFNetwork(quantized(network, device))
    answer = rounded(x, t, text.clone())[0].float()
    found |= {"int8, GB": gigabytes(network), "int8, ms a call": [e * 1e3 for e in timed(lambda: rounded(x, t, text), device)]}
    return found | {"answers apart": ((answer - wanted).norm() / wanted.norm()).item()}


def of_glyph(count: int, device: torch.device) -> dict[str, object]:
    """Pictures of 64 pixels, without and with rounded weights of the first stage."""
    model = open_cascade("glyph", device, torch.float32, stages=1)
    task, seeds = generate(PROMPTS[:count]), range(180, 180 + count)
    before = last(run(task, model, seeds))
    network = quantized(model.stages[0].network, device)
    for layer in network.modules():  # it reads some of its weights itself, so they are made whole again
        if isinstance(layer, Int8Linear | Int8Conv2d):
            layer.weight = nn.Parameter(layer.weight * layer.scale, requires_grad=False)
            layer.__class__ = nn.Linear if isinstance(layer, nn.Linear) else nn.Conv2d
    apart = (last(run(task, model, seeds)) - before).abs().flatten(1).mean(1) * 127.5
    return {"glyph's pictures apart, of 255": [apart.median().item(), apart.min().item(), apart.max().item()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="IF-I-M")
    parser.add_argument("--pictures", type=int, default=len(PROMPTS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    device = torch.device(options.device)
    told(of_deepfloyd(options.shape, device) | of_glyph(options.pictures, device), device, options.json)


if __name__ == "__main__":
    main()
