"""Autoguidance: what it asks of which network, its laws, and what it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from conftest import TinyDenoiser, randn, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_cascade import BOAT, MAN, SMALL, cascade, folder, tiny_unet  # noqa: F401  (fixtures)
from test_cli import call, here  # noqa: F401

from phosphene.autoguidance import Autoguided, Weak, autoguided, without_block
from phosphene.cli.drawing import Drawing
from phosphene.drawing import Sampling, run
from phosphene.expression import Turns, bands, bent, cond, guide, leaves, mean, viewed
from phosphene.forward import Evaluation
from phosphene.guidance import Guidance
from phosphene.models import cascade as cascades
from phosphene.models.cascade import open_cascade
from phosphene.models.patch_stage import PatchNetwork
from phosphene.models.prompts import PromptCache
from phosphene.models.scheduler import Scheduler
from phosphene.models.stage import Stage
from phosphene.models.transformer import PatchTransformer
from phosphene.readers import read_provenance
from phosphene.sampler import last
from phosphene.schedule import linear
from phosphene.tasks.anagram import anagram
from phosphene.tasks.generate import generate
from phosphene.views import VIEWS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
SCHEDULE, T = linear(300), 120
FLIP = VIEWS["flip"]
CONFIG = {"sample_size": 8, "patch_size": 2, "num_attention_heads": 2, "attention_head_dim": 6, "caption_channels": 5}


class Told:
    """A text side whose embeddings are random, of one shape, and like a LightText's: the last column says what is no padding."""

    def __init__(self, length=4):
        self.length = length

    def embed(self, prompt):
        told = randn(self.length, 6, seed=len(prompt or "") + 100)
        told[:, -1] = torch.arange(self.length) < 3
        return told


def stage(layers=3, seed=0, **more):
    """A small stage that is a transformer, with weights that do something."""
    network = PatchNetwork(PatchTransformer(num_layers=layers, **CONFIG | more)).eval().requires_grad_(False)
    for k, weight in enumerate(network.parameters()):
        weight.copy_(randn(*weight.shape, seed=1000 * seed + k) / math.sqrt(weight.shape[-1]))
    return Stage(network, Scheduler(), SCHEDULE, Told())


def said(asked, model, seed=5):
    return Evaluation(asked, model)(randn(1, *model.image_shape, seed=seed), T).noise


scales = st.floats(-1, 8)
wholes = st.sampled_from(
    [
        lambda part: part("a"),
        lambda part: mean(part("a"), viewed(part("bc"), FLIP), weights=[0.3, 0.7]),
        lambda part: bands(part("a"), viewed(part("bc"), VIEWS["rotate-90"])),
        lambda part: mean(viewed(part("a"), FLIP), part("bc"), rectified=True),
    ]
)


# Of the expression


@given(whole=wholes, scale=scales)
def test_networks_that_agree_are_what_it_returns(whole, scale):
    """The law of unity, for networks: from a weaker one that is as good there is nothing to lead away."""
    own = stage()
    guided = autoguided(whole(lambda prompt: guide(cond(prompt), scale)))
    assert any(isinstance(c, Weak) for _, several in leaves(guided) for c in several) or scale in (0, 1)
    torch.testing.assert_close(said(guided, Autoguided(own, own)), said(whole(cond), own), rtol=1e-4, atol=1e-4)


@given(scale=scales)
def test_it_leads_away_from_what_the_weaker_one_says_of_the_same_prompt(scale):
    own, weak = stage(), stage(layers=1, seed=3)
    both = Autoguided(own, weak)
    toward, away = said(cond("a"), own), said(cond("a"), weak)
    torch.testing.assert_close(said(autoguided(guide(cond("a"), scale)), both), away + scale * (toward - away))
    away = said(cond("blur"), weak)  # a negative prompt stays one
    torch.testing.assert_close(said(autoguided(guide(cond("a"), scale, cond("blur"))), both), away + scale * (toward - away))
    seen = autoguided(guide(viewed(cond("a"), FLIP), scale))  # and is looked at as the prompt is
    away = said(viewed(cond("a"), FLIP), weak)
    torch.testing.assert_close(said(seen, both), away + scale * (said(viewed(cond("a"), FLIP), own) - away))


@given(whole=wholes)
def test_the_weaker_one_is_asked_for_what_the_other_is(whole):
    """One row for each of the prompt's, where there was one for each view."""
    asked = set(leaves(autoguided(whole(lambda prompt: guide(cond(prompt), 3.0)))))
    strong = {(path, of) for path, of in asked if not isinstance(of[0], Weak)}
    assert asked - strong == {(path, tuple(Weak(c) for c in of)) for path, of in strong} and strong == set(leaves(whole(cond)))


def test_where_guidance_does_not_act_the_weaker_one_is_not_asked():
    own, weak = TinyText(), TinyText()
    both = Autoguided(own, weak)
    for asked in (guide(cond("a"), 1.0), bent(guide(cond("a"), 3.0), Guidance(interval=(200, 250)))):
        said(autoguided(asked), both)
    assert own.calls == [1, 1] and not weak.calls
    said(autoguided(guide(cond("a"), 3.0)), both)
    assert own.calls[2:] == [1] == weak.calls  # and where it acts, each has its own rows alone


def test_of_turns_each_is_guided_so():
    turns = autoguided(Turns((guide(cond("a"), 2.0), guide(cond("b"), 2.0))))
    assert [part.parts[1] for part in turns.parts] == [cond(Weak("a")), cond(Weak("b"))]


class TinyText(TinyDenoiser):
    """A TinyDenoiser whose conditions are texts: (4, 6), of which the first number tells."""

    low_res_schedule = None

    def __init__(self, **more):
        super().__init__(SCHEDULE, **more)

    def embed(self, condition):
        return super().embed(condition).reshape(-1)[:1].expand(4, 6).clone()

    def __call__(self, x, t, embedding):
        return super().__call__(x, t, embedding[:, 0, 0])


# Of the two networks


def test_each_row_is_answered_by_its_network_whatever_stands_beside():
    own, weak = stage(), stage(layers=2, seed=7)
    both, x, t = Autoguided(own, weak), randn(4, 3, 8, 8), torch.full((4,), T)
    asked = [Weak("ab"), "c", Weak(None), None]
    mixed = both(x, t, torch.stack([both.embed(c) for c in asked]))
    assert mixed.variance is None
    for k, condition in enumerate(asked):
        network, plain = (weak, condition.condition) if isinstance(condition, Weak) else (own, condition)
        alone = network(x[k : k + 1], t[:1], network.embed(plain)[None]).noise
        torch.testing.assert_close(mixed.noise[k : k + 1], alone)
    assert not torch.allclose(mixed.noise[0], own(x[:1], t[:1], own.embed("ab")[None]).noise[0], atol=1e-2)


def test_texts_are_parted_once_a_run_and_new_ones_anew():
    """And each network is shown its own where they were, by which it knows them again."""
    own, weak = stage(), stage(layers=2, seed=7)
    both, x, t = Autoguided(own, weak), randn(2, 3, 8, 8), torch.full((2,), T)
    texts = torch.stack([both.embed("a"), both.embed(Weak("bc"))])
    first = [part[2].data_ptr() for part in both._parted(texts)[0]]
    assert first == [part[2].data_ptr() for part in both._parted(texts)[0]]
    before = both(x, t, texts).noise
    texts.copy_(texts.flip(0))  # other texts in the same memory
    torch.testing.assert_close(both(x.flip(0), t, texts).noise, before.flip(0))


def test_a_learned_variance_is_that_of_what_it_leads_toward(cascade):  # noqa: F811
    (own, _) = cascade.stages
    for prompt in (BOAT, MAN):
        own.embed(prompt)
    x = randn(1, *own.image_shape)
    guided = Evaluation(autoguided(guide(cond(BOAT), 3.0)), Autoguided(own, own))(x, T)
    assert own.learned and guided.variance.equal(Evaluation(cond(BOAT), own)(x, T).variance)


def test_models_that_do_not_go_together_are_refused():
    own = stage()
    refusal(lambda: Autoguided(own, stage(sample_size=12), "w"), "--autoguidance w", "3x12x12", "3x8x8")
    refusal(lambda: Autoguided(own, replace(own, schedule=linear(200)), "w"), "--autoguidance w", "levels of noise")
    refusal(lambda: Autoguided(own, replace(own, text=Told(length=5)), "w"), "--autoguidance w", "texts")


@pytest.mark.parametrize("block", [0, 1, 2])
def test_without_a_block_is_the_network_of_the_others(block):
    own = stage()
    weak = without_block(own, f"skip:{block}")
    built = PatchTransformer(num_layers=2, **CONFIG).requires_grad_(False)
    kept = [k for k in range(3) if k != block]
    weights = {}
    for name, value in own.network.transformer.state_dict().items():
        parts = name.split(".")
        if parts[0] != "transformer_blocks":
            weights[name] = value
        elif int(parts[1]) != block:
            weights[".".join(["transformer_blocks", str(kept.index(int(parts[1]))), *parts[2:]])] = value
    built.load_state_dict(weights)
    x, t, told = randn(2, 3, 8, 8), torch.full((2,), T), torch.stack([own.embed("a"), own.embed("bc")])
    before = own(x, t, told).noise
    assert weak(x, t, told).noise.equal(replace(own, network=PatchNetwork(built))(x, t, told).noise)
    assert own(x, t, told).noise.equal(before) and not weak(x, t, told).noise.allclose(before, atol=1e-2)
    shared = {weight.data_ptr() for weight in own.network.parameters()}
    assert all(weight.data_ptr() in shared for weight in weak.network.parameters())


def test_blocks_that_are_not_there_are_refused(cascade):  # noqa: F811
    for block in ("3", "-1", "", "x"):
        refusal(lambda which=f"skip:{block}": without_block(stage(), which), f"--autoguidance skip:{block}", "0..2")
    refusal(lambda: without_block(cascade.stages[0], "skip:1"), "--autoguidance skip:1", "transformers")


# Pictures


def test_a_whole_run_is_guided_so_and_its_judge_is_not():
    """All that is drawn; what is asked of the stage beside guidance, as a judge does, is the network's own."""
    own, weak = stage(), stage(layers=1, seed=3)
    both, sampling = Autoguided(own, weak), Sampling("ddim", 4, guidance=3.0)
    plain, guided = (last(run(generate(["a"]), model, [1, 2], sampling=sampling)) for model in (own, both))
    assert not torch.allclose(plain, guided, atol=1e-2)
    assert last(run(generate(["a"]), Autoguided(own, own), [1, 2], sampling=sampling)).allclose(
        last(run(generate(["a"]), own, [1, 2], sampling=sampling._replace(guidance=1.0))), atol=1e-4
    )
    task = anagram(["a", "bc"], ["flip"])
    assert task.judge(both, plain, range(2)).score.allclose(task.judge(own, plain, range(2)).score)
    pictures = [last(run(task, both, [seed], sampling=sampling)) for seed in (1, 2)]
    assert last(run(task, both, [1, 2], sampling=sampling)).allclose(torch.cat(pictures), atol=1e-4)


@pytest.fixture(scope="module")
def weaker(folder, tmp_path_factory):  # noqa: F811
    """The cascade's first stage, with other weights."""
    import shutil

    place = shutil.copytree(folder, tmp_path_factory.mktemp("weaker") / "weaker", ignore=shutil.ignore_patterns("stage-2"))
    tiny_unet(3, SMALL[1]).save_pretrained(place / "stage-1" / "unet")
    return place


def test_from_the_command_line_and_made_again(call, here, folder, weaker):  # noqa: F811
    common = ["--model", folder, "--steps", 2, "--no-upscale"]
    seen = {}
    for name, options in {"plain": [], "weaker": ["--autoguidance", weaker]}.items():
        for command in (["generate", "a heart"], ["anagram", "a heart", "a spade", "--view", "flip"], ["hybrid", "a", "b"]):
            out = f"{name}-{command[0]}.png"
            assert call(*command, *common, *options, "--out", out)[0::2] == (0, ""), out
            seen[out] = Image.open(out).tobytes()
    assert len(set(seen.values())) == len(seen)
    assert read_provenance(here / "weaker-generate.png")["arguments"]["autoguidance"] == str(weaker)
    code, _, err = call("rerun", "weaker-generate.png", "--allow-model", folder)
    assert code == 2 and f"--allow-model {weaker}" in err  # a file's words open no model
    code, out, err = call("rerun", "weaker-generate.png", "--allow-model", folder, "--allow-model", weaker)
    assert (code, err) == (0, "") and "byte for byte" in out


def test_the_weaker_one_s_text_encoder_is_gone_before_anything_is_drawn(folder, weaker, monkeypatch):  # noqa: F811
    opened = []
    monkeypatch.setattr(cascades, "open_cascade", lambda *given, **how: opened.append(open_cascade(*given, **how)) or opened[-1])
    monkeypatch.setattr(PromptCache, "get", lambda *_: None)  # where the first model left what the weaker one asks for
    Drawing(model=str(folder), autoguidance=str(weaker), negative="blurry", upscale=False).open(["a heart"])
    assert len(opened) == 2 and all(each.text._t5 is None for each in opened)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--autoguidance", "skip:1"], ["--autoguidance skip:1", "transformers"]),
        (["--autoguidance", "nowhere"], ["--autoguidance nowhere", "no such folder"]),
        (["--autoguidance", "glyph"], ["--autoguidance glyph", "3x64x64"]),
        (["--autoguidance", "glyph-fast"], ["--autoguidance glyph-fast", "distilled", "take glyph."]),
        (["--autoguidance", "skip:1", "--guidance", 1], ["--autoguidance skip:1", "--guidance 1"]),
    ],
)
def test_what_cannot_be_is_refused(call, here, folder, options, words):  # noqa: F811
    code, out, err = call("generate", "a", "--model", folder, "--steps", 2, "--no-upscale", *options, "-o", "x.png")
    assert (code, out) == (2, "") and err.count("\n") == 1 and all(word in err for word in words), err
    assert not (here / "x.png").exists()


def test_of_glyph_blocks_are_skipped():
    stage = open_cascade("glyph", stages=1).stages[0]
    weak = without_block(stage, "skip:4")
    count = len(stage.network.transformer.transformer_blocks)
    assert len(weak.network.transformer.transformer_blocks) == count - 1 and weak.network.quick == stage.network.quick
    x, t = randn(1, 3, 64, 64), torch.tensor([600])
    told = Autoguided(stage, weak).embed(Weak("a castle"))[None]
    assert Autoguided(stage, weak)(x, t, told).noise.equal(weak(x, t, weak.embed("a castle")[None]).noise)
