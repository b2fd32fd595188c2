"""How many gigabytes DeepFloyd IF takes in half precision, as the tables of docs/deepfloyd.md.

    python benchmarks/deepfloyd_memory.py [--measure]

The first stages and the text encoder are counted as their configs have them, built without weights. Of the second stages the
model cards say how many parameters they have, in billions. Gigabytes are of 10^9 bytes, and weights alone: what a step computes
comes on top: ``--measure`` draws on the GPU that is here, with weights of zero, and says its peaks.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable

import torch
from torch import nn

from phosphene.devices import by_turns, layer_by_layer
from phosphene.drawing import Sampling, run
from phosphene.models.cascade import Cascade
from phosphene.models.if_stage import IFNetwork
from phosphene.models.if_unet import IFUNet
from phosphene.models.quantized import KINDS, LEAST
from phosphene.models.scheduler import Scheduler
from phosphene.models.stage import Stage
from phosphene.models.text import Text
from phosphene.sampler import last
from phosphene.tasks.generate import generate

BYTES = 2
TOLD = 4096
"""Channels of T5's embeddings."""
FIRST = {"IF-I-M": 192, "IF-I-L": 320, "IF-I-XL": 704}
"""Channels of the first level; the further ones have 2, 3 and 4 times as many."""
SECOND = {"IF-II-M": 0.45, "IF-II-L": 1.2}
SECOND_CHANNELS = {"IF-II-M": 96, "IF-II-L": 160}
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


def rounded(network: nn.Module) -> float:
    """The same with ``--quantize int8``: a byte for each weight of a large layer."""
    less = sum(layer.weight.numel() for layer in network.modules() if type(layer) in KINDS and layer.weight.numel() >= LEAST)
    return gigabytes(network) - less * (BYTES - 1) / 1e9


def largest_layer(network: nn.Module) -> float:
    """Of the layers that ``--offload layers`` moves one by one: those that hold weights themselves."""
    return max(sum(each.numel() for each in layer.parameters(recurse=False)) for layer in network.modules()) * BYTES / 1e9


def fitting(ways: Iterable[tuple[str, float]], free: float) -> str | None:
    """The first of ``ways``, each with the gigabytes that it takes, for which there is room."""
    return next((way for way, peak in ways if peak <= free), None)


def tables() -> str:
    """Two tables: of each network, and of what is on the GPU at most."""
    text, first = text_encoder("meta"), {name: first_stage(channels, "meta") for name, channels in FIRST.items()}
    networks = {"T5": text, **first}
    size = {name: gigabytes(network) for name, network in networks.items()}
    small = {name: rounded(network) for name, network in networks.items()} | SECOND  # a byte for each of theirs
    size |= {name: billions * BYTES for name, billions in SECOND.items()}
    lines = ["| | GB in half precision | with `--quantize int8` |", "|---|---|---|"]
    lines += [*(f"| {name} | {each:.1f} | {small[name]:.1f} |" for name, each in size.items()), ""]
    lines += [
        "| model, its second stage | `none` | `stages` | `layers` | `none`, no T5 | `stages`, no T5 "
        "| int8: `none` | `stages` | `none`, no T5 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    fits: dict[str, list[str]] = {card: [] for card in CARDS}
    for name, second in PAIRS.items():
        layer = max(largest_layer(text), largest_layer(first[name]))
        both = size[name] + size[second]
        peaks = [size["T5"] + both, max(size["T5"], size[name], size[second]), layer, both, max(size[name], size[second])]
        own = small[name] + small[second]
        eight = [small["T5"] + own, max(small["T5"], small[name], small[second]), own]
        lines.append(f"| {name}, {second} | {' | '.join(f'{peak:.1f}' for peak in (*peaks, *eight))} |")
        for card, most in CARDS.items():
            # A gigabyte and a half for what a step computes, the CUDA context and what else is on the screen.
            free = most - 1.5
            first_that_fits = fitting(zip(("none", "stages", "layers"), peaks, strict=False), free)
            others = {"without T5": fitting(zip(("none", "stages"), peaks[3:], strict=True), free)}
            others["in int8"] = fitting(zip(("none", "stages"), eight, strict=False), free)
            more = [f", {how} `{way}`" for how, way in others.items() if way not in (None, first_that_fits)]
            fits[card].append(f"{name} with `{first_that_fits}`{''.join(more)}")
    lines += ["", *(f"- {card}: {'; '.join(each)}." for card, each in fits.items())]
    return "\n".join(lines)


def second_stage_config(channels: int) -> dict:
    """The unet/config.json of a second stage of about the size that its card tells: 96 channels are 0.48 billion parameters, 160
    are 1.24. Their levels are those of Imagen's efficient network from 64 to 256 pixels (Saharia et al. 2022, appendix F)."""
    down, up = ["ResnetDownsampleBlock2D"] * 3, ["ResnetUpsampleBlock2D"] * 3
    return first_stage_config(channels) | {
        "sample_size": 256,
        "in_channels": 6,
        "class_embed_type": "timestep",
        "layers_per_block": [2, 4, 8, 8],
        "block_out_channels": [channels * k for k in (1, 2, 4, 8)],
        "down_block_types": [*down, "SimpleCrossAttnDownBlock2D"],
        "up_block_types": ["SimpleCrossAttnUpBlock2D", *up],
        "cross_attention_dim": 8 * channels,
    }


def waiting(network: nn.Module) -> nn.Module:
    """``network``, built without weights, in half precision in main memory; what stands in them takes no more or less memory."""
    network = network.half().to_empty(device="cpu").requires_grad_(False).eval()
    for each in network.parameters():
        each.zero_()
    return network


def peak_of(work: Callable[[], object]) -> float:
    """What the GPU held at most while ``work`` was done, in GB, and what it has of its own for kernels and graphs aside."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 1e9


def placed(network: nn.Module, way: str) -> nn.Module:
    """Where ``--offload`` says."""
    if way == "layers":
        return layer_by_layer(network, torch.device("cuda"))
    return network.to("cuda") if way == "none" else network


def read_by_t5(way: str) -> float:
    """The peak while T5 reads a prompt, alone on the GPU."""
    encoder, tokens = waiting(text_encoder("meta")), torch.ones(1, 77, dtype=torch.long, device="cuda")
    encoder = placed(encoder, "layers" if way == "layers" else "none")
    return peak_of(lambda: encoder(tokens, attention_mask=torch.ones_like(tokens)))


def drawn(name: str, way: str) -> float:
    """The peak while a picture is drawn and enlarged, three guided steps each, as phosphene draws it."""
    with torch.device("meta"):
        networks = [IFUNet(first_stage_config(FIRST[name])), IFUNet(second_stage_config(SECOND_CHANNELS[PAIRS[name]]))]
    networks = [IFNetwork(waiting(each), replays=way == "none").to(memory_format=torch.channels_last) for each in networks]
    networks = [placed(each, way) for each in networks]
    if way == "stages":
        by_turns(networks, torch.device("cuda"))
    text = Text(
        None, TOLD, torch.device("cpu"), torch.float32, {"": torch.zeros(77, TOLD), "x": torch.zeros(77, TOLD)}, silent=True
    )
    scheduler = Scheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True)
    where = None if way == "none" else torch.device("cuda")
    beside = (None, scheduler.schedule())
    stages = [
        Stage(network, scheduler, scheduler.schedule(), text, low_res, runs_on=where)
        for network, low_res in zip(networks, beside, strict=True)
    ]
    sampling = Sampling(steps=3, upscale_steps=3)
    return peak_of(lambda: last(run(generate(["x"]), Cascade(tuple(stages), text), [0], sampling=sampling)))


@torch.no_grad()
def measure() -> None:
    """The table of peaks, on the GPU that is here."""
    ways = ("none", "stages", "layers")
    reads = {way: read_by_t5(way) for way in ways}
    print("| | `none` | `stages` | `layers` |\n|---|---|---|---|", flush=True)
    print(f"| T5 reads a prompt, alone | {' | '.join(f'{reads[way]:.2f}' for way in ways)} |", flush=True)
    for name, second in PAIRS.items():
        peaks = [drawn(name, way) for way in ways]
        print(f"| {name}, {second}: a picture drawn and enlarged | {' | '.join(f'{peak:.2f}' for peak in peaks)} |", flush=True)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    measure() if "--measure" in sys.argv else print(tables())
