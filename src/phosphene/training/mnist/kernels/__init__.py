"""The training step of a GPU: what PyTorch's own kernels leave on the table.

At 28x28 and width 64 the convolutions of a step are done in half of its time; the rest goes to layers that only move
memory, and to hundreds of short kernels. So BatchNorm, GELU and their gradients go over a map five times instead of nine
(batchnorm.py); Adam, the moving average and the half-precision copies read and write each number once (flat.py); weight
gradients and the small embedders run beside the rest (layers.py). Written in Triton, which comes with torch on GPUs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from phosphene.training.ema import Average
from phosphene.training.mnist.half import InHalf


def fast_update(halved: InHalf, average: Average, optimiser: torch.optim.Adam, count: Tensor) -> Callable[[], Tensor] | None:
    """Make the network of ``halved`` fast, in place; what then updates it after each backward pass and answers the
    norm of the gradients. None where there is no Triton, and nothing is changed."""
    try:
        from phosphene.training.mnist.kernels.flat import FlatStep
        from phosphene.training.mnist.kernels.layers import tune
    except ImportError:
        return None
    return FlatStep(halved, average, optimiser, count, tune(halved.network)).step
