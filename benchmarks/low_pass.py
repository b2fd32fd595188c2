"""The separable Gaussian blur against the dense kernel it equals, in one run.

    python benchmarks/low_pass.py [--size 256] [--sigma 8] [--batch 4] [--device cpu] [--json FILE]

A hybrid blurs two estimates at every step; a dense kernel of K x K taps costs K / 2 times the products of two rows of K.
The sigma is Part A's 2 pixels of a 64-pixel picture, which are 8 at 256.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from timing import timed
from torch import Tensor

from phosphene.frequency import gaussian_taps, low_pass


def dense(x: Tensor, sigma: float) -> Tensor:
    """The same blur in one pass with a two-dimensional kernel."""
    taps = gaussian_taps(sigma).to(x.device)
    reach = len(taps) // 2
    rows = F.pad(x.reshape(-1, 1, *x.shape[-2:]), (reach,) * 4, mode="reflect")
    return F.conv2d(rows, torch.outer(taps, taps)[None, None]).view(x.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--sigma", type=float, default=8.0, help="in pixels")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options, _ = parser.parse_known_args()  # `make bench` hands all scripts the same options
    device = torch.device(options.device)
    x = torch.randn(options.batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(0)).to(device)
    ours, theirs = low_pass(x, options.sigma), dense(x, options.sigma)
    difference = (ours - theirs).abs().max().item()
    assert difference < 1e-4, f"the two blurs are {difference:.1e} apart"
    quick = timed(lambda: low_pass(x, options.sigma), device, 9).median
    slow = timed(lambda: dense(x, options.sigma), device, 9).median
    told = {
        "shape": list(x.shape),
        "sigma": options.sigma,
        "taps": len(gaussian_taps(options.sigma)),
        "separable_ms": quick * 1e3,
        "dense_ms": slow * 1e3,
        "ratio": slow / quick,
        "difference": difference,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(f"separable {quick * 1e3:.1f} ms, dense {slow * 1e3:.1f} ms: {slow / quick:.1f} times; off by {difference:.1e}")
    if options.json:
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
