"""Judges that see texts and pictures in one space: our retrieval model, and CLIP in the layout of transformers.

Both are two towers that end in unit vectors; the cosine of a picture and a text says how well they belong together (Radford et
al. 2021). A judge of ours learned from the pictures that our models learned from, and is no stranger to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import MOST_PICTURE_WIDTH
from phosphene.errors import UserError
from phosphene.models import tokens
from phosphene.models.diffusers_files import quiet, read_json, require_small_files, require_whole
from phosphene.models.folders import AGAIN
from phosphene.models.patch_stage import load_weights
from phosphene.models.retrieval import WIDTH, Retrieval
from phosphene.models.t5 import T5Encoder
from phosphene.notation import judge_parts
from phosphene.readers import refusing

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of what CLIP learned from, by channel (Radford et al. 2021): where ``preprocessor_config.json`` says nothing else."""


class Matcher(Protocol):
    """Texts and pictures as unit vectors, and what their cosines are multiplied by before a softmax."""

    sharpness: float

    def texts(self, prompts: Sequence[str]) -> Tensor: ...

    def pictures(self, pictures: Tensor) -> Tensor: ...


class Judge:
    """A trained Retrieval with its tokenizer, on a device."""

    def __init__(self, network: Retrieval, tokenizer: Any, length: int) -> None:
        self.network, self.tokenizer, self.length = network.eval(), tokenizer, length

    @property
    def device(self) -> torch.device:
        return self.network.space.sharpness.device

    @property
    def sharpness(self) -> float:
        return float(self.network.space.sharpness.detach().exp().clamp(max=100))

    @torch.no_grad()
    def texts(self, prompts: Sequence[str], most: int = 1024) -> Tensor:
        """Unit vectors (N, 128)."""
        ids, mask = tokens.encode(self.tokenizer, list(prompts), self.length, self.network.text.config["vocab_size"])
        pairs = zip(ids.split(most), mask.split(most), strict=True)
        return torch.cat([self.network.of_texts(i.to(self.device), m.to(self.device)) for i, m in pairs])

    @torch.no_grad()
    def pictures(self, pictures: Tensor, most: int = 256) -> Tensor:
        """(N, 3, S, S) in [-1, 1] to unit vectors (N, 128). Pictures of another size than it learned from are resized."""
        size = self.network.space.config["size"]
        if pictures.shape[-1] != size:
            pictures = F.interpolate(pictures, size=size, mode="area")
        return torch.cat([self.network.of_pictures(part.to(self.device)) for part in pictures.split(most)])


def open_judge(folder: Path, device: torch.device | str = "cpu") -> Judge:
    """The retrieval model in ``folder``, as ``phosphene train retrieval`` writes it; UserError where it is none."""
    folder = Path(folder)
    parts = [folder / part / "config.json" for part in ("text_encoder", "picture_encoder")]
    try:
        configs = [read_json(path) for path in parts]
        size, width = int(configs[1]["size"]), configs[1].get("width", WIDTH)
        if type(width) is not int or not 1 <= width <= MOST_PICTURE_WIDTH:  # seen before memory is taken for it
            raise ValueError(f"width {width}")
    except (UserError, LookupError, TypeError, ValueError, OverflowError) as error:
        again = "name a folder written by phosphene train retrieval"
        raise UserError(f"{folder}: is no retrieval model ({str(error).rstrip('.')}); {again}.") from error
    network = Retrieval(T5Encoder.from_config(configs[0]), size, width)
    load_weights(network.text, folder / "text_encoder", "model")
    load_weights(network.space, folder / "picture_encoder", "model")
    tokenizer, length = tokens.load(folder / "tokenizer")
    return Judge(network.to(device).requires_grad_(False), tokenizer, length)


class Clip:
    """A CLIPModel of transformers with its tokenizer; ``norm`` is the mean and the standard deviation of its pictures."""

    def __init__(self, network: Any, tokenizer: Any, norm: tuple[Sequence[float], Sequence[float]]) -> None:
        self.network, self.tokenizer = network.eval(), tokenizer
        self.mean, self.std = (torch.tensor(each, device=network.device).view(3, 1, 1) for each in norm)

    @property
    def sharpness(self) -> float:
        return float(self.network.logit_scale.exp())

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors (N, D)."""
        read = self.tokenizer(list(prompts), padding=True, truncation=True, return_tensors="pt").to(self.network.device)
        found = self.network.get_text_features(input_ids=read.input_ids, attention_mask=read.attention_mask)
        return F.normalize(found.pooler_output.float(), dim=1)

    @torch.no_grad()
    def pictures(self, pictures: Tensor, most: int = 64) -> Tensor:
        """(N, 3, H, W) in [-1, 1] to unit vectors (N, D): resized, bicubic, to what it sees, and normalized."""
        size, found = self.network.config.vision_config.image_size, []
        for part in pictures.split(most):
            part = F.interpolate(part.to(self.mean), (size, size), mode="bicubic", antialias=True, align_corners=False)
            seen = ((part.clamp(-1, 1) + 1) / 2 - self.mean) / self.std
            found.append(self.network.get_image_features(pixel_values=seen).pooler_output.float())
        return F.normalize(torch.cat(found), dim=1)


def open_clip(name: str, device: torch.device | str = "cpu") -> Clip:
    """The CLIP in the folder ``name``, or of that name on the hub (``openai/clip-vit-large-patch14``). Nothing is unpickled.

    UserError where it cannot be had.
    """
    from transformers import CLIPModel, CLIPTokenizer
    from transformers.utils import logging

    with refusing(Path(name), AGAIN), quiet(logging):
        require_small_files(Path(name))
        tokenizer = CLIPTokenizer.from_pretrained(name)
        network, info = CLIPModel.from_pretrained(name, use_safetensors=True, output_loading_info=True, dtype=torch.float32)
    require_whole(Path(name), info)
    said = Path(name) / "preprocessor_config.json"
    config = read_json(said) if said.is_file() else {}
    norm = tuple(config.get(key, usual) for key, usual in (("image_mean", CLIP_MEAN), ("image_std", CLIP_STD)))
    if not all(isinstance(n, list | tuple) and len(n) == 3 and all(isinstance(v, int | float) for v in n) for n in norm):
        raise UserError(f"{said}: says no mean and deviation of three channels; fetch it again.")
    return Clip(network.to(device).requires_grad_(False), tokenizer, norm)


def open_matcher(name: str, device: torch.device | str = "cpu") -> Matcher:
    """What ``retrieval:FOLDER`` or ``clip:MODEL`` names. UserError where it is neither, or cannot be had."""
    kind, where = judge_parts(name)
    if kind == "clip":
        return open_clip(where, device)
    if kind == "retrieval":
        return open_judge(Path(where), device)
    raise UserError(f"--judge {name}: sees no texts and pictures; name retrieval:FOLDER or clip:MODEL.")
