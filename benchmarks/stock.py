"""``phosphene generate`` against a script of stock diffusers and transformers on the same folder: whole processes, in one run.

    python benchmarks/stock.py [--prompt "a castle"] [--steps 34] [--runs 5] [--json FILE]

Both start Python, import what they need, load the embedded first stage, draw the same seed in the same steps with guidance
and write a PNG. First both draw in float32, and that the pictures agree is asserted. Then they take turns, ours as it comes
(products in bfloat16 where the processor has them); seconds are the processor's and the clock's, medians with the spread.
The first run of each, which reads the files from the disk, does not count. ``dpm`` in 12 and 16 steps is timed for ours, and what
comes where nothing is said, four steps of the distilled model.
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
from PIL import Image

from phosphene.drawing import Sampling, run
from phosphene.models.cascade import open_cascade
from phosphene.models.folders import cascade_folder, stage_folders
from phosphene.sampler import last
from phosphene.tasks.generate import generate

SEED, GUIDANCE, SIZE, AGREE = 180, 7.0, 64, 1e-3
STOCK = """
import sys
import torch
from PIL import Image
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from transformers import AutoTokenizer, T5EncoderModel

folder, prompt, steps, seed, guidance, size, out = sys.argv[1:]
steps, seed, guidance, size = int(steps), int(seed), float(guidance), int(size)
tokenizer = AutoTokenizer.from_pretrained(folder + "/tokenizer")
text_encoder = T5EncoderModel.from_pretrained(folder + "/text_encoder", torch_dtype=torch.float32).eval()
transformer = PixArtTransformer2DModel.from_pretrained(folder + "/transformer", torch_dtype=torch.float32).eval()
scheduler = DDPMScheduler.from_pretrained(folder + "/scheduler")
with torch.no_grad():
    told = tokenizer([prompt, ""], padding="max_length", truncation=True, return_tensors="pt")
    text = text_encoder(told.input_ids, attention_mask=told.attention_mask)[0]
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 3, size, size, generator=generator)
    scheduler.set_timesteps(steps)
    none = {"resolution": None, "aspect_ratio": None}
    for t in scheduler.timesteps:
        how = {"encoder_hidden_states": text, "encoder_attention_mask": told.attention_mask, "added_cond_kwargs": none}
        cond, null = transformer(torch.cat([x, x]), timestep=t.expand(2), **how).sample.chunk(2)
        x = scheduler.step(null + guidance * (cond - null), t, x, generator=generator).prev_sample
if out.endswith(".pt"):
    torch.save(x, out)
pixels = ((x[0] / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
Image.fromarray(pixels).save(out + ".png" if out.endswith(".pt") else out)
"""


def process(command: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of the processors that ``command`` takes from its start to its end."""
    quiet = {**os.environ, "PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_OFFLINE": "1"}
    begun = time.perf_counter()
    child = subprocess.Popen(command, env=quiet, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{command[:4]} ended with {child.returncode}")
    return time.perf_counter() - begun, used.ru_utime + used.ru_stime


def spread(found: list[float]) -> list[float]:
    """Median, least and most."""
    return [round(value, 3) for value in (statistics.median(found), min(found), max(found))]


def agreement(stock: list[str], prompt: str, steps: int, folder: Path) -> float:
    """How far apart the pictures are, both in float32, as a share of their length; AssertionError beyond ``AGREE``."""
    process([*stock, str(folder / "stock.pt")])
    cascade = open_cascade("glyph", "cpu", torch.float32, stages=1)
    ours = last(run(generate([prompt]), cascade, [SEED], sampling=Sampling("ancestral", steps, guidance=GUIDANCE)))
    stocks = torch.load(folder / "stock.pt")
    apart = ((ours - stocks).norm() / stocks.norm()).item()
    assert apart < AGREE, f"the pictures are {apart:.1e} apart"
    return apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", default="a castle")
    parser.add_argument("--steps", type=int, default=34)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()
    told = [options.prompt, str(options.steps), str(SEED), str(GUIDANCE), str(SIZE)]
    stock = [sys.executable, "-c", STOCK, str(stage_folders(cascade_folder("glyph"))[0]), *told]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        apart = agreement(stock, options.prompt, options.steps, folder)
        ours = [sys.executable, "-m", "phosphene", "generate", options.prompt, "--no-upscale", "-o", str(folder / "ours.png")]
        equal = [*ours, "--solver", "ancestral", "--steps", str(options.steps), "--guidance", str(GUIDANCE)]
        commands = {"stock": [*stock, str(folder / "stock.png")], "phosphene": equal}
        commands |= {f"phosphene, dpm {n}": [*ours, "--solver", "dpm", "--steps", str(n)] for n in (12, 16)}
        commands["phosphene, as it comes"] = ours
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(options.runs + 1):
            for name, command in commands.items():
                taken = process(command)
                if turn:
                    times[name].append(taken)
            if not turn:  # before other steps draw over it
                process(commands["phosphene"])
                one, other = (np.asarray(Image.open(folder / f"{name}.png"), dtype=float) for name in ("ours", "stock"))
    result = {"machine": f"CPU, {os.cpu_count()} cores", "apart in float32": apart}
    result["apart as they come, of 255"] = round(np.abs(one - other).mean().item(), 3)
    for name, taken in times.items():
        clock, processor = (list(part) for part in zip(*taken, strict=True))
        result[f"{name}, s"], result[f"{name}, processor s"] = spread(clock), spread(processor)
    for what, index in (("clock", 0), ("processor", 1)):
        pairs = zip(times["stock"], times["phosphene"], strict=True)
        result[f"ratio by the {what}"] = spread([theirs[index] / own[index] for theirs, own in pairs])
    print("\n".join(f"{key:32} {value}" for key, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
