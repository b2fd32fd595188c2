"""The cascade that ships draws what it is asked for, from files that are whole, as every other program reads them."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import PixArtTransformer2DModel
from test_generate import call  # noqa: F401  (fixture)

from phosphene import load
from phosphene.errors import UserError
from phosphene.images import read_picture, read_provenance, to_tensor
from phosphene.models import cascade, catalogue
from phosphene.sampler import Route
from phosphene.tasks.generate import Settings, generate
from phosphene.tasks.score import score

PROMPTS = ("a red heart", "a castle", "a dog face", "a green apple")


@pytest.fixture(scope="module")
def glyph() -> cascade.Cascade:
    return load("glyph")


@pytest.fixture(scope="module")
def drawn(glyph) -> torch.Tensor:
    settings = [Settings(Route("dpm", 8), max_rows=64)]
    for step in generate(glyph.stages[:1], list(PROMPTS), [180] * len(PROMPTS), settings=settings):
        pictures = step.xt
    return pictures


def test_each_picture_is_read_as_its_own_prompt(glyph, drawn):
    """Of four prompts the one a picture was drawn for explains its noise best."""
    gain = score(glyph.stages[0], drawn, PROMPTS, [lambda x: x] * len(PROMPTS)).gain[:, 0]
    assert gain.argmax(1).tolist() == [0, 1, 2, 3]


def test_named_colours_are_the_colours_drawn(drawn):
    """A red heart is red, a green apple green, on light paper."""
    heart, apple = (drawn[k].clamp(-1, 1)[:, 24:40, 24:40].mean((1, 2)) for k in (0, 3))
    assert heart[0] > heart[1:].max() + 0.5
    assert apple[1] > apple[[0, 2]].max() + 0.2
    assert (drawn[:, :, :4, :4].mean((1, 2, 3)) > 0.8).all()


def test_a_command_draws_with_it_offline(call, monkeypatch, tmp_path):  # noqa: F811
    """From typing to PNG, a few steps; the same command makes the same bytes."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code, out, err = call("generate", "a red heart", "--solver", "dpm", "--steps", 3, "-o", "heart.png")
    assert (code, err) == (0, "") and "heart.png" in out
    assert to_tensor(read_picture("heart.png")).shape[2:] == load("glyph").stages[-1].image_shape[1:]
    assert read_provenance("heart.png")["model"] == "glyph"
    assert call("rerun", "heart.png", "-o", "again.png")[0] == 0


def test_stock_diffusers_says_the_same(glyph):
    """The folder opens in the class its config names, with all weights, and answers alike."""
    stage = glyph.stages[0]
    stock, info = PixArtTransformer2DModel.from_pretrained(
        catalogue.EMBEDDED / "glyph" / "stage-1" / "transformer", output_loading_info=True
    )
    assert not any(info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    source = torch.Generator().manual_seed(0)
    x, t = torch.randn(2, *stage.image_shape, generator=source), torch.tensor([700, 40])
    text = torch.stack([stage.embed("a castle"), stage.embed(None)])
    with torch.no_grad():
        said, mask = text[..., :-1], text[..., -1]  # ours carries the mask beside the text
        theirs = stock.float().eval()(x, said, timestep=t, encoder_attention_mask=mask, return_dict=False)[0]
        ours = stage.network(x, t, encoder_hidden_states=text, class_labels=None, return_dict=False)[0]
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_a_damaged_file_is_named(monkeypatch, tmp_path):
    """A byte that differs from the sums is found before anything is built."""
    shutil.copytree(catalogue.EMBEDDED / "glyph", tmp_path / "glyph")
    monkeypatch.setattr(catalogue, "EMBEDDED", tmp_path)
    file = tmp_path / "glyph" / "stage-1" / "text_encoder" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"text_encoder/model.safetensors: differs from its SHA-256"):
        load("glyph")


def test_it_is_small_enough_to_ship():
    """At most 45 MB in all, no file above 16 MB, a card that names every source of its pictures."""
    files = [f for f in (catalogue.EMBEDDED / "glyph").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 45e6
    assert max(f.stat().st_size for f in files) < 16e6
    card = (catalogue.EMBEDDED / "glyph" / "README.md").read_text()
    for source in (
        "Fluent Emoji",
        "Noto Emoji",
        "FxEmojis",
        "game-icons.net",
        "MIT",
        "OFL-1.1",
        "CC-BY-4.0",
        "CC-BY-3.0",
        "CC0-1.0",
    ):
        assert source in card
