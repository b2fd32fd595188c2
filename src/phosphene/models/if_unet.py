"""The UNet of DeepFloyd IF, on weights in the layout of diffusers.

What the network is told of a text doesn't change from step to step: :meth:`IFUNet.read` computes it once (the projection of
the text, its pooled embedding, and the keys and values of each attention), and :meth:`IFUNet.forward` uses it. Source: the
networks of deepfloyd.ai, which follow Saharia et al. 2022 (Imagen) and Dhariwal & Nichol 2021 (residual blocks with scale and
shift, attention to text and picture together).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phosphene.errors import UserError

DOWN = {"ResnetDownsampleBlock2D": False, "SimpleCrossAttnDownBlock2D": True}
UP = {"ResnetUpsampleBlock2D": False, "SimpleCrossAttnUpBlock2D": True}
ACTIVATIONS = {"gelu": F.gelu, "silu": F.silu, "swish": F.silu}
FIXED = {
    "mid_block_type": ("UNetMidBlock2DSimpleCrossAttn",),
    "resnet_time_scale_shift": ("scale_shift",),
    "addition_embed_type": ("text",),
    "class_embed_type": (None, "timestep"),
    "cross_attention_norm": ("group_norm",),
    "time_embedding_act_fn": (None, *ACTIVATIONS),
    "act_fn": tuple(ACTIVATIONS),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "time_embedding_type": ("positional",),
    "encoder_hid_dim_type": (None, "text_proj"),
    "center_input_sample": (False,),
    "class_embeddings_concat": (False,),
    "dual_cross_attention": (False,),
    "num_class_embeds": (None,),
    "timestep_post_act": (None,),
    "time_cond_proj_dim": (None,),
}
"""What a config.json may say where this network knows few ways or one."""
USUAL: dict[str, Any] = {
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "resnet_time_scale_shift": "default",
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "mid_block_scale_factor": 1,
    "resnet_out_scale_factor": 1.0,
    "resnet_skip_time_act": False,
    "only_cross_attention": False,
    "mid_block_only_cross_attention": None,
    "attention_head_dim": 8,
    "addition_embed_type_num_heads": 64,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "time_embedding_type": "positional",
    "center_input_sample": False,
    "class_embeddings_concat": False,
    "dual_cross_attention": False,
}
"""What diffusers takes where a config.json says nothing, and not None."""


def sinusoids(t: Tensor, channels: int, flip: bool, shift: float) -> Tensor:
    """Sines and cosines of timesteps ``t`` (B,), of wavelengths from 2 pi to 20000 pi: (B, channels). Vaswani et al. 2017."""
    half = channels // 2
    frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / (half - shift))
    angles = t[:, None].float() * frequencies
    waves = (angles.cos(), angles.sin()) if flip else (angles.sin(), angles.cos())
    return torch.cat(waves, -1)


class Embedding(nn.Module):
    """Two layers over the sinusoids of a timestep."""

    def __init__(self, channels: int, width: int, act: str) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(channels, width), nn.Linear(width, width)
        self.act = ACTIVATIONS[act]

    def forward(self, waves: Tensor) -> Tensor:
        return self.linear_2(self.act(self.linear_1(waves)))


class Pooling(nn.Module):
    """A text (B, L, C) as one vector (B, C): its mean asks, by attention, all tokens and itself."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        # On meta, arithmetic would import torch's compiler: a second of every start.
        self.positional_embedding = nn.Parameter(nn.init.normal_(torch.empty(1, channels), std=channels**-0.5))
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(channels, channels) for _ in range(3))
        self.heads = heads

    def forward(self, text: Tensor) -> Tensor:
        asks = text.mean(1, keepdim=True) + self.positional_embedding
        whole = torch.cat([asks, text], 1)
        q, k, v = (split(part, self.heads) for part in (self.q_proj(asks), self.k_proj(whole), self.v_proj(whole)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1)


class TextEmbedding(nn.Module):
    """A text (B, L, C) as what is added to the embedding of the timestep."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(width)
        self.pool, self.proj = Pooling(channels, heads), nn.Linear(channels, width)

    def forward(self, text: Tensor) -> Tensor:
        return self.norm2(self.proj(self.pool(self.norm1(text))))


class Residual(nn.Module):
    """Two convolutions, the second after scale and shift by the time; ``resize`` halves or doubles the picture before them."""

    def __init__(self, inputs: int, outputs: int, width: int, config: Mapping[str, Any], by: float, resize: str = "") -> None:
        super().__init__()
        groups, eps = config["norm_num_groups"], config["norm_eps"]
        self.norm1, self.norm2 = nn.GroupNorm(groups, inputs, eps), nn.GroupNorm(groups, outputs, eps)
        self.conv1, self.conv2 = (nn.Conv2d(channels, outputs, 3, padding=1) for channels in (inputs, outputs))
        self.time_emb_proj = nn.Linear(width, 2 * outputs)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None
        self.act, self.resize, self.by = ACTIVATIONS[config["act_fn"]], resize, by
        self.acts_on_time = not config["resnet_skip_time_act"]

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        inner = self.act(self.norm1(x))
        if self.resize:
            x, inner = (resized(part, self.resize) for part in (x, inner))
        scale, shift = self.time_emb_proj(self.act(time) if self.acts_on_time else time)[:, :, None, None].chunk(2, 1)
        inner = self.act(self.norm2(self.conv1(inner)) * (1 + scale) + shift)
        kept = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return (kept + self.conv2(inner)) / self.by


def resized(x: Tensor, how: str) -> Tensor:
    return F.avg_pool2d(x, 2) if how == "down" else F.interpolate(x, scale_factor=2.0, mode="nearest")


def split(tokens: Tensor, heads: int) -> Tensor:
    """(B, L, C) by heads: (B, heads, L, C / heads)."""
    return tokens.unflatten(-1, (heads, -1)).transpose(1, 2)


class Attention(nn.Module):
    """Each place of a picture asks the text and, unless ``alone``, all places of the picture."""

    def __init__(self, channels: int, text: int, groups: int, head: int, alone: bool) -> None:
        super().__init__()
        self.heads = channels // head
        self.group_norm, self.norm_cross = nn.GroupNorm(groups, channels, 1e-5), nn.GroupNorm(32, text, 1e-5)
        inner = self.heads * head
        self.to_q, self.add_k_proj, self.add_v_proj = (nn.Linear(c, inner) for c in (channels, text, text))
        self.to_k, self.to_v = (None, None) if alone else (nn.Linear(channels, inner), nn.Linear(channels, inner))
        self.to_out = nn.ModuleList([nn.Linear(inner, channels)])

    def read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``text`` (B, L, C), the same at each step: (B, L, inner channels)."""
        text = self.norm_cross(text.transpose(1, 2)).transpose(1, 2)
        return self.add_k_proj(text), self.add_v_proj(text)

    def forward(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        places = self.group_norm(x).flatten(2).transpose(1, 2)
        key, value = split(key, self.heads), split(value, self.heads)
        if self.to_k is not None:
            key = torch.cat([key, split(self.to_k(places), self.heads)], 2)
            value = torch.cat([value, split(self.to_v(places), self.heads)], 2)
        answer = F.scaled_dot_product_attention(split(self.to_q(places), self.heads), key, value)
        answer = self.to_out[0](answer.transpose(1, 2).flatten(2))
        return x + answer.transpose(1, 2).unflatten(2, x.shape[2:])


class Block(nn.Module):
    """Residual blocks of one size of the picture, each followed by an attention where there are ``attentions``."""

    def __init__(self, resnets: list[Residual], attentions: list[Attention], resize: str = "", resizer: Residual | None = None):
        super().__init__()
        self.resnets = nn.ModuleList(resnets)
        if attentions:
            self.attentions = nn.ModuleList(attentions)
        if resizer is not None:
            self.add_module(f"{resize}samplers", nn.ModuleList([resizer]))
        self.resizers = f"{resize}samplers" if resizer is not None else ""

    def attended(self) -> list[Attention]:
        return list(getattr(self, "attentions", []))

    def resize(self, x: Tensor, time: Tensor) -> Tensor:
        return getattr(self, self.resizers)[0](x, time)


class IFUNet(nn.Module):
    """A text-to-image or super-resolution network of DeepFloyd IF's kind.

    ``config`` is a config.json of diffusers' UNet2DConditionModel. UserError where it describes a network of another kind.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config = config = {**USUAL, **config}
        require_kind(config)
        channels = list(config["block_out_channels"])
        first, text = channels[0], config["cross_attention_dim"]
        told, width = config.get("encoder_hid_dim") or text, config.get("time_embedding_dim") or 4 * first
        levels, act = len(channels), config["act_fn"]
        self.conv_in = nn.Conv2d(config["in_channels"], first, 3, padding=1)
        self.time_embedding = Embedding(first, width, act)
        self.class_embedding = Embedding(first, width, act) if config.get("class_embed_type") else None
        self.add_embedding = TextEmbedding(told, width, config["addition_embed_type_num_heads"])
        self.encoder_hid_proj = nn.Linear(told, text) if config.get("encoder_hid_dim") else None
        layers, heads, alone = (
            each(config[name], levels) for name in ("layers_per_block", "attention_head_dim", "only_cross_attention")
        )
        groups, by = config["norm_num_groups"], config["resnet_out_scale_factor"]

        def residual(inputs: int, outputs: int, resize: str = "", by: float = by) -> Residual:
            return Residual(inputs, outputs, width, config, by, resize)

        def attentions(attends: bool, level: int, count: int, head: int) -> list[Attention]:
            return [Attention(channels[level], text, groups, head, alone[level]) for _ in range(count if attends else 0)]

        self.down_blocks, self.up_blocks = nn.ModuleList(), nn.ModuleList()
        skipped, last = [first], first  # channels of what the way up is shown again
        for level, (name, size) in enumerate(zip(config["down_block_types"], channels, strict=True)):
            inner = [residual(last if k == 0 else size, size) for k in range(layers[level])]
            resizer = residual(size, size, "down") if level < levels - 1 else None
            self.down_blocks.append(Block(inner, attentions(DOWN[name], level, layers[level], heads[level]), "down", resizer))
            skipped += [size] * (layers[level] + (resizer is not None))
            last = size
        by_mid = config["mid_block_scale_factor"]
        told_alone = config["mid_block_only_cross_attention"]
        if told_alone is None:
            told_alone = config["only_cross_attention"] is True
        middle = [Attention(last, text, groups, heads[-1], told_alone)]
        self.mid_block = Block([residual(last, last, by=by_mid) for _ in range(2)], middle)
        for k, name in enumerate(config["up_block_types"]):
            level = levels - 1 - k
            size, inner = channels[level], []
            for _ in range(layers[level] + 1):
                inner.append(residual(last + skipped.pop(), size))
                last = size
            resizer = residual(size, size, "up") if level > 0 else None
            # As diffusers builds it: a list of sizes of heads isn't turned round for the way up.
            self.up_blocks.append(Block(inner, attentions(UP[name], level, layers[level] + 1, heads[k]), "up", resizer))
        self.conv_norm_out = nn.GroupNorm(groups, first, config["norm_eps"])
        self.conv_out = nn.Conv2d(first, config["out_channels"], 3, padding=1)
        self.act = ACTIVATIONS[act]
        self.time_act = ACTIVATIONS.get(config.get("time_embedding_act_fn"), nn.Identity())

    def _attentions(self) -> Iterator[Attention]:
        for block in (*self.down_blocks, self.mid_block, *self.up_blocks):
            yield from block.attended()

    def read(self, text: Tensor) -> Tensor:
        """What the network is told of ``text`` (B, L, width), embeddings of its text encoder: (B, N), to be
        handed to :meth:`forward`. One tensor, since it is copied, kept and handed on as one."""
        projected = text if self.encoder_hid_proj is None else self.encoder_hid_proj(text)
        told = (self.add_embedding(text), *(part for attention in self._attentions() for part in attention.read(projected)))
        return torch.cat([part.flatten(1) for part in told], 1)

    def told(self, read: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What :meth:`read` made, in parts: the pooled text (B, time channels); keys and values, in turn, (B, L, channels)."""
        width = self.add_embedding.proj.out_features
        channels = [attention.to_q.out_features for attention in self._attentions()]
        length = (read.shape[1] - width) // (2 * sum(channels))
        pooled, *parts = read.split([width, *(length * size for size in channels for _ in range(2))], 1)
        return pooled, [part.unflatten(1, (length, -1)) for part in parts]

    def forward(self, x: Tensor, t: Tensor, read: Tensor, level: Tensor | None = None) -> Tensor:
        """x: (B, C, H, W); t and the noise ``level`` of a picture beside: (B,). Answers (B, outputs, H, W)."""
        flip, shift, channels = self.config["flip_sin_to_cos"], self.config["freq_shift"], self.conv_in.out_channels
        time = self.time_embedding(sinusoids(t, channels, flip, shift).to(x.dtype))
        if self.class_embedding is not None:
            time = time + self.class_embedding(sinusoids(level, channels, flip, shift).to(x.dtype))
        pooled, parts = self.told(read)
        time = self.time_act(time + pooled)
        told = iter(zip(parts[::2], parts[1::2], strict=True))
        x = self.conv_in(x)
        skipped = [x]
        for block in self.down_blocks:
            for k, resnet in enumerate(block.resnets):
                x = resnet(x, time)
                x = block.attentions[k](x, *next(told)) if block.attended() else x
                skipped.append(x)
            if block.resizers:
                x = block.resize(x, time)
                skipped.append(x)
        x = self.mid_block.resnets[0](x, time)
        x = self.mid_block.resnets[1](self.mid_block.attentions[0](x, *next(told)), time)
        for block in self.up_blocks:
            for k, resnet in enumerate(block.resnets):
                x = resnet(torch.cat([x, skipped.pop()], 1), time)
                x = block.attentions[k](x, *next(told)) if block.attended() else x
            if block.resizers:
                x = block.resize(x, time)
        return self.conv_out(self.act(self.conv_norm_out(x)))


def each(value: Any, levels: int) -> list:
    """A setting of each level: what a list says, or the same for all."""
    return list(value) if isinstance(value, list | tuple) else [value] * levels


def require_kind(config: Mapping[str, Any]) -> None:
    """UserError where a config describes a network that is not of DeepFloyd IF's kind."""
    known = {**FIXED, "down_block_types": tuple(DOWN), "up_block_types": tuple(UP)}
    for name, values in known.items():
        said = config.get(name)
        for value in said if name.endswith("block_types") and isinstance(said, list | tuple) else [said]:
            if value not in values:
                wanted = ", ".join(map(str, values))
                raise UserError(f"{name} {value!r}: is not of DeepFloyd IF's kind ({wanted}); open the model with diffusers.")
