"""``phosphene generate`` against a script of stock diffusers and transformers on the same folder: whole processes, in one run.

    python benchmarks/stock.py [--prompt "a castle"] [--steps 34] [--runs 5] [--json FILE]

Both start Python, import what they need, load the embedded first stage, draw the same seed in the same steps with guidance
and write a PNG. First both draw in float32, and that the pictures agree is asserted. Then they take turns, ours as it comes
(products in bfloat16 where the processor has them); seconds are the processor's and the clock's, medians with the spread.
The first run of each, which reads the files from the disk, does not count. The same is done in the four steps of the distilled
model, which is what comes of ours where nothing is said; the stock script reads its weights as they are once added to its
teacher's. ``dpm`` in 12 and 16 steps is timed for ours alone.
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
from safetensors.torch import save_file

from phosphene.defaults import FAST
from phosphene.drawing import Sampling, run
from phosphene.models.cascade import open_cascade
from phosphene.models.folders import cascade_folder, stage_folders
from phosphene.sampler import last
from phosphene.tasks.generate import generate

SEED, GUIDANCE, SIZE, AGREE = 180, 7.0, 64, 1e-3
HEAD = """
import sys
import torch
from PIL import Image
from diffusers import DDPMScheduler, PixArtTransformer2DModel
from transformers import AutoTokenizer, T5EncoderModel

folder, prompt, steps, seed, guidance, size, out = sys.argv[1:]
seed, guidance, size = int(seed), float(guidance), int(size)
tokenizer = AutoTokenizer.from_pretrained(folder + "/tokenizer")
text_encoder = T5EncoderModel.from_pretrained(folder + "/text_encoder", torch_dtype=torch.float32).eval()
transformer = PixArtTransformer2DModel.from_pretrained(folder + "/transformer", torch_dtype=torch.float32).eval()
scheduler = DDPMScheduler.from_pretrained(folder + "/scheduler")
none = {"resolution": None, "aspect_ratio": None}
"""
TAIL = """
if out.endswith(".pt"):
    torch.save(x, out)
pixels = ((x[0] / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
Image.fromarray(pixels).save(out + ".png" if out.endswith(".pt") else out)
"""
STOCK = f"""{HEAD}
with torch.no_grad():
    told = tokenizer([prompt, ""], padding="max_length", truncation=True, return_tensors="pt")
    text = text_encoder(told.input_ids, attention_mask=told.attention_mask)[0]
    how = {{"encoder_hidden_states": text, "encoder_attention_mask": told.attention_mask, "added_cond_kwargs": none}}
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, 3, size, size, generator=generator)
    scheduler.set_timesteps(int(steps))
    for t in scheduler.timesteps:
        cond, null = transformer(torch.cat([x, x]), timestep=t.expand(2), **how).sample.chunk(2)
        x = scheduler.step(null + guidance * (cond - null), t, x, generator=generator).prev_sample
{TAIL}"""
DISTILLED = f"""{HEAD}
times = [int(t) for t in steps.split(",")]
levels = [*scheduler.alphas_cumprod[times].tolist(), 1.0]
with torch.no_grad():
    told = tokenizer([prompt], padding="max_length", truncation=True, return_tensors="pt")
    text = text_encoder(told.input_ids, attention_mask=told.attention_mask)[0]
    how = {{"encoder_hidden_states": text, "encoder_attention_mask": told.attention_mask, "added_cond_kwargs": none}}
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed))
    for t, now, then in zip(times, levels, levels[1:]):
        clean = transformer(x, timestep=torch.tensor([t]), **how).sample.clamp(-1, 1)
        noise = (x - now**0.5 * clean) / (1 - now) ** 0.5
        x = then**0.5 * clean + (1 - then) ** 0.5 * noise
{TAIL}"""


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


def agreement(stock: list[str], prompt: str, model: str, sampling: Sampling, folder: Path) -> float:
    """How far apart the pictures are, both in float32, as a share of their length; AssertionError beyond ``AGREE``."""
    process([*stock, str(folder / "stock.pt")])
    cascade = open_cascade(model, "cpu", torch.float32, stages=1)
    ours = last(run(generate([prompt]), cascade, [SEED], sampling=sampling))
    stocks = torch.load(folder / "stock.pt")
    apart = ((ours - stocks).norm() / stocks.norm()).item()
    assert apart < AGREE, f"the pictures are {apart:.1e} apart"
    return apart


def whole(source: Path, folder: Path) -> tuple[Path, str]:
    """The distilled model as stock diffusers opens it, its teacher's folder ``source`` with other weights; its timesteps."""
    stage = open_cascade(FAST, "cpu", torch.float32, stages=1).stages[0]
    for part in source.iterdir():
        if part.name != "transformer":
            (folder / part.name).symlink_to(part)
    (folder / "transformer").mkdir()
    (folder / "transformer" / "config.json").write_bytes((source / "transformer" / "config.json").read_bytes())
    weights = {name: weight.contiguous() for name, weight in stage.network.transformer.state_dict().items()}
    save_file(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors")
    return folder, ",".join(map(str, stage.usual.timesteps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", default="a castle")
    parser.add_argument("--steps", type=int, default=34)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()
    rest = [str(SEED), str(GUIDANCE), str(SIZE)]
    teacher = stage_folders(cascade_folder("glyph"))[0]
    stock = [sys.executable, "-c", STOCK, str(teacher), options.prompt, str(options.steps), *rest]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "few").mkdir()
        few, times = whole(teacher, folder / "few")
        stock_few = [sys.executable, "-c", DISTILLED, str(few), options.prompt, times, *rest]
        apart = agreement(stock, options.prompt, "glyph", Sampling("ancestral", options.steps, guidance=GUIDANCE), folder)
        apart_few = agreement(stock_few, options.prompt, FAST, Sampling(), folder)
        ours = [sys.executable, "-m", "phosphene", "generate", options.prompt, "--no-upscale", "-o", str(folder / "ours.png")]
        equal = [*ours, "--solver", "ancestral", "--steps", str(options.steps), "--guidance", str(GUIDANCE)]
        commands = {"stock": [*stock, str(folder / "stock.png")], "phosphene": equal}
        commands |= {f"phosphene, dpm {n}": [*ours, "--solver", "dpm", "--steps", str(n)] for n in (12, 16)}
        commands |= {"stock, four steps": [*stock_few, str(folder / "few.png")], "phosphene, as it comes": ours}
        times_of: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for turn in range(options.runs + 1):
            for name, command in commands.items():
                taken = process(command)
                if turn:
                    times_of[name].append(taken)
            if not turn:  # before other steps draw over it
                process(commands["phosphene"])
                one, other = (np.asarray(Image.open(folder / f"{name}.png"), dtype=float) for name in ("ours", "stock"))
    result = {"machine": f"CPU, {os.cpu_count()} cores", "apart in float32": apart, "four steps: apart in float32": apart_few}
    result["apart as they come, of 255"] = round(np.abs(one - other).mean().item(), 3)
    for name, taken in times_of.items():
        clock, processor = (list(part) for part in zip(*taken, strict=True))
        result[f"{name}, s"], result[f"{name}, processor s"] = spread(clock), spread(processor)
    for kind, theirs, own in (("", "stock", "phosphene"), ("four steps: ", "stock, four steps", "phosphene, as it comes")):
        for what, index in (("clock", 0), ("processor", 1)):
            pairs = zip(times_of[theirs], times_of[own], strict=True)
            result[f"{kind}ratio by the {what}"] = spread([one[index] / other[index] for one, other in pairs])
    print("\n".join(f"{key:32} {value}" for key, value in result.items()))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
