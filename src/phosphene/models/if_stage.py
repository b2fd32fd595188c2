"""DeepFloyd IF's networks as a :class:`~phosphene.models.stage.Stage` calls them, read from files in the layout of diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from phosphene.devices import Replayed, memory
from phosphene.errors import UserError
from phosphene.models import weights
from phosphene.models.compiled import Compiled
from phosphene.models.diffusers_files import read_json, variant_of
from phosphene.models.folders import AGAIN
from phosphene.models.if_unet import IFUNet

MOST_READ = 8
"""Texts that are remembered: as many parts as a batch may be cut in."""


class IFNetwork(nn.Module):
    """An IFUNet that is called like the networks of diffusers, and reads a text once however many steps it is drawn in.

    ``replays``: on a GPU it is recorded as a CUDA graph, whose weights must stay where they are.
    """

    def __init__(self, unet: IFUNet, replays: bool = True) -> None:
        super().__init__()
        self.unet = unet
        self.config = SimpleNamespace(**unet.config)
        self._texts: dict[tuple, tuple[Tensor, Tensor]] = {}
        self._compiled: Compiled | None = None
        self._replayed = Replayed(self._answer, replays)
        self._replayed_read = Replayed(lambda text: self.unet.read(text), replays)

    def compile(self) -> None:
        """Compile when first called, for each shape anew: what is known of a shape makes faster kernels."""
        self._compiled = Compiled(self.unet, self.unet.config)

    def forward(
        self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, class_labels: Tensor | None = None, return_dict: bool = False
    ) -> tuple[Tensor]:
        read = self._read(encoder_hidden_states, x.dtype)
        level = t if class_labels is None else class_labels  # a first stage is told of none
        return (self._replayed((x, t, level), (read,)),)

    def _answer(self, x: Tensor, t: Tensor, level: Tensor, read: Tensor) -> Tensor:
        return (self._compiled or self.unet)(x, t, read, level)

    def _read(self, text: Tensor, dtype: torch.dtype) -> Tensor:
        """What the network is told of ``text``. The same memory, unchanged since, is the same text: it is kept, so nothing
        else can come to lie there."""
        key = (memory(text), dtype)
        if key not in self._texts:
            if len(self._texts) == MOST_READ:
                self._texts.clear()
            self._texts[key] = text, self._replayed_read((text.to(dtype),), ())
        return self._texts[key][1]


def if_network(folder: Path, config: Mapping, dtype: torch.dtype, replays: bool) -> IFNetwork:
    """The network in ``folder``, in ``dtype``; UserError where its files are missing, damaged or do not fit its config."""
    variant = variant_of(folder, "diffusion_pytorch_model", dtype)
    shards = _shards(folder, variant)
    unet = weights.require_fit(lambda: _built(config, folder), shards)
    unet.load_state_dict(weights.mapped(shards, dtype), assign=True)
    return IFNetwork(unet, replays)


def _built(config: Mapping, folder: Path) -> IFUNet:
    try:
        return IFUNet(config)
    except UserError as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise UserError(f"{folder / 'config.json'}: describes no network of DeepFloyd IF's kind ({error!r}); {AGAIN}.") from error


def _shards(folder: Path, variant: str | None) -> list[Path]:
    """The weight files of one variant: one, or those that the index names."""
    middle = f".{variant}" if variant else ""
    index = folder / f"diffusion_pytorch_model.safetensors.index{middle}.json"
    if not index.is_file():
        return [folder / f"diffusion_pytorch_model{middle}.safetensors"]
    named = read_json(index).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) and Path(name).name == name for name in named.values()):
        raise UserError(f"{index}: names no files of this folder; {AGAIN}.")
    return [folder / name for name in sorted(set(named.values()))]
