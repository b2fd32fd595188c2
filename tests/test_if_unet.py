"""The UNet of DeepFloyd IF: it is that of diffusers on the same weights, and reads a text once."""

from __future__ import annotations

from pathlib import Path

import anagram as anagram_benchmark
import deepfloyd as deepfloyd_benchmark
import pytest
import torch
from diffusers import UNet2DConditionModel
from test_cascade import WIDTH, tiny_unet

from phosphene.devices import Replayed
from phosphene.errors import UserError
from phosphene.models.if_stage import MOST_READ, IFNetwork
from phosphene.models.if_unet import IFUNet

ENLARGES = {
    "in_channels": 6,
    "class_embed_type": "timestep",
    "mid_block_scale_factor": 1.414,
    "time_embedding_act_fn": "gelu",
    "time_embedding_dim": 32,
}
FOUR_LEVELS = {
    "layers_per_block": [1, 2, 1, 2],
    "block_out_channels": [32, 64, 96, 128],
    "attention_head_dim": [8, 16, 32, 64],
    "down_block_types": ["ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3],
    "up_block_types": [*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"],
    "resnet_skip_time_act": True,
    "resnet_out_scale_factor": 1.414,
    "only_cross_attention": True,
}
KINDS = {
    "IF-I": {},
    "IF-II": ENLARGES,
    "four levels": FOUR_LEVELS,
    "silu, other waves": {"act_fn": "silu", "freq_shift": 1, "flip_sin_to_cos": False, "norm_num_groups": 16},
}


def both(**changes) -> tuple[UNet2DConditionModel, IFUNet]:
    theirs = tiny_unet(3, 16, **changes).eval()
    with torch.no_grad():
        for weight in theirs.parameters():  # norms that do something, and biases
            weight.add_(0.05 * torch.randn_like(weight))
    ours = IFUNet(theirs.config).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def asked(channels: int, rows: int = 2):
    torch.manual_seed(5)
    return (
        torch.randn(rows, channels, 16, 16),
        torch.tensor([957, 20])[:rows],
        torch.randn(rows, 9, WIDTH),
        torch.tensor([250, 90])[:rows],
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"])
def test_it_answers_what_diffusers_answers(kind, layout):
    theirs, ours = both(**KINDS[kind])
    x, t, text, level = asked(theirs.config.in_channels)
    label = level if theirs.config.class_embed_type else None
    wanted = theirs(x, t, encoder_hidden_states=text, class_labels=label).sample
    found = ours.to(memory_format=layout)(x.contiguous(memory_format=layout), t, ours.read(text), level)
    assert wanted.abs().max() > 0.1
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@torch.no_grad()
def test_it_is_compiled_in_one_piece_whatever_the_weights_the_step_and_the_text(monkeypatch, tmp_path):
    """As it is handed to torch's compiler, without its code generation, which wants a GPU to be worth it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    traced = []
    monkeypatch.setattr("torch._inductor.standalone_compile", lambda graph, inputs, **_: traced.append(graph) or Traced(graph))
    _, unet = both(**ENLARGES)
    network, level = IFNetwork(unet), torch.tensor([250, 90])
    network.compile()
    for change in range(3):
        x, t, text, _ = asked(6)
        for each in (x, text):
            each.mul_(1 + change)
        wanted = unet(x, t - change, unet.read(text), level + change)
        torch.testing.assert_close(network(x, t - change, text, level + change)[0], wanted, rtol=0, atol=1e-6)
        for weight in unet.parameters():
            weight.mul_(0.9)
    assert len(traced) == 1
    network(*asked(6, rows=1))
    assert len(traced) == 2 == len(list(tmp_path.rglob("*.code")))


class Traced:
    """What torch's compiler makes of a graph, as slow as that."""

    def __init__(self, graph):
        self.graph = graph

    def __call__(self, *inputs):
        return self.graph(*inputs)

    def save(self, path):
        Path(path).write_text("code")


@torch.no_grad()
def test_a_text_is_read_once_and_again_where_it_changed(monkeypatch):
    _, unet = both()
    network, read, texts = IFNetwork(unet), unet.read, []
    monkeypatch.setattr(unet, "read", lambda text: texts.append(text) or read(text))
    x, t, text, _ = asked(3)
    first = network(x, t, text)[0]
    assert network(x, t - 1, text.view(2, 3, 3, WIDTH).flatten(1, 2))[0].shape == first.shape and len(texts) == 1
    text.mul_(2)
    assert not network(x, t, text)[0].equal(first) and len(texts) == 2
    for _ in range(3 * MOST_READ):  # each is given the memory of one that is gone, if anything is
        other = torch.randn(2, 9, WIDTH)
        torch.testing.assert_close(network(x, t, other)[0], unet(x, t, read(other)), rtol=0, atol=1e-6)
    assert len(texts) == 2 + 3 * MOST_READ


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"down_block_types": ["DownBlock2D", "SimpleCrossAttnDownBlock2D"]}, "down_block_types 'DownBlock2D'"),
        ({"resnet_time_scale_shift": "default"}, "resnet_time_scale_shift 'default'"),
        ({"act_fn": "mish"}, "act_fn 'mish'"),
        ({"addition_embed_type": None}, "addition_embed_type None"),
    ],
)
def test_networks_of_another_kind_are_refused(change, named):
    config = {**tiny_unet(1, 16).config, **change}
    with pytest.raises(UserError, match=named):
        IFUNet(config)


def test_what_diffusers_takes_where_nothing_is_said_is_taken():
    config = dict(tiny_unet(1, 16).config)
    for name in (
        "norm_num_groups",
        "norm_eps",
        "freq_shift",
        "resnet_out_scale_factor",
        "only_cross_attention",
        "conv_in_kernel",
    ):
        del config[name]
    assert {n: tuple(w.shape) for n, w in IFUNet(config).state_dict().items()} == {
        n: tuple(w.shape) for n, w in UNet2DConditionModel(**config).state_dict().items()
    }


def test_where_there_is_no_gpu_a_function_is_called_as_it_is():
    replayed = Replayed(torch.add)
    assert replayed([torch.ones(2)], [torch.ones(2)]).equal(torch.full((2,), 2.0)) and replayed.works


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
@torch.no_grad()
def test_a_recording_answers_as_the_network_for_each_text_and_shape():
    _, unet = both()
    unet = unet.cuda()
    network = IFNetwork(unet)
    for rows in (1, 2, 1):
        for seed in (1, 2):
            x, t, text, _ = (part.cuda() for part in asked(3, rows))
            torch.manual_seed(seed)
            x, text = torch.randn_like(x), torch.randn_like(text)
            for step in (0, 7):
                torch.testing.assert_close(network(x, t - step, text)[0], unet(x, t - step, unet.read(text)), rtol=0, atol=1e-5)
    assert network._replayed.works


@needs_gpu
def test_what_cannot_be_recorded_is_called_with_a_warning():
    replayed = Replayed(lambda x, y: x * y.sum().item())
    x = torch.ones(3, device="cuda")
    with pytest.warns(UserWarning, match="could not be recorded"):
        assert replayed([x], [x]).tolist() == [3, 3, 3]
    assert replayed([x], [x]).tolist() == [3, 3, 3] and not replayed.works


def test_the_benchmarks_compare_what_agrees(monkeypatch, capsys):
    """Both assert it first; here on a network of IF's kinds of blocks and few channels."""
    assert deepfloyd_benchmark.require_agreement(torch.device("cpu"), steps=2) < 1e-3
    monkeypatch.setattr("sys.argv", ["anagram.py", "--shape", "tiny", "--steps", "1", "--runs", "1"])
    anagram_benchmark.main()
    assert "ratio" in capsys.readouterr().out
