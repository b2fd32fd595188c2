"""The catalogue of model folders: a name or a path goes in, a model comes out.

A folder holds ``config.json`` (what to build), ``model.safetensors``, and ``SHA256SUMS`` (checked before anything is
built). The embedded models lie in ``phosphene/assets/models``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models import weights as files
from phosphene.models.classifier import DigitClassifier
from phosphene.models.digits import DigitDiffusion
from phosphene.models.unet import MnistUNet, fused
from phosphene.schedule import schedule_from

if TYPE_CHECKING:
    from phosphene.models.cascade import Cascade

EMBEDDED = Path(__file__).parent.parent / "assets" / "models"
CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"

Model = DigitDiffusion | MnistUNet | DigitClassifier


def embedded() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def folder(name: str | Path) -> Path:
    """Where the model called ``name`` lies: an embedded one, a model folder, or a training run (its last model)."""
    if str(name) in embedded():
        return EMBEDDED / str(name)
    path = Path(name)
    if (path / CONFIG).is_file():
        return path
    epochs = [int(p.parent.name[6:]) for p in path.glob(f"model-*/{CONFIG}") if p.parent.name[6:].isdecimal()]
    if epochs:
        return path / f"model-{max(epochs):02d}"
    if path.is_dir():
        raise UserError(f"--model {name}: the folder holds no {CONFIG}; name a finished run or one of {', '.join(embedded())}.")
    raise UserError(f"--model {name}: neither a folder nor an embedded model; choose one of {', '.join(embedded())}.")


def read_config(path: Path) -> dict:
    """The config.json of a model folder."""
    try:
        config = json.loads((path / CONFIG).read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path / CONFIG}: is not readable JSON ({error}); fetch or train the model again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("kind"), str):
        raise UserError(f"{path / CONFIG}: says no kind of model; it should be one of {', '.join(_BUILDERS)}.")
    return config


def verify(path: Path) -> None:
    """Compare a model folder with its SHA256SUMS. Folders without one (hand-made) are taken as they are."""
    if not (path / SUMS).is_file():
        return
    for line in (path / SUMS).read_text(errors="replace").splitlines():
        wanted, _, name = line.partition("  ")
        file = path / name
        if not file.is_file():
            raise UserError(f"{file}: is missing; fetch or train the model again.")
        if hashlib.sha256(file.read_bytes()).hexdigest() != wanted:
            raise UserError(f"{file}: differs from its SHA-256 in {SUMS}; fetch or train the model again.")


def load(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    kind: str | None = None,
    **options: Any,
) -> Model | Cascade:
    """The model called ``name`` (see :func:`folder`), ready to run on ``device``.

    ``dtype`` is float32 on the CPU and float16 elsewhere by default; of a cascade, see
    :func:`~phosphene.models.cascade.open_cascade`. ``kind`` (diffusion, denoiser, classifier) says what the caller can use;
    a model of another kind raises UserError, as do damaged or missing files. A text-to-image cascade (a folder in the
    layout of diffusers, or a name on the hub) comes as a :class:`~phosphene.models.cascade.Cascade`, and ``options`` are
    what else ``open_cascade`` takes, such as ``offload`` and ``embeddings``; other models take none (TypeError).
    """
    if kind is None:
        from phosphene.models.cascade import is_cascade, open_cascade

        if is_cascade(name):
            return open_cascade(name, device, dtype, **options)
    if options:
        raise TypeError(f"{', '.join(options)}: for text-to-image cascades, and {name} is none")
    path = folder(name)
    config = read_config(path)
    if config["kind"] not in _BUILDERS:
        raise UserError(f"{path / CONFIG}: unknown kind {config['kind']!r}; it should be one of {', '.join(_BUILDERS)}.")
    if kind is not None and config["kind"] != kind:
        raise UserError(f"--model {name}: is a {config['kind']}; this command needs a {kind} model.")
    verify(path)
    device = torch.device(device)
    dtype = dtype or (torch.float32 if device.type == "cpu" else torch.float16)
    return build(config, files.load(path / WEIGHTS), path / WEIGHTS, device, dtype)


def build(config: Mapping, weights: Mapping[str, Tensor], source: Path, device: torch.device, dtype: torch.dtype) -> Model:
    """The model that ``config`` describes, filled with ``weights`` (read from ``source``), fused, on ``device``."""
    try:
        network = (DigitClassifier if config["kind"] == "classifier" else MnistUNet)(**config["network"])
        finish = _BUILDERS[config["kind"]]
        files.fill(network, weights, source)
        network = fused(network).to(device, dtype, memory_format=torch.channels_last).requires_grad_(False)
        return finish(network, config)
    except (KeyError, TypeError) as error:
        raise UserError(f"{source.parent / CONFIG}: is incomplete or wrong ({error}); fetch or train the model again.") from error


def _diffusion(network: nn.Module, config: Mapping) -> DigitDiffusion:
    return DigitDiffusion(network, schedule_from(config["schedule"]), config["target"])


_BUILDERS = {"diffusion": _diffusion, "denoiser": lambda network, _: network, "classifier": lambda network, _: network}


def write(path: Path, config: Mapping, weights: Mapping[str, Tensor], storage: str = "float32") -> None:
    """Write a model folder. The config comes last but one and the sums last: a half-written folder does not load."""
    files.save(weights, path / WEIGHTS, storage)
    with files.replacing(path / CONFIG) as temporary:
        temporary.write_text(json.dumps({**config, "storage": storage}, indent=2) + "\n")
    sums = "".join(f"{hashlib.sha256((path / n).read_bytes()).hexdigest()}  {n}\n" for n in (CONFIG, WEIGHTS))
    with files.replacing(path / SUMS) as temporary:
        temporary.write_text(sums)
