"""How the benchmarks take the time of a call."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
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
