"""A transformer on patches of the picture, told the time and a text: the light twin of ``PixArtTransformer2DModel``.

    x (B, C, H, W) -- patches + positions (B, N, width) --> [ block ] * layers -- norm -- patches -- (B, C', H, W)
                                                               ^   ^
    t (B,) -- sinusoids -- MLP -- six numbers a channel -------+   +------- keys and values -- MLP -- text (B, L, channels)

A block is self-attention, cross-attention to the text, feed-forward. Time shifts, scales and gates the first and the
last ("adaLN-single": one projection of the time for all blocks, and a learned table of offsets in each), Chen et al.
2023, PixArt-alpha, section 2.3, after Peebles & Xie 2022, DiT.

Parameters have the names and shapes of the class in diffusers, so that weights and ``config`` open there as they are.
It is written anew because importing that class takes longer than a small model takes to draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.errors import UserError
from phosphene.models.attention import PADDING_BIAS, AbsorbedText, Attention, PreparedText, absorb, on_bfloat16_cpu

# What the class in diffusers can be told and this one takes for granted. Written to config.json, demanded of it.
FIXED = {
    "_class_name": "PixArtTransformer2DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_type": "default",
    "dropout": 0.0,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
    "norm_type": "ada_norm_single",
    "upcast_attention": False,
    "use_additional_conditions": False,
}
TIME_CHANNELS = 256
NORM_EPS = 1e-6


def positions(rows: int, columns: int, width: int, base: int, scale: float) -> Tensor:
    """Sinusoids of where a patch lies, (rows * columns, width) float32: half of the channels for x, half for y.

    A grid of any size is stretched over ``base / scale`` units each way. Frequencies fall from 1 to 1/10000 per unit.
    """
    if torch.get_default_device().type == "meta":  # where arange would import the whole compiler, for seconds
        return torch.empty(rows * columns, width)
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    halves = []
    for count in (columns, rows):
        angles = torch.outer(torch.arange(count, dtype=torch.float64) * (base / count / scale), frequencies)
        halves.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    x, y = halves
    grid = torch.cat([x[None].expand(rows, -1, -1), y[:, None].expand(-1, columns, -1)], dim=2)
    return grid.reshape(rows * columns, width).float()


def time_sinusoids(t: Tensor) -> Tensor:
    """(B,) timesteps to (B, 256) float32, cosines first: Ho et al. 2020, as in Vaswani et al. 2017."""
    half = TIME_CHANNELS // 2
    frequencies = torch.exp(-math.log(10000) / half * torch.arange(half, device=t.device, dtype=torch.float32))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights of its own, then ``(1 + scale) x + shift``. x: (B, N, width); the others (B, 1, width)."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=NORM_EPS), 1 + scale)


@cache
def fuses_gelu() -> bool:
    """Whether torch's library for processors multiplies bfloat16 on this one: where it does not, it refuses."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class PatchEmbed(nn.Module):
    """(B, C, H, W) to (B, N, width): a linear map of each patch, plus where it lies."""

    def __init__(self, sample_size: int, patch_size: int, channels: int, width: int, scale: float) -> None:
        super().__init__()
        self.patch_size, self.base, self.scale = patch_size, sample_size // patch_size, scale
        self.proj = nn.Conv2d(channels, width, patch_size, patch_size)
        # Not persistent: it follows from the configuration, and the file has no place for it.
        self.register_buffer("pos_embed", self.grid(), persistent=False)

    def grid(self) -> Tensor:
        """Where the patches of the usual size lie, (1, N, width) float32."""
        return positions(self.base, self.base, self.proj.out_channels, self.base, self.scale)[None]

    def forward(self, x: Tensor) -> Tensor:
        p = self.patch_size
        batch, channels, height, width = x.shape
        rows, columns = height // p, width // p
        # Windows of this convolution do not overlap, so it is a matrix product, whatever the memory format of x.
        patches = x.view(batch, channels, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)
        tokens = F.linear(patches.reshape(batch, rows * columns, -1), self.proj.weight.flatten(1), self.proj.bias)
        if (rows, columns) == (self.base, self.base):
            return tokens + self.pos_embed
        return tokens + positions(rows, columns, tokens.shape[-1], self.base, self.scale).to(tokens)[None]


class MLP(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, inputs: int, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.linear_1, self.activation, self.linear_2 = nn.Linear(inputs, width), activation, nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(self.activation(self.linear_1(x)))


class TimeModulation(nn.Module):
    """(B,) timesteps to their embedding (B, width) and the modulation that all blocks share, (B, 6, 1, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": MLP(TIME_CHANNELS, width, nn.SiLU())})  # a name from the file
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, t: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        time = self.emb["timestep_embedder"](time_sinusoids(t).to(dtype))
        return time, self.linear(F.silu(time)).view(len(t), 6, 1, -1)


class Expand(nn.Module):
    """The first half of the feed-forward: four times as wide, then GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.proj.weight.dtype)
        # The product's sums go through GELU as they are stored. It knows no gradient.
        if on_bfloat16_cpu(x) and fuses_gelu() and not (x.requires_grad or self.proj.weight.requires_grad):
            return torch.ops.mkldnn._linear_pointwise(x, self.proj.weight, self.proj.bias, "gelu", [], "tanh")
        return F.gelu(self.proj(x), approximate="tanh")


class Block(nn.Module):
    """Self-attention, attention to the text if there is one, feed-forward. The text's has neither norm nor gate (PixArt).

    Linear maps may have another dtype than the tokens, which keep theirs: see :meth:`PatchTransformer.halve_products`.
    """

    def __init__(self, width: int, heads: int, reads: bool) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.empty(6, width))
        self.attn1 = Attention(width, heads)
        self.attn2 = Attention(width, heads) if reads else None
        # The middle is a dropout in the file's numbering; there is none.
        self.ff = nn.ModuleDict({"net": nn.Sequential(Expand(width), nn.Identity(), nn.Linear(4 * width, width))})

    def forward(self, x: Tensor, time: Tensor, text: PreparedText | AbsorbedText | None) -> Tensor:
        """x: (B, N, width); time: (B, 6, 1, width); text: what this block reads of one."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.scale_shift_table[:, None] + time).unbind(1)
        x = torch.addcmul(x, gate1, self.attn1.itself(modulated(x, shift1, scale1)))
        if self.attn2 is not None:
            x = x + self.attn2.text(x, text)
        return torch.addcmul(x, gate2, self.ff["net"](modulated(x, shift2, scale2)))


class PatchTransformer(nn.Module):
    """``forward(x, t, text, mask)``; see the methods for shapes.

    The keywords are keys of the configuration in diffusers. ``sample_size`` is the side of the pictures,
    ``caption_channels`` the width of the text, None for a network that reads none. ``cross_attention_dim`` is the width
    of the network, ``num_attention_heads * attention_head_dim``, and may be left out. ``interpolation_scale`` divides
    the positions of the patches: 1 (the default; the class in diffusers has ``sample_size // 64``) tells neighbours
    apart best.

    A new network is ready to be trained: see :meth:`reset_parameters`.
    """

    def __init__(
        self,
        *,
        sample_size: int,
        patch_size: int,
        num_layers: int,
        num_attention_heads: int,
        attention_head_dim: int,
        caption_channels: int | None,
        in_channels: int = 3,
        out_channels: int | None = None,
        cross_attention_dim: int | None = None,
        interpolation_scale: float = 1,
    ) -> None:
        super().__init__()
        width = num_attention_heads * attention_head_dim
        sizes = {
            "sample_size": sample_size,
            "patch_size": patch_size,
            "num_layers": num_layers,
            "num_attention_heads": num_attention_heads,
            "attention_head_dim": attention_head_dim,
            "caption_channels": caption_channels,
            "in_channels": in_channels,
            "out_channels": in_channels if out_channels is None else out_channels,
            "cross_attention_dim": (cross_attention_dim or width) if caption_channels is not None else None,
            "interpolation_scale": interpolation_scale,
        }
        for name, value in sizes.items():
            if value is not None and not value > 0:
                raise UserError(f"{name} {value}: must be positive.")
        if sample_size % patch_size:
            raise UserError(f"patch_size {patch_size}: must divide sample_size, {sample_size}.")
        if width % 4:
            raise UserError(f"attention_head_dim {attention_head_dim}: heads times this is {width}; make it a multiple of 4.")
        if sizes["cross_attention_dim"] not in (None, width):
            raise UserError(f"cross_attention_dim {cross_attention_dim}: must be heads times attention_head_dim, {width}.")
        self.config: dict[str, Any] = FIXED | sizes
        self.pos_embed = PatchEmbed(sample_size, patch_size, in_channels, width, interpolation_scale)
        self.adaln_single = TimeModulation(width)
        reads = caption_channels is not None
        self.caption_projection = MLP(caption_channels, width, nn.GELU(approximate="tanh")) if reads else None
        self.transformer_blocks = nn.ModuleList(Block(width, num_attention_heads, reads) for _ in range(num_layers))
        self.scale_shift_table = nn.Parameter(torch.empty(2, width))
        self.proj_out = nn.Linear(width, patch_size**2 * sizes["out_channels"])
        self.reset_parameters()

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> PatchTransformer:
        """The network that a config.json describes, ours or one of diffusers, with new weights; UserError if it cannot be."""
        for name, value in FIXED.items():
            if config.get(name, value) != value:
                raise UserError(f"{name} {config[name]!r}: this network knows {value!r} alone; open the model with diffusers.")
        whole = ("sample_size", "patch_size", "in_channels", "num_layers", "num_attention_heads", "attention_head_dim")
        if config.get("caption_channels") is not None:
            whole += ("caption_channels",)
        for name in whole:
            if not isinstance(config.get(name), int):
                raise UserError(f"{name} {config.get(name)!r}: must be a whole number; mend the model's config.json.")
        rest = {name: config.get(name) for name in ("out_channels", "cross_attention_dim", "interpolation_scale")}
        if rest["interpolation_scale"] is None:  # this is how diffusers writes its default
            rest["interpolation_scale"] = max(config["sample_size"] // 64, 1)
        return cls(**{"caption_channels": None, **{name: config[name] for name in whole}}, **rest)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """New weights, for training from scratch: at first the network answers zero, and each block passes on what it got.

        Linear maps: Xavier, with zero biases; those of the time: standard deviation 0.02 (both as DiT). Zero are the
        tables and the projection of the modulation, and with them the gates (adaLN-Zero, Peebles & Xie 2022); the
        output of the attention to the text, which has no gate (as PixArt-alpha); and the last projection.
        """
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.xavier_uniform_(module.weight.flatten(1))  # a view of the convolution, as the linear map that it is
                nn.init.zeros_(module.bias)
        time = self.adaln_single.emb["timestep_embedder"]
        for weight in (time.linear_1.weight, time.linear_2.weight):
            nn.init.normal_(weight, std=0.02)
        silent = [self.adaln_single.linear.weight, self.scale_shift_table, self.proj_out.weight]
        for block in self.transformer_blocks:
            silent.append(block.scale_shift_table)
            if block.attn2 is not None:
                silent.append(block.attn2.to_out[0].weight)
        for weight in silent:
            nn.init.zeros_(weight)

    def reset_buffers(self) -> None:
        """Where the patches lie, for a network that was built without memory and has been given weights."""
        self.pos_embed.pos_embed = self.pos_embed.grid().to(self.pos_embed.pos_embed.dtype)

    @torch.no_grad()
    def forget_text(self) -> None:
        """New weights for all that reads the text, as in a new network; how to draw is kept."""
        fresh = PatchTransformer.from_config(self.config)
        reads = ("caption_projection.", ".attn2.")
        unchanged = {name: value for name, value in self.state_dict().items() if not any(part in name for part in reads)}
        self.load_state_dict(fresh.state_dict() | unchanged)

    def halve_products(self) -> None:
        """The blocks' matrix products in bfloat16 from now on; tokens, norms, gates, and what leads in and out stay as they are.

        An answer differs by some 0.2 % from one in float32 (root mean square, of values up to 1). Where the processor has
        instructions for it, it takes some 0.6 of the time.
        """
        for block in self.transformer_blocks:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    module.to(torch.bfloat16)

    def prepare(self, text: Tensor, mask: Tensor | None = None) -> PreparedText:
        """What :meth:`forward` makes of a text, to be passed to it instead: a sampler needs it once, not at every step.

        text: (B, L, caption channels); mask: (B, L) bool, True for tokens to read, or None for all.
        """
        text = self.caption_projection(text).to(self.transformer_blocks[0].attn2.to_k.weight.dtype)
        maps = [to for block in self.transformer_blocks for to in (block.attn2.to_k, block.attn2.to_v)]
        # All keys and values of all blocks in one product: many small ones would leave a GPU waiting.
        both = F.linear(text, torch.cat([to.weight for to in maps]), torch.cat([to.bias for to in maps]))
        heads = self.config["num_attention_heads"]
        keys_values = both.unflatten(-1, (len(self.transformer_blocks), 2, heads, -1)).permute(0, 2, 3, 4, 1, 5)
        if mask is None:
            return PreparedText(keys_values, None)
        bias = torch.zeros_like(mask, dtype=keys_values.dtype).masked_fill(~mask, PADDING_BIAS)
        return PreparedText(keys_values, bias[:, None, None])

    def absorb(self, text: Tensor, mask: Tensor | None = None) -> AbsorbedText:
        """What :meth:`forward` makes of a text while weights stay as they are, in the fewest products; as :meth:`prepare`."""
        return absorb([block.attn2 for block in self.transformer_blocks], self.prepare(text, mask), mask)

    def forward(
        self, x: Tensor, t: Tensor, text: Tensor | PreparedText | AbsorbedText | None, mask: Tensor | None = None
    ) -> Tensor:
        """x: (B, in channels, H, W), H and W multiples of the patch size; t: (B,). Answer: (B, out channels, H, W).

        text, mask: as in :meth:`prepare`, or what that or :meth:`absorb` returned (and no mask: it is in there); None and None
        for a network that reads no text. Floats have the dtype of what leads in and out, or what autocast makes of it;
        timesteps may be integers or floats.
        """
        p = self.config["patch_size"]
        if x.shape[2] % p or x.shape[3] % p:
            raise UserError(f"size {x.shape[3]}x{x.shape[2]}: both sides must be multiples of the patch size, {p}.")
        if self.caption_projection is None:
            text, mask = None, None
        elif isinstance(text, Tensor):
            text, mask = self.prepare(text, mask), None
        if mask is not None:
            raise TypeError("a PreparedText brings its mask with it")
        tokens = self.pos_embed(x)
        time, modulation = self.adaln_single(t, tokens.dtype)
        for number, block in enumerate(self.transformer_blocks):
            tokens = block(tokens, modulation, None if text is None else text.block(number))
        shift, scale = (self.scale_shift_table[:, None] + time[:, None, None]).unbind(1)
        patches = self.proj_out(modulated(tokens, shift, scale))
        patches = patches.view(len(x), x.shape[2] // p, x.shape[3] // p, p, p, self.config["out_channels"])
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(len(x), -1, *x.shape[2:])
