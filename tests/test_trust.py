"""Laws of what is said: no success that is none, and nothing in a file's numbers that takes more than the file."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Knowing
from test_cli import call, here, made, refused, tree  # noqa: F401

from phosphene import load
from phosphene.drawing import Sampling, Task, run
from phosphene.errors import UserError
from phosphene.expression import cond
from phosphene.images import to_image
from phosphene.models import folders, tokens
from phosphene.models.cascade import open_cascade
from phosphene.models.scheduler import Scheduler
from phosphene.schedule import linear

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
        to_image(torch.full((3, 4, 4), value))


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
    ids, _ = tokens.encode(tokenizer, [long, long[: -len(rest)]], length)
    assert torch.equal(*ids)
    assert "cut" in call("generate", "a fox", "--negative", long, *options)[1]
    assert "cut" not in call("generate", "a fox", *options)[1]


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
