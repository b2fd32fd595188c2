"""Weights on disk: safetensors, whole or not at all, in the precision that loses nothing worth having.

``int8`` is for models whose half-precision files would be too large to ship: each row (first axis) of a weight becomes
eight-bit integers and one scale. Nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from phosphene.errors import UserError, require_one_of
from phosphene.files import is_special, replacing, unwritable

Network = TypeVar("Network", bound=nn.Module)
STORAGES = ("float32", "float16", "int8")
SCALE = ".int8-scale"


def save(weights: Mapping[str, Tensor], path: Path, storage: str = "float32", metadata: dict[str, str] | None = None) -> None:
    """Write ``weights`` to ``path`` by atomic rename, floats stored as ``storage``."""
    require_one_of("storage", storage, STORAGES)
    stored: dict[str, Tensor] = {}
    for name, value in weights.items():
        value = value.detach().cpu().contiguous()
        if not value.is_floating_point() or storage == "float32":
            stored[name] = value
        elif storage == "float16" or value.ndim < 2:
            stored[name] = value.half()
        else:
            scale = value.flatten(1).abs().amax(1).clamp(min=1e-12) / 127
            stored[name] = (value / scale.view(-1, *[1] * (value.ndim - 1))).round().to(torch.int8)
            stored[name + SCALE] = scale
    with replacing(path) as temporary:
        try:
            save_file(stored, temporary, metadata=metadata)
        except SafetensorError as error:
            raise UserError(f"{path}: {unwritable(OSError(str(error)))}") from error


def shapes(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of ``paths``, by their headers alone."""
    found: dict[str, tuple[int, ...]] = {}
    for path in paths:
        with _opened(path) as file:
            names = [name for name in file.keys() if not name.endswith(SCALE)]  # noqa: SIM118 (safe_open is no mapping)
            found |= {name: tuple(file.get_slice(name).get_shape()) for name in names}
    return found


class Unfilled(TorchFunctionMode):
    """Networks built in it are given no first weights, which what is loaded would take the place of anyway.

    On "meta" giving some imports torch's compiler, for seconds.
    """

    def __torch_function__(self, function: Callable, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        kwargs = kwargs or {}
        if getattr(function, "__module__", "") == "torch.nn.init" or function.__name__ in ("uniform_", "normal_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)


def require_fit(build: Callable[[], Network], paths: Sequence[Path]) -> Network:
    """What ``build`` makes, without memory; UserError unless it has the weights of ``paths``, by name and shape.

    No weight is read: so what numbers in a config ask for is never more than the files hold.
    """
    given = shapes(paths)
    try:
        with torch.device("meta"), Unfilled():
            network = build()
    except UserError as error:  # which speaks of options that nobody gave
        raise UserError(f"{paths[0].with_name('config.json')}: no network is as it says: {error}") from error
    except (RuntimeError, ArithmeticError, MemoryError, TypeError, ValueError, LookupError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{paths[0]}: no network has the sizes that its config.json says ({reason}).") from error
    _compare(network, given, paths[0])
    return network


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    """A safetensors file; UserError where it is none, or is damaged where it is read."""
    if is_special(path):
        raise UserError(f"{path}: is no file; fetch or train it again.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; name a model folder that holds it.") from error
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{path}: is damaged or no safetensors file ({error}); fetch or train it again.") from error


def load(path: Path) -> dict[str, Tensor]:
    """The weights of ``path``; half precision and int8 come back as float32."""
    with _opened(path) as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    weights = {}
    for name, value in stored.items():
        if name.endswith(SCALE):
            continue
        if name + SCALE in stored:
            scale = stored[name + SCALE]
            if value.ndim == 0 or scale.numel() != len(value):
                raise UserError(f"{path}: is damaged ({name} has scales of another length); fetch or train it again.")
            value = value.float() * scale.view(-1, *[1] * (value.ndim - 1))
        weights[name] = value.float() if value.dtype == torch.float16 else value
    return weights


def mapped(paths: Iterable[Path], dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of ``paths`` in ``dtype``. Those stored so are not copied: their memory is the file."""
    return {name: value.to(dtype) for name, value in _stored(paths)}


def real(value: Tensor, name: str, path: Path) -> Tensor:
    """``value``; UserError where it holds whole or complex numbers, which would be taken for weights and are none."""
    if not value.is_floating_point():
        kind = str(value.dtype).removeprefix("torch.")
        raise UserError(f"{path}: {name} is of type {kind}, and weights are floating point numbers; fetch or train it again.")
    return value


def load_into(network: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load ``weights`` (read from ``path``) into ``network``; UserError where names or shapes differ."""
    given = _compare(network, {name: tuple(value.shape) for name, value in weights.items()}, path)
    network.load_state_dict({name: real(weights[name], name, path) for name in given}, strict=False)


@torch.no_grad()
def fill(network: nn.Module, paths: Iterable[Path]) -> None:
    """Load the weights of ``paths`` into ``network``, which they fit: one tensor beside it in memory, where none is int8."""
    own = network.state_dict()
    for name, value in _stored(paths):
        own[name].copy_(value)


def materialise(network: nn.Module, paths: Iterable[Path]) -> None:
    """Give a ``network`` without memory, as :func:`require_fit` returns it, the weights of ``paths``, each in its own dtype.

    What it has beside weights it makes by its ``reset_buffers``.
    """
    own = network.state_dict()
    # By way of float32: at once, half precision becomes bfloat16 in three times the time.
    network.load_state_dict({name: value.float().to(own[name].dtype) for name, value in _stored(paths)}, assign=True)
    network.reset_buffers()


def _stored(paths: Iterable[Path]) -> Iterator[tuple[str, Tensor]]:
    """Names and weights of ``paths``, one after the other."""
    for path in paths:
        with _opened(path) as file:
            names = list(file.keys())
            whole = load(path) if any(name.endswith(SCALE) for name in names) else {}
            for name in whole or names:
                yield name, real(whole[name] if whole else file.get_tensor(name), name, path)


def _compare(network: nn.Module, weights: Mapping[str, tuple[int, ...]], path: Path) -> set[str]:
    """Names of ``weights`` (shapes by name) that ``network`` has; UserError where names or shapes differ."""
    own = network.state_dict()
    # BatchNorm counts batches only to average them without momentum, which nobody here does.
    wanted = {name for name in own if not name.endswith("num_batches_tracked")}
    given = {name for name in weights if not name.endswith("num_batches_tracked")}
    odd = sorted(wanted ^ given) or sorted(n for n in wanted if tuple(own[n].shape) != weights[n])
    if odd:
        raise UserError(f"{path}: does not fit this network (first difference: {odd[0]}); its config.json describes another one.")
    return given
