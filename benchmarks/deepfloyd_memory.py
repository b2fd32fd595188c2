"""How many gigabytes DeepFloyd IF takes in half precision, as the tables of docs/deepfloyd.md.

    python benchmarks/deepfloyd_memory.py [--measure]

The first stages and the text encoder are counted as their configs have them, built without weights. Of the second stages the
model cards say how many parameters they have, in billions. Gigabytes are of 10^9 bytes, and weights alone: what a step computes
comes on top (``--measure``, on a GPU: the peak of a guided step, with random weights).
"""

from __future__ import annotations

import sys

import torch
from torch import nn

from phosphene.models.if_unet import IFUNet

BYTES = 2
TOLD = 4096
"""Channels of T5's embeddings."""
FIRST = {"IF-I-M": 192, "IF-I-L": 320, "IF-I-XL": 704}
"""Channels of the first level; the further ones have 2, 3 and 4 times as many."""
SECOND = {"IF-II-M": 0.45, "IF-II-L": 1.2}
PAIRS = {"IF-I-M": "IF-II-M", "IF-I-L": "IF-II-L", "IF-I-XL": "IF-II-L"}
CARDS = {"a laptop's card of 8 GB": 8.0, "a T4 of 16 GB": 16.0, "a card of 24 GB": 24.0}


def first_stage_config(channels: int) -> dict:
    """The unet/config.json of a first stage with ``channels``."""
    attends = ["SimpleCrossAttnDownBlock2D"] * 3
    return {
        "sample_size": 64,
        "in_channels": 3,
        "out_channels": 6,
        "layers_per_block": 3,
        "block_out_channels": [channels * k for k in (1, 2, 3, 4)],
        "down_block_types": ["ResnetDownsampleBlock2D", *attends],
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": [*[each.replace("Down", "Up") for each in attends], "ResnetUpsampleBlock2D"],
        "cross_attention_dim": 4 * channels,
        "encoder_hid_dim": TOLD,
        "encoder_hid_dim_type": "text_proj",
        "attention_head_dim": 64,
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 64,
        "cross_attention_norm": "group_norm",
        "resnet_time_scale_shift": "scale_shift",
        "act_fn": "gelu",
    }


def first_stage(channels: int, device: str) -> IFUNet:
    with torch.device(device):
        return IFUNet(first_stage_config(channels))


def text_encoder(device: str) -> nn.Module:
    """T5-XXL's encoder."""
    from transformers import T5Config, T5EncoderModel

    sizes = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64}
    with torch.device(device):
        return T5EncoderModel(T5Config(**sizes, feed_forward_proj="gated-gelu"))


def gigabytes(network: nn.Module) -> float:
    return sum(each.numel() for each in network.parameters()) * BYTES / 1e9


def largest_layer(network: nn.Module) -> float:
    """Of the layers that ``--offload layers`` moves one by one: those that hold weights themselves."""
    return max(sum(each.numel() for each in layer.parameters(recurse=False)) for layer in network.modules()) * BYTES / 1e9


def tables() -> str:
    """Two tables: of each network, and of what is on the GPU at most."""
    text, first = text_encoder("meta"), {name: first_stage(channels, "meta") for name, channels in FIRST.items()}
    size = {"T5": gigabytes(text)} | {name: gigabytes(network) for name, network in first.items()}
    size |= {name: billions * BYTES for name, billions in SECOND.items()}
    lines = ["| | GB in half precision |", "|---|---|", *(f"| {name} | {each:.1f} |" for name, each in size.items()), ""]
    lines += [
        "| model, its second stage | `none` | `stages` | `layers` | `none`, no T5 | `stages`, no T5 |",
        "|---|---|---|---|---|---|",
    ]
    fits: dict[str, list[str]] = {card: [] for card in CARDS}
    for name, second in PAIRS.items():
        layer = max(largest_layer(text), largest_layer(first[name]))
        both = size[name] + size[second]
        peaks = [size["T5"] + both, max(size["T5"], size[name], size[second]), layer, both, max(size[name], size[second])]
        lines.append(f"| {name}, {second} | {' | '.join(f'{peak:.1f}' for peak in peaks)} |")
        for card, most in CARDS.items():
            # A gigabyte and a half for what a step computes, the CUDA context and what else is on the screen.
            ways = [way for way, peak in zip(("none", "stages", "layers"), peaks, strict=False) if peak + 1.5 <= most]
            bare = [way for way, peak in zip(("none", "stages"), peaks[3:], strict=True) if peak + 1.5 <= most]
            without = f", without T5 `{bare[0]}`" if bare and bare[0] != ways[0] else ""
            fits[card].append(f"{name} with `{ways[0]}`{without}")
    lines += ["", *(f"- {card}: {'; '.join(each)}." for card, each in fits.items())]
    return "\n".join(lines)


def measure() -> None:
    """The peak of a guided step of each first stage, in GB, on the GPU that is here."""
    for name, channels in FIRST.items():
        network = first_stage(channels, "cuda").half().eval()
        torch.cuda.reset_peak_memory_stats()
        with torch.no_grad():
            x, words = torch.randn(2, 3, 64, 64, device="cuda").half(), torch.randn(2, 77, 4096, device="cuda").half()
            network(x, torch.tensor([500, 500], device="cuda"), network.read(words))
        weights, peak = gigabytes(network), torch.cuda.max_memory_allocated() / 1e9
        print(f"{name}: weights {weights:.1f} GB, peak {peak:.1f} GB")
        del network


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else print(tables())
