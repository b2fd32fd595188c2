"""Kill trainings at random moments, take them up again, and compare them with one that nobody killed, bit for bit.

    .venv/bin/python tools/kills.py --kills 20

`train class` and `train cascade`, tiny, on the CPU: each run is killed (SIGKILL) after a time drawn between none and what a whole
one takes, and started again until it is done: by the same command, or with --resume where that is refused. What was killed and
where is counted; a difference ends this with exit code 1.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from safetensors.torch import load_file

FEW = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "HF_HUB_OFFLINE": "1"}
CLASS = "class --dataset digits --width 2 --batch-size 64 --timesteps 10 --epochs 4 --keep 1,2 --save-every 5"
CASCADE = (
    "cascade --images 9600 --batch-size 8 --hidden 16 --layers 1 --heads 2 --patch 16 --held-out 0 --wordnet {data}/none.json"
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


def started(command: list[str]) -> subprocess.Popen:
    line = [sys.executable, "-m", "phosphene", "train", *command, "--device", "cpu"]
    return subprocess.Popen(line, env=os.environ | FEW, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(command: list[str], out: Path) -> str:
    """Take a killed run up again, as its own words say, and let it end. How it began again."""
    process = started(command)
    _, err = process.communicate()
    if process.returncode == 0:
        return "anew"
    if "continue it with --resume" not in err:
        raise SystemExit(f"{out}: cannot be started again: {err}")
    process = started([*command, "--resume"])
    _, err = process.communicate()
    if process.returncode == 2 and "has seen" in err:
        return "done"  # it was killed after its last checkpoint
    if process.returncode != 0:
        raise SystemExit(f"{out}: cannot be resumed: {err}")
    return "resumed"


def differences(out: Path, whole: Path) -> list[str]:
    """Weights of checkpoint and models in which two runs differ, and files that only one has, or that a kill left."""
    names, other = ({str(p.relative_to(f)) for p in f.rglob("*.safetensors")} for f in (out, whole))
    found = sorted(names ^ other) + [str(p) for p in out.rglob(".*")] + [str(p) for p in out.glob("model.*")]
    for name in sorted(names & other):
        a, b = load_file(out / name), load_file(whole / name)
        found += [f"{name}: {k}" for k in sorted(a.keys() | b.keys()) if k not in a or k not in b or not torch.equal(a[k], b[k])]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="of each training")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    chance, bad = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        pictures(Path(folder) / "data")
        for line in (CLASS, CASCADE):
            command = line.format(data=Path(folder) / "data").split()
            whole, begun = Path(folder) / f"{command[0]}-whole", time.monotonic()
            if (process := started([*command, "--out", str(whole)])).wait() != 0:
                raise SystemExit(process.stderr.read())
            seconds, ends = time.monotonic() - begun, collections.Counter()
            for kill in range(options.kills):
                out = Path(folder) / f"{command[0]}-{kill}"
                process = started([*command, "--out", str(out)])
                time.sleep(chance.uniform(0, seconds))
                while not out.exists() and process.poll() is None:  # before that there is no run to be killed
                    time.sleep(0.01)
                time.sleep(chance.uniform(0, seconds / 2) if chance.random() < 0.5 else 0)
                process.kill()
                process.communicate()
                ends[finish([*command, "--out", str(out)], out)] += 1
                if wrong := differences(out, whole):
                    bad += 1
                    print(f"{out.name}: differs: {', '.join(wrong[:5])}", flush=True)
            print(
                f"train {command[0]}: {options.kills} kills of a run of {seconds:.0f} s, {dict(ends)}; {bad} differ", flush=True
            )
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
