"""One process beside several, each on its GPU: sampling, and with --data training, in one run on one machine.

    python benchmarks/scale.py [--processes 1 2] [--model glyph] [--count 1024] [--steps 16] [--runs 5]
        [--data DIR --from MODEL --batch-size 1024 --seconds 120] [--json FILE]

All numbers of processes draw the same seeds, and that they give the same pictures is asserted before their times count. The
first stage alone is drawn, by dpm; a picture's noise is made on the host. Training takes an equal batch of all processes
together, and its rate is the median of the reports in the second half of its time: in the first, code is compiled.
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
from dataclasses import replace
from pathlib import Path

import torch
from timing import timed

from phosphene.drawing import Sampling, run
from phosphene.models.catalogue import load
from phosphene.processes import Place
from phosphene.sampler import last
from phosphene.tasks.generate import generate
from phosphene.training.text_to_image.run import WORDNET, CascadeRun, saved_recipe

PROMPTS = ("a castle", "a red fish", "an oil painting of a forest", "two cats")
ROWS = 256
"""So many pictures each process draws at a time, whatever the number of processes."""
AGREE = 1e-2
"""Two sizes of a batch give products that are rounded differently, in bfloat16 on a GPU; a picture of another seed is 1 away."""


def drawn(place: Place, options: argparse.Namespace) -> dict:
    """The pictures of ``--count`` seeds, and how long they take."""
    model = load(options.model, device=str(place.device))
    stage, sampling = model.stages[0], Sampling(solver="dpm", steps=options.steps, guidance=4.0)
    prompts = [PROMPTS[k % len(PROMPTS)] for k in range(options.count)]

    def all_of_them() -> torch.Tensor:
        parts = []
        for k in range(0, options.count, ROWS * place.world):
            seeds = list(range(options.count))[k : k + ROWS * place.world]
            parts.append(last(run(generate([prompts[s] for s in seeds]), stage, seeds, sampling=sampling, place=place)))
        return torch.cat(parts)

    pictures = all_of_them()
    return {"seconds": timed(all_of_them, place.device, options.runs), "pictures": pictures.half().cpu()}


def trained(place: Place, options: argparse.Namespace, out: Path) -> dict:
    """Images a second while training goes on from ``--from``."""
    saved, _ = saved_recipe(options.source)
    recipe = replace(saved, images=10**10, batch_size=options.batch_size, warmup=1, cooldown=0.0, held_out=0)
    # Processes that started at different moments would look at different clocks.
    begun, rates = place.of_the_leader(time.time()), []
    wordnet = options.wordnet if options.wordnet.exists() else None
    training = CascadeRun(
        recipe, out, options.data, device="auto", wordnet=wordnet, workers=options.workers, seconds=options.seconds,
        source=options.source,
    )  # fmt: skip
    for report in training:
        rates.append((time.time() - begun, report.images_per_second))
    late = [rate for at, rate in rates if at > options.seconds / 2 and rate]
    return {"images_per_second": [statistics.median(late), min(late), max(late)], "reports": len(late)}


def work(options: argparse.Namespace) -> None:
    place = Place("auto")
    with tempfile.TemporaryDirectory() as folder:
        told = trained(place, options, Path(folder) / "run") if options.what == "training" else drawn(place, options)
        if place.leads:
            torch.save(told, options.found)
        place.wait()


def asked(processes: int, what: str) -> dict:
    """What so many processes find, of "sampling" or "training"."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.pt"
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [*launch, __file__, *sys.argv[1:], "--what", what, "--found", str(found)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return torch.load(found, weights_only=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--model", default="glyph")
    parser.add_argument("--count", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--from", type=Path, dest="source")
    parser.add_argument("--wordnet", type=Path, default=WORDNET)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--what", help=argparse.SUPPRESS)
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.found:
        return work(options)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu, {os.cpu_count()} cores"
    told = {"machine": name, "torch": torch.__version__, "command": sys.argv}
    drawn_by = {n: asked(n, "sampling") for n in options.processes}
    first = drawn_by[options.processes[0]]["pictures"].float()
    for n, found in drawn_by.items():
        apart = ((found["pictures"].float() - first).flatten(1).norm(dim=1) / first.flatten(1).norm(dim=1)).max().item()
        assert apart < AGREE, f"{n} processes: a picture differs by {apart:.2%}"
        median, least, most = (options.count / s for s in found["seconds"])
        told[f"sampling, {n} processes, images/s"] = [median, most, least]
        told[f"sampling, {n} processes, apart"] = apart
        print(f"sampling, {n} processes: {median:.0f} images/s ({most:.0f} to {least:.0f}), apart {apart:.1e}", flush=True)
    if options.data:
        for n in options.processes:
            found = asked(n, "training")
            told[f"training, {n} processes, images/s"] = found["images_per_second"]
            median, least, most = found["images_per_second"]
            print(f"training, {n} processes: {median:.0f} images/s ({least:.0f} to {most:.0f})", flush=True)
    if options.json:
        options.json.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
