"""The encoder of T5 1.1: what reads a prompt for the picture models. The light twin of ``T5EncoderModel``.

    ids (B, L) -- embedding (B, L, d_model) --> [ + attention(norm) ; + feed-forward(norm) ] * layers -- norm -->

Attention is not scaled (the initialisation is, instead), and positions enter only as a learned number for each head
and each range of distances, added to the scores; block 0 keeps it for all blocks. The feed-forward is gated by a GELU.
Raffel et al. 2019, section 2.1; Shazeer 2020, GLU Variants Improve Transformer.

Parameters have the names and shapes of the class in transformers, so that weights and ``config`` open there as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.errors import UserError

# What the class in transformers can be told and this one takes for granted. Written to config.json, demanded of it.
FIXED = {
    "model_type": "t5",
    "feed_forward_proj": "gated-gelu",
    "is_decoder": False,
    "layer_norm_epsilon": 1e-6,
}
# For the class in transformers alone.
ALSO_WRITTEN = {"architectures": ["T5EncoderModel"], "dropout_rate": 0.0, "is_encoder_decoder": False, "use_cache": False}
TWIN = "encoder.embed_tokens.weight"  # the second name of shared.weight in the memory of transformers, not in its files
PADDING_BIAS = -30000.0  # far below any score, and a number in half precision too


def distance_buckets(buckets: int, longest: int) -> Tensor:
    """The bucket of each distance -longest..longest from a token to the one it attends to, (2 longest + 1,) int64.

    Half of the buckets are for tokens to come. In each half, half are for one distance each, from 0 on; the others
    grow with the logarithm of the distance and end at ``longest``.
    """
    if torch.get_default_device().type == "meta":  # see transformer.positions
        return torch.empty(2 * longest + 1, dtype=torch.long)
    distance = torch.arange(-longest, longest + 1)
    side = buckets // 2
    exact = side // 2
    away = distance.abs()
    # In float32 and in this order, because the rounding decides in which bucket a distance on the border falls.
    far = exact + (torch.log(away.float().clamp(min=1) / exact) / math.log(longest / exact) * (side - exact)).long()
    return torch.where(away < exact, away, far.clamp(max=side - 1)) + side * (distance > 0)


class SelfAttention(nn.Module):
    """``buckets`` is not 0 in the block that keeps the numbers for the distances."""

    def __init__(self, d_model: int, d_kv: int, heads: int, buckets: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (nn.Linear(d_model, heads * d_kv, bias=False) for _ in range(3))
        self.o = nn.Linear(heads * d_kv, d_model, bias=False)
        if buckets:
            self.relative_attention_bias = nn.Embedding(buckets, heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (to(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for to in (self.q, self.k, self.v))
        answer = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        return self.o(answer.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.wi_0, self.wi_1 = nn.Linear(d_model, d_ff, bias=False), nn.Linear(d_model, d_ff, bias=False)
        self.wo = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


class Residual(nn.Module):
    """``x + inner(norm(x))``; ``name`` is what the file calls ``inner``."""

    def __init__(self, name: str, inner: nn.Module, d_model: int) -> None:
        super().__init__()
        self.name = name
        self.add_module(name, inner)
        self.layer_norm = nn.RMSNorm(d_model, eps=FIXED["layer_norm_epsilon"])

    def forward(self, x: Tensor, *rest: Tensor) -> Tensor:
        return x + getattr(self, self.name)(self.layer_norm(x), *rest)


class Block(nn.Module):
    def __init__(self, d_model: int, d_kv: int, d_ff: int, heads: int, buckets: int) -> None:
        super().__init__()
        attention = Residual("SelfAttention", SelfAttention(d_model, d_kv, heads, buckets), d_model)
        self.layer = nn.ModuleList([attention, Residual("DenseReluDense", GatedFeedForward(d_model, d_ff), d_model)])

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        attention, feed_forward = self.layer
        return feed_forward(attention(x, bias))


class T5Encoder(nn.Module):
    """``forward(ids, mask)``. The keywords are keys of the configuration in transformers.

    A new encoder has T5's initial weights (:meth:`reset_parameters`). There is no dropout.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        d_model: int,
        d_kv: int,
        d_ff: int,
        num_layers: int,
        num_heads: int,
        relative_attention_num_buckets: int = 32,
        relative_attention_max_distance: int = 128,
    ) -> None:
        super().__init__()
        sizes = {
            "vocab_size": vocab_size,
            "d_model": d_model,
            "d_kv": d_kv,
            "d_ff": d_ff,
            "num_layers": num_layers,
            "num_heads": num_heads,
            "relative_attention_num_buckets": relative_attention_num_buckets,
            "relative_attention_max_distance": relative_attention_max_distance,
        }
        for name, value in sizes.items():
            if not value > 0:
                raise UserError(f"{name} {value}: must be positive.")
        buckets, longest = relative_attention_num_buckets, relative_attention_max_distance
        if buckets % 4:
            raise UserError(f"relative_attention_num_buckets {buckets}: must be a multiple of 4.")
        if longest <= buckets // 4:
            raise UserError(f"relative_attention_max_distance {longest}: must be more than a quarter of the {buckets} buckets.")
        self.config: dict[str, Any] = FIXED | ALSO_WRITTEN | sizes
        self.shared = nn.Embedding(vocab_size, d_model)
        self.encoder = nn.Module()  # a name from the file
        self.encoder.block = nn.ModuleList(
            Block(d_model, d_kv, d_ff, num_heads, 0 if layer else buckets) for layer in range(num_layers)
        )
        self.encoder.final_layer_norm = nn.RMSNorm(d_model, eps=FIXED["layer_norm_epsilon"])
        self.longest = longest
        self.register_buffer("buckets", distance_buckets(buckets, longest), persistent=False)
        self.register_load_state_dict_pre_hook(_without_twin)
        self.reset_parameters()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> T5Encoder:
        """The encoder that a config.json describes, ours or one of transformers, with new weights; UserError if it cannot be."""
        config = {"feed_forward_proj": "relu", **config}  # where nothing is said, transformers means the first T5
        for name, value in FIXED.items():
            if config.get(name, value) != value:
                raise UserError(f"{name} {config[name]!r}: this encoder knows {value!r} alone; open the model with transformers.")
        names = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
        for name in names:
            if not isinstance(config.get(name), int):
                raise UserError(f"{name} {config.get(name)!r}: must be a whole number; mend the model's config.json.")
        names += ("relative_attention_num_buckets", "relative_attention_max_distance")
        return cls(**{name: config[name] for name in names if name in config})

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """T5's initial weights: normal, each map so that unit inputs give unit outputs, queries smaller by sqrt(d_kv)."""
        d_model, d_kv = self.config["d_model"], self.config["d_kv"]
        nn.init.normal_(self.shared.weight)
        for block in self.encoder.block:
            attention, feed_forward = block.layer[0].SelfAttention, block.layer[1].DenseReluDense
            for linear in (attention.k, attention.v, attention.o, feed_forward.wi_0, feed_forward.wi_1, feed_forward.wo):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.normal_(attention.q.weight, std=(d_model * d_kv) ** -0.5)  # in place of the scale that is not there
            nn.init.ones_(block.layer[0].layer_norm.weight)
            nn.init.ones_(block.layer[1].layer_norm.weight)
        nn.init.normal_(self._distances.weight, std=d_model**-0.5)
        nn.init.ones_(self.encoder.final_layer_norm.weight)

    def reset_buffers(self) -> None:
        """The buckets, for an encoder that was built without memory and has been given weights."""
        self.buckets = distance_buckets(self.config["relative_attention_num_buckets"], self.longest)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """ids: (B, L) int64; mask: (B, L) bool, True for tokens to read, or None for all. Answer: (B, L, d_model).

        What is answered in place of padding means nothing, but is finite.
        """
        x = self.shared(ids)
        place = torch.arange(ids.shape[1], device=ids.device)
        distance = (place - place[:, None]).clamp(-self.longest, self.longest)  # from the row's token to the column's
        bias = self._distances(self.buckets[distance + self.longest]).permute(2, 0, 1)[None].contiguous()  # (1, heads, L, L)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None, None], PADDING_BIAS)
        for block in self.encoder.block:
            x = block(x, bias)
        return self.encoder.final_layer_norm(x)

    @property
    def _distances(self) -> nn.Embedding:
        return self.encoder.block[0].layer[0].SelfAttention.relative_attention_bias


def _without_twin(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before loading: what transformers lists twice in memory is taken once, as from its files."""
    if prefix + "shared.weight" in state:
        state.pop(prefix + TWIN, None)
