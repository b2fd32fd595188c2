"""The catalogue of model folders: a name or a path goes in, a model comes out.

A folder holds ``config.json`` (what to build), ``model.safetensors``, and ``SHA256SUMS`` (checked before anything is
built). The embedded models lie in ``phosphene/assets/models``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from phosphene.devices import usual_dtype
from phosphene.errors import UserError
from phosphene.files import write_text
from phosphene.models import weights as tensors
from phosphene.models.cascade import Cascade, open_cascade
from phosphene.models.classifier import DigitClassifier
from phosphene.models.diffusers_files import read_json
from phosphene.models.digits import DigitDiffusion
from phosphene.models.folders import AGAIN, CONFIG, SUMS, WEIGHTS, folder, is_cascade, require_role, require_small, verify
from phosphene.models.unet import MnistUNet, fused
from phosphene.schedule import schedule_from

Model = DigitDiffusion | MnistUNet | DigitClassifier


class Kind(NamedTuple):
    """What a ``kind`` in config.json stands for."""

    network: Callable[..., nn.Module]  # of the arguments in config["network"]
    model: Callable[[nn.Module, Mapping], Any]  # from the network and the whole config to what the caller gets
    role: str  # what commands use it as: diffusion, denoiser or classifier


def _diffusion(network: nn.Module, config: Mapping) -> DigitDiffusion:
    return DigitDiffusion(network, schedule_from(config["schedule"]), config["target"])


KINDS = {
    "diffusion": Kind(MnistUNet, _diffusion, "diffusion"),
    "denoiser": Kind(MnistUNet, lambda network, _: network, "denoiser"),
    "classifier": Kind(DigitClassifier, lambda network, _: network, "classifier"),
}
"""Another architecture is another entry."""


def read_config(path: Path) -> dict:
    """The config.json of a model folder."""
    config = read_json(path / CONFIG)
    if config.get("kind") not in list(KINDS):
        raise UserError(f"{path / CONFIG}: kind {config.get('kind')!r} is unknown; it should be one of {', '.join(KINDS)}.")
    require_small(config, path / CONFIG)
    return config


def role(name: str | Path) -> str:
    """What the model called ``name`` is used as: diffusion, denoiser or classifier."""
    return KINDS[read_config(folder(name))["kind"]].role


def load(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    role: str | None = None,
    **options: Any,
) -> Model | Cascade:
    """The model called ``name`` (see :func:`folder`), ready to run on ``device``.

    ``dtype`` is float32 on the CPU and float16 elsewhere by default; of a cascade, see
    :func:`~phosphene.models.cascade.open_cascade`. ``role`` (diffusion, denoiser, classifier) says what the caller can use;
    a model with another one raises UserError, as do damaged or missing files. A text-to-image cascade (a folder in the
    layout of diffusers, or a name on the hub) comes as a :class:`~phosphene.models.cascade.Cascade`, and ``options`` are
    what else ``open_cascade`` takes, such as ``offload`` and ``embeddings``; other models take none (TypeError).
    """
    if role is None and is_cascade(name):
        return open_cascade(name, device, dtype, **options)
    if options:
        raise TypeError(f"{', '.join(options)}: for text-to-image cascades, and {name} is none")
    path = folder(name)
    config = read_config(path)
    if role is not None:
        require_role(name, config["kind"], KINDS[config["kind"]].role, role)
    verify(path)
    device = torch.device(device)
    with _described(path / CONFIG):
        network, sizes = KINDS[config["kind"]].network, dict(config["network"])
    tensors.require_fit(lambda: network(**sizes), [path / WEIGHTS])
    return build(config, tensors.load(path / WEIGHTS), path / WEIGHTS, device, dtype or usual_dtype(device))


def build(config: Mapping, weights: Mapping[str, Tensor], source: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model that ``config`` describes, filled with ``weights`` (read from ``source``), fused, on ``device``."""
    with _described(source.parent / CONFIG):
        kind = KINDS[config["kind"]]
        network = kind.network(**config["network"])
        tensors.load_into(network, weights, source)
        network = fused(network).to(device, dtype, memory_format=torch.channels_last).requires_grad_(False)
        return kind.model(network, config)


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """What a wrong config.json makes its reader raise becomes one sentence."""
    try:
        yield
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: is incomplete or wrong ({error}); {AGAIN}.") from error


def write(path: Path, config: Mapping, weights: Mapping[str, Tensor], storage: str = "float32") -> None:
    """Write a model folder. The config comes last but one and the sums last: a half-written folder does not load."""
    tensors.save(weights, path / WEIGHTS, storage)
    write_text(path / CONFIG, json.dumps({**config, "storage": storage}, indent=2) + "\n")
    sums = "".join(f"{hashlib.sha256((path / n).read_bytes()).hexdigest()}  {n}\n" for n in (CONFIG, WEIGHTS))
    write_text(path / SUMS, sums)
