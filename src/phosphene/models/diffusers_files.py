"""The layout of diffusers: which files a stage has, and reading them so that what is wrong is one sentence.

A folder is one stage, as diffusers writes it, or holds ``stage-1`` and ``stage-2``, each such a folder:

    model_index.json           says that it is one
    unet/ or transformer/      config.json and diffusion_pytorch_model.safetensors
    scheduler/                 scheduler_config.json: schedule, target, variance, thresholding
    image_noising_scheduler/   the same for the picture that a super-resolution stage is shown
    tokenizer/, text_encoder/  T5; one for both stages is enough, and may lie above them

Every size comes from these files. Weights are safetensors; nothing is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, NoneType

import torch

from phosphene import readers
from phosphene.errors import UserError
from phosphene.models.folders import AGAIN, require_small
from phosphene.models.tokens import MOST_BYTES

PATCHES = "PixArtTransformer2DModel"
"""The network of our own cascades, as diffusers calls it."""

MOST_SIDE = 4096
"""Pixels of a stage's pictures: a number in a file must not take all memory."""
MOST_PATCHES = 256
"""Patches of a transformer along a side, each of which attends to all."""


def network_folder(part: Path) -> Path:
    return part / "transformer" if (part / "transformer").is_dir() else part / "unet"


def text_width(config: Mapping) -> int | None:
    """Of the text that a network reads; None if it reads none."""
    if config["_class_name"] == PATCHES:
        return config.get("caption_channels")
    return config.get("encoder_hid_dim") or config.get("cross_attention_dim")


def network_config(part: Path) -> dict:
    path = network_folder(part) / "config.json"
    config = read_json(path)
    require_small(config, path)
    if config.get("_class_name") not in ("UNet2DConditionModel", PATCHES):
        raise UserError(f"{path}: says {config.get('_class_name')}, not UNet2DConditionModel; this is no model of IF's kind.")
    if type(width := text_width(config)) not in (int, NoneType):
        raise UserError(f"{path}: reads text of width {width!r}, which is no whole number; {AGAIN}.")
    sizes = config.get("sample_size") if isinstance(config.get("sample_size"), list) else [config.get("sample_size")]
    if not all(type(size) is int and 1 <= size <= MOST_SIDE for size in sizes) or len(sizes) not in (1, 2):
        raise UserError(f"{path}: says no sample_size in 1..{MOST_SIDE}, the height of its pictures; {AGAIN}.")
    if config["_class_name"] == PATCHES:  # where no weight depends on how many there are, so that only this bounds them
        side = config.get("patch_size")
        if type(side) is not int or side < 1 or max(sizes) // side > MOST_PATCHES:
            raise UserError(f"{path}: patch_size {str(side)[:40]} does not make 1..{MOST_PATCHES} patches a side; {AGAIN}.")
    return config


def variant_of(folder: Path, name: str, dtype: torch.dtype) -> str | None:
    """Which of the weight files to read, as diffusers names them: fp16 where half is enough or all there is."""
    plain = [folder / f"{name}.safetensors", folder / f"{name}.safetensors.index.json"]
    half = [folder / f"{name}.fp16.safetensors", folder / f"{name}.safetensors.index.fp16.json"]
    whole, halved = (any(path.is_file() for path in paths) for paths in (plain, half))
    if not whole and not halved:
        pickled = " (pickled weights are not read)" if any(folder.glob("*.bin")) else ""
        raise UserError(f"{plain[0]}: is missing{pickled}; {AGAIN}.")
    return "fp16" if halved and (dtype == torch.float16 or not whole) else None


def require_small_files(folder: Path) -> None:
    """UserError where a file that the libraries read whole, beside weights, is no file or larger than any tokenizer's."""
    for file in sorted(file for kind in ("*.json", "*.model", "*.txt", "*.jinja") for file in folder.glob(kind)):
        readers.require_bounded(file, MOST_BYTES, AGAIN)


@contextmanager
def quiet(logging: ModuleType) -> Iterator[None]:
    """Neither bars nor warnings from a library, by its ``utils.logging``: what is wrong is said once, by us."""
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def require_whole(path: Path, info: Mapping) -> None:
    """The libraries fill weights that a file lacks with random numbers, and say so in a log at most."""
    for what in ("missing_keys", "mismatched_keys", "error_msgs"):
        if info.get(what):
            first = sorted(str(name) for name in info[what])[0]
            raise UserError(f"{path}: the weights do not fit config.json ({what.partition('_')[0]}: {first}); {AGAIN}.")


def read_json(path: Path) -> dict:
    """The JSON object in a file of a model; UserError where there is none."""
    return readers.read_json_file(path, AGAIN)
