"""DeepFloyd IF's first stage against diffusers, plain and compiled, on the same random weights, noise and steps, in one run.

    python benchmarks/deepfloyd.py [--shapes IF-I-M IF-I-XL] [--steps 20] [--batch 1] [--compile] [--device cuda] [--json FILE]

The weights are random, of the real shapes, in half precision on a GPU. That both draw the same is asserted first: the loops in
single precision, in which their noise is the same, each network in that of the measurement. Milliseconds a step, medians of
five runs, guidance on: of the whole loop, and of the network alone in the ways it can be called. The floor is what the counted
multiplications would take at the rate of a large matrix product measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from deepfloyd_memory import FIRST, TOLD, first_stage_config
from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
from timing import timed
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from phosphene.drawing import Sampling, run
from phosphene.models.if_stage import IFNetwork
from phosphene.models.if_unet import IFUNet
from phosphene.models.scheduler import Scheduler
from phosphene.models.stage import Stage
from phosphene.models.text import Text
from phosphene.sampler import last
from phosphene.tasks.anagram import anagram
from phosphene.tasks.generate import generate

SHAPES = ("tiny", *FIRST)
PROMPTS = ("a tulip", "a bell")
SCHEDULER = {
    "beta_schedule": "squaredcos_cap_v2",
    "variance_type": "learned_range",
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.95,
    "sample_max_value": 1.5,
}


def config(name: str) -> dict:
    """The unet/config.json of a first stage; "tiny" has its kinds of blocks and few channels."""
    if name == "tiny":
        return first_stage_config(32) | {"layers_per_block": 1, "attention_head_dim": 16}
    return first_stage_config(FIRST[name])


def networks(name: str, device: torch.device, dtype: torch.dtype) -> tuple[UNet2DConditionModel, IFUNet]:
    """Diffusers' and ours, of the same weights."""
    torch.manual_seed(0)
    with device:
        theirs = UNet2DConditionModel(**config(name)).to(dtype).eval().requires_grad_(False)
        ours = IFUNet(config(name)).to(dtype).eval().requires_grad_(False)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours.to(memory_format=torch.channels_last)


def stage(network: torch.nn.Module, device: torch.device, words: dict[str, Tensor]) -> Stage:
    scheduler = Scheduler(**SCHEDULER)
    text = Text(None, TOLD, torch.device("cpu"), torch.float32, words, silent=True)
    return Stage(IFNetwork(network) if isinstance(network, IFUNet) else network, scheduler, scheduler.schedule(), text)


def rate(device: torch.device) -> float:
    """Multiplications and additions a second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=torch.float16 if device.type == "cuda" else torch.float32) for _ in "ab")
    return 2 * size**3 / timed(lambda: a @ b, device).median


class Loops:
    """The same pictures drawn by diffusers' pipeline and by ours."""

    def __init__(self, theirs: torch.nn.Module, ours: torch.nn.Module, device: torch.device, steps: int, batch: int) -> None:
        self.device, self.steps, self.seeds = device, steps, list(range(batch))
        torch.manual_seed(1)
        self.words = {prompt: torch.randn(77, TOLD) for prompt in ("", *PROMPTS)}
        self.stage = stage(ours, device, self.words)
        scheduler = DDPMScheduler(**SCHEDULER)
        nothing = dict.fromkeys(("tokenizer", "text_encoder", "safety_checker", "feature_extractor", "watermarker"))
        self.pipeline = IFPipeline(unet=theirs, scheduler=scheduler, **nothing, requires_safety_checker=False)
        self.pipeline.set_progress_bar_config(disable=True)

    def theirs(self) -> Tensor:
        words = {k: self.words[k][None].to(self.device, self.pipeline.unet.dtype) for k in ("", PROMPTS[0])}
        found = self.pipeline(
            prompt_embeds=words[PROMPTS[0]],
            negative_prompt_embeds=words[""],
            num_images_per_prompt=len(self.seeds),
            guidance_scale=7.0,
            num_inference_steps=self.steps,
            output_type="pt",
            generator=[torch.Generator().manual_seed(seed) for seed in self.seeds],
        )
        return found.images.float()

    def ours(self) -> Tensor:
        return last(run(generate([PROMPTS[0]]), self.stage, self.seeds, sampling=Sampling(steps=self.steps)))

    def anagram(self) -> Tensor:
        return last(run(anagram(list(PROMPTS), ["flip"]), self.stage, self.seeds, sampling=Sampling(steps=self.steps)))


@torch.no_grad()
def require_agreement(device: torch.device, steps: int = 5) -> float:
    """That both loops draw the same picture, in single precision, where their noise is the same; how far apart they are."""
    loops = Loops(*networks("tiny", device, torch.float32), device, steps, batch=2)
    # Convolutions lose 13 bits otherwise, which the threshold of a tiny random network amplifies to percents.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        ours, theirs = loops.ours(), loops.theirs()
    apart = ((ours - theirs).norm() / theirs.norm()).item()
    assert apart < 1e-3, f"the pictures differ by {apart:.2%}"
    return apart


@torch.no_grad()
def measure(name: str, options: argparse.Namespace, told: dict) -> None:
    device, rows = torch.device(options.device), 2 * options.batch
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    theirs, ours = networks(name, device, dtype)
    loops = Loops(theirs, ours, device, options.steps, options.batch)
    x = torch.randn(rows, 3, 64, 64, device=device, dtype=dtype)
    t, text = torch.full((rows,), 500, device=device), torch.randn(rows, 77, TOLD, device=device, dtype=dtype)
    wanted, read = theirs(x, t, encoder_hidden_states=text).sample, ours.read(text)
    apart = ((ours(x, t, read) - wanted).float().norm() / wanted.float().norm()).item()
    assert apart < (0.02 if device.type == "cuda" else 1e-4), f"{name}: the networks differ by {apart:.2%}"
    with FlopCounterMode(display=False) as counter:
        ours(x, t, read)
    found = told["shapes"][name] = {"apart": apart, "floor_ms": counter.get_total_flops() / told["rate"] * 1e3}

    def add(what: str, call: Callable[[], object], steps: int = 1) -> None:
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        warm = time.perf_counter() - begun
        found[what] = [each * 1e3 / steps for each in timed(call, device)] + [warm]
        print(name, what, *(f"{each:.2f}" for each in found[what]), flush=True)
        if options.json:  # after each: compiling takes minutes, and a machine may be taken away
            options.json.write_text(json.dumps(told, indent=1) + "\n")

    add("diffusers, the network", lambda: theirs(x, t, encoder_hidden_states=text).sample)
    add("ours, the network, eager", lambda: ours(x, t, read))
    seen = x.contiguous(memory_format=torch.channels_last)
    network = loops.stage.network
    add("ours, the network, as a graph", lambda: network(seen, t, text)[0])
    add("diffusers, the loop", loops.theirs, options.steps)
    add("ours, the loop", loops.ours, options.steps)
    pictures, peers = loops.ours(), loops.theirs()
    found["pictures apart"] = ((pictures - peers).norm() / peers.norm()).item()
    add("ours, an anagram of two views", loops.anagram, options.steps)
    print(
        name, f"networks apart {apart:.1e}, pictures {found['pictures apart']:.1e}, floor {found['floor_ms']:.2f} ms", flush=True
    )
    if options.compile:
        fused = IFNetwork(ours)
        fused.compile()
        add("ours, the network, compiled", lambda: fused(seen, t, text)[0])
        apart = ((fused(seen, t, text)[0] - wanted).float().norm() / wanted.float().norm()).item()
        assert apart < 0.02, f"{name}: the compiled network differs by {apart:.2%}"
        loops.stage = replace(loops.stage, network=fused)
        add("ours, the loop, compiled", loops.ours, options.steps)
        loops.pipeline.unet = theirs = theirs.to(memory_format=torch.channels_last)
        theirs.forward = torch.compile(theirs.forward, mode="reduce-overhead")
        add("diffusers, the loop, compiled", loops.theirs, options.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["IF-I-M", "IF-I-XL"])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=1, help="pictures at a time")
    parser.add_argument("--compile", action="store_true", help="both compiled too: minutes")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    device = torch.device(options.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    told = {"machine": where, "torch": torch.__version__, "command": sys.argv, "rate": rate(device), "shapes": {}}
    told["pictures apart"] = require_agreement(device)
    print(where, f"{told['rate'] / 1e12:.2f} TFLOP/s, pictures apart {told['pictures apart']:.1e}", flush=True)
    for name in options.shapes:
        measure(name, options, told)


if __name__ == "__main__":
    main()
