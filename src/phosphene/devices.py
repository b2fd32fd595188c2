"""Where something is computed, in which precision, and what may wait elsewhere meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, wraps

import torch
from torch import Tensor, nn

from phosphene.errors import UserError


def choose_device(name: str) -> torch.device:
    """The torch device called ``name``; ``auto`` is the first GPU if there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: unknown; choose auto, cpu or cuda.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: nothing can be computed there; choose auto, cpu or cuda.")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, True):
        raise UserError(f"--device {name}: no such device is visible to torch; choose cpu.")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(f"--device {name}: torch sees {count} GPU{'' if count == 1 else 's'}, from cuda:0 on; choose another.")
    return device


def usual_dtype(device: torch.device) -> torch.dtype:
    """What models run in where nobody says: float32 on the CPU, half precision elsewhere."""
    return torch.float32 if device.type == "cpu" else torch.float16


def layer_by_layer(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` with its weights in main memory; each layer has them on ``device`` while it is at work."""
    from accelerate import cpu_offload

    return cpu_offload(network, device, offload_buffers=True)


def by_turns(networks: Sequence[nn.Module], device: torch.device) -> None:
    """Each network comes to ``device`` when it is called, and the one before it goes back to main memory."""
    from accelerate import cpu_offload_with_hook

    hooks: list = []
    for network in networks:
        hooks.append(cpu_offload_with_hook(network, device, hooks[-1] if hooks else None)[1])
    if len(hooks) > 1:  # the first may be called again after the last
        hooks[0].hook.prev_module_hook = hooks[-1]


def compiled_on_gpu(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``function`` of tensors with as many rows, on a GPU compiled once for any number: hundreds of passes become few."""
    compiled = cache(lambda: torch.compile(function))  # when first called: the compiler takes a second to import

    @wraps(function)
    def called(*rows: Tensor) -> Tensor:
        if rows[0].device.type != "cuda" or len(rows[0]) < 2:
            return function(*rows)
        for tensor in rows:
            torch._dynamo.mark_dynamic(tensor, 0)
        return compiled()(*rows)

    return called
