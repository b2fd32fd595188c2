"""What each command costs, from typing to the file: seconds, those of all processor cores together, and peak memory, as rows
of a table. The second hardly change when others use the machine.

    python tools/costs.py [--device cuda] [--only WORD ...] [--json FILE] [--running]

Each command runs in a process of its own in an empty folder, one after the other; on a GPU most of that is the loading of
Python and CUDA. ``--running``: the second time in one process, which has all that behind it, as in a notebook.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from phosphene import cli

COMMANDS = (
    "digits 0123456789 --solver dpm",
    "digits 0123456789",
    "ambigram 69",
    "ambigram --all --count 2 --solver dpm",
    "train class --dataset digits --epochs 1 --width 16 --out run",
    'generate "a castle" --no-upscale',
    'generate "a castle" --no-upscale --solver dpm --steps 12',
    'generate "a castle"',
    'generate "a castle" --solver dpm --steps 12',
    'denoise castle-hill --prompt "a castle"',
    'edit sketch-house --prompt "a house" --no-upscale',
    'edit sketch-house --prompt "a house"',
    'inpaint castle-hill castle-hill-mask --prompt "a house"',
    'anagram "a castle" "a dog face" --view flip --no-upscale',
    'anagram "a castle" "a dog face" --view flip',
    'anagram "a castle" "a dog face" --view flip --solver dpm --best-of 16',
    'hybrid "a red apple" "an angry face"',
    'compose "a cat face" "a castle" --mask circle',
    'morph "a dog face" "a cat face" --frames 16 --no-upscale --solver dpm --steps 12',
    "report --quick",
    "report",
)


def cost(command: str, device: str) -> tuple[float, float, float]:
    """Seconds, those of the cores, and peak of main memory in MB."""
    argv = [sys.executable, "-m", "phosphene", *shlex.split(command), "--device", device]
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        if status:
            raise SystemExit(f"phosphene {command}: {process.stderr.read().decode().strip()}")
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e3


def running_cost(command: str, device: str) -> tuple[float, float, float]:
    """The same of the second time in this process."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        for _ in range(2):
            begun, busy = time.perf_counter(), time.process_time()
            cli.perform([*shlex.split(command), "--device", device])
            seconds, cores = time.perf_counter() - begun, time.process_time() - busy
    return seconds, cores, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", default=[], help="commands that hold one of these words")
    parser.add_argument("--running", action="store_true", help="the second time in one process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {}
    for command in COMMANDS:
        if options.only and not any(word in shlex.split(command) for word in options.only):
            continue
        found[command] = (running_cost if options.running else cost)(command, options.device)
        seconds, cores, held = found[command]
        print(f"| `phosphene {command}` | {seconds:.1f} s | {cores:.1f} s | {held:.0f} MB |", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
