"""Prompts to embeddings: those of a file, those kept from before, or those of a T5 encoder in the layout of transformers."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from phosphene.devices import layer_by_layer
from phosphene.errors import UserError
from phosphene.files import exists
from phosphene.models.diffusers_files import quiet, read_json, require_small_files, require_whole, variant_of
from phosphene.models.folders import AGAIN, require_small
from phosphene.models.prompts import PromptCache
from phosphene.models.quantized import quantized
from phosphene.models.tokens import require_known
from phosphene.readers import MOST_TEXT, refusing, require_bounded

TOKENS = 77
"""Prompts are padded to as many tokens, and must not be longer: what the text-to-image networks were trained with."""
MOST_BYTES, MOST_WIDTH = 2**30, 2**14
"""Of a file of prompt embeddings, and of what it becomes: 850 prompts of DeepFloyd's width, which is 4096."""


MOST_KNOWN = 1024
"""Prompts that were encoded and stay known: 1.3 GB of DeepFloyd's, 32 MB of glyph's. A studio hears of new ones for days."""


class PromptRemark(UserWarning):
    """Of a prompt that the model does not read as it stands: a part of it counts for nothing, or for something else."""


class PromptCut(PromptRemark):
    """A prompt is longer than the model reads: its end counts for nothing."""


class PromptStrange(PromptRemark):
    """A prompt has words that the model was not taught."""


class Text:
    """Prompts to embeddings: those of a file, or T5's.

    Tokenizer and encoder are loaded when the first unknown prompt comes; :meth:`free` lets them go. What was encoded last
    stays known, and with a ``cache`` is known from then on. ``width`` is that of the networks' text input; ``known`` maps
    prompts to (77, width). Where ``silent``, the encoder is never loaded.
    """

    def __init__(
        self,
        folder: Path | None,
        width: int,
        device: torch.device,
        dtype: torch.dtype,
        known: Mapping[str, Tensor] | None = None,
        cache: PromptCache | None = None,
        silent: bool = False,
        offload: str = "none",
        quantize: str = "none",
    ) -> None:
        self.cache, self.silent, self.offload, self.quantize = cache, silent, offload, quantize
        self.folder, self.width, self.device, self.dtype = folder, width, device, dtype
        self.given = sorted(known or ())
        self._known = {tidy(prompt): embedding for prompt, embedding in (known or {}).items()}
        self._encoded: dict[str, Tensor] = {}
        self._t5: tuple[Any, nn.Module] | None = None  # a tokenizer and an encoder
        self.remarks: dict[str, list[str]] = {}  # what is to be said of prompts that the model does not read as they stand

    def embed(self, prompt: Hashable | None) -> Tensor:
        """(77, width) float32 on the CPU; None is the empty prompt. UserError where it cannot be had."""
        if prompt is not None and not isinstance(prompt, str):
            raise UserError(f"prompt {prompt!r}: must be text.")
        key = tidy(prompt or "")
        if any("\ud800" <= c <= "\udfff" for c in key):
            raise UserError(f"prompt {prompt!r}: is no text in UTF-8; write it in another way.")
        if key in self._known:
            return self._known[key]
        if key not in self._encoded:
            embedding = self.cache.get(key) if self.cache else None
            if embedding is None:
                self._t5 = self._t5 or self._load(key)
                # Each prompt is encoded alone, so that its embedding does not depend on its company.
                embedding = self._encode(key, *self._t5)
                if self.cache:
                    self.cache.put(key, embedding)
            if len(self._encoded) == MOST_KNOWN:
                del self._encoded[oldest := next(iter(self._encoded))]
                self.remarks.pop(oldest, None)
            self._encoded[key] = embedding
        return self._encoded[key]

    def free(self) -> None:
        """Let go of tokenizer and encoder (11 GB for DeepFloyd IF, in half precision)."""
        self._t5 = None

    def _require_encoder(self, prompt: str) -> Path:
        """Where the text encoder lies; UserError where it is not there or must not be loaded."""
        if self.folder is not None and not self.silent:
            return self.folder
        if self.given:
            known = ", ".join(repr(p) for p in self.given)
            raise UserError(f"prompt {prompt!r}: is not among the prompt embeddings; choose one of {known}.")
        if self.silent:
            raise UserError(f"prompt {prompt!r}: was never encoded here; leave --text-encoder none out, or give --embeddings.")
        raise UserError(f"prompt {prompt!r}: the model has no text encoder; name a file of prompt embeddings.")

    @torch.no_grad()
    def _encode(self, prompt: str, tokenizer: Callable, encoder: nn.Module) -> Tensor:
        with refusing(self.folder / "tokenizer", AGAIN):
            tokens = tokenizer(prompt, padding="max_length", max_length=TOKENS, return_tensors="pt").to(self.device)
        if tokens.input_ids.shape[1] > TOKENS:
            raise UserError(f"prompt {prompt!r}: has {tokens.input_ids.shape[1]} tokens, of at most {TOKENS}; shorten it.")
        require_known(tokens.input_ids, encoder.config.vocab_size)
        # The mask goes to T5 and no further: the networks were trained to see the padding.
        hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
        return hidden[0].float().cpu()

    def _load(self, prompt: str) -> tuple[Callable, nn.Module]:
        folder = self._require_encoder(prompt)
        from transformers import T5EncoderModel, T5Tokenizer
        from transformers.utils import logging

        tokens, weights = folder / "tokenizer", folder / "text_encoder"
        if not any((tokens / name).is_file() for name in ("tokenizer.json", "spiece.model")):
            # transformers would warn and go on with another tokenizer.
            raise UserError(f"{tokens}: holds neither tokenizer.json nor spiece.model; {AGAIN}.")
        require_small(read_json(weights / "config.json"), weights / "config.json")
        for part in (tokens, weights):
            require_small_files(part)
        variant = variant_of(weights, "model", self.dtype)
        options = {"local_files_only": True, "output_loading_info": True, "use_safetensors": True}
        with refusing(tokens, AGAIN):
            tokenizer = T5Tokenizer.from_pretrained(tokens, local_files_only=True)
        with refusing(weights, AGAIN), quiet(logging):
            encoder, info = T5EncoderModel.from_pretrained(weights, dtype=self.dtype, variant=variant, **options)
        require_whole(weights, info)
        if encoder.config.d_model != self.width:
            raise UserError(
                f"{weights / 'config.json'}: d_model is {encoder.config.d_model}, but the stages read {self.width}; "
                "take the text encoder that belongs to them."
            )
        encoder = encoder.requires_grad_(False).eval()
        if self.quantize == "int8":
            quantized(encoder, self.device)
        if self.offload == "layers":
            return tokenizer, layer_by_layer(encoder, self.device)
        return tokenizer, encoder.to(self.device)  # alone there, and freed before a stage comes


def read_embeddings(path: Path, width: int | None = None) -> dict[str, Tensor]:
    """A file of prompt embeddings, a dictionary from prompts to (1, 77, width), as prompts to (77, width) float32.

    UserError where it is none, or of another ``width`` than that, if one is wanted.
    """
    example = "it should be a dictionary from prompts to tensors, written by torch.save"
    _require_little(path := Path(path), example)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Of damaged files torch raises whatever comes, from IndexError to UnpicklingError, which tells at length how to switch
        # the safe loader off: that is no advice to pass on.
        raise UserError(f"{path}: is damaged or holds more than tensors; {example}.") from error
    if not isinstance(held, dict) or not held:
        raise UserError(f"{path}: holds no prompt embeddings; {example}.")
    for prompt, embedding in held.items():
        if not isinstance(prompt, str) or not isinstance(embedding, Tensor):
            raise UserError(f"{path}: holds {type(embedding).__name__} for {prompt!r}; {example}.")
        if embedding.layout != torch.strided or embedding.is_nested or embedding.device.type != "cpu":
            raise UserError(f"{path}: {prompt!r} is a tensor that does not hold its numbers one by one; {example}.")
        wide = min(embedding.shape[-1], MOST_WIDTH) if width is None and embedding.ndim else width
        if tuple(embedding.shape) not in ((1, TOKENS, wide), (TOKENS, wide)):
            shape = "x".join(str(n) for n in embedding.shape)
            raise UserError(f"{path}: {prompt!r} is {shape}, but this model reads 1x{TOKENS}x{wide}; take its own embeddings.")
        if embedding.untyped_storage().nbytes() < embedding.numel() * embedding.element_size():
            raise UserError(f"{path}: {prompt!r} says more numbers than the file holds; {example}.")
    if (size := sum(4 * embedding.numel() for embedding in held.values())) > MOST_BYTES:
        raise UserError(f"{path}: takes {size:,} bytes, of at most {MOST_BYTES:,}; write fewer prompts into it.")
    return {prompt: _numbers(embedding, f"{path}: {prompt!r}", example) for prompt, embedding in held.items()}


def _numbers(embedding: Tensor, what: str, example: str) -> Tensor:
    """``embedding`` as (77, width) float32; UserError where it holds anything but finite numbers."""
    whole = embedding.detach().float() if embedding.is_floating_point() else None
    if whole is None or not bool(whole.isfinite().all()):
        raise UserError(f"{what} holds what are no finite numbers; {example}.")
    return whole.reshape(TOKENS, -1)


class _Directory(io.FileIO):
    """A zip of which the library reads no more at once than the list of what is in it may have."""

    def read(self, size: int = -1) -> bytes:
        if size > MOST_TEXT:
            raise zipfile.BadZipFile(f"a list of {size:,} bytes")
        return super().read(size)


def _require_little(path: Path, example: str) -> None:
    """UserError where a file of prompt embeddings takes more memory than one has, which is seen before it is read.

    That of torch 1.6 (2020) and newer is a zip with a short pickle that says what is in the others, none of them packed.
    """
    if not exists(path):
        raise UserError(f"{path}: no such file; name a file of prompt embeddings.")
    require_bounded(path, MOST_BYTES, "write fewer prompts into it")
    try:
        with _Directory(path) as file, zipfile.ZipFile(file) as parts:
            found = parts.infolist()
    except Exception as error:  # of damaged ones the library raises whatever comes as well
        raise UserError(f"{path}: is damaged, or no file of torch 1.6 or newer; {example}.") from error
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in found)
    if packed or sum(part.file_size for part in found) > MOST_BYTES:
        raise UserError(f"{path}: unpacks to more than it is, as torch.save writes none; {example}.")
    if any(part.file_size > MOST_TEXT for part in found if part.filename.endswith(".pkl")):
        raise UserError(f"{path}: says more than {MOST_TEXT:,} bytes of what it holds; {example}.")


def tidy(prompt: str) -> str:
    """Prompts as the text encoder reads them: DeepFloyd's case and ends."""
    return prompt.lower().strip()
