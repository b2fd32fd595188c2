"""What the README promises in numbers and names, held against what is there."""

from __future__ import annotations

import inspect
import re
import shlex
import socket
import sys
import tomllib
from fnmatch import fnmatch
from importlib import import_module
from pathlib import Path

import pytest
from test_cli import call, here, made, refused  # noqa: F401  (fixtures)

import phosphene
import phosphene.web.serve
from phosphene import defaults
from phosphene.cli.digits import ambigram
from phosphene.defaults import CONCEPTS
from phosphene.models import folders, tokens
from phosphene.models.cascade import usual_of
from phosphene.readers import read_provenance
from phosphene.tasks.sketches import read
from phosphene.training.text_to_image.manners import MANNERS
from phosphene.training.text_to_image.phrases import STYLES
from phosphene.training.text_to_image.places import PLACES

ROOT = Path(__file__).parent.parent
README = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
GALLERY = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
CARD = (folders.EMBEDDED / "glyph" / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NUMBERS = {"twelve": 12, "sixteen": 16, "twenty-four": 24, "twenty-one": 21, "eight": 8, "nine": 9, "five": 5, "four": 4}


def number(pattern: str, text: str = README) -> float:
    """The number, in digits or in letters, that the one group of ``pattern`` finds."""
    word = re.search(pattern, text).group(1)
    return NUMBERS.get(word.lower()) or float(word.replace(",", ""))


# Pictures


def drawn() -> list[tuple[str, Path]]:
    """Commands with the pictures that stand beside them, of the README and the gallery."""
    rows = re.findall(r"\(images/(gallery/[\w-]+\.png)\).*?`(phosphene [^`]+)`", GALLERY)
    found = [(command, ROOT / "docs" / "images" / name) for name, command in rows]
    first = README.partition("## Two commands")[0]
    beside = re.findall(r"`(phosphene (?:generate|anagram)[^`]* -o (?:words|castle-elephant)\.png)`", first)
    where = {"words.png": "words.png", "castle-elephant.png": "gallery/castle-elephant.png"}
    return found + [(command, ROOT / "docs" / "images" / where[command.rpartition(" ")[2]]) for command in beside]


def test_a_picture_is_what_its_command_makes():
    """By what it says of itself."""
    assert len(drawn()) == 38
    for command, path in drawn():
        story, words = read_provenance(path), shlex.split(command)[1:]
        options = {words[k][2:].replace("-", "_"): words[k + 1] for k in range(len(words) - 1) if words[k].startswith("--")}
        prompts = words[1 : 1 + len(story["arguments"]["prompts"])]
        assert (story["command"], story["arguments"]["prompts"]) == (words[0], prompts), command
        assert story["model"] == (defaults.FAST if words[0] == "generate" else defaults.CASCADE), command
        for name in {"view", "seed", "sigma"} & options.keys():
            told = story["arguments"][name]
            assert options[name] == str(told[0] if isinstance(told, list) else told).removesuffix(".0"), command


def test_the_gallery_is_counted_as_it_is():
    assert number(r"([\w-]+) anagrams in") == len(re.findall(r"`phosphene anagram ", GALLERY))
    assert number(r"anagrams in (\w+) views") == len(set(re.findall(r"--view ([\w-]+)", GALLERY)))
    assert number(r"and (\w+) hybrids") == len(re.findall(r"`phosphene hybrid ", GALLERY))


def test_the_matchmaker_found_the_pairs_that_it_is_said_to_have_found():
    tried = {(each.view, each.first, each.second) for each in read(CONCEPTS).tried}
    assert {("flip", "a police car", "a koala"), ("rotate-180", "a castle", "an elephant")} <= tried


# What ships, and what it takes


def test_all_files_of_the_package_ship_with_it():
    """What is no module is named in pyproject.toml, or a wheel has not got it."""
    source = Path(phosphene.__file__).parent
    every = [path for path in source.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    files = [path.relative_to(source).as_posix() for path in every]
    named = PROJECT["tool"]["setuptools"]["package-data"]["phosphene"]
    patterns = [pattern.replace("**/", "*").replace("**", "*") for pattern in named]
    assert len(files) > 50 and not [name for name in files if not any(fnmatch(name, pattern) for pattern in patterns)]


def test_the_sizes_and_versions_are_those_that_are():
    held = sum(path.stat().st_size for path in (folders.EMBEDDED / "glyph").rglob("*") if path.is_file())
    assert number(r"a text-to-image model of (\d+) MB") == round(held / 1e6)
    least = re.search(r"Python (\d+\.\d+) or newer", README).group(1)
    assert PROJECT["project"]["requires-python"] == f">={least}"


@pytest.mark.parametrize("argv", [["digits", "3", "--steps", 2], ["generate", "a castle", "--steps", 1, "--no-upscale"]], ids=str)
def test_no_network_is_reached_for(call, here, monkeypatch, argv):  # noqa: F811
    def refuse(*_: object) -> None:
        raise AssertionError("it reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    assert call(*argv, "-o", "it.png")[0] == 0


def test_the_studio_without_gradio_says_what_to_install(refused, monkeypatch):  # noqa: F811
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    refused("serve", words="pip install 'phosphene[web]'")


def test_every_task_that_is_named_is_there():
    named = re.findall(r"`(\w+)(?:\([^`]*\))?`", re.search(r"`anagram\(\.\.\.\)` is a \*task\*.*?are others", README).group(0))
    assert len(named) == 10 and all(callable(getattr(phosphene, name)) for name in named)


# Defaults


def test_defaults_are_those_that_are_told():
    assert number(r"(\d+) ancestral steps; --solver dpm takes") == defaults.SOLVERS["ancestral"].digits
    assert number(r"--solver dpm takes (\d+)") == defaults.SOLVERS["dpm"].digits
    assert number(r"the best of (\d+), both ways up") == inspect.signature(ambigram).parameters["count"].default
    assert number(r"draws 64x64 pictures in (\w+) steps") == defaults.OWN_USUAL.steps
    assert number(r"the same distilled to (\w+) steps") == len(usual_of(defaults.FAST).timesteps)
    starts = re.search(r"SDEdit from starts ([\d, ]+)", README).group(1)
    assert tuple(map(int, starts.split(","))) == defaults.STARTS
    assert (defaults.NOISE_LEVELS[0], defaults.NOISE_LEVELS[-1]) == (0, 1) and "from sigma 0 to 1" in README


def test_unconditional_digits_are_of_the_model_that_is_told(call, here):  # noqa: F811
    assert call("digits", "--unconditional", "--steps", 1, "--solver", "dpm", "-o", "it.png")[0] == 0
    assert read_provenance(here / "it.png")["model"] == "time-20" and "the time-conditioned model" in README


@pytest.mark.parametrize(
    ("argv", "count"),
    [
        (["morph", "a dog face", "a cat face", "--frames", 3, "--steps", 1, "--no-upscale"], 3),
        (["inpaint", "castle-hill", "castle-hill-mask", "--compare", "--steps", 2, "--no-upscale"], 3),
    ],
    ids=["morph", "inpaint"],
)
def test_several_pictures_are_numbered_beside_their_sheet(call, here, argv, count):  # noqa: F811
    assert call(*argv, "-o", "it.png")[0] == 0
    names = [f"it-{k}.png" for k in range(1, count + 1)]
    assert len({(here / name).read_bytes() for name in names}) == count
    assert {path.name for path in here.iterdir()} == {"it.png", *names}


# What glyph knows, and what it is worth


def test_what_glyph_knows_is_what_it_was_taught():
    assert number(r"([\w-]+) grounds, most by day") == len(PLACES)
    assert number(r"some ([\d,]+) things") == 100 * (number(r"pictures of ([\d,]+) things", CARD) // 100)
    manners = re.findall(r'"([^"]+)"', re.search(r"and manners: (.*?)\. They draw", README).group(1))
    said = {phrase for _, phrases in MANNERS.values() for phrase in phrases} | {
        word for words in STYLES.values() for word in words
    }
    assert len(manners) == 10 and not [manner for manner in manners if not any(manner in phrase for phrase in said)]


def test_what_it_is_asked_in_the_docs_it_was_told_of():
    asked = [line for line in (ROOT / "docs" / "prompts.txt").read_text().splitlines() if not line.startswith("#")]
    asked += [word for command, _ in drawn() for word in shlex.split(command) if " " in word]
    taught = tokens.load_words(folders.EMBEDDED / "glyph" / "stage-1" / "tokenizer")
    assert len(asked) > 90 and not [prompt for prompt in asked if tokens.strange(prompt, taught)]


def test_what_it_is_worth_is_what_its_card_says():
    named = re.search(r"main object right (\d+) %, whole prompt (\d+) %", README).groups()
    assert named == re.search(r"the main object right; all of it \| (\d+)%; (\d+)%", CARD).groups()
    found = re.search(r"found by detectors \| (\d+) %, (\d+) %, (\d+) %", README).groups()
    assert found == re.search(r"colours (\d+)%.*?numbers (\d+)%.*?sides (\d+)%", CARD).groups()


def test_what_it_costs_is_measured_by_a_tool():
    sys.path.append(str(ROOT / "tools"))
    commands = import_module("costs").COMMANDS
    table = re.findall(r"\| `(phosphene [^`]+)` \| ([\d.]+) s", README)
    known = " ".join(str(each) for each in (commands.values() if isinstance(commands, dict) else commands)).replace("'", '"')
    assert len(table) > 12
    for command, _ in table:
        assert all(word in known for word in shlex.split(command)[1:3]), command
