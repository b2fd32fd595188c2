"""The embedded cascade's networks as a :class:`~phosphene.models.stage.Stage` calls them.

Nothing here imports diffusers or transformers: loading those takes longer than a small model takes to draw. The files
are theirs all the same.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models import weights
from phosphene.models.attention import AbsorbedText, PreparedText
from phosphene.models.diffusers_files import read_json
from phosphene.models.folders import AGAIN, require_small
from phosphene.models.t5 import T5Encoder
from phosphene.models.text import PromptCut, PromptRemark, PromptStrange, Text
from phosphene.models.tokens import COUNTED, encode, load, load_words, strange, uncounted, unread
from phosphene.models.transformer import PatchTransformer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENS = 1024
"""Of a forward pass on the CPU: what lies between the layers stays in its cache, and each picture takes a third less time."""
EVEN_ROWS = 2
"""Pictures of every forward pass in bfloat16 (one of large ones): products of another shape are rounded otherwise, which would
show in what is drawn. Two are what guidance asks of a single picture."""

MOST_TEXTS = 16
"""Kept as the blocks read them, a megabyte each: those of a forward pass, which stay the same at every step."""

MOST_NAMED = 5
"""Words that a model was never told of: of more the number is said."""
NEAR = 0.83
"""How alike two words with the same first letter are, 0..1, of which one may be meant by the other."""

LARGE = 128
"""Channels from which products, and not what lies between them, are what a network's time goes to."""


class PatchNetwork(nn.Module):
    """A PatchTransformer that is called like the networks of diffusers.

    The text (B, L, channels + 1) ends in a column that is 0 where it is padding: unlike DeepFloyd IF, this network is
    told. A network without text reads none, and is told how noisy the picture beside is by a last channel of x.
    """

    def __init__(self, transformer: PatchTransformer) -> None:
        super().__init__()
        self.transformer = transformer
        self.config = SimpleNamespace(**transformer.config)
        self.quick = False
        self._absorbed: dict[bytes, AbsorbedText] = {}

    def quicken(self) -> None:
        """Multiply in bfloat16 from now on."""
        self.transformer.halve_products()
        self.quick = True

    def compile(self) -> None:
        """Compile when first called, block by block: they are all alike."""
        for block in self.transformer.transformer_blocks:
            block.compile()

    def without_block(self, number: int) -> PatchNetwork:
        """The same network, of the same memory, that leaves out block ``number``."""
        transformer = copy.copy(self.transformer)
        transformer._modules = dict(transformer._modules)  # which the copy shares otherwise
        blocks = transformer.transformer_blocks
        transformer.transformer_blocks = nn.ModuleList(block for k, block in enumerate(blocks) if k != number)
        network = PatchNetwork(transformer).eval()
        network.quick = self.quick
        return network

    @property
    def rows(self) -> int:
        """Pictures of a forward pass on the CPU."""
        tokens = (self.config.sample_size // self.config.patch_size) ** 2
        fit = max(1, TOKENS // tokens)
        return min(fit, EVEN_ROWS) if self.quick else fit

    @property
    def reads(self) -> bool:
        return self.config.caption_channels is not None

    def forward(
        self, x: Tensor, t: Tensor, encoder_hidden_states: Tensor, class_labels: Tensor | None = None, return_dict: bool = False
    ) -> tuple[Tensor]:
        rows, count = self.rows, len(x)
        if x.device.type == "cpu" and (count > rows or (self.quick and 0 < count < rows)):
            whole = (x, t, encoder_hidden_states)
            if self.quick:  # the last part is made up to a whole one
                index = torch.arange(count + -count % rows).clamp(max=count - 1)
                whole = tuple(part[index] for part in whole)
            parts = zip(*(part.split(rows) for part in whole), strict=True)
            return (torch.cat([self(*part)[0] for part in parts])[:count],)
        if not self.reads:
            # A negating view negates all it sees; how noisy a picture is does not change by that.
            x = torch.cat([x[:, :-1], x[:, -1:].abs()], 1)
            return (self.transformer(x.contiguous(), t, None),)
        return (self.transformer(x.contiguous(), t, self._text(encoder_hidden_states, x.dtype)),)

    def _text(self, told: Tensor, dtype: torch.dtype) -> PreparedText | AbsorbedText:
        """The text as the blocks read it. A quick network's weights are final, so there it is made of each text once."""
        text, mask = told[..., :-1].to(dtype), told[..., -1] > 0
        if not (self.quick and told.device.type == "cpu"):
            return self.transformer.prepare(text, mask)
        key = told.numpy().tobytes()
        if key not in self._absorbed:
            if len(self._absorbed) >= MOST_TEXTS:
                self._absorbed.clear()
            self._absorbed[key] = self.transformer.absorb(text, mask)
        return self._absorbed[key]


class LightText(Text):
    """Prompts read by our own T5Encoder, with ``tokenizer.json``; embeddings are (length, width + 1), see PatchNetwork."""

    @torch.no_grad()
    def _encode(self, prompt: str, reader: tuple[Tokenizer, int, frozenset[str] | None], encoder: nn.Module) -> Tensor:
        tokenizer, length, taught = reader
        if rest := unread(tokenizer, prompt, length):
            why = f"is longer than the model reads, so it is cut, and {_short(rest)!r} counts for nothing"
            self._remark(prompt, why, PromptCut)
        if taught is not None and (words := strange(prompt, taught)):
            named = ", ".join(f"{word!r}{_meant(word, taught)}" for word in words[:MOST_NAMED])
            named += f" and {len(words) - MOST_NAMED} more" if words[MOST_NAMED:] else ""
            self._remark(prompt, f"the model was never told of {named}, so of that it draws what it guesses", PromptStrange)
        if prompt and not any(c.isalnum() for c in prompt):
            self._remark(prompt, "has no word in it, and signs are not read, so it asks for nothing", PromptStrange)
        if taught is not None and (many := uncounted(prompt)):
            why = f"the model was told of {COUNTED[-1]} of a thing at most, so of {many!r} it draws what it guesses"
            self._remark(prompt, why, PromptStrange)
        ids, mask = (part.to(self.device) for part in encode(tokenizer, [prompt], length, encoder.config["vocab_size"]))
        return encode_text(encoder, ids, mask).cpu()

    def _remark(self, prompt: str, what: str, kind: type[PromptRemark]) -> None:
        """Warn of ``prompt``, and keep what is said of it."""
        self.remarks.setdefault(prompt, []).append(f"prompt {_short(prompt)!r}: {what}")
        warnings.warn(self.remarks[prompt][-1], kind, stacklevel=_outside())

    def _load(self, prompt: str) -> tuple[tuple[Tokenizer, int, frozenset[str] | None], nn.Module]:
        folder = self._require_encoder(prompt)
        reader = *load(folder / "tokenizer"), load_words(folder / "tokenizer")
        path = folder / "text_encoder" / "config.json"
        config = read_json(path)
        require_small(config, path)
        shards = _shards(path.parent, "model")
        encoder = weights.require_fit(lambda: T5Encoder.from_config(config), shards)
        weights.materialise(encoder, shards)
        return reader, encoder.to(self.device, self.dtype).requires_grad_(False).eval()


def _meant(word: str, taught: frozenset[str]) -> str:
    """The word of those ``taught`` that ``word`` may be a slip of the finger for, in brackets."""
    near = get_close_matches(word, sorted(each for each in taught if each[0] == word[0]), 1, NEAR)
    return f" ({near[0]}?)" if near else ""


def _outside() -> int:
    """The ``stacklevel`` of a warning by the caller that is the reader's own line, not one of this package or of torch."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("phosphene", "torch"):
        frame, level = frame.f_back, level + 1
    return level


def _short(text: str) -> str:
    return f"{text[:60]}..." if len(text) > 63 else text


def encode_text(encoder: T5Encoder, ids: Tensor, mask: Tensor) -> Tensor:
    """What a PatchNetwork is told of one prompt: (L, width + 1) float32, the text and which of it is no padding."""
    return torch.cat([encoder(ids, mask)[0].float(), mask[0, :, None].float()], 1)


def patch_network(folder: Path, config: Mapping, dtype: torch.dtype, quick: bool = False) -> PatchNetwork:
    """The network in ``folder``; UserError where its files are missing, damaged or do not fit.

    ``quick`` lets it multiply in bfloat16 where this processor has instructions for that and it is large enough to gain.
    Other processors compute bfloat16 by way of float32, and more slowly than that itself.
    """
    shards = _shards(folder, "diffusion_pytorch_model")
    network = PatchNetwork(weights.require_fit(lambda: PatchTransformer.from_config(config), shards).to(dtype))
    native = any(getattr(torch.cpu, f"_is_{name}_supported", bool)() for name in ("avx512_bf16", "amx_tile"))
    if quick and native and network.transformer.pos_embed.proj.out_channels >= LARGE:
        network.quicken()
    weights.materialise(network.transformer, shards)
    return network


def load_weights(network: nn.Module, folder: Path, name: str) -> None:
    """Load the shards ``name*.safetensors`` of ``folder`` into ``network``."""
    shards = _shards(folder, name)
    weights.require_fit(lambda: network, shards)
    weights.fill(network, shards)


def _shards(folder: Path, name: str) -> list[Path]:
    shards = sorted(folder.glob(f"{name}*.safetensors"))
    if not shards:
        raise UserError(f"{folder / name}.safetensors: is missing; {AGAIN}.")
    return shards
