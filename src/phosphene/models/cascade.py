"""Text-to-image models in the layout of DeepFloyd IF: stages that denoise, and the text side that they share.

``models/diffusers_files.py`` says which files they have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from phosphene import defaults
from phosphene.defaults import IF_USUAL, NOISE_LEVEL, OFFLOADS, OWN_ENLARGING, OWN_NOISE_LEVEL, OWN_USUAL, QUANTIZED, Usual
from phosphene.devices import by_turns, layer_by_layer, usual_dtype
from phosphene.errors import UserError, require_one_of
from phosphene.files import cache_folder
from phosphene.models import distilled, folders, hub
from phosphene.models.diffusers_files import PATCHES, network_config, network_folder, text_width
from phosphene.models.folders import AGAIN, cascade_folder, is_on_hub, locate, stage_folders
from phosphene.models.if_stage import if_network
from phosphene.models.patch_stage import LightText, PatchNetwork, patch_network
from phosphene.models.prompts import PromptCache
from phosphene.models.quantized import quantized
from phosphene.models.scheduler import read_schedule
from phosphene.models.stage import Stage
from phosphene.models.text import Text, read_embeddings


@dataclass(frozen=True, eq=False)
class Cascade:
    """Stages, from the smallest pictures to the largest, and the text side that they share."""

    stages: tuple[Stage, ...]
    text: Text

    def encode(self, prompts: Sequence[str | None]) -> None:
        """Embed ``prompts`` now, so that the text encoder may be freed before the stages need the memory."""
        for prompt in prompts:
            self.text.embed(prompt)

    def free_text(self) -> None:
        """Let go of the text encoder. Prompts that were embedded stay known; the next new one loads it again."""
        self.text.free()


def open_cascade(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    embeddings: str | Path | None = None,
    stages: int = 2,
    text: bool = True,
    cache: str | Path | None = None,
    offload: str = "none",
    compiled: bool = False,
    quantize: str = "none",
) -> Cascade:
    """The cascade called ``name``, or its first ``stages``, ready to run on ``device``.

    ``name`` is an embedded cascade, a folder of one or of a single stage, or a repository of the Hugging Face hub.
    ``dtype`` is float16 by default, and on the CPU float32, but for matrix products of our own networks, which are bfloat16
    where the processor has instructions for that (say torch.float32 to have those exact as well). ``embeddings`` is a file
    of prompt embeddings: a prompt in it needs no text encoder. Without ``text`` none is fetched or loaded. In the folder
    ``cache`` is kept for other processes what a text encoder of transformers said (our own is as quick as reading it).
    ``offload`` is for models larger than the device's memory: with "stages" the one that is not at work waits in main
    memory, with "layers" all layers but the one at work do, which is slow (networks of our own are small and stay).
    ``compiled``: on a GPU, networks are compiled when they are first called, which takes a minute once. ``quantize``: "int8" is
    how weights of IF's kind are kept, in half the memory. UserError where files are missing, damaged or do not fit together.
    """
    require_one_of("--offload", offload, OFFLOADS)
    require_one_of("--quantize", quantize, QUANTIZED)
    device = torch.device(device)
    if compiled:
        _require_compilable(device, offload)
    free = dtype is None and device.type == "cpu"
    dtype = dtype or usual_dtype(device)
    folder = cascade_folder(name)
    fetched = hub.fetch(str(name), dtype, text and embeddings is None, stages) if is_on_hub(folder) else None
    parts = fetched or stage_folders(folder)[:stages]
    folders.verify(folder, *parts)
    taught = distilled.read(Path(folder))
    configs = [network_config(part) for part in parts]
    width = _width_of(configs, folder)
    above = [place for place in (Path(folder), *parts) if (place / "text_encoder" / "config.json").is_file()]
    light = configs[0]["_class_name"] == PATCHES
    if light:
        _require_left_out(name, {"--embeddings": embeddings, "--quantize": None if quantize == "none" else quantize})
    known = None if embeddings is None else read_embeddings(Path(embeddings), width)
    side = above[0] if above else None
    kept = not (cache is None or side is None or light)
    stored = PromptCache(Path(cache), side, torch.int8 if quantize == "int8" else dtype) if kept else None
    how = {"silent": not text, "offload": offload, "quantize": quantize}
    reader = (LightText if light else Text)(side, width, device, dtype, known, stored, **how)
    place = (reader, device, dtype, offload, free, quantize)
    opened = tuple(_stage(part, config, *place) for part, config in zip(parts, configs, strict=True))
    opened = _changed(opened, Path(folder), taught)
    if offload == "stages":
        by_turns([stage.network for stage in opened], device)
    for stage, part in zip(opened, parts, strict=True):
        if compiled:
            stage.network.compile()
        if stage is not opened[0] and stage.low_res_schedule is None:
            raise UserError(f"{part}: is no super-resolution stage (no class_embed_type timestep); name it stage-1.")
    return Cascade(opened, reader)


def _changed(stages: tuple[Stage, ...], folder: Path, taught: distilled.Told | None) -> tuple[Stage, ...]:
    """What the model in ``folder`` makes of the ``stages`` of what it is a difference to, where it is one."""
    if folders.difference_of(folder) is None:
        return stages
    first, *others = stages
    if not isinstance(first.network, PatchNetwork):
        raise UserError(f"{folder}: what it is a difference to is no model of our own kind; {AGAIN}.")
    if taught is not None and max(taught.timesteps) >= first.schedule.steps:
        raise UserError(f"{folder}: its teacher has not all of its timesteps; {AGAIN}.")
    distilled.add(first.network.transformer, folder / distilled.DIFFERENCE)
    if taught is None:
        return replace(first, usual=defaults.ADAPTED_USUAL), *others
    quick = (replace(s, usual=s.usual._replace(steps=taught.upscale_steps or s.usual.steps)) for s in others)
    return replace(first, usual=taught.usual), *quick


def _width_of(configs: Sequence[Mapping], folder: Path) -> int:
    """The width of the text that the stages of ``folder`` read; UserError where they read none, or texts that differ."""
    widths = {width for config in configs if (width := text_width(config)) is not None}
    if len(widths) > 1:
        raise UserError(f"{folder}: its stages read text of different widths ({widths}); take stages that belong together.")
    if not widths:
        raise UserError(f"{folder}: none of its stages reads text; name a folder that holds a first stage too.")
    return widths.pop()


def _require_left_out(name: str | Path, options: Mapping[str, object]) -> None:
    """UserError where one of ``options`` of large models was given to a model of our own kind, called ``name``."""
    for option, value in options.items():
        if value is not None:
            raise UserError(f"{option} {value}: is for DeepFloyd IF's kind; {name} is small and reads text itself, leave it out.")


def _require_compilable(device: torch.device, offload: str) -> None:
    """UserError where networks cannot be compiled; where they can, the compiled code is kept for other processes."""
    if offload != "none":
        raise UserError(f"--compile: its code reads weights where they are, and --offload {offload} moves them; choose one.")
    if device.type != "cuda":  # a CPU's compiler takes longer than it saves
        raise UserError(f"--compile: is for GPUs, and this runs on {device.type}; leave it out, or say --device cuda.")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "inductor"))


def usual_of(name: str | Path) -> Usual:
    """How the cascade called ``name`` is sampled where nobody says, without loading it."""
    folder = cascade_folder(name)
    if (taught := distilled.read(folder)) is not None:
        return taught.usual
    if folders.difference_of(folder):
        return defaults.ADAPTED_USUAL
    ours = not is_on_hub(folder) and network_config(stage_folders(folder)[0])["_class_name"] == PATCHES
    return OWN_USUAL if ours else IF_USUAL


def describe(name: str | Path) -> dict:
    """What is known of a cascade on this machine without loading it."""
    stages = []
    for part in stage_folders(locate(name)):
        config, (scheduler, _) = network_config(part), read_schedule(part / "scheduler")
        stages.append(
            {
                "folder": str(part),
                "network": config["_class_name"],
                "size": config["sample_size"],
                "channels": config.get("in_channels"),
                "text width": text_width(config),
                "text encoder": (part / "text_encoder" / "config.json").is_file(),
                "predicts": scheduler.prediction_type,
            }
        )
    (file, other), taught = folders.difference_of(locate(name)) or ("", ""), distilled.read(locate(name))
    told = {"adapted": {"base": other}} if file == folders.ADAPTED else {} if taught is None else {"distilled": taught._asdict()}
    return {"kind": "cascade", "stages": stages} | told


def _stage(
    part: Path, config: Mapping, text: Text, device: torch.device, dtype: torch.dtype, offload: str, quick: bool, quantize: str
) -> Stage:
    """``quick``: products of a network of ours may be bfloat16."""
    scheduler, schedule = read_schedule(part / "scheduler")
    patches = config["_class_name"] == PATCHES
    inputs, outputs = config.get("in_channels"), config.get("out_channels")
    enlarges = inputs != outputs if patches else config.get("class_embed_type") == "timestep"
    low_res_schedule = read_schedule(part / "image_noising_scheduler")[1] if enlarges else None
    # A picture, or a picture with the small one beside it, goes in; noise comes out, and perhaps a variance.
    fits = isinstance(inputs, int) and outputs in ((inputs // 2, inputs) if enlarges else (inputs, 2 * inputs))
    if not fits or (enlarges and inputs % 2 != patches):
        path = network_folder(part) / "config.json"
        raise UserError(f"{path}: {inputs} channels in and {outputs} out are no model of IF's kind; {AGAIN}.")
    if patches:
        network: nn.Module = patch_network(part / "transformer", config, dtype, quick).to(device)
    else:
        # A graph reads its weights where they were when it was recorded: they must not go anywhere.
        network = if_network(part / "unet", config, dtype, replays=offload == "none")
        network = network.to(memory_format=torch.channels_last).requires_grad_(False)
        if quantize == "int8":
            quantized(network, device)
        if offload == "layers":
            network = layer_by_layer(network, device)
        elif offload == "none":
            network = network.to(device)
    runs_on = None if offload == "none" else device
    level, usual = (OWN_NOISE_LEVEL, OWN_ENLARGING if enlarges else OWN_USUAL) if patches else (NOISE_LEVEL, IF_USUAL)
    return Stage(network.requires_grad_(False).eval(), scheduler, schedule, text, low_res_schedule, level, runs_on, usual)
