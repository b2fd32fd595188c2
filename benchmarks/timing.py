"""How the benchmarks take the time of a call, and how they say what they found."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch


class Seconds(NamedTuple):
    median: float
    least: float
    most: float


def timed(call: Callable[[], object], device: torch.device, runs: int = 5) -> Seconds:
    """What a call takes on ``device``, after one that warms up."""

    def once() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    once()
    found = [once() for _ in range(runs)]
    return Seconds(statistics.median(found), min(found), max(found))


def told(found: Mapping[str, object], device: torch.device, path: Path | None) -> None:
    """Print what was ``found`` on ``device``, with the machine and the command, and write it to ``path`` as JSON."""
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    whole = {"machine": where, "torch": torch.__version__, "command": sys.argv, **found}
    for name, value in whole.items():
        print(name, value, flush=True)
    if path:
        path.write_text(json.dumps(whole, indent=1) + "\n")
