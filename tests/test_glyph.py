"""Laws of the cascade's training: stories say what is shown, pictures show what is told, a run learns and goes on."""

from __future__ import annotations

import io
import itertools
import json
import math
import random
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import thorough
from PIL import Image, ImageDraw
from safetensors import SafetensorError
from safetensors.torch import load_file
from test_training import environment, free_port

from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.evaluation.matching import open_judge
from phosphene.models import tokens
from phosphene.models.cascade import open_cascade
from phosphene.models.patch_stage import PatchNetwork
from phosphene.models.retrieval import Retrieval
from phosphene.models.t5 import T5Encoder
from phosphene.processes import Place
from phosphene.readers import read_picture
from phosphene.tasks.generate import generate
from phosphene.training import checkpoint
from phosphene.training.log import read_log
from phosphene.training.options import RECIPE
from phosphene.training.text_to_image import casting, scenes
from phosphene.training.text_to_image import run as run_module
from phosphene.training.text_to_image.captions import EVERYDAY, Subject, Thesaurus
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.pictures import premultiplied, read
from phosphene.training.text_to_image.recipe import DIFFERENCES, CascadeRecipe, difference_recipe, stage_recipe
from phosphene.training.text_to_image.retrieval import RetrievalTrainer, turned
from phosphene.training.text_to_image.run import CascadeRun, Spoken
from phosphene.training.text_to_image.stage_trainer import StageTrainer
from phosphene.training.text_to_image.stories import Stories, learned_tokenizer

pytestmark = pytest.mark.usefixtures("quick_ends")


@pytest.fixture(scope="module", autouse=True)
def no_wordnet():
    """What this machine has installed decides nothing here: runs find a WordNet only where they are told of one.

    And those that would learn the same tokenizer share one.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "learned_tokenizer", spoken)
        patch.setattr("phosphene.training.text_to_image.run.WORDNET", Path("/nowhere"))
        yield


SHAPES = ("disc", "box", "bar", "ring", "cross", "wedge")


def drawing(shape: str, colour: tuple[int, int, int], size: int = 40) -> Image.Image:
    """A shape on nothing."""
    image = Image.new("RGBA", (size, size))
    pen, a, b = ImageDraw.Draw(image), size // 5, size * 4 // 5
    match shape:
        case "disc":
            pen.ellipse((a, a, b, b), fill=colour)
        case "box":
            pen.rectangle((a, a, b, b), fill=colour)
        case "bar":
            pen.rectangle((a, size * 2 // 5, b, size * 3 // 5), fill=colour)
        case "ring":
            pen.ellipse((a, a, b, b), outline=colour, width=size // 8)
        case "cross":
            pen.line((a, a, b, b), fill=colour, width=size // 8)
            pen.line((a, b, b, a), fill=colour, width=size // 8)
        case "wedge":
            pen.polygon(((a, b), (b, b), (size // 2, a)), fill=colour)
    return image


@pytest.fixture(scope="session")
def shards(tmp_path_factory) -> Path:
    """Two shards: the shapes in three painted styles, and as masks."""
    folder = tmp_path_factory.mktemp("shards")
    rows = [(s, style, c) for s in SHAPES for style, c in (("flat", (220, 40, 40)), ("noto", (40, 90, 220)), ("icon", (0, 0, 0)))]
    for number in range(2):
        with tarfile.open(folder / f"shapes-{number}.tar", "w") as tar:
            for k, (shape, style, colour) in enumerate(rows[number::2]):
                content = io.BytesIO()
                drawing(shape, colour).save(content, "PNG")
                told = {"caption": shape, "style": style, "concept": shape}
                for suffix, data in (("png", content.getvalue()), ("json", json.dumps(told).encode())):
                    entry = tarfile.TarInfo(f"{number}-{k}.{suffix}")
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    return folder


@pytest.fixture(scope="session")
def gallery(shards) -> Cutouts:
    return Cutouts.open(shards, 20)


TOKENIZERS: dict = {}


def spoken(cutouts: Cutouts, recipe: CascadeRecipe, thesaurus: Thesaurus | None):
    """The tokenizer of a run, learned once for all that would learn the same.

    Beside the second that it takes, its library adds in any order, so that of the same texts another differs in last digits.
    """
    told = tuple((s.caption, s.name) for s in cutouts.subjects), recipe.vocabulary, recipe.seed
    if thesaurus is not None:
        return learned_tokenizer(cutouts, recipe, thesaurus)
    if told not in TOKENIZERS:
        TOKENIZERS[told] = learned_tokenizer(cutouts, recipe, None)
    return TOKENIZERS[told]


def tiny(**changes) -> CascadeRecipe:
    sizes = {"size": 16, "patch": 4, "hidden": 32, "layers": 2, "heads": 2, "text_width": 16, "text_layers": 1, "text_heads": 2}
    rest = {"batch_size": 16, "images": 16 * 40, "warmup": 4, "vocabulary": 120, "length": 16, "ema": 0.9, "lr": 3e-3}
    return CascadeRecipe(**{**sizes, **rest, **changes})


# Words


def test_everyday_names_are_plain_and_no_captions():
    assert all(names and all(name == name.strip().lower() for name in names) for names in EVERYDAY.values())
    assert all(caption not in names for caption, names in EVERYDAY.items())


def test_a_subject_needs_a_caption():
    for told in ({}, {"caption": " "}, {"caption": 3}):
        with pytest.raises(UserError, match="caption"):
            Subject.from_json(told)


def test_the_thesaurus_reads_wordnet(tmp_path):
    # Two synsets by hand: bun = roll, which is a kind of bread; bread is a caption too, so it must not stand for a bun.
    lines = [
        "{0:08d} 13 n 02 bun 0 roll 0 001 @ {1:08d} n 0000 | small bread  \n",
        "{1:08d} 13 n 02 bread 0 staff_of_life 0 001 ~ {0:08d} n 0000 | food  \n",
    ]
    start = len("  a licence\n")
    second = start + len(lines[0].format(start, 0))
    (tmp_path / "data.noun").write_text("  a licence\n" + "".join(line.format(start, second) for line in lines))
    (tmp_path / "index.noun").write_text(f"  1 a licence\nbread n 1 1 ~ 1 0 {second:08d}  \nbun n 1 1 @ 1 0 {start:08d}  \n")
    words = Thesaurus.from_wordnet(tmp_path, ["steamed bun", "bread"])
    assert words.same == {"bun": ["roll"], "bread": ["staff of life"]} and words.near == {"bread": ["bun"]}
    assert words.reworded("steamed bun", random.Random(0)) == "steamed roll"
    assert words.reworded("red car", random.Random(0)) == "red car"
    words.save(tmp_path / "kept.json")
    assert Thesaurus.load(tmp_path / "kept.json") == words
    with pytest.raises(UserError, match="wordnet-base"):
        Thesaurus.from_wordnet(tmp_path / "nowhere", [])


# Pictures


def test_shards_and_folders_hold_the_same(shards, tmp_path):
    found = list(read(shards))
    assert len(found) == 18 and {s.caption for _, s in found} == set(SHAPES)
    for k, (image, subject) in enumerate(found):
        image.save(tmp_path / f"{k:02d}.png")
        (tmp_path / f"{k:02d}.json").write_text(json.dumps(vars(subject)))
    again = list(read(tmp_path))
    assert [s for _, s in again] == [s for _, s in found]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(again, found, strict=True))


def test_a_folder_of_pictures_needs_no_captions(tmp_path):
    drawing("disc", (1, 2, 3)).save(tmp_path / "red-balloon.png")
    drawing("box", (1, 2, 3)).save(tmp_path / "second.png")
    (tmp_path / "second.txt").write_text("A Crate\n")
    assert [s.caption for _, s in read(tmp_path)] == ["red balloon", "a crate"]


def test_what_cannot_be_read_is_named(tmp_path, shards):
    with pytest.raises(UserError, match="does not exist"):
        list(read(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="neither"):
        list(read(tmp_path))
    whole = sorted(shards.glob("*.tar"))[0].read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:1600])
    with pytest.raises(UserError, match=r"cut\.tar: is damaged"):
        list(read(tmp_path))
    (tmp_path / "cut.tar").unlink()
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name, data in (("a.png", b"hello"), ("a.json", b'{"caption": "a"}')):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(UserError, match=r"^\S*odd\.tar/a: cannot be read as a picture"):
        list(read(tmp_path))
    (tmp_path / "odd.tar").unlink()
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text\.png: cannot be read as a picture"):
        list(read(tmp_path))


def test_what_is_transparent_does_not_colour_the_edges():
    image = Image.new("RGBA", (64, 64), (0, 255, 0, 0))  # green, but transparent
    ImageDraw.Draw(image).ellipse((10, 10, 53, 53), fill=(255, 0, 0, 255))
    layers = premultiplied(image, 20)
    assert layers.shape == (4, 20, 20) and layers.dtype == torch.uint8
    assert layers[1].max() <= 1 and 0 < ((layers[3] > 5) & (layers[3] < 250)).sum()
    wide = premultiplied(Image.new("RGBA", (60, 30), (9, 9, 9, 255)), 20)
    assert wide[3, 10].min() > 250 and wide[3, :3].max() < 8  # squared by transparent margins


# Tokens


def test_words_never_seen_fall_into_known_pieces(gallery, tmp_path):
    tokenizer = learned_tokenizer(gallery, tiny(), None)
    ids, mask = tokens.encode(tokenizer, ["a red disc", "zebra crossing, 1937", "", "word " * 40], 16, 4096)
    assert ids.shape == mask.shape == (4, 16) and not (ids == tokenizer.token_to_id(tokens.UNKNOWN)).any()
    assert mask[2].sum() == 1 and ids[2, 0] == 1  # nothing but the end
    assert mask[3].all() and ids[3, -1] == 1 and tokenizer.token_to_id(tokens.PAD) == 0 and tokenizer.token_to_id(tokens.END) == 1
    assert tokenizer.decode(ids[0].tolist(), skip_special_tokens=True) == "a red disc"
    tokens.save(tokenizer, tmp_path, 16)
    from transformers import AutoTokenizer

    stock = AutoTokenizer.from_pretrained(tmp_path)
    assert stock(["A red disc"], padding="max_length", max_length=16)["input_ids"][0] == ids[0].tolist()


def test_a_tokenizer_whose_ids_the_encoder_does_not_know_is_refused(gallery, tmp_path):
    tokens.save(spoken(gallery, tiny(), None), tmp_path, 16)
    path = tmp_path / "tokenizer.json"
    held = json.loads(path.read_text())
    held["post_processor"]["special_tokens"]["</s>"]["ids"] = [100000]
    path.write_text(json.dumps(held))
    with pytest.raises(UserError, match="says 100000, and its text encoder knows 60 ids"):
        tokens.encode(tokens.load(tmp_path)[0], ["a red disc"], 16, 60)
    held["post_processor"]["special_tokens"] = {}  # which its library, in Rust, finds out when it reads a text, and panics
    path.write_text(json.dumps(held))
    broken, length = tokens.load(tmp_path)
    for call in (lambda: tokens.encode(broken, ["a red disc"], length, 60), lambda: tokens.unread(broken, "a red disc", length)):
        with pytest.raises(UserError, match=r"tokenizer.json: cannot be loaded \(no entry found for key\); fetch or train"):
            call()
    path.write_text(path.read_text().replace("</s>", "</t>"))
    with pytest.raises(UserError, match="knows no </s>"):
        tokens.load(tmp_path)


# Training


def test_batches_follow_from_the_seed_alone(gallery):
    recipe = tiny()
    tokenizer = spoken(gallery, recipe, None)
    one, two = (Stories(gallery, tokenizer, recipe, None) for _ in range(2))
    two[3]
    (stage, *words), (again, *same) = one[7], two[7]
    assert all(torch.equal(a, b) for a, b in zip(words, same, strict=True))
    assert torch.equal(stage.layers, again.layers) and torch.equal(stage.papers, again.papers)
    assert not torch.equal(stage.layers, one[8].stage.layers)
    other = Stories(gallery, tokenizer, tiny(seed=181), None)
    assert not torch.equal(stage.layers, other[7].stage.layers)


def test_held_out_concepts_are_never_trained(gallery):
    # Enough concepts that some are held out.
    subjects = [Subject(f"thing {k}", style, concept=f"thing {k}") for k in range(400) for style in ("noto", "icon")]
    many = Cutouts(gallery.pictures[:1].expand(800, -1, -1, -1), subjects, gallery.shapes[:1] * 800)
    tokenizer = spoken(gallery, tiny(), None)

    def shown(stories):
        scenes = (stories.scene(k, row)[0] for k in range(80) for row in range(16))
        return {subjects[layer.index].concept for scene in scenes for layer in scene.layers}

    train, held = (Stories(many, tokenizer, tiny(), None, split) for split in ("train", "held out"))
    mine, others = shown(train), shown(held)
    assert mine and others and not mine & others and 2 <= len(others) <= 25
    train, held = (Stories(many, tokenizer, tiny(held_out=0), None, split) for split in ("train", "held out"))
    assert not held and shown(train) & others


@pytest.fixture
def trainer(gallery):
    def make(**changes):
        recipe = tiny(**changes)
        return StageTrainer(recipe, gallery, spoken(gallery, recipe, None))

    return make


@pytest.fixture(autouse=True)
def something_is_held_out(monkeypatch, request):
    """Of six shapes, one: with so few, chance would hold out none."""
    from phosphene.training.text_to_image import stories

    if request.node.name != "test_held_out_concepts_are_never_trained":
        monkeypatch.setattr(stories, "held_out", lambda concept, one_in: concept == "ring" if one_in > 1 else one_in == 1)


def test_where_nothing_is_held_out_only_training_is_checked(gallery, shards, tmp_path):
    recipe = tiny(held_out=0, images=16 * 2)
    (*_, report) = CascadeRun(recipe, tmp_path / "run", shards)
    assert set(report.checks) == {"train, right", "train, shuffled"}
    list(CascadeRun(tiny(network="upscaler", held_out=0, images=16), tmp_path / "upscaler", shards))
    with pytest.raises(UserError, match="--held-out 1: leaves no picture to train with; say 0"):
        StageTrainer(tiny(held_out=1), gallery, spoken(gallery, recipe, None))
    with pytest.raises(UserError, match="--held-out -1: must be 0"):
        tiny(held_out=-1)


@pytest.mark.parametrize("target", ["sample", "epsilon", "v_prediction"])
def test_the_loss_falls(trainer, target):
    training = trainer(target=target, images=16 * 80)
    before = training.check()
    *_, last = training.run(report_every=20, check_every=10_000)
    assert last.step == 80 and last.checks.keys() == before.keys()
    assert last.checks["train, right"] < 0.7 * before["train, right"]


def test_an_unbounded_loss_of_the_sample_is_that_of_the_velocity(trainer):
    training = trainer(most=math.inf)
    batch = training.stories[0]
    answers = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    x0 = training.composed(batch)
    sample = training.loss(lambda *_: answers, x0, batch.ids, batch.mask, torch.Generator().manual_seed(5))
    # The same answers as velocities: v = (signal xt - x0) / sigma.
    generator = torch.Generator().manual_seed(5)
    t = (torch.rand(16, generator=generator) * training.schedule.steps).long()
    noise = torch.randn(x0.shape, generator=generator)
    signal, sigma = training.schedule.signal_and_noise(t, x0)
    velocity = (signal * (signal * x0 + sigma * noise) - answers) / sigma
    wanted = (velocity - (signal * noise - sigma * x0)).square().mean((1, 2, 3))
    torch.testing.assert_close(sample, wanted, rtol=1e-3, atol=1e-4)


def test_a_batch_in_pieces_is_the_batch(trainer):
    training = trainer(micro_batch=6)
    batch = training.stories[0]
    whole = training.composed(batch)
    pieces = list(training.pieces(whole, batch.ids, batch.mask))
    assert [len(x0) for x0, _, _ in pieces] == [6, 6, 4]
    for parts, one in zip(zip(*pieces, strict=True), (whole, batch.ids, batch.mask), strict=True):
        assert torch.equal(torch.cat(parts), one)


def test_the_gradient_of_small_passes_is_that_of_the_whole_batch(trainer, monkeypatch):
    """Without noise, of which each pass draws its own."""

    def plain(self, network, x0, ids, mask, generator, shift=1.0):
        return (network(0.5 * x0, torch.full((len(x0),), 500), ids, mask) - x0).square().mean((1, 2, 3))

    monkeypatch.setattr(StageTrainer, "loss", plain)
    found = []
    for size in (16, 5):
        training = trainer(micro_batch=size)
        monkeypatch.setattr(training.optimisers[0], "zero_grad", lambda **_: None)
        training._update(training.stories[0], 0.0)
        found.append(torch.cat([p.grad.flatten() for p in training.painter.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)
    assert found[0].norm() > 0.1
    with pytest.raises(UserError, match="--micro-batch -1: must be 0"):
        tiny(micro_batch=-1)


def test_captions_are_withheld_as_often_as_asked(trainer):
    batches = [trainer(drop=0.3).stories[k] for k in range(30)]
    empty = torch.cat([b.mask.sum(1) == 1 for b in batches]).float().mean().item()
    assert empty == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize(
    ("asked", "ordinary"), [({"disc": 3, "bar": 2, "cross": 0}, {"disc", "bar"}), ({}, {*SHAPES} - {"ring"})]
)
def test_what_is_told_without_words_is_ordinary_and_plain(gallery, asked, ordinary, monkeypatch):
    """Of everything, in a manner now and then, is told in words; without them of all, where nothing is asked for."""
    monkeypatch.setattr(casting, "ASKED", {shape: casting.Known(often) for shape, often in asked.items()})
    monkeypatch.setattr(casting, "ALIKE", {})
    monkeypatch.setattr(scenes, "ENOUGH", 2)
    recipe, kind = tiny(drop=0.3), "object" if asked else ""  # what nothing is known of is shown whole
    subjects = [replace(subject, category=kind) for subject in gallery.subjects]
    stories = Stories(Cutouts(gallery.pictures, subjects, gallery.shapes), spoken(gallery, recipe, None), recipe, None)
    silent, told = [], []
    for k, row in itertools.product(range(60), range(16)):
        scene, text = stories.scene(k, row)
        (told if text else silent).append(scene)
        assert text in ("", scene.text)
    shown = [{gallery.subjects[layer.index].concept for scene in made for layer in scene.layers} for made in (silent, told)]
    assert shown == [ordinary, {*SHAPES} - {"ring"}]
    assert len(silent) / 960 == pytest.approx(0.3, abs=0.05) and not any(scene.manner for scene in silent)
    assert sum(bool(scene.manner) for scene in told) > 0.1 * len(told)
    if asked:
        assert not any(layer.tinted for scene in silent for layer in scene.layers)


def test_the_rate_warms_up_stays_and_falls():
    recipe = tiny(images=16 * 100, cooldown=0.5, warmup=10)
    rates = [recipe.rate(k) for k in range(100)]
    assert rates[0] == recipe.lr / 10 and rates[20] == recipe.lr and rates[75] == pytest.approx(recipe.lr / 2)
    assert 0 < rates[-1] <= recipe.lr / 50
    assert recipe.rate(30, begun=30) == recipe.lr / 10  # taken up again, it warms up again


def test_the_rate_falls_by_the_clock_too():
    """A run that ends by its minutes falls over the last share of them, whatever --images says."""
    recipe = tiny(images=16 * 10_000, cooldown=0.5, warmup=10)
    assert recipe.rate(20, time_left=0.6) == recipe.lr and recipe.rate(20, time_left=0.25) == pytest.approx(recipe.lr / 2)
    assert recipe.rate(20, time_left=-0.1) == 0
    assert tiny(images=16 * 100, warmup=10).rate(20, time_left=0.0) == tiny().lr  # without a fall nothing changes


def test_a_run_is_kept_opens_elsewhere_and_goes_on(shards, tmp_path):
    run = CascadeRun(tiny(images=16 * 8), tmp_path / "run", shards)
    reports = list(run)
    assert reports[-1].step == 8
    for name in (
        "model/tokenizer/tokenizer.json",
        "model/transformer/config.json",
        "log.jsonl",
        "loss.png",
        "samples/step-000008.png",
    ):
        assert (tmp_path / "run" / name).is_file()

    taught = tokens.load_words(tmp_path / "run" / "model" / "tokenizer")
    assert {"disc", "red", "box", "icon"} < taught and "ring" not in taught  # which is held out

    from diffusers import PixArtTransformer2DModel
    from transformers import T5EncoderModel

    stock = PixArtTransformer2DModel.from_pretrained(tmp_path / "run" / "model" / "transformer")
    encoder = T5EncoderModel.from_pretrained(tmp_path / "run" / "model" / "text_encoder", dtype=torch.float32)
    average = run.trainer.average.half().float()
    ids, mask = tokens.encode(run.trainer.tokenizer, ["a red disc", "box"], 16, 4096)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([900, 40])
    with torch.no_grad():
        text = encoder(ids, attention_mask=mask.long()).last_hidden_state
        theirs = stock(x, text, timestep=t, encoder_attention_mask=mask.long(), return_dict=False)[0]
        torch.testing.assert_close(average(x, t, ids, mask), theirs, atol=1e-4, rtol=1e-4)

    with pytest.raises(UserError, match="--resume"):
        CascadeRun(tiny(images=16 * 12), tmp_path / "run", shards)
    with pytest.raises(UserError, match=r"--hidden 64: the run in .* has 32"):
        CascadeRun(tiny(images=16 * 12, hidden=64), tmp_path / "run", shards, resume=True)
    with pytest.raises(UserError, match=r"--resume: .*other holds no checkpoint.safetensors"):
        CascadeRun(tiny(), tmp_path / "other", shards, resume=True)
    with pytest.raises(UserError, match="--images 128: the run in .* has seen 128 already"):
        CascadeRun(tiny(images=16 * 8), tmp_path / "run", shards, resume=True)
    again = CascadeRun(tiny(images=16 * 12), tmp_path / "run", shards, resume=True)
    assert [report.step for report in again] == [12]
    steps = [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")]
    assert steps == [8, 12]


def test_what_weights_were_taught_before_they_are_taught_still(shards, tmp_path):
    list(CascadeRun(tiny(images=16), tmp_path / "first", shards))
    words = tmp_path / "first" / "model" / "tokenizer" / tokens.WORDS
    words.write_text("zeppelin\n" + words.read_text())
    list(CascadeRun(tiny(images=32), tmp_path / "second", shards, source=tmp_path / "first" / "model"))
    assert {"zeppelin", "disc"} < tokens.load_words(tmp_path / "second" / "model" / "tokenizer")
    list(CascadeRun(tiny(images=48), tmp_path / "second", shards, resume=True))
    assert {"zeppelin", "disc"} < tokens.load_words(tmp_path / "second" / "model" / "tokenizer")


KINDS = {
    "cascade": {},
    "muon": {"optimizer": "muon"},
    "upscaler": {"network": "upscaler"},
    "retrieval": {"network": "retrieval", "drop": 0.0},
    "student": {"images": 16 * 10, "batch_size": 16, "warmup": 4, "ema": 0.9, "rank": 2},
    "unprompted": {"images": 16 * 10, "batch_size": 16, "warmup": 4, "ema": 0.9, "rank": 2},
}


def lines(out: Path) -> list[dict]:
    """What a run logged, but for its speed."""
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in read_log(out / "log.jsonl")]


def same_runs(out: Path, other: Path) -> None:
    """Two runs in their folders: the same checkpoint, model and log, bit for bit."""
    a, b = (load_file(folder / checkpoint.NAME) for folder in (out, other))
    assert a.keys() == b.keys() and not [k for k in a if not torch.equal(a[k], b[k])]
    for path in (other / "model").rglob("*"):
        # Of the tokenizer's scores its library reads the last digit amiss, and writes what it read.
        if path.is_file() and path.name != "tokenizer.json":
            assert path.read_bytes() == (out / path.relative_to(other)).read_bytes(), path
    assert lines(out) == lines(other) and (out / RECIPE).read_bytes() == (other / RECIPE).read_bytes()


@pytest.fixture(scope="session")
def taught(shards, tmp_path_factory) -> Path:
    """A first stage that has learned a little: a student's teacher."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CascadeRun, "preview", lambda *_: None)
        patch.setattr(run_module, "learned_tokenizer", spoken)
        patch.setattr("phosphene.training.text_to_image.run.WORDNET", Path("/nowhere"))
        list(CascadeRun(tiny(images=16 * 60), out, shards))
    return out / "model"


@pytest.fixture(params=KINDS)
def unbroken(request, shards, taught, tmp_path, monkeypatch):
    """A run of ten steps, reported every two and kept every four, and what begins another of its recipe."""
    for name, steps in (("REPORT_STEPS", 2), ("CHECK_STEPS", 4)):
        monkeypatch.setattr(run_module, name, steps)
    monkeypatch.setattr(CascadeRun, "preview", lambda *_, **__: None)
    changes = KINDS[request.param]
    adds = request.param in DIFFERENCES
    recipe = difference_recipe(request.param, taught, **changes) if adds else tiny(images=16 * 10, **changes)
    torch.set_num_threads(1)

    def start(name: str, **options) -> CascadeRun:
        return CascadeRun(recipe, tmp_path / name, shards, **options)

    list(start("unbroken"))
    assert [line["step"] for line in lines(tmp_path / "unbroken")] == [2, 4, 6, 8, 10]
    return start, tmp_path / "unbroken"


def stopped_after(training: CascadeRun, steps: int) -> CascadeRun:
    """``training``, which will be asked to stop while it learns so many steps from now."""
    update, done = training.trainer._update, []

    def counted(batch, rate):
        done.append(None)
        training.trainer.stopping = len(done) == steps
        update(batch, rate)

    training.trainer._update = counted
    return training


def test_a_stage_stopped_and_resumed_equals_an_unbroken_one_bit_for_bit(unbroken):
    """Stopped between two reports, then at one at which the model is checked and kept, then left by its caller."""
    start, whole = unbroken
    for steps, resume in ((3, False), (1, True)):
        with pytest.raises(KeyboardInterrupt):
            list(stopped_after(start("broken", resume=resume), steps))
    reports = iter(start("broken", resume=True))
    assert next(reports).step == 6
    reports.close()
    torch.manual_seed(5)  # what else the process draws must not matter
    again = start("broken", resume=True)
    assert [report.step for report in again] == [8, 10]
    same_runs(whole.parent / "broken", whole)


def test_a_stage_killed_goes_on_from_its_last_checkpoint(unbroken):
    """The folder as a kill leaves it: the log is ahead of the checkpoint, and its last line is cut short."""
    start, whole = unbroken
    killed = whole.parent / "killed"
    for report in start("alive"):
        if report.step == 6:
            shutil.copytree(whole.parent / "alive", killed)
    with (killed / "log.jsonl").open("a") as log:
        log.write(json.dumps({"images": 96, "step": 6, "loss": 9.0}) + "\n{'images")
    list(start("killed", resume=True))
    same_runs(killed, whole)


def test_numbers_gone_wrong_spare_the_last_checkpoint(shards, tmp_path, monkeypatch):
    """Whether a report was due, or Ctrl-C came before one."""
    monkeypatch.setattr(run_module, "CHECK_STEPS", 2)
    monkeypatch.setattr(run_module, "REPORT_STEPS", 2)
    list(CascadeRun(tiny(images=16 * 2), tmp_path / "run", shards))
    before = (tmp_path / "run" / checkpoint.NAME).read_bytes()
    for steps in (1, 99):
        training = stopped_after(CascadeRun(tiny(images=16 * 9), tmp_path / "run", shards, resume=True), steps)
        monkeypatch.setattr(training.trainer, "loss", lambda network, x0, *_: network.image.proj_out.bias.sum() * math.nan)
        with pytest.raises(FloatingPointError, match="the loss is nan; choose a lower --lr"):
            list(training)
        assert (tmp_path / "run" / checkpoint.NAME).read_bytes() == before


def test_what_runs_out_of_time_is_resumed_bit_for_bit(shards, tmp_path, monkeypatch):
    """Its last report comes early, and its steps are reported again when they are two, as they are without a pause."""
    monkeypatch.setattr(run_module, "REPORT_STEPS", 2)
    monkeypatch.setattr(CascadeRun, "preview", lambda *_, **__: None)
    torch.set_num_threads(1)
    for name in ("whole", "broken"):
        training = CascadeRun(tiny(images=16 * 4), tmp_path / name, shards, seconds=-1 if name == "broken" else math.inf)
        list(training)
    assert [line["step"] for line in lines(tmp_path / "broken")] == [1]
    list(CascadeRun(tiny(images=16 * 4), tmp_path / "broken", shards, resume=True))
    first, *rest = lines(tmp_path / "broken")
    assert first["step"] == 1 and rest == lines(tmp_path / "whole")
    a, b = (load_file(tmp_path / name / checkpoint.NAME) for name in ("whole", "broken"))
    assert not [k for k in a if not torch.equal(a[k], b[k])]


def test_what_a_resumed_stage_may_change(shards, tmp_path):
    """What decides which weights there are stays; how fast they are learned may change, and pictures seen are counted on."""
    list(CascadeRun(tiny(images=16 * 4), tmp_path / "run", shards))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for option, changes in (("optimizer muon", {"optimizer": "muon"}), ("target epsilon", {"target": "epsilon"})):
        with pytest.raises(UserError, match=f"--{option}: the run in .* has"):
            CascadeRun(tiny(images=16 * 6, **changes), tmp_path / "run", shards, resume=True)
    for name in ("teacher", "source"):
        with pytest.raises(UserError, match=r"--(teacher|from) .*: a resumed run .* say --from"):
            CascadeRun(tiny(images=16 * 6), tmp_path / "run", shards, resume=True, **{name: tmp_path / "run" / "model"})
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    again = CascadeRun(tiny(images=16 * 6, batch_size=8, lr=1e-4, held_out=0), tmp_path / "run", shards, resume=True)
    assert again.trainer.step == 8 and [report.step for report in again] == [12]
    assert json.loads((tmp_path / "run" / RECIPE).read_text())["batch_size"] == 8


def test_weights_alone_go_on_with_a_fresh_optimiser(shards, tmp_path):
    first = CascadeRun(tiny(images=16 * 4), tmp_path / "run", shards)
    list(first)
    model = (tmp_path / "run" / "model").rename(tmp_path / "carried")
    carried = {"source": model}
    with pytest.raises(UserError, match=r"--hidden 64: the run in .*carried has 32"):
        CascadeRun(tiny(images=16 * 6, hidden=64), tmp_path / "next", shards, **carried)
    with pytest.raises(UserError, match=r"--images 64: the run in .*carried has seen 64 already"):
        CascadeRun(tiny(images=64), tmp_path / "next", shards, **carried)
    with pytest.raises(UserError, match="--out .*already holds a run"):
        CascadeRun(tiny(images=16 * 6), tmp_path / "run", shards, **carried)
    with pytest.raises(UserError, match="--from .*nowhere: cannot be gone on from"):
        CascadeRun(tiny(images=16 * 6), tmp_path / "next", shards, source=tmp_path / "nowhere")
    assert not (tmp_path / "next").exists()
    again = CascadeRun(tiny(images=16 * 6, optimizer="muon"), tmp_path / "next", shards, **carried)
    assert again.trainer.step == again.trainer.begun == 4 and not any(o.state for o in again.trainer.optimisers)
    average = first.trainer.average.half().float()
    for network in (again.trainer.painter, again.trainer.average):
        assert torch.equal(network.image.proj_out.weight, average.image.proj_out.weight)
    assert [report.step for report in again] == [6]
    # Where there are weights only, --resume says what to do with them.
    (tmp_path / "run" / checkpoint.NAME).unlink()
    model.rename(tmp_path / "run" / "model")
    with pytest.raises(UserError, match=r"--resume: .* holds no checkpoint.safetensors; go on from its weights, --from"):
        CascadeRun(tiny(images=16 * 6), tmp_path / "run", shards, resume=True)


@pytest.mark.parametrize("network", ["cascade", "upscaler"])
def test_pictures_are_kept_a_little_larger_than_they_are_learned_unless_they_are_only_enlarged(network, shards, tmp_path):
    run = CascadeRun(tiny(network=network), tmp_path / "run", shards)
    assert run.trainer.cutouts.pictures.shape[-1] == {"cascade": 20, "upscaler": 16}[network]


def test_previews_show_what_is_asked_for(shards, tmp_path):
    read = Spoken(CascadeRun(tiny(), tmp_path / "run", shards).trainer)
    assert torch.equal(read.embed(None), read.embed("")) and not torch.equal(read.embed("a red disc"), read.embed("a box"))


@pytest.mark.parametrize("full", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")])
def test_a_model_that_finds_no_room_leaves_the_one_before_it(full, shards, tmp_path, monkeypatch):
    list(CascadeRun(tiny(images=16), tmp_path / "run", shards))
    model = tmp_path / "run" / "model"
    before = {path: path.read_bytes() for path in model.rglob("*") if path.is_file()}
    run = CascadeRun(tiny(images=32), tmp_path / "run", shards, resume=True)

    def half(folder):
        folder.mkdir()
        (folder / "half").touch()
        raise full

    monkeypatch.setattr(run.trainer, "save", half)
    with pytest.raises(UserError, match=f"^{model}: cannot be written .*No space left on device.*; free some space"):
        list(run)
    assert {path: path.read_bytes() for path in model.rglob("*") if path.is_file()} == before
    assert not list((tmp_path / "run").glob("model.*"))


def test_odd_lines_of_a_stages_log_stop_no_run_at_its_end(shards, tmp_path, whole_ends):
    list(CascadeRun(tiny(images=16), tmp_path / "run", shards))
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        odd = ({}, {"loss": "x"}, {"loss": None, "images": 8}, {"train": []})
        log.writelines(json.dumps({"images": 16, **line}) + "\n" for line in odd)
    (tmp_path / "run" / "loss.png").unlink()
    list(CascadeRun(tiny(images=32), tmp_path / "run", shards, resume=True))
    assert read_picture(tmp_path / "run" / "loss.png").width > 100


def test_a_stage_killed_before_its_first_step_starts_again_and_no_other_does(shards, tmp_path, monkeypatch):
    """Its model and its checkpoint are there by then, and both have learned nothing."""

    def killed(*_):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="killed"):
        patch.setattr(CascadeRun, "reports", killed)
        list(CascadeRun(tiny(images=16), tmp_path / "run", shards))
    assert (tmp_path / "run" / "model" / RECIPE).is_file() and (tmp_path / "run" / checkpoint.NAME).is_file()
    assert [report.step for report in CascadeRun(tiny(images=16), tmp_path / "run", shards)] == [1]
    with pytest.raises(UserError, match="--out .*already holds a run"):
        CascadeRun(tiny(images=16), tmp_path / "run", shards)


def test_a_stage_that_lost_its_model_says_what_can_be_done(shards, tmp_path):
    """Before its first step nothing is lost; after it the tokenizer is, without which the weights read nothing."""
    out = tmp_path / "run"
    for report, remedy in ((False, "start it again without --resume"), (True, "start a new run in another --out")):
        run = CascadeRun(tiny(images=16), out, shards)
        if report:
            list(run)
        else:
            checkpoint.save(run.trainer, out / checkpoint.NAME)
        del run  # which holds the folder
        shutil.rmtree(out / "model", ignore_errors=True)
        with pytest.raises(UserError, match=f"--resume: .*run holds no model, whose tokenizer the run goes on with; .*{remedy}"):
            CascadeRun(tiny(images=32), out, shards, resume=True)
    list(CascadeRun(tiny(network="upscaler", images=16), tmp_path / "enlarging", shards))
    shutil.rmtree(tmp_path / "enlarging" / "model")  # an upscaler reads nothing, so its checkpoint is all it needs
    assert [r.step for r in CascadeRun(tiny(network="upscaler", images=32), tmp_path / "enlarging", shards, resume=True)] == [2]


def test_other_words_are_those_that_are_named_or_those_that_the_run_has(shards, tmp_path, monkeypatch):
    given = {}
    for name in ("first", "second"):
        given[name] = tmp_path / f"{name}.json"
        Thesaurus(same={"disc": [name]}).save(given[name])
    run = CascadeRun(tiny(images=16), tmp_path / "run", shards, wordnet=given["first"])
    assert run.thesaurus.same == {"disc": ["first"]}
    list(run)
    again = {"resume": True, "out": tmp_path / "run", "data": shards}
    for wordnet, words in ((None, "first"), (given["second"], "second")):
        run = CascadeRun(tiny(images=32), wordnet=wordnet, **again)
        assert run.thesaurus.same == {"disc": [words]}
        del run  # which holds the folder
    with pytest.raises(UserError, match="--wordnet .*shards.*: cannot be read as WordNet's"):
        CascadeRun(tiny(), tmp_path / "other", shards, wordnet=shards)
    assert CascadeRun(tiny(), tmp_path / "none", shards).thesaurus is None
    monkeypatch.setattr(run_module, "WORDNET", tmp_path)  # what is installed is read where nothing is named
    with pytest.raises(UserError, match=f"--wordnet {tmp_path}: cannot be read as WordNet's"):
        CascadeRun(tiny(), tmp_path / "other", shards)


def test_the_two_stages_draw_together(shards, tmp_path):
    """Both trained for a moment, put side by side, opened as one cascade, and asked for three pictures."""
    for stage, changes in (("stage-1", {}), ("stage-2", {"network": "upscaler", "size": 32, "patch": 8})):
        training = CascadeRun(tiny(images=16 * 3, **changes), tmp_path / stage, shards)
        assert [report.step for report in training] == [3]
        (tmp_path / "both").mkdir(exist_ok=True)
        (tmp_path / stage / "model").rename(tmp_path / "both" / stage)
    cascade = open_cascade(tmp_path / "both")
    first, second = cascade.stages
    assert first.image_shape == (3, 16, 16) and second.image_shape == (3, 32, 32) and second.reads is False
    sampling = Sampling("dpm", 3, upscale_steps=2)
    steps = list(run(generate(["a red disc", "a box", "zeppelin"]), cascade, [1, 2, 3], sampling=sampling))
    small, large = (step.xt for step in steps if step.t == -1)
    assert small.shape == (3, 3, 16, 16) and large.shape == (3, 3, 32, 32) and large.isfinite().all()
    # Prompts reach the picture, and image k is the image made alone.
    alone = [s.xt for s in run(generate(["a box"]), cascade, [2], sampling=sampling) if s.t == -1]
    torch.testing.assert_close(alone[1][0], large[1], atol=1e-4, rtol=0)
    other = [s.xt for s in run(generate(["a ring"]), cascade, [2], sampling=sampling) if s.t == -1]
    assert not torch.equal(other[0], alone[0])


def test_a_kill_while_saving_leaves_one_whole_model(shards, tmp_path):
    list(CascadeRun(tiny(images=16 * 2), tmp_path / "run", shards))
    for left in ("model.old", "model.new"):
        again = None  # which holds the folder
        (tmp_path / "run" / "model").rename(tmp_path / "run" / left)
        if left == "model.old":
            (tmp_path / "run" / "model.new").mkdir()  # begun, but not whole
        again = CascadeRun(tiny(images=16 * 4), tmp_path / "run", shards, resume=True)
        assert again.trainer.step == 2 and (tmp_path / "run" / "model" / RECIPE).is_file()
        shutil.rmtree(tmp_path / "run" / "model.new", ignore_errors=True)
    list(again)
    assert [line["step"] for line in lines(tmp_path / "run")] == [2, 4]
    names = {"log.jsonl", "loss.png", "model", "samples", RECIPE, checkpoint.NAME}
    assert {p.name for p in (tmp_path / "run").iterdir()} - {"tensorboard"} == names
    next((tmp_path / "run" / "model" / "transformer").glob("*.safetensors")).unlink()
    with pytest.raises(UserError, match="is missing"):
        CascadeRun(tiny(images=16 * 8), tmp_path / "next", shards, source=tmp_path / "run" / "model")


def test_a_damaged_checkpoint_of_a_stage_is_named(shards, tmp_path):
    list(CascadeRun(tiny(images=16), tmp_path / "run", shards))
    path = tmp_path / "run" / checkpoint.NAME
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"checkpoint\.safetensors: is damaged"):
        CascadeRun(tiny(images=32), tmp_path / "run", shards, resume=True)


def test_an_upscaler_shows_what_it_makes_of_pictures_held_out(shards, tmp_path):
    list(CascadeRun(tiny(network="upscaler", images=16 * 2), tmp_path / "run", shards))
    (shown,) = (tmp_path / "run" / "samples").iterdir()
    assert shown.name == "step-000002.png" and read_picture(shown).width > 2 * 16


def test_a_shift_draws_more_noise(trainer):
    """Of u in 0..1, shift 3 makes 3u / (1 + 2u): a median of 0.75 of the timesteps."""
    seen = []

    def network(xt, t, *_):
        seen.append(t)
        return torch.zeros(len(xt), 3, 16, 16)

    training = trainer()
    x0, ids, mask = torch.zeros(400, 3, 16, 16), torch.zeros(400, 16, dtype=torch.long), torch.ones(400, 16, dtype=torch.bool)
    for shift in (1.0, 3.0):
        training.loss(network, x0, ids, mask, torch.Generator().manual_seed(0), shift)
    plain, shifted = seen
    assert shifted.float().median() == pytest.approx(750, abs=60) and plain.float().median() == pytest.approx(500, abs=60)
    assert (shifted >= plain).all() and shifted.max() < 1000


def test_a_negated_view_of_the_upscaler_is_still_told_the_level(shards, tmp_path):
    run = CascadeRun(tiny(network="upscaler", images=16), tmp_path / "run", shards)
    list(run)
    network = PatchNetwork(run.trainer.average.image)
    torch.nn.init.normal_(network.transformer.proj_out.weight)
    x, t = torch.randn(1, 7, 16, 16), torch.tensor([500])
    x[:, 6:] = 0.25
    turned = x.clone()
    turned[:, 6:] = -0.25
    with torch.no_grad():
        assert torch.equal(network(x, t, None)[0], network(turned, t, None)[0])
        assert not torch.equal(network(x, t, None)[0], network(x * torch.tensor([1.0] * 6 + [2.0]).view(1, 7, 1, 1), t, None)[0])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("target", "noise"),
        ("network", "unet"),
        ("images", 0),
        ("hidden", 33),
        ("picture_width", 0),
        ("picture_width", 5000),
        ("patch", 5),
        ("lr", math.nan),
        ("ema", 1.0),
        ("drop", 1.0),
    ],
)
def test_recipes_that_cannot_be_trained(name, value):
    with pytest.raises(UserError, match=f"--{name.replace('_', '-')}"):
        tiny(**{name: value})


# The retrieval model


LESSONS = 200


def retrieving(**changes) -> CascadeRecipe:
    return tiny(network="retrieval", **{"images": 32 * LESSONS, "batch_size": 32, "drop": 0.0, **changes})


@pytest.fixture(scope="module")
def judged(shards, tmp_path_factory):
    """A run of the retrieval model that has learned the shapes, each of which it has seen as often as another."""
    from phosphene.training.text_to_image import stories

    out = tmp_path_factory.mktemp("judge") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(casting, "ASKED", {})
        patch.setattr(stories, "held_out", lambda concept, one_in: concept == "ring")
        run = CascadeRun(retrieving(), out, shards)
        return run, list(run), out / "model"


def test_each_pair_competes_with_all_others():
    network = Retrieval(T5Encoder(vocab_size=50, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2), 16)
    x, ids = torch.randn(5, 3, 16, 16), torch.randint(3, 50, (5, 6))
    mask = torch.arange(6) < torch.tensor([2, 3, 4, 5, 6])[:, None]
    with torch.no_grad():
        loss = network(x, ids, mask)
        pictures, texts = network.of_pictures(x), network.of_texts(ids, mask)
        torch.testing.assert_close(pictures.norm(dim=1), torch.ones(5))
        scores = (pictures @ texts.T).double() * math.exp(2.66)
        for k in range(5):
            wanted = -(scores[k].softmax(0)[k].log() + scores[:, k].softmax(0)[k].log()) / 2
            assert loss[k].item() == pytest.approx(wanted.item(), abs=1e-4)
        # Padding is not read.
        other = ids.masked_fill(~mask, 7)
        torch.testing.assert_close(network.of_texts(other, mask), texts)
        # What is trained without steps through padding is what is asked with them.
        torch.testing.assert_close(network.of_texts(ids[:2, :3], mask[:2, :3]), texts[:2], atol=1e-6, rtol=1e-5)
    with pytest.raises(UserError, match="multiple of 16"):
        Retrieval(network.text, 20)


def test_it_learns_which_text_belongs_to_which_picture(judged):
    run, reports, model = judged
    checks = reports[-1].checks
    assert checks["train, right"] < 0.6 * math.log(32) < checks["train, shuffled"]
    judge = open_judge(model)
    shapes = [s for s in SHAPES if s != "ring"]
    drawn = torch.stack([premultiplied(drawing(s, (40, 90, 220)), 16) for s in shapes]).float() / 255
    pictures = (drawn[:, :3] + 1 - drawn[:, 3:]) * 2 - 1
    scores = judge.pictures(pictures) @ judge.texts([f"a {s}" for s in shapes]).T
    assert (scores.argmax(1) == torch.arange(len(shapes))).sum() >= 4
    # What is kept is the average, in half precision.
    average = run.trainer.average.half().float().eval()
    with torch.no_grad():
        torch.testing.assert_close(judge.pictures(pictures), average.of_pictures(pictures), atol=1e-4, rtol=0)
    large = torch.nn.functional.interpolate(pictures, scale_factor=4)
    torch.testing.assert_close(judge.pictures(large), judge.pictures(pictures), atol=1e-4, rtol=0)


def test_a_retrieval_run_goes_on(judged, shards, tmp_path):
    shutil.copytree(judged[2].parent, tmp_path / "run")
    again = CascadeRun(retrieving(images=32 * (LESSONS + 1)), tmp_path / "next", shards, source=tmp_path / "run" / "model")
    assert again.trainer.painter.space.sharpness.item() == pytest.approx(
        judged[0].trainer.average.space.sharpness.item(), abs=2e-3
    )
    assert [report.step for report in again] == [LESSONS + 1]
    (tmp_path / "next" / "model" / "picture_encoder" / "config.json").unlink()
    with pytest.raises(UserError, match="phosphene train retrieval"):
        open_judge(tmp_path / "next" / "model")


def test_a_judge_may_be_wider(judged, shards, tmp_path):
    run = CascadeRun(retrieving(images=32, picture_width=24), tmp_path / "run", shards)
    list(run)
    assert run.trainer.painter.space.picture.layers[0].out_channels == 24
    model, x = tmp_path / "run" / "model", torch.rand(2, 3, 16, 16) * 2 - 1
    average = run.trainer.average.half().float().eval()
    with torch.no_grad():
        torch.testing.assert_close(open_judge(model).pictures(x), average.of_pictures(x), atol=1e-4, rtol=0)
    # A judge from before says nothing of its width; one that says nonsense is refused before memory is taken.
    config = judged[2] / "picture_encoder" / "config.json"
    told = json.loads(config.read_text())
    assert told.pop("width") == 96
    shutil.copytree(judged[2], tmp_path / "before")
    (tmp_path / "before" / "picture_encoder" / "config.json").write_text(json.dumps(told))
    torch.testing.assert_close(open_judge(tmp_path / "before").pictures(x), open_judge(judged[2]).pictures(x))
    for width in (0, 10**9, "wide", 96.7, True, math.inf):
        (model / "picture_encoder" / "config.json").write_text(json.dumps({**told, "width": width}))
        with pytest.raises(UserError, match="phosphene train retrieval"):
            open_judge(model)


def test_a_taught_text_encoder_stays_as_it_was_taught(judged, shards, tmp_path):
    recipe = tiny(images=16 * 3, text_width=8, text_heads=2, length=5)  # sizes that the teacher overrides
    run = CascadeRun(recipe, tmp_path / "run", shards, teacher=judged[2])
    assert run.trainer.recipe.taught and run.trainer.recipe.text_width == 16 and run.trainer.recipe.length == 16
    before = {k: v.clone() for k, v in run.trainer.painter.text.state_dict().items()}
    start = run.trainer.painter.image.proj_out.weight.clone()
    list(run)
    for network in (run.trainer.painter, run.trainer.average):
        assert all(torch.equal(v, before[k]) for k, v in network.text.state_dict().items())
    assert not torch.equal(run.trainer.painter.image.proj_out.weight, start)
    # It opens as any stage does, reads with the teacher's words, and goes on without the teacher.
    stage, teacher = open_cascade(tmp_path / "run" / "model").stages[0], open_judge(judged[2])
    ids, mask = tokens.encode(teacher.tokenizer, ["a red disc"], 16, 4096)
    torch.testing.assert_close(stage.embed("a red disc")[:, :-1], teacher.network.text(ids, mask)[0], atol=1e-5, rtol=1e-4)
    again = CascadeRun(replace(run.trainer.recipe, images=16 * 4), tmp_path / "run", shards, resume=True)
    assert not any(p.requires_grad for p in again.trainer.painter.text.parameters())
    assert [report.step for report in again] == [4]


def test_a_taught_text_encoder_may_learn_along_at_a_share_of_the_rate(judged, shards, tmp_path):
    recipe = tiny(images=16 * 3, warmup=1, ema=0.0)
    moved = []
    for share in (0.1, 1.0):
        run = CascadeRun(replace(recipe, listens=share), tmp_path / str(share), shards, teacher=judged[2])
        before = {k: v.clone() for k, v in run.trainer.painter.text.named_parameters()}
        list(run)
        changes = [(v - before[k]).abs().max() for k, v in run.trainer.painter.text.named_parameters()]
        assert max(changes) > 0
        moved.append(max(changes).item())
    assert moved[0] == pytest.approx(moved[1] / 10, rel=0.3)  # what Adam moves by is the rate
    with pytest.raises(UserError, match="--listens 1.5: must lie in 0..1"):
        replace(recipe, listens=1.5)


def test_a_picture_tower_learns_what_the_words_of_a_taught_text_encoder_look_like(judged, shards, tmp_path):
    recipe = stage_recipe("retrieval", images=16 * 3, batch_size=16, size=16, held_out=0, text_width=8, turned=0.5)
    run = CascadeRun(recipe, tmp_path / "run", shards, teacher=judged[2])
    before = {k: v.clone() for k, v in run.trainer.painter.state_dict().items()}
    list(run)
    after, taught = run.trainer.painter.state_dict(), load_file(judged[2] / "text_encoder" / "model.safetensors")
    moved = {k for k, v in after.items() if not torch.equal(v, before[k])}
    assert moved and all(k.startswith("space.") for k in moved)
    assert all(torch.equal(after[f"text.{k}"].half(), v) for k, v in taught.items())
    again = CascadeRun(replace(run.trainer.recipe, images=16 * 4), tmp_path / "run", shards, resume=True)
    assert not any(p.requires_grad for p in again.trainer.painter.text.parameters())


def test_a_judge_of_illusions_sees_things_turned_and_mirrored_each_way_as_often():
    x, generator = torch.rand(7000, 1, 4, 4), torch.Generator().manual_seed(1)
    ways = [m.rot90(k, (2, 3)) for m in (x, x.flip(3)) for k in range(4)]
    found = turned(x, 0.7, generator)
    shares = [float((found == way).all((1, 2, 3)).float().mean()) for way in ways]
    assert sum(shares) == pytest.approx(1, abs=1e-6)  # one of the eight, each
    assert shares == pytest.approx([0.3, *[0.1] * 7], abs=0.015)
    assert turned(x, 0.0, generator) is x


def test_a_run_may_change_its_teacher_and_keeps_how_to_draw(judged, shards, tmp_path):
    run = CascadeRun(tiny(images=16 * 4), tmp_path / "run", shards)
    list(run)
    before = run.trainer.average.image.half().float().state_dict()
    source = tmp_path / "run" / "model"
    again = CascadeRun(tiny(images=16 * 5), tmp_path / "next", shards, teacher=judged[2], source=source)
    after = again.trainer.painter.image.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed and all("attn2" in name or "caption_projection" in name for name in changed)
    assert again.trainer.recipe.taught and [report.step for report in again] == [5]
    with pytest.raises(UserError, match="--teacher .* is 16 wide and that of .* 8"):
        list(CascadeRun(tiny(images=16, text_width=8), tmp_path / "small", shards))
        CascadeRun(
            tiny(images=32, text_width=8), tmp_path / "other", shards, teacher=judged[2], source=tmp_path / "small" / "model"
        )


def test_a_teacher_that_is_none_is_named(shards, tmp_path):
    with pytest.raises(UserError, match=r"--teacher .*: holds no retrieval model"):
        CascadeRun(tiny(), tmp_path / "run", shards, teacher=tmp_path / "nobody")
    assert not (tmp_path / "run").exists()


# Several processes

SHARED = """
import sys
from pathlib import Path
import torch
from phosphene.training.text_to_image import run, scenes
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.stage_trainer import StageTrainer

def plain(self, network, x0, ids, mask, generator, shift=1.0):
    answer = network(0.5 * x0, torch.full((len(x0),), 500, device=x0.device), ids, mask)
    return (answer - x0).square().mean((1, 2, 3))

StageTrainer.loss, scenes.MANNERED = plain, 0.0  # no noise, which each process draws for itself
run.REPORT_STEPS = 5
recipe, (out, data, *more) = CascadeRecipe.read(Path(sys.argv[1])), map(Path, sys.argv[2:])
for _ in run.CascadeRun(recipe, out, data):
    pass
for begun in more:  # and what others began is gone on with, alone
    for _ in run.CascadeRun(recipe, begun, data, resume=True):
        pass
"""


def test_processes_share_a_batch_without_overlap(gallery):
    recipe = tiny()
    tokenizer = spoken(gallery, recipe, None)
    whole = Stories(gallery, tokenizer, recipe, None)[3]
    parts = [Stories(gallery, tokenizer, recipe, None, rows=range(rank, 16, 2))[3] for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.ids, whole.ids[rank::2]) and torch.equal(part.stage.papers, whole.stage.papers[rank::2])
    assert not torch.equal(parts[0].ids, parts[1].ids)


@thorough
def test_two_processes_train_what_one_trains_and_one_goes_on(tmp_path, shards):
    """Ten steps of 16 pictures alone; five as twice 8 over gloo and five more alone: without noise, the same to rounding."""
    (tmp_path / "child.py").write_text(SHARED)
    for processes in (2, 1):
        tiny(images=16 * (5 if processes == 2 else 10), held_out=0).write(tmp_path)
        out, launch = tmp_path / f"by-{processes}", [sys.executable]
        if processes > 1:
            launch += ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
        command = [*launch, *map(str, (tmp_path / "child.py", tmp_path, out, shards))]
        command += [str(tmp_path / "by-2")] if processes == 1 else []
        done = subprocess.run(command, env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, done.stdout + done.stderr
    outs = [tmp_path / f"by-{processes}" for processes in (1, 2)]
    (one, alone), (two, shared) = ((load_file(out / checkpoint.NAME), read_log(out / "log.jsonl")) for out in outs)
    assert [line["images"] for line in alone] == [line["images"] for line in shared] == [80, 160]
    assert [line["loss"] for line in shared] == pytest.approx([line["loss"] for line in alone], rel=1e-4)
    names = [name for name in one if name.startswith("network.")]
    apart = torch.cat([(one[name] - two[name]).abs().flatten() for name in names])
    moved = torch.cat([(one[name] - one[name.replace("network.", "average.")]).abs().flatten() for name in names])
    # Adam's first steps go by the sign of a gradient: few weights, whose gradient is nearly zero, may go the other way.
    assert apart.quantile(0.99) < 2e-5 < 1e-3 < moved.quantile(0.5)


def test_a_retrieval_model_is_trained_in_one_process(gallery):
    recipe = tiny(network="retrieval", held_out=0)
    place = Place("cpu")
    place.world = 2
    with pytest.raises(UserError, match="start it in one"):
        RetrievalTrainer(recipe, gallery, spoken(gallery, recipe, None), place=place)
    place.world = 3
    with pytest.raises(UserError, match="--batch-size 16: must be a multiple of the 3 processes"):
        StageTrainer(tiny(), gallery, spoken(gallery, recipe, None), place=place)
