"""Laws of what pictures say of themselves: whoever made one chose its words, and they never become a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from test_cli import call, here, made, refused, tree  # noqa: F401

from phosphene.cli import common, main
from phosphene.cli.drawing import REMADE
from phosphene.errors import UserError
from phosphene.images import save_png
from phosphene.readers import read_provenance

STORY = {"command": "digits", "version": "1", "model": "class-20", "torch": "2", "arguments": {"digits": "3", "steps": 2}}


def tell(name: str = "it.png", **changes: object) -> Path:
    """A picture that says it was made as STORY but for ``changes``; arguments are added to its own."""
    arguments = {**STORY["arguments"], **changes.pop("arguments", {})}
    save_png(Image.new("L", (28, 28)), Path(name), {**STORY, "arguments": arguments, **changes})
    return Path(name)


def test_a_story_of_the_kind_we_write_is_drawn(call, here):  # noqa: F811
    tell(arguments={"solver": "dpm", "seed": 3, "unconditional": False, "guidance": 2, "eta": None})
    code, out, err = call("rerun", "it.png")
    assert (code, err) == (0, "") and "--seed=3" in out and Path("it-again.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"out": "other.png"}, 'out "other.png"'),
        ({"animate": "other.gif"}, "animate"),
        ({"model": "class-20"}, "model"),
        ({"data": "/"}, "data"),
        ({"prompt": "a fox"}, "prompt"),
        ({"help": True}, "help"),
        ({"_": 1}, "_"),
        ({"": 1}, "digits never writes"),
        ({"digits": 3}, "digits 3"),
        ({"digits": ["3"]}, "digits"),
        ({"seed": "3"}, "seed"),
        ({"seed": True}, "seed true"),
        ({"seed": 3.5}, "seed 3.5"),
        ({"guidance": {"a": 1}}, "guidance"),
        ({"unconditional": "yes"}, "unconditional"),
        ({"unconditional": 1}, "unconditional"),
        ({"solver": "x\x1b[2J"}, r"solver x\u001b[2J"),
        ({"digits": "3\x00"}, "DIGITS"),
        ({"seed": 10**400}, "seed"),
        ({"steps": 10**400}, "steps"),
        ({"guidance": 1e308, "device": "\udcff"}, "device"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_key_or_a_type_that_no_command_writes_is_refused(call, here, arguments, words):  # noqa: F811
    Path("other.png").write_bytes(b"mine")
    tell(arguments=arguments)
    before = tree(here)
    code, _, err = call("rerun", "it.png", "-o", "mine/new.png")
    assert code == 2 and words in err and err.count("\n") == 1 and err.isascii()
    assert tree(here) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"command": "train"},
        {"command": ["digits"]},
        {"command": "report"},
        {"command": "rerun"},
        {"command": "--help"},
        {"arguments_": {}},
        {"out": "other.png"},
        {"model": 5},
        {"model": ["class-20"]},
        {"number": [0, 1]},
        {"number": [2, 1]},
        {"number": [1, 10**9]},
        {"number": [True, True]},
        {"number": "12"},
        {"number": []},
        {"number": [1, 2]},
        {"version": {"a": []}},
        {"inputs": []},
        {"inputs": {"digits": "abc"}},
        {"inputs": {"digits": 5}},
        {"inputs": {"nothing": "0" * 64}},
        {"inputs": {"model": "0" * 64}},
        {"inputs": {"digits": "0" * 64}},
    ],
    ids=repr,
)
def test_a_story_that_no_command_tells_is_refused(call, here, changes):  # noqa: F811
    tell(**changes)
    before = tree(here)
    code, _, err = call("rerun", "it.png")
    assert code == 2 and err.count("\n") == 1 and tree(here) == before


def test_a_picture_is_not_made_again_in_its_own_place(refused, here):  # noqa: F811
    """By whatever name: it would be compared with itself."""
    Path("deep").mkdir()
    path = tell()
    before = path.read_bytes()
    for out in ("it.png", "./it.png", "deep/../it.png", str(here / "it.png")):
        refused("rerun", "it.png", "-o", out, words="is the picture to be made again")
        assert path.read_bytes() == before


@pytest.mark.parametrize("story", [{}, {"command": "digits"}, {"command": "digits", "arguments": [], "model": "class-20"}])
def test_half_a_story_is_refused(refused, here, story):  # noqa: F811
    save_png(Image.new("L", (8, 8)), Path("it.png"), story)
    refused("rerun", "it.png", words="it.png")


@pytest.mark.parametrize(
    ("command", "model", "arguments", "option", "value"),
    [
        ("digits", "somewhere", {}, "--allow-model", "somewhere"),
        ("digits", "../class-20", {}, "--allow-model", "../class-20"),
        ("digits", "", {}, "--allow-model", ""),
        ("generate", "owner/name", {}, "--allow-model", "owner/name"),
        ("ambigram", "class-20", {"classifier": "/etc"}, "--allow-model", "/etc"),
        ("generate", "glyph", {"embeddings": "x.pth"}, "--allow-file", "x.pth"),
        ("edit", "glyph", {"image": "/dev/zero"}, "--allow-file", "/dev/zero"),
        ("inpaint", "glyph", {"image": "castle-hill", "mask": "secret.png"}, "--allow-file", "secret.png"),
        ("hybrid", "glyph", {"from": "secret.png"}, "--allow-file", "secret.png"),
        ("compose", "glyph", {"mask": "secret.png"}, "--allow-file", "secret.png"),
        ("denoise-digits", "elsewhere", {}, "--allow-model", "elsewhere"),
    ],
)
def test_what_would_be_opened_is_asked_for_by_name(call, here, monkeypatch, command, model, arguments, option, value):  # noqa: F811
    ran = []
    monkeypatch.setattr("phosphene.cli.provenance._again", lambda argv, _: ran.append(argv) or 2)
    save_png(Image.new("L", (8, 8)), Path("it.png"), {**STORY, "command": command, "model": model, "arguments": arguments})
    code, out, err = call("rerun", "it.png")
    assert code == 2 and not ran and option in err and repr(value).strip("'") in err and out == ""
    assert call("rerun", "it.png", option, value + "x")[0] == 2 and not ran
    call("rerun", "it.png", option, value)
    assert len(ran) == 1


def test_what_ships_with_the_package_is_not_asked_for(call, here, monkeypatch):  # noqa: F811
    ran = []
    monkeypatch.setattr("phosphene.cli.provenance._again", lambda argv, _: ran.append(argv) or 2)
    arguments = {"image": "castle-hill", "mask": "castle-hill-mask"}
    save_png(Image.new("L", (8, 8)), Path("it.png"), {**STORY, "command": "inpaint", "model": "glyph", "arguments": arguments})
    call("rerun", "it.png")
    assert ran == [["inpaint", "--out=it-again.png", "--model=glyph", "--", "castle-hill", "castle-hill-mask"]]
    Path("castle-hill").write_text("a file of the reader's, called like a sample")
    call("rerun", "it.png")
    assert len(ran) == 1


def test_on_a_terminal_a_question_does(call, here, monkeypatch):  # noqa: F811
    ran, asked = [], []
    monkeypatch.setattr("phosphene.cli.provenance._again", lambda argv, _: ran.append(argv) or 2)
    for stream in ("stdin", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True, raising=False)
    tell(model="some\x1bwhere")
    for answer in (False, True):
        monkeypatch.setattr("typer.confirm", lambda text, err, answer=answer: asked.append(text) or answer)
        call("rerun", "it.png")
        assert len(ran) == answer and "\\u001b" in asked[-1] and "\x1b" not in asked[-1]


def test_texts_out_of_files_are_shown_and_not_obeyed(call, here):  # noqa: F811
    evil = "\x1b]0;owned\x07 \x9b2J \u202egnp.exe \x7f \ud83d \r"
    tell(arguments={"digits": evil}, model=evil)
    code, out, err = call("inspect", "it.png")
    assert code == 0 and json.loads(out) == read_provenance(Path("it.png"))
    code, more, err = call("rerun", "it.png")
    assert code == 2
    for text in (out, more, err):
        assert all(c.isprintable() or c == "\n" for c in text)


@given(st.text())
def test_what_is_visible_reads_back(text):
    shown = common.visible(json.dumps(text, ensure_ascii=False))
    assert json.loads(shown) == text and shown.replace("\n", "").isprintable()
    assert common.visible(shown) == shown


def test_what_is_refused_by_now_is_not_said_to_have_been_typed(call, here):  # noqa: F811
    tell(arguments={"digits": None, "unconditional": True, "guidance": 3.0})
    code, out, err = call("rerun", "it.png")
    assert code == 2 and "--guidance=3.0" in out and not Path("it-again.png").exists()
    assert "it.png: cannot be made again as it says (--guidance 3.0: says how to guide" in err and "type the line above" in err
    tell(arguments={"steps": 10**5})
    assert "it.png: cannot be made again as it says (--steps 100000: " in call("rerun", "it.png")[2]


def test_each_command_takes_again_what_it_writes_and_nothing_else(call, here, made):  # noqa: F811
    """All of them are drawn again in test_part_a, test_generate and below; here the keys, of the one with none in common."""
    from phosphene.cli.provenance import _options

    argv = ["denoise-digits", "--model", made["denoiser"], "--dataset", "digits", "--count", 2, "--sigma", ".5", "-o", "d.png"]
    assert call(*argv)[0] == 0
    assert set(read_provenance(Path("d.png"))["arguments"]) | {"model"} == set(_options("denoise-digits"))
    code, out, err = call("rerun", "d.png", "--allow-model", made["denoiser"])
    assert (code, err) == (0, "") and "byte for byte" in out
    assert call("digits", "3", "--steps", 2, "-o", "digits.png")[0] == 0
    assert set(read_provenance(Path("digits.png"))["arguments"]) | {"model"} == set(_options("digits"))
    for name in REMADE:
        assert not {"out", "animate", "data", "help"} & set(_options(name))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6), lambda inner: st.lists(inner, max_size=3)
)


@given(
    st.sampled_from(REMADE), st.dictionaries(st.sampled_from(["seed", "steps", "view", "out", "prompts", "image"]), json_values)
)
@settings(max_examples=200, deadline=None)
def test_any_story_is_a_command_line_of_ours_or_refused(command, arguments):
    from phosphene.cli.provenance import _argv, _checked

    story = {**STORY, "command": command, "arguments": arguments}
    try:
        argv = _argv(_checked(story, Path("it.png")), Path("mine.png"))
    except UserError:
        return
    assert argv[:2] == [command, "--out=mine.png"] and "out" not in arguments
    assert not any(word.startswith(("-o", "--out")) for word in (argv[2 : argv.index("--")] if "--" in argv else argv[2:]))


def test_a_file_is_told_by_its_name_and_what_is_in_it(call, refused, here):  # noqa: F811
    """Where it lay is nobody's business; it is found again where the reader says, if it is the same."""
    Path("private").mkdir()
    Image.effect_noise((64, 64), 50).convert("RGB").save("private/me.png")
    assert call("edit", "private/me.png", "--start", 1, "--steps", 2, "--no-upscale", "-o", "it.png")[0] == 0
    story = read_provenance(Path("it.png"))
    assert story["arguments"]["image"] == "me.png" and "private" not in json.dumps(story) and set(story["inputs"]) == {"image"}
    Path("private").rename("elsewhere")
    refused("rerun", "it.png", words="wants to open me.png (image)")
    code, out, err = call("rerun", "it.png", "--allow-file", "elsewhere/me.png")
    assert (code, err) == (0, "") and "byte for byte" in out
    Image.effect_noise((64, 64), 50).convert("RGB").save("me.png")
    refused("rerun", "it.png", "--allow-file", "me.png", "-o", "new.png", words="me.png: is not the file that it.png was made of")
    refused(
        "rerun", "it.png", "--allow-file", "gone/me.png", "-o", "new.png", words="--allow-file gone/me.png: there is no such file"
    )


def test_a_file_called_like_a_sample_is_not_taken_for_it(call, here, monkeypatch):  # noqa: F811
    ran = []
    monkeypatch.setattr("phosphene.cli.provenance._again", lambda argv, _: ran.append(argv) or 2)
    arguments = {"image": "castle-hill", "mask": "castle-hill-mask"}
    story = {**STORY, "command": "inpaint", "model": "glyph", "arguments": arguments, "inputs": {"image": "0" * 64}}
    save_png(Image.new("L", (8, 8)), Path("it.png"), story)
    assert call("rerun", "it.png")[0] == 2 and not ran


def test_an_animation_is_written_where_nobody_but_the_reader_says(refused, here):  # noqa: F811
    """``animate`` is an option of the command, and yet no word of a picture's."""
    arguments = {"prompts": ["a", "b"], "view": ["flip"], "animate": "other.gif"}
    save_png(Image.new("L", (8, 8)), Path("it.png"), {**STORY, "command": "anagram", "model": "glyph", "arguments": arguments})
    refused("rerun", "it.png", words='animate "other.gif", which anagram never writes')


def test_the_way_in_is_the_same(here):  # noqa: F811
    """A wrong option of a command inside is told once, and its exit code is rerun's."""
    tell(arguments={"steps": -1})
    assert main(["rerun", "it.png"]) == 2
