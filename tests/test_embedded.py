"""The cascade that ships draws what it is asked for, from files that are whole, as every other program reads them."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import PixArtTransformer2DModel
from test_generate import call  # noqa: F401  (fixture)

from phosphene import load
from phosphene.cli.drawing import Drawing
from phosphene.defaults import ADAPTED_USUAL, CASCADE, IF_USUAL, OWN_USUAL, UNPROMPTED, UPSCALE_GUIDANCE
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.images import to_tensor
from phosphene.models import cascade, folders
from phosphene.models.cascade import open_cascade
from phosphene.readers import read_picture, read_provenance
from phosphene.sampler import last
from phosphene.tasks.edit import edit
from phosphene.tasks.generate import enlarge, generate
from phosphene.tasks.score import score
from phosphene.training.options import RECIPE
from phosphene.training.text_to_image.recipe import saved_recipe

PROMPTS = ("a red heart", "a castle", "a dog face", "a green apple")


@pytest.fixture(scope="module")
def glyph() -> cascade.Cascade:
    return load("glyph")


@pytest.fixture(scope="module")
def drawn(glyph) -> torch.Tensor:
    sampling = Sampling("dpm", 8, max_rows=64)
    return last(run(generate(PROMPTS), glyph.stages[0], [180] * len(PROMPTS), sampling=sampling))


def test_each_picture_is_read_as_its_own_prompt(glyph, drawn):
    """Of four prompts the one a picture was drawn for explains its noise best."""
    looks = [lambda x, k=k: drawn[k : k + 1] for k in range(len(PROMPTS))]  # each picture is looked at once
    gain = score(glyph.stages[0], drawn[:1], PROMPTS, looks).gain[0]
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
    code, out, err = call("generate", "a red heart", "--solver", "dpm", "--steps", 3, "--upscale-steps", 2, "-o", "heart.png")
    assert (code, err) == (0, "") and "heart.png" in out
    assert to_tensor(read_picture("heart.png")).shape[2:] == load("glyph").stages[-1].image_shape[1:]
    assert read_provenance("heart.png")["model"] == "glyph"
    assert call("rerun", "heart.png", "-o", "again.png")[0] == 0


def test_the_second_stage_keeps_the_picture_and_draws_it_sharply(glyph, drawn):
    """Made small again it is what the first stage drew; its edges are steeper than those of interpolation."""
    large = last(run(enlarge(drawn[:2]), glyph.stages[1], [180, 181]))
    assert large.shape == (2, 3, 256, 256)
    small = F.interpolate(large, size=64, mode="area")
    assert (small - drawn[:2].clamp(-1, 1)).abs().mean() < 0.05
    plain = F.interpolate(drawn[:2].clamp(-1, 1), size=256, mode="bicubic")
    assert steepness(large) > 1.15 * steepness(plain)


def steepness(x: torch.Tensor) -> float:
    return float((x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()).sqrt())


def test_the_second_stage_takes_eight_steps_of_one_row(glyph, drawn, monkeypatch):
    """It reads no prompt, so that guidance costs nothing; and --upscale-steps says otherwise."""
    stage, rows = glyph.stages[1], []
    forward = stage.network.forward
    monkeypatch.setattr(stage.network, "forward", lambda x, *args, **kwargs: rows.append(len(x)) or forward(x, *args, **kwargs))
    last(run(enlarge(drawn[:1], ["a castle"]), stage, [180]))
    assert rows == [1] * 8
    first, second = (Drawing(solver="ddim", eta=0.5, upscale_steps=3).sampling().of(stage) for stage in glyph.stages)
    assert (first.solver, first.eta, second.solver, second.steps, second.eta) == ("ddim", 0.5, "dpm", 3, None)
    assert not any(Drawing(threshold=False).sampling().of(stage).threshold for stage in glyph.stages)


def test_products_in_bfloat16_stay_close_and_a_batch_is_its_pictures():
    """A step differs by rounding alone, and not with how many pictures are beside it: every pass has the same shape."""
    exact = open_cascade("glyph", dtype=torch.float32).stages[0]
    assert not exact.network.quick
    quick = copy.deepcopy(exact.network)
    quick.quicken()
    source = torch.Generator().manual_seed(0)
    x, t = torch.randn(3, *exact.image_shape, generator=source), torch.tensor([900, 500, 100])
    text = torch.stack([exact.embed(p) for p in ("a castle", None, "a dog face")])
    with torch.no_grad():
        (theirs,), (ours,) = exact.network(x, t, text), quick(x, t, text)
        assert (theirs - ours).abs().mean() < 0.005 and 0 < (theirs - ours).abs().max() < 0.1
        for k in (0, 2):
            assert torch.equal(quick(x[k : k + 1], t[k : k + 1], text[k : k + 1])[0][0], ours[k])
        parts = [exact.network(x[k : k + 1], t[k : k + 1], text[k : k + 1])[0] for k in range(3)]
    torch.testing.assert_close(torch.cat(parts), theirs, atol=1e-4, rtol=0)


def test_a_quick_network_makes_what_it_reads_of_a_text_once(monkeypatch):
    """At the next timestep the same text is not read again, another one is; the answer is that of a network that forgets."""
    stage = open_cascade("glyph", dtype=torch.float32).stages[0]
    network, made = stage.network, []
    network.quicken()
    absorb = network.transformer.absorb
    monkeypatch.setattr(network.transformer, "absorb", lambda *text: made.append(text) or absorb(*text))
    x = torch.zeros(2, *stage.image_shape)
    texts = [torch.stack([stage.embed(prompt), stage.embed(None)]) for prompt in ("a castle", "a dog")]
    with torch.no_grad():
        answers = [network(x, torch.full((2,), t), texts[k].clone())[0] for t, k in ((900, 0), (500, 0), (500, 1))]
        assert len(made) == 2 and not torch.equal(answers[1], answers[2])
        network._absorbed.clear()
        assert torch.equal(network(x, torch.full((2,), 500), texts[0])[0], answers[1])


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_for_processors_that_have_it(monkeypatch, native):
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: native, raising=False)
    assert [stage.network.quick for stage in open_cascade("glyph").stages] == [native] * 2


def test_stock_diffusers_says_the_same():
    """The folder opens in the class its config names, with all weights, and answers alike."""
    stage = open_cascade("glyph", dtype=torch.float32).stages[0]
    stock, info = PixArtTransformer2DModel.from_pretrained(
        folders.EMBEDDED / "glyph" / "stage-1" / "transformer", output_loading_info=True
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
    shutil.copytree(folders.EMBEDDED / "glyph", tmp_path / "glyph")
    monkeypatch.setattr(folders, "EMBEDDED", tmp_path)
    file = tmp_path / "glyph" / "stage-1" / "text_encoder" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"text_encoder/model.safetensors: differs from its SHA-256"):
        load("glyph")


def test_every_stage_can_be_gone_on_from():
    """Each says by which recipe it was trained, in words of today."""
    stages = sorted(path.parent for path in (folders.EMBEDDED / "glyph").rglob(RECIPE))
    assert [stage.name for stage in stages] == ["stage-1", "stage-2"]
    for stage in stages:
        recipe, images = saved_recipe(stage)
        said = json.loads((stage / RECIPE).read_text())["recipe"]
        assert images > 0 and recipe.to_json() | said == recipe.to_json()  # what is newer than it has its default


def test_it_is_small_enough_to_ship():
    """All embedded models under 90 MB, no file above 16 MB, a card that names every set of pictures and its makers."""
    files = [f for f in folders.EMBEDDED.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) < 90e6
    assert max(f.stat().st_size for f in files) < 16e6
    card = (folders.EMBEDDED / "glyph" / "README.md").read_text()
    sources = (Path(__file__).parents[1] / "docs" / "pictures.md").read_text()
    named = [line for line in sources.splitlines() if line.startswith("| ") or (line.startswith("- ") and "CC-BY" in line)]
    assert len(named) > 90 and all(line in card for line in named)


def test_what_is_not_said_of_sampling_is_the_model_s_own(glyph):
    first, second = glyph.stages
    usual = Sampling().of(first)
    assert (usual.solver, usual.steps, usual.guidance) == OWN_USUAL[:3]
    assert len(usual.visited(first)) == OWN_USUAL.steps
    stays, begins = {"stays": True}, {"begins": True}
    for near, solver in (stays, "ancestral"), (begins, "ancestral"), (stays | begins, "ancestral"):
        kept = Sampling().of(first, **near)  # as Part A counts its starts
        assert (kept.solver, len(kept.visited(first)), kept.guidance) == (solver, 34, OWN_USUAL.guidance)
    adapted = replace(first, usual=ADAPTED_USUAL)
    found = [Sampling().of(adapted, **near).solver for near in ({}, stays, begins, stays | begins)]
    assert found == ["dpm", "ancestral", "ddim", "ancestral"]
    assert len(Sampling().of(adapted, begins=True).visited(adapted)) == 34
    plain = replace(first, usual=IF_USUAL)  # as DeepFloyd IF is sampled, whatever it begins with
    assert {Sampling().of(plain, **near).solver for near in ({}, stays, begins)} == {"ancestral"}
    named = Sampling("heun", guidance=2.0).of(first)
    assert (named.solver, len(named.visited(first)), named.guidance) == ("heun", 20, 2.0)
    assert (Sampling(eta=0.5).of(first).solver, len(Sampling(steps=5).of(first).visited(first))) == ("ddim", 5)
    assert Sampling().of(second).guidance == UPSCALE_GUIDANCE
    between = replace(first, usual=OWN_USUAL._replace(guidance_interval=(200, 1000)))
    assert (usual.guidance_interval, Sampling().of(between).guidance_interval) == (None, (200, 1000))
    assert Sampling(guidance_interval=(0, 300)).of(between).guidance_interval == (0, 300)
    options = Drawing(steps=5)
    assert options.settled(generate(PROMPTS[:1]), glyph)[:2] == (OWN_USUAL.solver, 5)
    assert tuple(options.used.values()) == OWN_USUAL._replace(steps=5)[:3]  # told of the picture; what was said stays what it was
    assert (options.solver, options.guidance) == (None, None)
    for guidance, told in (None, "200,1000"), (1.0, None):  # where nothing guides, it is refused to say where
        options = Drawing(guidance=guidance)
        options.settled(generate(PROMPTS[:1]), between)
        assert options.used.get("guidance_interval") == told
    assert next(run(generate(PROMPTS[:1]), first, [7])).total == OWN_USUAL.steps
    assert next(run(edit(torch.zeros(1, *first.image_shape), [30], PROMPTS[0]), first, [7])).total == 34 - 30


def test_a_picture_tells_how_it_was_sampled_where_nobody_said(call):  # noqa: F811
    assert call("generate", "a castle", "--no-upscale", "--steps", 2, "-o", "castle.png")[0] == 0
    told = read_provenance("castle.png")["arguments"]
    assert (told["solver"], told["steps"], told["guidance"]) == OWN_USUAL._replace(steps=2)[:3]
    assert call("edit", "castle-hill", "--start", "32", "--no-upscale", "-o", "edited.png")[0] == 0
    told = read_provenance("edited.png")
    assert (told["arguments"]["solver"], told["model"]) == ("ddim", UNPROMPTED)
    assert call("edit", "castle-hill", "--start", "32", "--no-upscale", "-o", "said.png", "--prompt", "a castle")[0] == 0
    told = read_provenance("said.png")
    assert (told["arguments"]["solver"], told["model"]) == ("ancestral", CASCADE)
