"""Where something is computed, in which precision, and what may wait elsewhere meanwhile."""

from __future__ import annotations

import warnings
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
        raise UserError(f"--device {name}: unknown; choose auto, cpu, cuda or mps.") from error
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"--device {name}: nothing can be computed there; choose auto, cpu, cuda or mps.")
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


def memory(tensor: Tensor) -> tuple:
    """What stays the same as long as ``tensor`` lies where it lies and holds what it holds, while somebody keeps it.

    Writing into it counts, but in inference mode, where torch does not count.
    """
    version = None if tensor.is_inference() else tensor._version
    return (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, version)


class Replayed:
    """``function`` of tensors, on a GPU recorded for each shape as a CUDA graph and replayed: Python asks for its kernels once.

    ``constants`` are further tensors that rarely change; they are copied only where they are others than the last time.
    Where recording fails, as for want of memory, the function is called as it is from then on, with a warning.
    """

    MOST = 4
    """Recordings kept: each holds the memory of all that lies between."""

    def __init__(self, function: Callable[..., Tensor], works: bool = True) -> None:
        self.function, self.works = function, works
        self._recorded: dict[tuple, _Recording] = {}

    def __call__(self, tensors: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
        given = (*tensors, *constants)
        if not self.works or tensors[0].device.type != "cuda" or any(tensor.requires_grad for tensor in given):
            return self.function(*given)
        key = tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in given)
        if key not in self._recorded:
            if len(self._recorded) == self.MOST:
                self._recorded.clear()
            try:
                with torch.cuda.device(tensors[0].device):  # or another GPU's stream would record nothing
                    self._recorded[key] = _Recording(self.function, tensors, constants)
            except RuntimeError as error:
                self.works = False
                self._recorded.clear()
                reason = str(error).partition("\n")[0]
                warnings.warn(f"the network could not be recorded as a CUDA graph ({reason}); it runs without.", stacklevel=2)
                return self.function(*given)
        with torch.cuda.device(tensors[0].device):
            return self._recorded[key](tensors, constants)


class _Recording:
    """One shape's graph, and the memory that it reads and writes."""

    def __init__(self, function: Callable[..., Tensor], tensors: Sequence[Tensor], constants: Sequence[Tensor]) -> None:
        self.tensors, self.constants = ([torch.empty_like(t).copy_(t) for t in part] for part in (tensors, constants))
        self.shown = tuple(constants)  # kept, so that no other tensor can take its place in memory
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside), torch.no_grad():
            for _ in range(2):  # what libraries choose and allocate at first is no part of the graph
                function(*self.tensors, *self.constants)
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=beside), torch.no_grad():  # torch's own for this may be another GPU's
            self.answer = function(*self.tensors, *self.constants)

    def __call__(self, tensors: Sequence[Tensor], constants: Sequence[Tensor]) -> Tensor:
        for own, given in zip(self.tensors, tensors, strict=True):
            own.copy_(given)
        if any(shown is not given for shown, given in zip(self.shown, constants, strict=True)):
            self.shown = tuple(constants)
            for own, given in zip(self.constants, constants, strict=True):
                own.copy_(given)
        self.graph.replay()
        return self.answer.clone()
