"""A network compiled for each shape that it is called with. The code is kept on disk: it is made once for all processes."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from phosphene.errors import UserError
from phosphene.files import cache_folder, replacing

Call = Callable[..., Tensor]


class Compiled:
    """``network``, called with tensors that are all that its answer, one tensor, depends on beside its weights.

    torch's compiler (Ansel et al. 2024) takes a minute for a large network, once for each shape. What it made is kept in
    ``folder``, a file a shape and without weights: another process only opens it, which torch.compile with its own
    caches doesn't, for it traces the network anew to find what it has. ``config`` is what the network was built by: code is
    kept for that, the network's source, a version of torch and a kind of GPU. What cannot be opened is made again.
    """

    def __init__(self, network: nn.Module, config: Mapping, folder: Path | None = None) -> None:
        self.network, self.config = network, config
        self.folder = folder or cache_folder() / "compiled"
        self._code: dict[str, Call] = {}

    def __call__(self, *given: Tensor) -> Tensor:
        weights = [weight.detach() for weight in self.network.parameters()]  # anew: they may have been moved since
        shapes = json.dumps(_shapes(given))
        if shapes not in self._code:
            path = self.folder / f"{self._digest([*weights, *given])}.code"
            self._code[shapes] = _opened(path) or self._made([*weights, *given], path)
        answer = self._code[shapes](*weights, *given)
        return answer[0] if isinstance(answer, list | tuple) else answer  # a list, where the code was opened

    def _digest(self, inputs: Sequence[Tensor]) -> str:
        """Of all that the code depends on."""
        kinds = {type(part) for part in self.network.modules() if not type(part).__module__.startswith("torch.")}
        source = [Path(file).read_text(encoding="utf-8") for file in sorted({inspect.getfile(kind) for kind in kinds})]
        device = inputs[0].device
        card = torch.cuda.get_device_properties(device) if device.type == "cuda" else device.type
        parts = [torch.__version__, sys.version, str(card), source, dict(self.config), _shapes(inputs)]
        return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]

    def _made(self, inputs: list[Tensor], path: Path) -> Call:
        from torch._inductor import standalone_compile
        from torch.fx.experimental.proxy_tensor import make_fx

        names = [name for name, _ in self.network.named_parameters()]

        def called(*inputs: Tensor) -> Tensor:
            weights = dict(zip(names, inputs, strict=False))
            return functional_call(self.network, weights, inputs[len(names) :])

        with torch.no_grad():
            graph = make_fx(called, tracing_mode="fake")(*inputs)
            code = standalone_compile(graph, inputs, dynamic_shapes="from_example_inputs", aot=True)
        with suppress(UserError), replacing(path) as temporary:  # where there is no room it is made anew the next time
            code.save(path=str(temporary))
        return code


def _shapes(tensors: Sequence[Tensor]) -> list[tuple]:
    return [(tuple(each.shape), each.stride(), str(each.dtype), str(each.device)) for each in tensors]


def _opened(path: Path) -> Call | None:
    if not path.is_file():
        return None
    from torch._inductor import config
    from torch._inductor.standalone_compile import CompiledArtifact

    try:
        with config.patch(compile_threads=1):  # or processes are begun for what is left to compile, nothing, and waited for
            return CompiledArtifact.load(path=str(path))
    except Exception:  # whatever a damaged file makes torch raise: it is made again
        return None
