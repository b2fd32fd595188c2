"""What the fold of each warp costs a step, beside the network: seconds of one processor core for a picture of either stage.

    python benchmarks/folds.py

The least of several runs, by the time that the process had, so that other work on the machine counts little.
"""

from __future__ import annotations

import time

import torch

from phosphene.folds import Seen
from phosphene.views import Identity
from phosphene.warps import WARPS, Warp


def seconds(fold: Seen, size: int, times: int = 6) -> float:
    """Of one fold of a picture of ``size`` pixels, once its sums are there."""
    x, taken = torch.randn(1, 3 * fold.sheets, size, size), []
    for _ in range(times + 1):
        begun = time.process_time()
        fold(x)
        taken.append(time.process_time() - begun)
    return min(taken[1:])


def row(name: str, warp: Warp) -> str:
    fold = Seen((Identity(), warp), (1.0, 1.0))
    return f"| `{name}` | {fold.steps} | {seconds(fold, 64):.3f} | {seconds(fold, 256):.2f} |"


def main() -> None:
    torch.set_num_threads(1)
    print("| warp | conjugate gradients | s, 64 pixels | s, 256 pixels |\n|---|---|---|---|")
    for name, warp in WARPS.items():
        print(row(name, warp), flush=True)


if __name__ == "__main__":
    main()
