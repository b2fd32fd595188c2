"""Kill trainings at random moments, take them up again, and compare them with one that nobody killed, bit for bit.

    .venv/bin/python tools/kills.py --kills 20

`train class` and `train cascade`, tiny, on the CPU: each run is killed (SIGKILL) after a time drawn between none and what a whole
one takes, and started again until it is done: by the same command, or with --resume where that is refused. A difference ends
this with exit code 1. So that there is something to be killed in, a cascade's model is kept every four steps instead of 500, and
draws no samples.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

from phosphene.__main__ import main
from phosphene.training.mnist import run as digits  # noqa: F401 (what a training needs is loaded once, before it is forked)
from phosphene.training.text_to_image import run

CLASS = "class --dataset digits --width 2 --batch-size 128 --timesteps 10 --epochs 2 --keep 1 --save-every 3"
CASCADE = (
    "cascade --images 192 --batch-size 8 --hidden 16 --layers 1 --heads 2 --patch 16 --held-out 0 --wordnet {data}/none.json"
)
CASCADE += " --data {data}"


def pictures(folder: Path) -> None:
    """Eight captioned shapes, and a thesaurus of no words."""
    folder.mkdir()
    (folder / "none.json").write_text('{"same": {}, "near": {}}')
    for number, colour in enumerate(("red", "blue", "green", "black")):
        for shape in ("rectangle", "ellipse"):
            image = Image.new("RGBA", (64, 64))
            getattr(ImageDraw.Draw(image), shape)((8, 8, 48, 40 + number), fill=colour)
            image.save(folder / f"{colour}-{shape}.png")
            (folder / f"{colour}-{shape}.txt").write_text(f"a {colour} {shape}")


class Training:
    """``phosphene train`` in a process of its own, forked so that 20 kills need not load torch 40 times."""

    def __init__(self, *command: str) -> None:
        self.errors, self.code = tempfile.TemporaryFile("w+"), None  # noqa: SIM115 (closed with this)
        self.pid = os.fork()
        if self.pid == 0:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 1)
                os.dup2(self.errors.fileno(), 2)
                os._exit(main(["train", *command, "--device", "cpu"]))

    def ended(self, wait: bool = True) -> bool:
        if self.code is None:
            pid, status = os.waitpid(self.pid, 0 if wait else os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is not None

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()


def finish(command: list[str], out: Path) -> str:
    """Take a killed run up again, as its own words say, and let it end. How it began again."""
    anew = Training(*command)
    anew.ended()
    if anew.code == 0:
        return "anew"
    if "continue it with --resume" not in anew.said():
        raise SystemExit(f"{out}: cannot be started again: {anew.said()}")
    resumed = Training(*command, "--resume")
    resumed.ended()
    if resumed.code == 2 and "has seen" in resumed.said():
        return "done"  # it was killed after its last checkpoint
    if resumed.code != 0:
        raise SystemExit(f"{out}: cannot be resumed: {resumed.said()}")
    return "resumed"


def differences(out: Path, whole: Path) -> list[str]:
    """Weights of checkpoint and models in which two runs differ, and files that only one has, or that a kill left."""
    names, other = ({str(p.relative_to(f)) for p in f.rglob("*.safetensors")} for f in (out, whole))
    found = sorted(names ^ other) + [str(p) for p in out.rglob(".*")] + [str(p) for p in out.glob("model.*")]
    for name in sorted(names & other):
        a, b = load_file(out / name), load_file(whole / name)
        found += [f"{name}: {k}" for k in sorted(a.keys() | b.keys()) if k not in a or k not in b or not torch.equal(a[k], b[k])]
    return found


def killed(command: list[str], out: Path, seconds: float) -> None:
    """Begin a training in ``out``, and kill it so long after there is something to be killed."""
    training = Training(*command)
    while not out.exists() and not training.ended(wait=False):
        time.sleep(0.001)
    time.sleep(seconds)
    if not training.ended(wait=False):
        os.kill(training.pid, signal.SIGKILL)
        training.ended()


def compare(line: str, folder: Path, kills: int, chance: random.Random) -> int:
    """Kill the training ``line`` so many times; how many runs differ from the whole one."""
    command = line.format(data=folder / "data").split()
    whole, begun, bad = folder / f"{command[0]}-whole", time.monotonic(), 0
    training = Training(*command, "--out", str(whole))
    training.ended()
    if training.code != 0:
        raise SystemExit(training.said())
    seconds, ends = time.monotonic() - begun, collections.Counter()
    for kill in range(kills):
        out = folder / f"{command[0]}-{kill}"
        again = [*command, "--out", str(out)]
        killed(again, out, chance.uniform(0, seconds))
        ends[finish(again, out)] += 1
        if wrong := differences(out, whole):
            bad += 1
            print(f"{out.name}: differs: {', '.join(wrong[:5])}", flush=True)
    ways = ", ".join(f"{count} {how}" for how, count in ends.items())
    print(f"train {command[0]}: {kills} kills of a run of {seconds:.1f} s: {ways}; {bad} differ", flush=True)
    return bad


def kill_all() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=("class", "cascade"), help="this training alone")
    options = parser.parse_args()
    run.CHECK_STEPS = run.REPORT_STEPS = 4
    run.CascadeRun.preview = lambda *_: None
    torch.set_num_threads(1)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder) / "data")
        lines = [line for line in (CLASS, CASCADE) if line.startswith(options.only or "")]
        return sum(compare(line, Path(folder), options.kills, chance) for line in lines)


if __name__ == "__main__":
    raise SystemExit(bool(kill_all()))
