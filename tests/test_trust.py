"""Laws of what is said: no success that is none, and nothing in a file's numbers that takes more than the file."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from conftest import Knowing, refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import call, here, made, refused, tree  # noqa: F401

from phosphene import load
from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.expression import cond
from phosphene.images import to_images
from phosphene.models import folders, tokens
from phosphene.models.cascade import open_cascade
from phosphene.models.scheduler import Scheduler
from phosphene.models.text import PromptCut, PromptStrange
from phosphene.schedule import linear
from phosphene.tasks.generate import generate
from phosphene.training.mnist.recipes import Recipe
from phosphene.training.text_to_image.captions import Thesaurus
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.run import _taught, saved_recipe

GLYPH = folders.EMBEDDED / "glyph"


@pytest.fixture(scope="module")
def glyph(tmp_path_factory) -> Path:
    """A copy of the embedded cascade, which tests may damage and put right again."""
    return Path(shutil.copytree(GLYPH, tmp_path_factory.mktemp("copy") / "glyph"))


def changed(path: Path, **values: object):
    """Write ``values`` into a JSON file, None taking a key out; the file's own bytes are returned."""
    own = path.read_bytes()
    held = json.loads(own) | values
    path.write_text(json.dumps({key: value for key, value in held.items() if value is not None}))
    return own


# What is drawn


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_no_picture(value):
    model = Knowing(linear(20), torch.full((1, 3, 8, 8), value))
    task = Task(lambda stage, scale: cond("anything"))
    with pytest.raises(UserError, match=r"not finite \(NaN\), most likely because its weights"):
        list(run(task, model, [1], sampling=Sampling("ddim", 3, threshold=False)))
    with pytest.raises(UserError, match="not finite"):
        to_images(torch.full((1, 3, 4, 4), value))


def test_half_precision_is_named_where_it_is_used():
    model = Knowing(linear(20), torch.full((1, 3, 8, 8), float("nan")))
    model.network = torch.nn.Linear(1, 1).half()
    with pytest.raises(UserError, match="half precision overflowed; take --device cpu"):
        list(run(Task(lambda stage, scale: cond("anything")), model, [1], sampling=Sampling("ddim", 3)))


def test_nothing_is_written_of_weights_that_are_not_finite(refused, made, here):  # noqa: F811
    from phosphene.models import weights

    folder = Path(shutil.copytree(made["class"], here / "nan"))
    held = weights.load(folder / folders.WEIGHTS)
    name = next(name for name in held if held[name].is_floating_point())
    weights.save(held | {name: held[name] * float("nan")}, folder / folders.WEIGHTS)
    (folder / folders.SUMS).unlink()
    for argv in (["digits", "3"], ["digits", "34", "--count", 2], ["ambigram", "69"]):
        refused(*argv, "--model", "nan", "--steps", 2, words=("--model", "NaN"))


@pytest.mark.parametrize("kind", [torch.int64, torch.complex64], ids=str)
def test_weights_of_another_type_draw_nothing(refused, made, here, kind):  # noqa: F811
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(made["class"], here / "odd"))
    held = load_file(folder / folders.WEIGHTS)
    save_file(
        {name: value.to(kind) if value.is_floating_point() else value for name, value in held.items()}, folder / folders.WEIGHTS
    )
    (folder / folders.SUMS).unlink()
    refused("digits", "3", "--model", "odd", "--steps", 2, words=("is of type", "floating point"))


def test_what_is_no_file_is_no_model(refused, made, here):  # noqa: F811
    """A pipe may never end, and a SHA256SUMS that is none would compare nothing."""
    for name, words in ((folders.WEIGHTS, "model.safetensors: is no file"), (folders.SUMS, "SHA256SUMS: is no file")):
        folder = Path(shutil.copytree(made["class"], here / name.lower()))
        if name == folders.WEIGHTS:
            (folder / folders.SUMS).unlink()
        (folder / name).unlink()
        os.mkfifo(folder / name)
        refused("digits", "3", "--model", folder.name, words=words)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"network": {"width": -1}}, "config.json: no network is as it says"),
        ({"schedule": {"kind": "linear", "steps": "300"}}, "steps '300' is no whole number"),
        ({"schedule": {"kind": "linear", "steps": 1.5}}, "steps 1.5 is no whole number"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_named(refused, made, here, values, words):  # noqa: F811
    folder = Path(shutil.copytree(made["class"], here / "odd"))
    own = json.loads((folder / folders.CONFIG).read_text())
    changed(folder / folders.CONFIG, **{key: own[key] | value for key, value in values.items()})
    (folder / folders.SUMS).unlink()
    refused("digits", "3", "--model", "odd", words=words)


# What is written over


def test_a_picture_is_not_written_over_what_it_is_made_of(refused, here):  # noqa: F811
    from PIL import Image

    for name in ("it.png", "mask.png"):
        Image.fromarray(torch.arange(4096).view(64, 64).remainder(256).byte().numpy()).save(here / name)
    for out in ("it.png", "./it.png"):
        refused("edit", "it.png", "--prompt", "a fox", "-o", out, words=("-o it.png: it.png is what it is made of", "(image)"))
    refused("inpaint", "it.png", "mask.png", "-o", "mask.png", words=("-o mask.png", "(mask)"))


def test_pictures_beside_a_sheet_take_nobodys_place(refused, call, made, here, monkeypatch):  # noqa: F811
    digits = ["digits", "34", "--model", made["class"], "--steps", 2, "-o", "it.png"]
    (here / "it-2.png").write_bytes(b"a photograph")
    with monkeypatch.context() as patch:
        patch.setattr("phosphene.drawing.run", lambda *_, **__: pytest.fail("it was drawn"))
        refused(*digits, words=("-o it.png: it-2.png beside it is no picture of phosphene's", "choose another name"))
    (here / "it-2.png").unlink()
    assert call(*digits)[0] == 0 and call(*digits)[0] == 0  # its own it replaces


TAKEN = [
    ("morph", "a fox", "a hen", "--frames", 3),
    ("inpaint", "castle-hill", "castle-hill-mask", "--prompt", "a lake", "--compare"),
    ("generate", "a fox", "--steps-sweep", "2,3,4"),
    ("generate", "a fox", "a hen", "a cow"),
    ("overlay", "a fox", "a hen", "a cow"),
]


@pytest.mark.parametrize("argv", TAKEN, ids=lambda argv: " ".join(map(str, argv)))
def test_nobodys_place_is_looked_at_before_anything_is_drawn(refused, here, monkeypatch, argv):  # noqa: F811
    """However many pictures come of it."""
    (here / "it-3.png").write_bytes(b"a photograph")
    monkeypatch.setattr("phosphene.drawing.run", lambda *_, **__: pytest.fail("it was drawn"))
    refused(*argv, "--no-upscale", "-o", "it.png", words="it-3.png beside it is no picture of phosphene's")


def test_nor_of_the_picture_that_it_is_made_of(refused, call, here):  # noqa: F811
    """Which phosphene made, too."""
    shutil.copy(GLYPH.parents[1] / "images" / "castle-hill.png", here / "it-1.png")
    own = (here / "it-1.png").read_bytes()
    refused(
        "edit",
        "it-1.png",
        "--steps",
        3,
        "--start",
        "1,2",
        "--no-upscale",
        "-o",
        "it.png",
        words=("it-1.png is what it is made of", "(image)"),
    )
    assert (here / "it-1.png").read_bytes() == own and not (here / "it.png").exists()


def test_a_mask_that_would_repaint_nothing_is_refused(refused, here):  # noqa: F811
    from PIL import Image

    image = Image.new("RGB", (640, 640), "teal")
    image.save(here / "it.png")
    speck = Image.new("L", image.size)
    speck.putpixel((300, 300), 255)  # of the first stage's pixels a hundredth
    speck.save(here / "mask.png")
    refused("inpaint", "it.png", "mask.png", "--prompt", "a fox", words=("nowhere white", "64x64 pixels"))


def test_a_home_folder_is_not_a_folder_called_tilde(call, made, here, monkeypatch):  # noqa: F811
    monkeypatch.setenv("HOME", str(here / "home"))
    assert call("digits", "3", "--model", made["class"], "--steps", 2, "--out=~/it.png")[0] == 0
    assert (here / "home" / "it.png").is_file() and not (here / "~").exists()


@pytest.mark.parametrize("out", ["x" * 240 + ".png", "/proc/it.png"], ids=["long", "proc"])
def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_drawn(refused, here, monkeypatch, out):  # noqa: F811
    monkeypatch.setattr("phosphene.cli.drawing.Options.draw", lambda *_, **__: pytest.fail("it was drawn"))
    refused("digits", "3", "-o", out, words=(f"-o {out}: cannot be written", "choose a"))


# Schedulers


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEulerDiscreteScheduler"),
        ({"_class_name": "EDMDPMSolverMultistepScheduler"}, "EDMDPMSolverMultistepScheduler"),
        ({"_class_name": "EulerDiscreteScheduler"}, "only DDPMScheduler and DDIMScheduler"),
        ({"_class_name": None}, "None"),
        ({"num_train_timesteps": 10**9}, r"must lie in 1\.\.100000"),
        ({"num_train_timesteps": 0}, r"must lie in 1\.\.100000"),
        ({"num_train_timesteps": 1e3}, "num_train_timesteps 1000.0"),
        ({"num_train_timesteps": True}, "num_train_timesteps True"),
        ({"beta_schedule": "linear", "beta_start": "x"}, "beta_start 'x'"),
        ({"clip_sample": "no"}, "clip_sample 'no'"),
        ({"beta_schedule": ["linear"]}, "beta_schedule"),
        ({"clip_sample_range": 1e300}, r"clip_sample_range 1e\+300 is not supported"),
        ({"clip_sample_range": 0}, "clip_sample_range 0"),
        ({"clip_sample_range": 10**400}, "clip_sample_range 10"),
        ({"sample_max_value": -1}, "sample_max_value -1"),
        ({"dynamic_thresholding_ratio": 1.5}, "dynamic_thresholding_ratio 1.5"),
    ],
    ids=repr,
)
def test_a_schedule_that_is_not_known_is_refused(glyph, values, words):
    path = glyph / "stage-1" / "scheduler" / "scheduler_config.json"
    own = changed(path, **values)
    try:
        with pytest.raises(UserError, match=words) as refusal:
            Scheduler.read(path).schedule()
        assert str(path) in str(refusal.value) or "timesteps" in words or "must lie" in words
    finally:
        path.write_bytes(own)


# Prompts


def test_what_a_model_does_not_read_of_a_prompt_is_said(call, here):  # noqa: F811
    long = "a Red fox " + "and a hen " * 12 + "under the Moon"
    options = ["--steps", 1, "--no-upscale", "-o", "x.png"]
    code, out, err = call("generate", long, *options)
    assert (code, err) == (0, "") and out.count("\n") == 2
    rest = out.partition("it is cut, and '")[2].partition("' counts for nothing")[0]
    assert long.lower().endswith(rest) and 10 < len(rest) < len(long)
    tokenizer, length = tokens.load(GLYPH / "stage-1" / "tokenizer")
    ids, _ = tokens.encode(tokenizer, [long, long[: -len(rest)]], length, 4096)
    assert torch.equal(*ids)
    assert "cut" in call("generate", "a fox", "--negative", long, *options)[1]
    with pytest.warns(PromptCut, match=f"it is cut, and {rest!r} counts for nothing"):
        open_cascade("glyph", stages=1).encode([long])
    with warnings.catch_warnings(action="error"):
        open_cascade("glyph", stages=1).encode([long[: -len(rest)]])
    assert "cut" not in call("generate", "a fox", *options)[1]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a quokka in the rain", ["quokka"]),
        ("Ein Hund, ein Hund", ["ein", "hund"]),
        ("my two dogs", []),
        ("wolves with red cherries, 7 dancing foxes", []),
        ("a ????", []),
        ("two knives, they don't stop, one stopped hopping", ["hopping"]),
        ("a caf\u00e9, a cafe\u0301", ["caf\u00e9"]),
        ("a pi\u00f1ata, pin\u0303atas", []),
        ("a \ufb02ower, \uff26\uff2f\uff38", []),
        ("a fox \U0001f98a", ["\U0001f98a"]),
        ("\u72d7", ["\u72d7"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),
    ],
)
def test_words_that_a_model_was_never_told_of_are_strange(prompt, words):
    assert tokens.strange(prompt, tokens.load_words(GLYPH / "stage-1" / "tokenizer")) == words


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ("2 cats", "two cats"),
        ("a dog and 3 red apples.", "a dog and three red apples."),
        ("\uff14 birds, 5 fish", "four birds, five fish"),
        ("2 Pi\u00f1atas, pin\u0303atas", "two pinatas, pinatas"),
        ("(A) #castle!!!", "a castle"),
        ("a castle \u2764\ufe0f", "a castle"),
        ("2\ufe0f\u20e3 cats\u20143 dogs;4 fish", "two cats, three dogs, four fish"),
        ("a t\u2011rex, a snow\u2013covered hill, 5 o\u00b4clock", "a t-rex, a snow-covered hill, five o'clock"),
        ("\u201ca castle\u201d \U0001f3f0...", "a castle"),
        ("castle_on_a+hill?!", "castle on a hill"),
        ("a 'red' car; a dog \u2014 3 cats:", "a red car, a dog, three cats"),
        ("the dog\u2019s 1.5 cats, and,, 2/3 - ", "the dog's 1.5 cats, and, 2/3"),
    ],
)
def test_figures_are_read_as_the_words_that_scenes_are_told_in(figures, words):
    tokenizer, _ = tokens.load(GLYPH / "stage-1" / "tokenizer")
    assert tokenizer.encode(figures).ids == tokenizer.encode(words).ids
    learned = tokens.learn([words, "a cat", "a two-door car"] * 4, 64)
    assert learned.encode(figures).ids == learned.encode(words).ids
    for kept in (
        "a 2-door car",
        "1.5 cats",
        "room 2b",
        "12 cats",
        "at 3:45",
        "number 1",
        "2/3 of a cake",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
    ):
        for reader in (learned, tokenizer):  # what ships reads as what is learned
            assert reader.normalizer.normalize_str(kept) == kept


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Seven red\napples on a table", "seven red apples"),
        ("a house with 12 windows", "12 windows"),
        ("a dozen people", "dozen people"),
        ("five apples", ""),
        ("the seven of hearts", ""),
        ("a 70 years old man", ""),
        ("a 7 on a red background", ""),
        ("ten", ""),
        ("twenty-five balloons", "twenty-five balloons"),
        ("1,000 cranes", "1,000 cranes"),
        ("hundreds of birds", "hundreds of birds"),
        ("\uff17 cats", "7 cats"),
        ("6 deer", "6 deer"),
        ("3.7 cats", ""),
        ("two f-16 jets", ""),
        ("a boeing 747 in clouds", ""),
        ("90 degrees", ""),
        ("a house in 2020 with trees", ""),
        ("eight is the number of cats", ""),
        ("at 6 pm with birds", ""),
    ],
)
def test_more_than_scenes_show_is_found(prompt, said):
    assert tokens.uncounted(prompt) == said


def test_more_than_a_model_was_shown_is_said(call, here):  # noqa: F811
    options = ["--steps", 1, "--no-upscale", "-o", "x.png"]
    assert "told of five of a thing at most, so of '7 foxes' it draws what it guesses" in call("generate", "7 foxes", *options)[1]
    assert "at most" not in call("generate", "5 foxes", *options)[1]


def test_what_a_model_was_never_told_of_is_said(call, here, glyph):  # noqa: F811
    options = ["--steps", 1, "--no-upscale", "-o", "x.png"]
    code, out, err = call("generate", "a Fox beside a Quokka", *options)
    assert (code, err) == (0, "") and "never told of 'quokka'" in out and out.count("\n") == 2
    assert "never told of 'hund'" in call("generate", "a fox", "--negative", "Hund", *options)[1]
    assert "never" not in call("generate", "a fox beside a dog", *options)[1]
    code, out, err = call("generate", "a Quokka", "--autoguidance", "glyph", *options)
    assert (code, err) == (0, "") and out.count("never told of") == 1
    many = call("generate", " ".join(f"zz{c}q" for c in "abcdefgh"), *options)[1]
    assert "'zzaq', 'zzbq', 'zzcq', 'zzdq', 'zzeq' and 3 more, so" in many
    assert "has no word in it" in call("generate", "!!!", *options)[1]
    assert "never told of 'castel' (castle?), so" in call("generate", "a castel", *options)[1]
    with pytest.warns(PromptStrange, match="never told of 'quokka'") as warned:
        open_cascade("glyph", stages=1).encode(["a quokka"])
    with pytest.warns(PromptStrange) as later:
        next(run(generate(["a quokka"]), open_cascade("glyph", stages=1), [1], sampling=Sampling(steps=1)))
    assert {warned[0].filename, later[0].filename} == {__file__}
    list_of_words = glyph / "stage-1" / "tokenizer" / tokens.WORDS
    own = list_of_words.read_bytes()
    try:
        list_of_words.write_bytes(b"\xff")
        (glyph / folders.SUMS).rename(glyph / "away")
        with pytest.raises(UserError, match=r"words\.txt: is no text in UTF-8"):
            open_cascade(glyph, stages=1).encode(["a fox"])
        list_of_words.unlink()  # as of weights from before there were lists
        with warnings.catch_warnings(action="error"):
            open_cascade(glyph, stages=1).encode(["a quokka"])
    finally:
        list_of_words.write_bytes(own)
        (glyph / "away").rename(glyph / folders.SUMS)


def test_a_prompt_that_is_no_text_is_one_sentence(refused, here):  # noqa: F811
    refused("generate", os.fsdecode(b"a \xff fox"), "--steps", 1, words="is no text in UTF-8")


# Names of models


def test_sums_are_compared_however_a_model_is_named(glyph, monkeypatch):
    weights = next(glyph.glob("stage-1/transformer/*.safetensors"))
    own = weights.read_bytes()
    monkeypatch.chdir(glyph.parent)
    monkeypatch.setenv("HOME", str(glyph.parent))
    names = ["glyph", "./glyph", "~/glyph", str(glyph), f"{glyph}/", f"../{glyph.parent.name}/glyph"]
    assert all(open_cascade(name).stages for name in names[1:])
    try:
        weights.write_bytes(own[:-1] + bytes([own[-1] ^ 1]))
        for name in names[1:]:
            with pytest.raises(UserError, match="differs from its SHA-256"):
                open_cascade(name)
        assert open_cascade(names[0]).stages  # the embedded one
    finally:
        weights.write_bytes(own)


def test_sums_of_a_stage_by_itself_are_compared(glyph, tmp_path):
    part = Path(shutil.copytree(glyph / "stage-1", tmp_path / "stage-1"))
    weights = next(part.glob("transformer/*.safetensors"))
    (part / folders.SUMS).write_text(f"{'0' * 64} *transformer/{weights.name}\n")
    for name in (tmp_path, part):
        with pytest.raises(UserError, match="differs from its SHA-256"):
            open_cascade(name)


def test_sums_of_a_cascade_hold_for_a_stage_that_is_opened_alone(glyph, call, monkeypatch):  # noqa: F811
    weights = next(glyph.glob("stage-1/transformer/*.safetensors"))
    own = weights.read_bytes()
    assert call("models", "verify", glyph / "stage-1") == (0, f"{glyph}/stage-1: whole\n", "")
    try:
        weights.write_bytes(own[:-1] + bytes([own[-1] ^ 1]))
        monkeypatch.chdir(glyph)
        for name in ("stage-1", str(glyph / "stage-1"), "stage-2/../stage-1"):
            with pytest.raises(UserError, match="differs from its SHA-256"):
                open_cascade(name)
            assert call("models", "verify", name)[0] == 2
    finally:
        weights.write_bytes(own)


def test_sums_that_leave_weights_out_are_no_sums(glyph, made, tmp_path):  # noqa: F811
    """As a file that was cut short does."""
    one = Path(shutil.copytree(made["class"], tmp_path / "one"))
    (one / folders.SUMS).write_text("")
    with pytest.raises(UserError, match="model.safetensors: is not in SHA256SUMS"):
        load(one)
    lines = (glyph / folders.SUMS).read_text().splitlines(keepends=True)
    (glyph / folders.SUMS).write_text("".join(line for line in lines if "stage-2" not in line))
    try:
        with pytest.raises(UserError, match="stage-2/.*is not in SHA256SUMS"):
            open_cascade(glyph)
    finally:
        (glyph / folders.SUMS).write_text("".join(lines))


@pytest.mark.parametrize(
    "argv",
    [
        ("generate", "a fox"),
        ("digits", "3"),
        ("digits", "--unconditional"),
        ("ambigram", "69"),
        ("denoise-digits", "--dataset", "digits"),
        ("report",),
    ],
    ids=" ".join,
)
def test_a_model_without_a_name_is_refused(refused, here, argv):  # noqa: F811
    for name in ("", " "):
        refused(*argv, "--model", name, words=f'--model "{name}": is empty')


def test_no_other_model_may_be_without_a_name(refused, here):  # noqa: F811
    refused("ambigram", "69", "--classifier", "", words="is empty")
    refused("evaluate", "", words="is empty")
    refused("models", "info", "", words="is empty")
    refused("models", "verify", "", words="is empty")
    with pytest.raises(UserError, match="is empty"):
        load("")


def test_a_place_without_a_name_is_refused(refused, here):  # noqa: F811
    for argv in (["report"], ["digits", "3"], ["generate", "a fox"], ["denoise-digits"], ["rerun", "x.png"]):
        for place in ("", " "):
            refused(*argv, "-o", place, words="-o")
    refused("train", "class", "--out", "", words="--out")


@pytest.mark.parametrize("name", ["nope", "owner/nope", "class-20"])
def test_a_page_of_a_model_that_is_none_leaves_no_folder(refused, here, name):  # noqa: F811
    refused("report", "--model", name, "--quick", "-o", "page", words=name)


# Numbers out of files


@pytest.fixture
def little_memory():
    """Whoever asks for more than 3 GB in all, and 1.5 GB at once, is told that there is none."""
    resource = pytest.importorskip("resource")
    usual = resource.getrlimit(resource.RLIMIT_DATA)
    used = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")).split()[1])
    resource.setrlimit(resource.RLIMIT_DATA, (used * 1024 + 3 * 2**30 // 2, usual[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, usual)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"width": 10**6}, "does not fit"),
        ({"width": 10**12}, "width 1000000000000 is more than"),
        ({"width": 9}, "does not fit"),
        ({"width": "8"}, "no network has the sizes"),
        ({"width": -1}, "--width -1"),
        ({"classes": 10**6}, "does not fit"),
        ([], "no network has the sizes"),
        (None, "is incomplete or wrong"),
    ],
    ids=repr,
)
def test_sizes_in_a_config_take_no_more_than_the_weights(refused, made, here, little_memory, network, words):  # noqa: F811
    folder = Path(shutil.copytree(made["class"], here / "odd"))
    config = json.loads((folder / folders.CONFIG).read_text())
    whole = config["network"] | network if isinstance(network, dict) else network
    (folder / folders.CONFIG).write_text(json.dumps(config | {"network": whole}))
    (folder / folders.SUMS).unlink()
    refused("digits", "3", "--model", "odd", words=words)


def test_timesteps_in_a_config_are_counted_first(refused, made, here, little_memory):  # noqa: F811
    folder = Path(shutil.copytree(made["class"], here / "odd"))
    config = json.loads((folder / folders.CONFIG).read_text())
    for steps, words in ((10**6, "must lie in 1..100000"), (10**9, "is more than"), (0, "must lie in"), ("5", "schedule")):
        told = config | {"schedule": config["schedule"] | {"steps": steps}}
        (folder / folders.CONFIG).write_text(json.dumps(told))
        (folder / folders.SUMS).unlink(missing_ok=True)
        refused("digits", "3", "--model", "odd", words=words)
    refused("train", "class", "--dataset", "digits", "--timesteps", 10**9, words="--timesteps 1000000000")


@pytest.mark.parametrize(
    ("file", "values", "words"),
    [
        ("transformer/config.json", {"num_layers": 10**9}, "num_layers 1000000000 is more than"),
        ("transformer/config.json", {"sample_size": 10**6}, "sample_size in 1..4096"),
        ("transformer/config.json", {"sample_size": "64"}, "sample_size in 1..4096"),
        ("transformer/config.json", {"attention_head_dim": 10**6}, "cross_attention_dim 384"),
        ("transformer/config.json", {"num_layers": 3}, "does not fit"),
        ("transformer/config.json", {"sample_size": 4096}, "does not make 1..256 patches a side"),
        ("transformer/config.json", {"patch_size": "4"}, "patch_size 4 does not make"),
        ("transformer/config.json", {"in_channels": 10**400}, "in_channels 1000"),
        ("text_encoder/config.json", {"d_model": 10**6}, "does not fit"),
        ("text_encoder/config.json", {"vocab_size": 10**9}, "vocab_size 1000000000 is more than"),
        ("text_encoder/config.json", {"num_layers": 10**9}, "num_layers 1000000000 is more than"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**9}, "model_max_length 1000000000"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": 1e30}, "model_max_length 1e+30"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "24"}, "model_max_length '24'"),
    ],
    ids=repr,
)
def test_sizes_of_a_cascade_take_no_more_than_its_weights(refused, here, glyph, little_memory, file, values, words):  # noqa: F811
    part = Path(shutil.copytree(glyph / "stage-1", here / "odd" / "stage-1")) / file
    changed(part, **values)
    refused("generate", "a fox", "--model", "odd", "--steps", 1, words=words)


BROKEN = [b"", b"{", b"[" * 10**5, b"\xff\xfe", b"[]", b'{"vocab_size": ' + b"9" * 5000 + b"}"]


@pytest.mark.parametrize("text", BROKEN, ids=lambda text: str(text[:9]))
def test_a_broken_config_is_one_sentence(refused, here, glyph, made, text):  # noqa: F811
    part = Path(shutil.copytree(glyph / "stage-1", here / "odd" / "stage-1"))
    for file in ("text_encoder/config.json", "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json"):
        own = (part / file).read_bytes()
        (part / file).write_bytes(text)
        refused("generate", "a fox", "--model", "odd", "--steps", 1, words=f"{file.partition('/')[2]}: is no")
        (part / file).write_bytes(own)
    folder = Path(shutil.copytree(made["class"], here / "digits"))
    (folder / folders.CONFIG).write_bytes(text)
    refused("digits", "3", "--model", "digits", words="config.json: is no")


LEFT = {
    "no images": {"images": None, "recipe": {}},
    "images without end": {"images": math.inf, "recipe": {}},
    "a recipe that is a list": {"images": 8, "recipe": [1]},
    "a number beyond floats": {"images": 8, "recipe": {"lr": 10**400}, "lr": 10**400},
    "words that are none": {"same": {"fox": 5}, "near": {}},
    "words without words": {"same": {"fox": []}, "near": {}},
    "an encoder without sizes": {"d_model": None, "num_layers": 1, "num_heads": 1},
}


@pytest.mark.parametrize("held", [*BROKEN, *LEFT.values()], ids=lambda held: str(held)[:30])
def test_what_another_run_left_is_one_sentence(tmp_path, held):
    (tmp_path / "text_encoder").mkdir()
    for file in ("recipe.json", "text_encoder/config.json"):
        (tmp_path / file).write_bytes(held if isinstance(held, bytes) else json.dumps(held).encode())
    readers = [saved_recipe, lambda path: _taught(CascadeRecipe(), path), lambda path: Thesaurus.load(path / "recipe.json")]
    readers += [CascadeRecipe.read] * (isinstance(held, bytes) or "lr" in held)
    for reader in readers:
        refusal(lambda reader=reader: reader(tmp_path))


@pytest.mark.parametrize("values", [{"epochs": True}, {"epochs": 1.5}, {"lr": "0.1"}, {"network": 5}], ids=str)
def test_a_recipe_of_other_types_is_one_sentence(values):
    (name,) = values
    refusal(lambda: Recipe.from_json(Recipe("class").to_json() | values), "recipe.json", f"{name} is {values[name]!r}")


@pytest.mark.parametrize("line", ["fox", "fox n", "fox n x", "fox n 1 @ 1 0 99999999", "fox n 1 @ 1 0 -5", "fox n 9 @ 1 0 3", ""])
def test_a_damaged_wordnet_is_one_sentence(tmp_path, line):
    (tmp_path / "index.noun").write_text(f"{line}\n")
    for data in ("", "00000000 05 n 01 fox 0 000 | x\n", "00000000 05 n zz fox", "00000000 05 n 0f fox 0 001 @ 99 n 0000 | x\n"):
        (tmp_path / "data.noun").write_text(data)
        with pytest.raises(UserError, match="--wordnet .*wordnet-base"):
            Thesaurus.from_wordnet(tmp_path, ["fox"])


ODD = {
    "config.json": [{"schedule": "x"}, {"schedule": [1]}],
    "stage-1/transformer/config.json": [{"caption_channels": {}}, {"out_channels": [1]}, {"interpolation_scale": "x"}],
    "stage-1/text_encoder/config.json": [{"relative_attention_num_buckets": "x"}, {"relative_attention_max_distance": []}],
}


@pytest.mark.parametrize("file", ODD)
def test_a_value_of_another_kind_is_one_sentence(glyph, made, tmp_path, file):  # noqa: F811
    folder = Path(shutil.copytree(made["class"] if file == "config.json" else glyph, tmp_path / "odd"))
    (folder / folders.SUMS).unlink()
    own = (folder / file).read_bytes()
    for values in ODD[file]:
        changed(folder / file, **values)
        with pytest.raises(UserError, match=r"odd/.*\.$"):
            load(folder) if file == "config.json" else open_cascade(folder).encode(["a fox"])
        (folder / file).write_bytes(own)


def test_sums_of_files_that_cannot_be_are_one_sentence(made, tmp_path):  # noqa: F811
    folder = Path(shutil.copytree(made["class"], tmp_path / "odd"))
    for name in ("x" * 5000, "\0", "../nowhere"):
        (folder / folders.SUMS).write_text(f"{'0' * 64}  {name}\n")
        with pytest.raises(UserError, match="is missing"):
            load(folder)


def test_weights_that_a_network_lacks_are_not_read(made, here, monkeypatch):  # noqa: F811
    """A tensor of three gigabytes, of which the file has none: it is sparse."""
    folder = Path(shutil.copytree(made["class"], here / "odd"))
    weights = folder / folders.WEIGHTS
    own = weights.read_bytes()
    length = int.from_bytes(own[:8], "little")
    header, size = json.loads(own[8 : 8 + length]), len(own) - 8 - length
    header["more"] = {"dtype": "F32", "shape": [3 * 2**28], "data_offsets": [size, size + 3 * 2**30]}
    text = json.dumps(header).encode()
    with weights.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + own[8 + length :])
        file.truncate(8 + len(text) + size + 3 * 2**30)
    (folder / folders.SUMS).unlink()
    monkeypatch.setattr("phosphene.models.weights.load", lambda path: pytest.fail("it was read"))
    with pytest.raises(UserError, match="first difference: more"):
        load(folder)


def test_an_image_set_that_unpacks_to_very_much_is_refused(tmp_path, little_memory):
    from phosphene.training.mnist.data import PARTS, load_dataset

    packed = gzip.compress(bytes(2**20), 9)
    with (tmp_path / f"{PARTS[0]}.gz").open("wb") as file:
        file.write(gzip.compress(b"\0\0\x08\x03" + (5_000_000).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2))
        for _ in range(4000):
            file.write(packed)
    for part in PARTS[1:]:
        (tmp_path / f"{part}.gz").write_bytes(b"")
    with pytest.raises(UserError, match=r"idx3-ubyte\.gz: holds more than"):
        load_dataset("idx", tmp_path)


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_broken_prompt_embeddings_are_read_or_refused(tmp_path_factory, changes):
    from phosphene.models.text import TOKENS, read_embeddings

    held = io.BytesIO()
    torch.save({"a fox": torch.zeros(1, TOKENS, 2)}, held)
    content = bytearray(held.getvalue())
    for at, value in changes:
        content[at % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "embeddings.pth"
    path.write_bytes(content)
    try:
        assert all(known.shape == (TOKENS, 2) for known in read_embeddings(path, 2).values())
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("held", [torch.full((1, 77, 2), float("nan")), torch.zeros(1, 77, 2).int()], ids=["NaN", "int"])
def test_prompt_embeddings_are_finite_numbers(tmp_path, held):
    from phosphene.models.text import read_embeddings

    torch.save({"a fox": held}, tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"odd\.pth: 'a fox' holds what are no finite numbers"):
        read_embeddings(tmp_path / "odd.pth", 2)


@pytest.mark.parametrize(
    "argv",
    [
        ("hybrid", "a fox", "a hen", "--sigma", "1e30"),
        ("hybrid", "a fox", "--from", "castle-hill", "--sigma", "1e30"),
        ("hybrid", "a fox", "a hen", "--kind", "motion", "--length", "1e30"),
        ("denoise-digits", "--dataset", "digits", "--sigma", "1e30"),
    ],
    ids=" ".join,
)
def test_sizes_on_the_command_line_are_bounded(refused, here, argv):  # noqa: F811
    refused(*argv, words=f"{argv[-2]} ")
