"""Attention among the tokens of a picture, and of these to a text, as a PatchTransformer's blocks have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PADDING_BIAS = -10000.0  # as in diffusers: finite, so that a text of nothing but padding is no division by zero

MOST_SCORES = 2**20
"""Of attention that lie in memory at once in :func:`by_products`."""


class PreparedText(NamedTuple):
    """A text as the blocks of a PatchTransformer read it; the same at every timestep. Index both parts to choose rows."""

    keys_values: Tensor  # (B, layers, 2, heads, L, head width)
    bias: Tensor | None  # (B, 1, 1, L), added to the attention scores; None where no token is padding

    def block(self, number: int) -> PreparedText:
        """What one block reads of it: keys_values (B, 2, heads, L, head width)."""
        return PreparedText(self.keys_values[:, number], self.bias)


class AbsorbedText(NamedTuple):
    """A text with the maps around it taken in: see :func:`absorb`. A row has the sizes of its own text, whatever is beside it."""

    keys: tuple[Tensor, ...]  # of each row (layers, width, heads * L)
    bias: tuple[Tensor, ...]  # (layers, heads * L)
    values: tuple[Tensor, ...]  # (layers, heads * L, width)

    def block(self, number: int) -> AbsorbedText:
        """What one block reads of it, without the axis of layers."""
        return AbsorbedText(*(tuple(row[number] for row in part) for part in self))


def on_bfloat16_cpu(x: Tensor) -> bool:
    """Whether x is what :meth:`PatchTransformer.halve_products` gives a processor to multiply."""
    return x.device.type == "cpu" and x.dtype == torch.bfloat16


def by_products(queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """``scaled_dot_product_attention`` by two matrix products and a softmax, (B, heads, N or L, head width) each.

    On a CPU in bfloat16 it takes two thirds of the time: the products are done by its instructions for that, which the
    fused one leaves alone. Queries go by parts, so that no more than ``MOST_SCORES`` lie in memory.
    """
    batch, heads, length, width = keys.shape
    queries, keys, values = (part.flatten(0, 1) for part in (queries, keys, values))
    added, share = (queries.new_zeros(1, 1, 1), 0) if bias is None else (bias.expand(-1, heads, -1, -1).flatten(0, 1), 1)
    parts = []
    for part in queries.split(max(1, MOST_SCORES // (batch * heads * length)), dim=1):
        scores = torch.baddbmm(added, part, keys.mT, beta=share, alpha=width**-0.5)
        parts.append(torch.bmm(scores.softmax(-1), values))
    return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).unflatten(0, (batch, heads))


class Attention(nn.Module):
    """The four maps of an attention of ``heads`` heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def split(self, x: Tensor) -> Tensor:
        """(B, N, width) to (B, heads, N, head width)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def itself(self, x: Tensor) -> Tensor:
        x = x.to(self.to_k.weight.dtype)
        return self._attend(x, self.split(self.to_k(x)), self.split(self.to_v(x)), None)

    def text(self, x: Tensor, text: PreparedText | AbsorbedText) -> Tensor:
        """x: (B, N, width); text: what this block reads of one."""
        x = x.to(self.to_q.weight.dtype)
        if isinstance(text, PreparedText):
            return self._attend(x, *text.keys_values.unbind(1), text.bias)
        answers = []
        for row, keys, bias, values in zip(x, *text, strict=True):
            scores = torch.addmm(bias, row, keys).unflatten(-1, (self.heads, -1))
            answers.append(torch.addmm(self.to_out[0].bias, scores.softmax(-1).flatten(-2), values))
        return torch.stack(answers)

    def _attend(self, x: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        queries = self.split(self.to_q(x))
        attention = by_products if on_bfloat16_cpu(x) else F.scaled_dot_product_attention
        answer = attention(queries, keys, values, None if bias is None else bias.to(queries))
        return self.to_out(answer.transpose(1, 2).flatten(2))


def absorb(attentions: Sequence[Attention], text: PreparedText, mask: Tensor | None = None) -> AbsorbedText:
    """``text`` with what leads to the queries and away from the values of all ``attentions`` taken in.

    Of a head, ``(Q x + q) k = x (Q' k) + q k`` and ``O (p v) = p (O v)``: both are matrix products of tokens with
    something that is known before. Of a text of three tokens and six heads that has 18 columns, where the maps have 384.
    Padding, where mask (B, L) is False, is left out.
    """
    heads = attentions[0].heads
    # In float32, so that products are rounded once, as keys and values are.
    to_q = torch.stack([each.to_q.weight.float().unflatten(0, (heads, -1)) for each in attentions])
    bias = torch.stack([each.to_q.bias.float().unflatten(0, (heads, -1)) for each in attentions])
    to_out = torch.stack([each.to_out[0].weight.float().unflatten(1, (heads, -1)) for each in attentions])
    rows = []
    for row, keys_values in enumerate(text.keys_values):
        if mask is not None and mask[row].any():  # a text of nothing but padding is read as it is
            keys_values = keys_values[..., mask[row], :]
        keys, values = keys_values.float().unbind(1)  # (layers, heads, L, head width)
        scale = keys.shape[-1] ** -0.5
        parts = (
            torch.einsum("nhdw,nhld->nwhl", to_q, keys * scale).flatten(2),
            torch.einsum("nhd,nhld->nhl", bias, keys * scale).flatten(1),
            torch.einsum("nwhd,nhld->nhlw", to_out, values).flatten(1, 2),
        )
        rows.append([part.to(text.keys_values.dtype) for part in parts])
    return AbsorbedText(*zip(*rows, strict=True))
