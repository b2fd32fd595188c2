"""Weights in int8: half the memory of half precision, and answers that are a little off."""

from __future__ import annotations

import pytest
import torch
from test_cascade import BOAT, copy, folder, no_network  # noqa: F401 (fixtures)
from torch import nn
from typer.testing import CliRunner

from phosphene.cli import app
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.models import quantized as room
from phosphene.models.cascade import open_cascade
from phosphene.models.quantized import Int8Conv2d, Int8Linear, quantized
from phosphene.readers import read_provenance
from phosphene.sampler import last
from phosphene.tasks.generate import generate

CPU = torch.device("cpu")


@pytest.fixture
def small(monkeypatch):
    """Layers of any size are worth it."""
    monkeypatch.setattr(room, "LEAST", 1)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("convolution", [False, True])
def test_a_weight_moves_by_half_a_step_of_its_row_at_most(convolution, dtype):
    torch.manual_seed(0)
    layer = nn.Conv2d(64, 128, 3, padding=1, stride=2) if convolution else nn.Linear(300, 400)
    layer = layer.to(dtype)
    layer.weight *= torch.logspace(-1, 1, len(layer.weight)).to(dtype).view(-1, *[1] * (layer.weight.ndim - 1))
    layer.weight[3] = 0
    x = torch.randn(2, 64, 9, 9, dtype=dtype) if convolution else torch.randn(2, 300, dtype=dtype)
    whole, wanted = layer.weight.clone(), layer(x)
    assert isinstance(quantized(layer, CPU), Int8Linear | Int8Conv2d) and layer.weight.dtype == torch.int8
    kept = layer.weight.float() * layer.scale.float()
    # A scale is rounded too, to the layer's precision, and clipped weights miss by what 127 of those are off.
    rounding = torch.finfo(dtype).eps
    step = whole.flatten(1).float().abs().amax(1) / 127
    assert ((kept - whole.float()).flatten(1).abs().amax(1) <= (0.5 + 130 * rounding) * step).all() and not kept[3].any()
    answer = layer(x)
    assert answer.dtype == dtype and answer.shape == wanted.shape
    assert 1e-4 < (answer - wanted).float().norm() / wanted.float().norm() < 0.02
    assert not answer[:, 3].sub(wanted[:, 3]).any()  # of a row of zeros the bias is left


def test_small_layers_and_norms_are_left_as_they_are():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Linear(8, 8), nn.Embedding(5, 8))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert all(value.equal(before[name]) for name, value in quantized(network, CPU).state_dict().items())


def bytes_of(network):
    return sum(weight.numel() * weight.element_size() for weight in network.parameters())


def test_a_cascade_takes_a_quarter_of_single_precision_and_draws_nearly_the_same(copy, small):  # noqa: F811
    how = {"sampling": Sampling(steps=4)}
    whole, kept = open_cascade(copy), open_cascade(copy, quantize="int8")
    for one, other in zip(whole.stages, kept.stages, strict=True):
        assert 0.2 < bytes_of(other.network) / bytes_of(one.network) < 0.4
    assert 0 < (whole.text.embed(BOAT) - kept.text.embed(BOAT)).norm() / whole.text.embed(BOAT).norm() < 0.05
    pictures = [last(run(generate([BOAT]), model, [3], **how)) for model in (whole, kept)]
    assert 0 < (pictures[0] - pictures[1]).square().mean().sqrt() < 0.2
    for offload in ("stages", "layers"):
        elsewhere = last(run(generate([BOAT]), open_cascade(copy, quantize="int8", offload=offload), [3], **how))
        torch.testing.assert_close(elsewhere, pictures[1], rtol=0, atol=1e-5)


def test_what_a_rounded_text_encoder_said_is_kept_apart(copy, small, tmp_path):  # noqa: F811
    said = [
        open_cascade(copy, quantize=how, cache=tmp_path / "prompts").text.embed(BOAT) for how in ("none", "int8", "none", "int8")
    ]
    assert said[0].equal(said[2]) and said[1].equal(said[3]) and not said[0].equal(said[1])


def test_it_is_refused_where_it_changes_nothing():
    with pytest.raises(UserError, match="--quantize int8: is for DeepFloyd IF.s kind; glyph is small"):
        open_cascade("glyph", quantize="int8")
    with pytest.raises(UserError, match="--quantize int4: unknown; choose none or int8"):
        open_cascade("glyph", quantize="int4")


def test_a_picture_says_how_its_weights_were_kept_and_is_made_again_so(copy, small, tmp_path):  # noqa: F811
    first, again = tmp_path / "a.png", tmp_path / "b.png"
    asked = ["generate", BOAT, "--model", str(copy), "--steps", "2", "--no-upscale", "--device", "cpu"]
    runner = CliRunner()
    assert runner.invoke(app, [*asked, "--quantize", "int8", "-o", str(first)]).exit_code == 0
    assert read_provenance(first)["arguments"]["quantize"] == "int8"
    assert runner.invoke(app, ["rerun", str(first), "--allow-model", str(copy), "-o", str(again)]).exit_code == 0
    assert again.read_bytes() == first.read_bytes()
