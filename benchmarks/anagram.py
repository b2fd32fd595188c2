"""An anagram of two views against the published loop of Visual Anagrams, on the same weights, noise and steps, in one run.

    python benchmarks/anagram.py [--shape glyph] [--steps 20] [--runs 5] [--device cpu] [--json FILE]

The loop is that of Geng et al. 2024, section 3: at each step the noisy picture is seen through each view, the network is
asked with and without the prompt, guidance makes one estimate of the two, its inverse view brings it back, the mean of all
is what the scheduler of diffusers steps by. ``glyph`` is the embedded first stage, and the network of the peer diffusers'
own class; the shapes of DeepFloyd IF have random weights (see deepfloyd.py). That both draw the same is asserted first.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from torch import Tensor

from phosphene.drawing import Sampling, run
from phosphene.models.cascade import open_cascade
from phosphene.models.folders import cascade_folder, stage_folders
from phosphene.models.protocol import Denoiser
from phosphene.sampler import last
from phosphene.tasks.anagram import anagram

PROMPTS, SEED, GUIDANCE = ("a heart", "a spade"), 180, 7.0
SHAPES = ("glyph", "tiny", "IF-I-M", "IF-I-L", "IF-I-XL")

Asked = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From pictures, times and texts (None of the arguments is shared between rows) to what the network says."""


def same(x: Tensor) -> Tensor:
    return x


def flipped(x: Tensor) -> Tensor:
    """Upside down; its own inverse."""
    return x.flip(-2)


VIEWS = (same, flipped)


@torch.no_grad()
def published(ask: Asked, scheduler: DDPMScheduler, texts: Tensor, null: Tensor, steps: int, device: torch.device) -> Tensor:
    """The picture (1, 3, 64, 64). texts: (views, L, C), a prompt for each view; null: (1, L, C)."""
    generator = torch.Generator().manual_seed(SEED)
    x = torch.randn(1, 3, 64, 64, generator=generator).to(device)
    scheduler.set_timesteps(steps)
    learned = scheduler.config.variance_type == "learned_range"
    text = torch.cat([null.expand(len(VIEWS), *null.shape[1:]), texts])
    for t in scheduler.timesteps:
        seen = torch.cat([view(x) for view in VIEWS])
        without, told = ask(torch.cat([seen, seen]), t.to(device).expand(2 * len(VIEWS)), text).float().chunk(2)
        noise = without[:, :3] + GUIDANCE * (told[:, :3] - without[:, :3])
        answer = torch.cat([noise, told[:, 3:]], 1) if learned else noise
        back = torch.stack([view(part) for view, part in zip(VIEWS, answer.split(1), strict=True)]).mean(0)
        x = scheduler.step(back, t, x, generator=generator).prev_sample
    return x


def glyph(device: torch.device) -> tuple[Asked, DDPMScheduler, Denoiser]:
    """The embedded first stage: as the peer asks it, and ours."""
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    folder = stage_folders(cascade_folder("glyph"))[0]
    network = PixArtTransformer2DModel.from_pretrained(folder / "transformer", torch_dtype=dtype).to(device).eval()
    cascade = open_cascade("glyph", device, dtype, stages=1)
    none = {"resolution": None, "aspect_ratio": None}

    def ask(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        how = {"encoder_hidden_states": text[..., :-1].to(dtype), "encoder_attention_mask": text[..., -1]}
        return network(x.to(dtype), timestep=t, **how, added_cond_kwargs=none).sample

    return ask, DDPMScheduler.from_pretrained(folder / "scheduler"), cascade.stages[0]


def deepfloyd(shape: str, device: torch.device) -> tuple[Asked, DDPMScheduler, Denoiser]:
    """A first stage of IF's kind with random weights: diffusers' network, and ours."""
    from deepfloyd import SCHEDULER, TOLD, networks, stage

    theirs, ours = networks(shape, device, torch.float32 if device.type == "cpu" else torch.float16)
    torch.manual_seed(1)
    words = {prompt: torch.randn(77, TOLD) for prompt in ("", *PROMPTS)}

    def ask(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        return theirs(x.to(theirs.dtype), t, encoder_hidden_states=text.to(theirs.dtype)).sample

    return ask, DDPMScheduler(**SCHEDULER), stage(ours, device, words)


def milliseconds(calls: dict[str, Callable[[], object]], runs: int, device: torch.device) -> dict[str, list[float]]:
    """What each call takes, time and again, by turns; the first of each does not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(runs + 1):
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if turn:
                found[name].append((time.perf_counter() - begun) * 1e3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="glyph")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()
    device = torch.device(options.device)
    made = glyph(device) if options.shape == "glyph" else deepfloyd(options.shape, device)
    ask, scheduler, stage = made
    null, *texts = (stage.embed(prompt).to(device)[None] for prompt in (None, *PROMPTS))
    task, how = anagram(list(PROMPTS), ["identity", "flip"]), Sampling(steps=options.steps, guidance=GUIDANCE)
    calls = {
        "published loop": lambda: published(ask, scheduler, torch.cat(texts), null, options.steps, device),
        "phosphene": lambda: last(run(task, stage, [SEED], sampling=how)),
    }
    theirs, ours = (call() for call in calls.values())
    apart = ((ours - theirs).norm() / theirs.norm()).item()
    assert apart < (1e-3 if device.type == "cpu" else 0.05), f"the pictures are {apart:.1e} apart"
    found = milliseconds(calls, options.runs, device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    result = {"machine": where, "torch": torch.__version__, "command": sys.argv, "shape": options.shape, "apart": apart}
    for name, times in found.items():
        each = [time / options.steps for time in times]
        result[f"{name}, ms a step"] = [round(value, 3) for value in (statistics.median(each), min(each), max(each))]
    ratios = [theirs / ours for theirs, ours in zip(*found.values(), strict=True)]
    result["ratio"] = [round(value, 3) for value in (statistics.median(ratios), min(ratios), max(ratios))]
    print("\n".join(f"{key:32} {value}" for key, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
