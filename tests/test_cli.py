"""The command line, from the words to the files and the exit code."""

from __future__ import annotations

import json
import math
import re
import resource
import signal
import subprocess
import sys
import types
import weakref
from pathlib import Path

import pytest
import rich.console
import torch
import typer
from PIL import Image
from safetensors.torch import load_file, save_file

import phosphene.images
from phosphene import cli
from phosphene.cli import common
from phosphene.cli.digits import GREEN
from phosphene.drawing import Sampling, Step
from phosphene.evaluation.digits import measure, refer
from phosphene.images import PAPER
from phosphene.models import catalogue, folders
from phosphene.processes import Place
from phosphene.readers import PROVENANCE, read_provenance
from phosphene.training.ema import Average
from phosphene.training.log import read_log
from phosphene.training.mnist.data import load_dataset
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.recipes import NETWORKS, recipe
from phosphene.training.text_to_image.recipe import stage_recipe

torch.set_num_threads(1)

CELL, GAP, LABEL = 112, 6, 22  # of a sheet of digits at scale 4: a cell, what lies between, a row of column labels
SMALL = ("--dataset", "digits", "--width", "4", "--batch-size", "500", "--device", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, str]:
    """Model folders nobody trained, and broken ones, by name."""
    folder = tmp_path_factory.mktemp("models")

    def write(name: str, network: str, classes: int = 10, **changes) -> Path:
        built, _, config = build(recipe(network, dataset="digits", width=8, **changes), classes)
        catalogue.write(folder / name, {**config, "epoch": 1}, built.state_dict())
        return folder / name

    write("class", "class", timesteps=10)
    write("five", "class", classes=5, timesteps=10)
    write("time", "time", timesteps=10)
    write("denoiser", "denoiser")
    weights = write("damaged-denoiser", "denoiser") / folders.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    write("classifier", "classifier")
    write("judge-of-five", "classifier", classes=5)
    weights = write("damaged", "class", timesteps=10) / folders.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    weights = write("torn", "class", timesteps=10) / folders.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:1000])
    (folder / "torn" / folders.SUMS).unlink()
    config = write("other-shape", "class", timesteps=10) / folders.CONFIG
    config.write_text(config.read_text().replace('"width": 8', '"width": 12'))
    (folder / "other-shape" / folders.SUMS).unlink()
    (folder / "empty").mkdir()
    return {path.name: str(path) for path in folder.iterdir()}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, with no data set within reach."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PHOSPHENE_DATA", raising=False)
    return tmp_path


@pytest.fixture
def call(here, capfd):
    """Run a command line in the working folder; the answer is (exit code, stdout, stderr), and all of it is plain."""

    def run(*argv: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = cli.main([str(word) for word in argv])
        out, err = capfd.readouterr()
        assert "\x1b" not in out + err and not any("\u2500" <= character <= "\u257f" for character in out + err)
        return code, out, err

    return run


@pytest.fixture
def refused(here, call):
    """Run a command line that must not be taken: one sentence with ``words``, exit code 2, and no file touched."""

    def run(*argv: object, words: str | tuple[str, ...]) -> None:
        before = tree(here)
        code, out, err = call(*argv)
        assert (code, out) == (2, "")
        assert err.startswith("phosphene: ") and err.endswith((".\n", "?\n")) and err.count("\n") == 1
        for word in (words,) if isinstance(words, str) else words:
            assert word in err
        assert tree(here) == before

    return run


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def cell(path: Path, row: int, column: int, top: int = GAP + LABEL) -> torch.Tensor:
    """The 28x28 pixels of a cell of a sheet of digits."""
    with Image.open(path) as image:
        left, upper = GAP + column * (CELL + GAP), top + row * (CELL + GAP)
        small = image.convert("L").crop((left, upper, left + CELL, upper + CELL)).resize((28, 28), Image.Resampling.NEAREST)
    return torch.tensor(list(small.tobytes()), dtype=torch.int32).view(28, 28)


def pixels(path: Path) -> torch.Tensor:
    """A grey picture, (H, W)."""
    with Image.open(path) as image:
        return torch.tensor(list(image.convert("L").tobytes()), dtype=torch.int32).view(image.height, image.width)


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


# The way in


def test_of_a_run_no_step_is_kept_but_the_last():
    """Hundreds of steps of hundreds of pictures would fill the memory."""
    made: list[weakref.ref] = []

    def steps():
        for index in range(9):
            x = torch.full((1, 3, 2, 2), float(index))
            made.append(weakref.ref(x))
            yield Step(index, 9, -1, x, x, 0, (1,))
            del x
            assert sum(each() is not None for each in made) <= 2

    assert common.finished(steps()).xt.unique().item() == 8


@pytest.mark.parametrize(("argv", "code"), [(["--help"], 0), (["generate", "a", "--steps", "0"], 2)])
def test_a_process_ends_with_its_code_after_all_that_others_wished_done(argv, code, tmp_path):
    """It ends before torch is taken apart, and after what is registered for the end, with nothing unsaid."""
    asked = "import atexit, sys; import phosphene.__main__ as own; sys.argv = ['phosphene', *sys.argv[1:]]; "
    asked += "atexit.register(print, 'done'); kept = type('', (), {'__del__': lambda _: print('apart')})(); "
    asked += "raise SystemExit(own.run())"
    done = subprocess.run([sys.executable, "-c", asked, *argv], capture_output=True, text=True)
    assert done.returncode == code and done.stdout.endswith("done\n")
    assert ("--steps 0" in done.stderr) == bool(code) and ("Usage" in done.stdout) == (not code)


def test_help_is_quick_and_wakes_nothing_heavy():
    """A third of a second of the processor, whose own time is asked for: others may be busy on this machine."""
    asked = "import sys; from phosphene.__main__ import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "digits" in result.stdout
    assert not {"torch", "numpy", "matplotlib", "PIL", "accelerate", "safetensors"} & set(result.stderr.split())
    assert min(seconds) < 0.7  # twice of what it takes


REFUSED_AT_ONCE = [
    ["edit", "nowhere.png"],
    ["denoise", "nowhere.png"],
    ["inpaint", "castle-hill", "nowhere.png"],
    ["hybrid", "a", "--from", "nowhere.png"],
    ["compose", "a", "b", "--mask", "nowhere.png"],
    ["compose", "a", "b", "--mask", "square"],
    ["generate", "a", "--model", "nowhere"],
    ["generate", "a", "--model", ""],
    ["generate", "a", "--steps", "0"],
    ["generate", "a", "--solver", "runge"],
    ["generate", "a", "--device", "abacus"],
    ["generate", "a", "--guidance", "nan"],
    ["generate", "a", "--offload", "disk"],
    ["generate", "a", "--text-encoder", "some"],
    ["generate", "a", "-o", "picture.jpg"],
    ["anagram", "a", "b", "--view", "sideways"],
    ["anagram", "a", "b", "--view", "flip", "--reduce", "sum"],
    ["anagram", "a", "b", "--view", "flip", "--animate", "turn.mov"],
    ["anagram", "a", "b", "--view", "flip", "--print", "a5"],
    ["hybrid", "a", "b", "--kind", "taste"],
    ["hybrid", "a", "--band", "middle"],
    ["hybrid", "a", "b", "--band", "low"],
    ["edit", "clock-tower", "--fit", "stretch"],
    ["inpaint", "castle-hill", "castle-hill-mask", "--blend", "poisson"],
    ["overlay", "a", "b", "c", "--animate", "slide.mov"],
    ["pairs", "a", "--rerank", "4"],
    ["pairs", "a", "--view", "sideways"],
    ["pairs", "--view", "identity"],
    ["pairs", "--view", "flip", "--kind", "color"],
    ["pairs", "--kind", "taste"],
    ["pairs", " ", "--view", "flip"],
    ["pairs", "--view", "flip", "--concepts", "nowhere.png"],
    ["pairs", "--view", "flip", "--count", "0"],
    ["compose", "a"],
    ["morph", "a"],
    ["morph", "a", "b", "c"],
    ["morph", "a", "b", "--animate", "way.mov"],
    ["digits", "3", "--model", "nowhere"],
    ["digits", "3", "--steps", "0"],
    ["digits", "x"],
    ["ambigram", "69", "--classifier", "nowhere"],
    ["ambigram", "69", "--steps", "0"],
    ["denoise-digits", "--model", "nowhere"],
    ["evaluate", "nowhere"],
    ["evaluate", "anagrams", "--judge", "critic"],
    ["evaluate", "anagrams", "--judge", "retrieval:nowhere"],
    ["evaluate", "anagrams", "--view", "sideways"],
    ["evaluate", "anagrams", "--view", "four-way"],
    ["evaluate", "anagrams", "--pairs", "nowhere.txt"],
    ["evaluate", "anagrams", "--count", "0"],
    ["evaluate", "anagrams", "--model", "nowhere"],
    ["evaluate", "class-20", "--samples", "-5"],
    ["evaluate", "class-20", "--steps", "0"],
    ["report", "--model", "nowhere"],
    ["models", "info", "nowhere"],
    ["generate", "a", "--bogus"],
    ["generate", "a", "--seed"],
    ["nonsense"],
    ["train", "nonsense"],
    ["generate", "a", "-o", "x" * 300 + ".png"],
    ["models", "verify", "nowhere"],
    ["models", "fetch", "nowhere"],
    ["rerun", "nowhere.png"],
    ["evaluate", "class-20", "--samples", "0"],
    ["evaluate", "class-20", "--json", "x.png", "--picture", "./x.png"],
    ["evaluate", "class-20", "--guidance", "1," * 1000 + "1"],
    ["denoise-digits", "--dataset", "digits", "--count", "100", "--sigma", "1," * 200 + "1"],
    ["generate", *["a"] * 20, "--guidance-sweep", ",".join(str(k) for k in range(600))],
    ["edit", "clock-tower", "--start", "0," * 1000 + "0"],
    ["denoise", "clock-tower", "--t", "0," * 2000 + "0"],
    ["evaluate", "class-20", "--solver", "nope"],
    ["evaluate", "class-20", "--dataset", "nope"],
    ["evaluate", "class-20", "--guidance", "1,x"],
    ["digits", "3", "--solver", "nope"],
    ["digits", "3", "--device", "gpu"],
    ["digits", "3", "--eta", "0.5"],
    ["digits", "3", "--guidance", "nan"],
    ["ambigram", "6x"],
    ["generate", "fox", "--solver", "dpm", "--eta", "0.5"],
    ["generate", "fox", "--timesteps", "x"],
    ["generate", "fox", "--guidance-interval", "800,200"],
    ["generate", "fox", "--guidance-interval", "200"],
    ["digits", "3", "--guidance-interval", "x"],
    ["digits", "3", "--guidance-parallel", "nan"],
    ["anagram", "a", "b", "--view", "flip", "--guidance-norm", "0"],
    ["denoise-digits", "--dataset", "nope"],
    ["digits", "3", "--guidance", "1", "--guidance-norm", "0.2"],
    ["ambigram", "69", "--guidance", "1", "--guidance-parallel", "0"],
    ["denoise-digits", "--sigma", "x"],
    ["train", "class", "--timesteps", "1000000000"],
    ["train", "class", "--timesteps", "1e9"],
    ["train", "class", "--dataset", "nope"],
    ["train", "class", "--width", "0"],
    ["report", "--device", "gpu"],
    ["inspect", "nope.png"],
    ["serve", "--host", "0.0.0.0"],
    ["serve", "--auth", "nope"],
    ["generate", "a", "--embeddings", "nowhere.pth"],
    ["report", "--embeddings", "nowhere.pth"],
    ["serve", "--embeddings", "nowhere.pth"],
    ["anagram", "a", "b", "c", "--view", "flip"],
    ["anagram", "a", "b", "--view", "four-way"],
    ["anagram", "a", "b", "--view", "flip", "--weights", "x"],
    ["hybrid", "a", "b", "--from", "clock-tower"],
    ["hybrid", "a", "--from", "clock-tower", "--sigma", "2,1"],
    ["denoise-digits", "--data", "nowhere"],
    ["evaluate", "class-20", "--data", "nowhere"],
    ["train", "class", "--data", "nowhere"],
    ["train", "class", "--save-every", "-1"],
    ["report", "--sections", "nope"],
    ["report", "--sections", "1.2,"],
    ["report", "--config", "nowhere.toml"],
    ["hybrid", "a"],
    ["hybrid", "a", "b", "c", "d"],
    ["hybrid", "a", "b", "c", "--kind", "color"],
    ["hybrid", "a", "b", "--sigma", "2,1"],
    ["hybrid", "a", "b", "c", "--sigma", "1,2"],
    ["hybrid", "a", "b", "--sigma", "-1"],
    ["hybrid", "a", "b", "--sigma", "1e-320"],
    ["hybrid", "a", "--from", "clock-tower", "--sigma", "5000"],
    ["hybrid", "a", "b", "--kind", "motion", "--length", "1"],
    ["anagram", "a", "b", "--view", "flip", "--weights", "1"],
    ["anagram", "a", "b", "--view", "flip", "--weights", "1,-1"],
    ["anagram", "a", "b", "--view", "flip", "--last", "flip"],
    ["anagram", "a", "b", "--view", "flip", "--last", "nope:2"],
    ["anagram", "a", "b", "--view", "flip", "--last", "flip:" + "9" * 5000],
    ["anagram", "a", "b", "--view", "flip", "--rectify", "--reduce", "alternate"],
    ["overlay", "a", "b"],
    ["overlay", "a", "b", "c", "--weights", "1,2"],
    ["overlay", "a", "b", "c", "--weights", "1,2,-1"],
    ["anagram", "a", "b", "--view", "patches:x"],
    ["anagram", "a", "b", "--view", "patches:1"],
    ["anagram", "a", "b", "--view", "jigsaw@x"],
    ["anagram", "a", "b", "--view", "flip:3"],
    ["anagram", "a", "b", "c", "--view", "flip", "--view", "jigsaw:3"],
    ["anagram", "a", "b", "--view", "flip@3"],
    ["anagram", "a", "b", "--view", "flip", "--last", "flip:3:2"],
    ["anagram", "a", "b", "--view", "flip", "--weights", "1e308,1e308"],
    ["overlay", "a", "b", "c", "--weights", "1,2,1e308"],
    ["generate", "a", "--solver", "ddim", "--eta", "1.5"],
    ["digits", "3", "--solver", "ddim", "--eta", "-1"],
    ["ambigram", "69", "--eta", "2"],
    ["evaluate", "class-20", "--eta", "0.5"],
    ["evaluate", "class-20", "--solver", "ddim", "--eta", "2"],
    ["generate", "a", "--timesteps", "5,10"],
    ["generate", "a", "--timesteps", "10,-1"],
    ["generate", "a", "--steps-sweep", "5,0"],
    ["generate", "a", "--noise-level", "-1"],
    ["denoise", "clock-tower", "--t", "-1"],
    ["denoise", "clock-tower", "--start", "-1"],
    ["edit", "clock-tower", "--start", "x"],
    ["edit", "clock-tower", "--start", "1,-3"],
    ["edit", "clock-tower", "--strength", "0"],
    ["edit", "clock-tower", "--strength", "1.5"],
    ["denoise-digits", "--sigma", "-1"],
    ["denoise-digits", "--sigma", "2000"],
    ["digits", "3", "--model", "classifier"],
    ["ambigram", "69", "--model", "denoiser-5"],
    ["ambigram", "69", "--classifier", "class-20"],
    ["denoise-digits", "--model", "class-20"],
    ["evaluate", "class-20", "--classifier", "time-20"],
    ["train", "class", "--width", "1000000000"],
    ["train", "class", "--resume"],
    ["train", "cascade"],
    ["train", "cascade", "--data", "nowhere"],
    ["train", "cascade", "--data", ".", "--wordnet", "nowhere"],
    ["train", "cascade", "--data", ".", "--teacher", "nowhere"],
    ["train", "cascade", "--data", ".", "--from", "nowhere"],
    ["train", "cascade", "--data", ".", "--from", "."],
    ["train", "cascade", "--data", ".", "--resume"],
    ["train", "cascade", "--data", ".", "--optimizer", "nope"],
    ["train", "cascade", "--data", ".", "--drop", "1"],
    ["train", "cascade", "--data", ".", "--layers", "1000000000"],
    ["train", "cascade", "--data", ".", "--hidden", "1000000000"],
    ["train", "cascade", "--data", ".", "--batch-size", "1000000000"],
    ["train", "cascade", "--data", ".", "--workers", "1000000000"],
    ["train", "upscaler", "--data", ".", "--patch", "3"],
]


def every_command(group, *words: str):
    """All commands below ``group``, by the words that name them."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from every_command(command, *words, name)
        else:
            yield [*words, name], command


def never_right():
    """Command lines in which an option is given what no option of its type may be: no finite number, a list of none, no place.

    Made of the options that commands declare, so that a new one is among them.
    """
    lists = {"--timesteps", "--t", "--sigma", "--weights", "--guidance-sweep", "--steps-sweep", "--keep", "--view"}
    usual = {"sections": ["1.1,nope", ""], "start": ["x"]}
    base = {
        "compose": ["a", "b"],
        "hybrid": ["a", "b"],
        "morph": ["a", "b"],
        "anagram": ["a", "b", "--view", "flip"],
        "pairs": ["--kind", "color"],
        "generate": ["a"],
        "denoise": ["clock-tower"],
        "edit": ["clock-tower"],
        "inpaint": ["castle-hill", "castle-hill-mask"],
        "digits": ["3"],
        "ambigram": ["69"],
        "models": ["class-20"],
        "rerun": ["nowhere.png"],
        "cascade": ["--data", "."],
        "upscaler": ["--data", "."],
        "retrieval": ["--data", "."],
        "student": ["--data", ".", "--from", "."],
        "unprompted": ["--data", ".", "--from", "."],
        "fetch": ["a/b"],
        "info": ["class-20"],
        "inspect": ["nowhere.png"],
    }
    for words, command in every_command(typer.main.get_command(cli.app)):
        for option in (o for o in command.params if o.param_type_name == "option" and not o.is_flag and o.name != "help"):
            name, kind = max(option.opts, key=len), option.type.name.removesuffix(" range")
            if kind in ("float", "int"):
                values = ["nan", "inf"] if kind == "float" else ["1.5", str(10**12)]
            elif kind == "path":
                values = [""]
            else:
                values = usual.get(option.name, ["x"] if name in lists else [])
            yield from ([*words, *base.get(words[-1], []), f"{name}={value}"] for value in values)


@pytest.mark.parametrize("lines", [lambda: REFUSED_AT_ONCE, lambda: list(never_right())], ids=["named", "of every option"])
def test_what_can_be_refused_without_torch_is(here, lines):
    """A second and a half sooner. One after the other in one process: none of them may have loaded it for the next."""
    refused = lines()
    asked = (
        "import json, sys\nfrom phosphene.__main__ import main\nfor argv in json.loads(sys.argv[1]):\n"
        "    sys.argv[1:] = argv\n    code = main()\n    print(json.dumps([argv, code, 'torch' in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", asked, json.dumps(refused)], capture_output=True, text=True, check=True, cwd=here
    )
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [argv for argv, code, torch in found if code != 2 or torch] == [] and len(found) == len(refused)
    sentences = result.stderr.splitlines()
    assert len(sentences) == len(found) and all(line.startswith("phosphene: ") for line in sentences), result.stderr
    assert list(here.iterdir()) == []


def test_the_collector_rests_while_torch_is_imported_and_at_no_other_time():
    asked = (
        "import gc\nfrom phosphene.cli.common import importing\nwith importing():\n    import torch\n    first = gc.isenabled()\n"
        "frozen = gc.get_freeze_count()\ncycle = [gc]\ncycle.append(cycle)\nwith importing():\n    second = gc.isenabled()\n"
        "print(first, second, gc.isenabled(), frozen > 0, gc.get_freeze_count() <= frozen)"
    )
    said = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["False", "True", "True", "True", "True"]


def test_a_film_without_its_encoder_says_what_to_install(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    refused("morph", "a", "b", "--animate", "x.mp4", words=("--animate x.mp4: takes ffmpeg; pip install 'phosphene[video]'",))


@pytest.mark.parametrize(
    ("argv", "what"), [(["generate"], "PROMPT..."), (["edit"], "IMAGE"), (["inpaint", "castle-hill"], "MASK")], ids=str
)
def test_what_is_missing_is_named(refused, argv, what):
    refused(*argv, words=(f"phosphene: {what}: is missing; phosphene {argv[0]} --help says what it is.",))


def test_python_m_phosphene():
    result = subprocess.run([sys.executable, "-m", "phosphene", "digits", "12x"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("phosphene: DIGITS '12x'") and result.stderr.count("\n") == 1


COMMANDS = ["train", "digits", "denoise-digits", "ambigram", "generate", "pairs", "evaluate", "models", "inspect", "rerun"]
COMMANDS += ["report"]


def test_no_words_at_all_are_a_call_for_help(call):
    code, out, err = call()
    assert (code, err) == (0, "") and out == call("--help")[1]
    assert all(f"\n  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call, command):
    code, out, err = call(command, "--help")
    assert (code, err) == (0, "") and f"Usage: phosphene {command}" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], "'train'"),
        (["train"], "NETWORK"),
        (["digits", "3", "--colour", "red"], "--colour"),
        (["digits", "3", "--model"], "--model"),
        (["digits", "3", "--seed", "one"], "--seed one"),
        (["digits", "3", "4"], "4"),
        (["evaluate"], "MODEL"),
        (["evaluate", "models"], "MODEL"),
        (["evaluate", "--samples", "20"], "MODEL"),
        (["evaluate", "anagrams", "a duck"], "a duck"),
        (["models", "burn"], "burn"),
        (["generate", "a", "cat"], 'put one into quotes: "a cat"'),
        (["anagram", "the", "moon", "an owl", "--view", "flip"], "PROMPT the moon: are two prompts"),
    ],
)
def test_words_that_are_no_command_line(refused, argv, words):
    refused(*argv, words=words)


# digits


def test_digits_on_demand(call, made):
    code, out, err = call("digits", "0123456789", "--model", made["class"], "--count", 2, "--device", "cpu")
    assert (code, err) == (0, "") and "digits.png" in out
    assert size(Path("digits.png")) == (GAP + 10 * (CELL + GAP), GAP + LABEL + 2 * (CELL + GAP))
    story = read_provenance(Path("digits.png"))
    assert story["command"] == "digits" and story["model"] == made["class"] and story["version"] == phosphene.__version__
    assert story["torch"] == torch.__version__
    assert {"digits": "0123456789", "seed": 180, "count": 2, "guidance": 5.0}.items() <= story["arguments"].items()


def test_seeds_count_on_row_by_row(call, made):
    """The picture in row 1, column 2 of a sheet of three columns is the one of its digit and the fifth seed after."""
    call("digits", "370", "--count", 2, "--seed", 5, "--model", made["class"], "-o", "sheet.png")
    call("digits", "0", "--seed", 10, "--model", made["class"], "-o", "one.png")
    one = pixels(Path("one.png"))
    assert (cell(Path("sheet.png"), 1, 2) - one).abs().max() <= 1 and (cell(Path("sheet.png"), 0, 2) - one).abs().max() > 10


def test_a_digit_alone_is_a_file_of_its_own_size_and_several_lie_beside_their_sheet(call, made):
    argv = ["--model", made["class"], "--solver", "dpm", "--steps", 2]
    assert call("digits", "3", *argv)[1] == "1 picture in digits.png\n"
    assert size(Path("digits.png")) == (28, 28) and [p.name for p in Path().glob("*.png")] == ["digits.png"]
    assert call("digits", "3", *argv, "--sheet", "-o", "sheet.png")[0] == 0
    assert Path("sheet-1.png").is_file() and pixels(Path("sheet-1.png")).equal(cell(Path("sheet.png"), 0, 0))
    assert pixels(Path("sheet-1.png")).equal(pixels(Path("digits.png")))
    # A folder is as good as a name, and numbers are as long as the last.
    code, out, _ = call("digits", "01234", "--count", 2, *argv, "-o", "new/folder")
    names = sorted(p.name for p in Path("new/folder").iterdir())
    assert code == 0 and names == [*(f"digits-{k:02d}.png" for k in range(1, 11)), "digits.png"]
    assert "10 pictures in new/folder/digits.png, and alone in new/folder/digits-01.png to new/folder/digits-10.png" in out
    for k in range(10):
        assert pixels(Path(f"new/folder/digits-{k + 1:02d}.png")).equal(cell(Path("new/folder/digits.png"), k // 5, k % 5))


def test_a_picture_of_many_can_be_made_again(call, made):
    argv = ["--model", made["class"], "--solver", "dpm", "--steps", 2, "-o", "all.png"]
    assert call("digits", "42", *argv)[0] == 0
    assert read_provenance(Path("all-2.png"))["number"] == [2, 2] and "number" not in read_provenance(Path("all.png"))
    code, out, err = call("rerun", "all-2.png", "-o", "again.png", "--allow-model", made["class"])
    assert (code, err) == (0, "") and "picture 2 of 2" in out and "byte for byte" in out
    assert Path("again.png").read_bytes() == Path("all-2.png").read_bytes()
    assert sorted(p.name for p in Path().glob("*.png")) == ["again.png", "all-1.png", "all-2.png", "all.png"]
    assert call("rerun", "all.png", "-o", "new", "--allow-model", made["class"])[0] == 0
    assert sorted(p.name for p in Path("new").iterdir()) == ["digits-1.png", "digits-2.png", "digits.png"]
    assert all(Path(f"new/digits{end}").read_bytes() == Path(f"all{end}").read_bytes() for end in ("-1.png", "-2.png", ".png"))


def test_digits_by_a_route_of_ones_own(call, made):
    code, _, err = call("digits", "01", "--model", made["class"], "--solver", "ddim", "--steps", 4, "--eta", 0.5, "--resample", 2)
    said = read_provenance(Path("digits.png"))["arguments"]
    assert (code, err) == (0, "") and (said["eta"], said["resample"], said["steps"]) == (0.5, 2, 4)


@pytest.mark.parametrize("solver", ["ancestral", "ddim", "dpm", "heun"])
def test_digits_by_every_solver(call, made, solver):
    code, _, err = call("digits", "01", "--model", made["class"], "--solver", solver, "--steps", 4)
    assert (code, err) == (0, "") and read_provenance(Path("digits.png"))["arguments"]["solver"] == solver


@pytest.mark.parametrize("model", ["time", "class"])
def test_digits_of_no_class(call, made, model):
    code, _, err = call("digits", "--unconditional", "--count", 3, "--model", made[model], "-o", "deep/down/any.png")
    assert (code, err) == (0, "")
    assert size(Path("deep/down/any.png")) == (GAP + 10 * (CELL + GAP), GAP + 3 * (CELL + GAP))


@pytest.mark.parametrize(
    "argv",
    [
        ["digits", "42", "--model", "{class}"],
        ["ambigram", "69", "--model", "{class}", "--classifier", "{classifier}", "--count", "3"],
        ["denoise-digits", "--model", "{denoiser}", "--dataset", "digits", "--count", "2", "--sigma", "0,1"],
    ],
)
def test_the_same_command_makes_the_same_bytes(call, made, argv):
    argv = [word.format(**made) for word in argv]
    assert [call(*argv, "-o", name)[0] for name in ("one.png", "two.png")] == [0, 0]
    assert Path("one.png").read_bytes() == Path("two.png").read_bytes()
    assert call(*argv, "-o", "three.png", "--seed", 7)[0] == 0
    assert Path("three.png").read_bytes() != Path("one.png").read_bytes()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["12x"], "'12x'"),
        ([""], "''"),
        (["²"], "'²'"),
        ([], "DIGITS"),
        (["3", "--unconditional"], "--unconditional"),
        (["--unconditional", "--guidance", "3"], ("--guidance 3", "with --unconditional nothing does")),
        (["--unconditional", "--guidance-norm", "0.2"], ("--guidance-norm 0.2", "--unconditional")),
        (["3", "--guidance", "nan"], "--guidance nan"),
        (["3", "--guidance", "inf"], "--guidance inf"),
        (["3", "--steps", "0"], "--steps 0"),
        (["3", "--steps", "100000"], "--steps 100000"),
        (["3", "--count", "0"], "--count 0"),
        (["0123456789", "--count", "1001"], "--count 1001"),
        (["3", "--seed", "-1"], "--seed -1"),
        (["3", "--seed", "1" + 30 * "0"], "--seed 1000"),
        (["3", "--solver", "magic"], ("--solver magic", "dpm")),
        (["3", "--solver", "dpm", "--eta", "0.5"], ("--eta 0.5", "ddim")),
        (["3", "--solver", "ddim", "--eta", "1.5"], ("--eta 1.5", "0..1")),
        (["3", "--resample", "0"], "--resample 0"),
        (["3", "--device", "quantum"], ("--device quantum", "cpu")),
        (["3", "--model", "nowhere"], "--model nowhere"),
        (["3", "--model", "{empty}"], "config.json"),
        (["3", "--model", "{damaged}"], ("model.safetensors", "SHA-256")),
        (["3", "--model", "{torn}"], ("model.safetensors", "damaged")),
        (["3", "--model", "{other-shape}"], "does not fit"),
        (["3", "--model", "{denoiser}"], "denoiser"),
        (["3", "--model", "{time}"], "--unconditional"),
        (["7", "--model", "{five}"], "class 7"),
        (["3", "-o", "three.jpg"], ("three.jpg", ".png")),
        (["3", "-o", "v1.2"], ".png"),
        (["3", "-o", "folder.png"], "folder.png: is a folder"),
        (["3", "-o", "file/three.png"], "file/three.png"),
    ],
)
def test_digits_that_cannot_be(refused, here, made, argv, words):
    (here / "folder.png").mkdir()
    (here / "file").write_text("in the way")
    argv = [word.format(**made) for word in argv]
    refused("digits", *argv, *([] if "--model" in argv else ["--model", made["class"]]), words=words)


COMPUTING = {
    "digits": ["digits", "3", "--model", "{class}"],
    "ambigram": ["ambigram", "69", "--model", "{class}", "--classifier", "{classifier}"],
    "denoise-digits": ["denoise-digits", "--model", "{denoiser}", "--dataset", "digits"],
    "evaluate": ["evaluate", "{class}", "--classifier", "{classifier}", "--dataset", "digits"],
    "train": ["train", "class", *SMALL[:-2]],
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("command", COMPUTING)
def test_cuda_where_there_is_none(refused, made, command):
    refused(*[word.format(**made) for word in COMPUTING[command]], "--device", "cuda", words=("--device cuda", "cpu"))


@pytest.mark.parametrize("command", [c for c in COMPUTING if c not in ("train", "evaluate")])
@pytest.mark.parametrize(("out", "words"), [("x.jpg", ".png"), ("folder.png", "is a folder"), ("file/x.png", "file/x.png")])
def test_a_place_that_cannot_be_written_is_found_before_any_work(refused, here, made, monkeypatch, command, out, words):
    (here / "folder.png").mkdir()
    (here / "file").write_text("in the way")
    monkeypatch.setattr(catalogue, "load", lambda *_, **__: pytest.fail("the model was loaded first"))
    refused(*[word.format(**made) for word in COMPUTING[command]], "-o", out, words=words)


def test_a_full_disk_is_one_sentence(refused, made, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device", "digits.png")

    monkeypatch.setattr(phosphene.images, "save_png", fail)
    refused(
        "digits", "3", "--model", made["class"], words="digits.png: cannot be written (No space left on device); free some space"
    )


def test_ctrl_c_is_one_line(call, made, monkeypatch):
    def interrupt(*_, **__):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(catalogue, "load", interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    try:
        assert call("digits", "3", "--model", made["class"]) == (130, "", "phosphene: interrupted.\n")
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_terminal_sees_progress(here, made, monkeypatch, capfd):
    monkeypatch.setattr(rich.console.Console, "is_terminal", property(lambda self: True))
    assert cli.main(["digits", "3", "--model", made["class"]]) == 0
    out, err = capfd.readouterr()
    assert "10/10 steps" in err and out == "1 picture in digits.png\n"


# denoise-digits


def test_denoise_digits(call, made):
    code, out, err = call("denoise-digits", "--model", made["denoiser"], "--dataset", "digits", "--count", 3, "--sigma", "0,.5")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if line[:1] == "0"]
    assert (
        [row[0] for row in rows] == ["0", "0.5"] and float(rows[0][1]) == 0 and float(rows[1][1]) == pytest.approx(0.25, abs=0.02)
    )
    width, height = size(Path("denoise-digits.png"))
    assert height == GAP + 4 * (CELL + GAP) and width > 3 * (CELL + GAP)
    story = read_provenance(Path("denoise-digits.png"))
    assert story["command"] == "denoise-digits" and story["arguments"]["sigma"] == "0,.5" and story["model"] == made["denoiser"]


def test_noise_of_level_zero_leaves_the_test_pictures(call, made):
    call("denoise-digits", "--model", made["denoiser"], "--dataset", "digits", "--count", 2, "--sigma", "0")
    with Image.open("denoise-digits.png") as image:
        drawn = image.convert("L").crop((image.width - 2 * (CELL + GAP), GAP, image.width, GAP + CELL))
    pictures = torch.tensor(list(drawn.tobytes()), dtype=torch.uint8).view(CELL, -1)[::4]
    test = load_dataset("digits").test.images[:2, 0]
    for index, picture in enumerate(test):
        start = index * (CELL + GAP)
        assert torch.equal(pictures[:, start : start + CELL : 4], picture)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--dataset", "cifar"], ("--dataset cifar", "mnist")),
        (["--dataset", "mnist", "--data", "nowhere"], "--data nowhere"),
        (["--dataset", "mnist", "--data", "."], "--data ."),
        (["--dataset", "idx"], "--data"),
        (["--model", "{class}"], "denoiser"),
        (["--model", "{damaged-denoiser}"], "model.safetensors"),
        (["--model", "nowhere"], "--model nowhere"),
        (["--sigma", "0,x"], "--sigma 0,x"),
        (["--sigma", ""], "--sigma"),
        (["--sigma", "0,nan"], "--sigma 0,nan"),
        (["--sigma", "-1"], "--sigma"),
        (["--count", "0"], "--count 0"),
        (["--count", "361"], ("--count 361", "360")),
        (["--seed", "-3"], "--seed -3"),
    ],
)
def test_denoising_that_cannot_be(refused, made, argv, words):
    argv = [word.format(**made) for word in argv]
    defaults = {"--model": made["denoiser"], "--dataset": "digits"}
    refused("denoise-digits", *argv, *(w for k, v in defaults.items() if k not in argv for w in (k, v)), words=words)


# ambigram


def test_an_ambigram(call, made):
    argv = ["ambigram", "69", "--model", made["class"], "--classifier", made["classifier"], "--count", 4]
    assert call(*argv, "-o", "alone.png")[0] == 0 and size(Path("alone.png")) == (28, 28)
    code, out, err = call(*argv, "--sheet")
    assert (code, err) == (0, "") and out.startswith("69: ") and "of 4 read both ways" in out
    assert pixels(Path("ambigram-1.png")).equal(pixels(Path("alone.png")))
    assert size(Path("ambigram.png")) == (2 * (2 * CELL + GAP) + GAP, 2 * CELL + 2 * GAP + LABEL)
    with Image.open("ambigram.png") as image:
        upright, turned = (
            image.crop((left, GAP + LABEL, left + 2 * CELL, GAP + LABEL + 2 * CELL)) for left in (GAP, 2 * GAP + 2 * CELL)
        )
    assert upright.rotate(180).tobytes() == turned.tobytes() != upright.tobytes()
    story = read_provenance(Path("ambigram.png"))
    assert story["command"] == "ambigram" and story["arguments"]["digits"] == "69" and story["arguments"]["count"] == 4


def test_the_best_of_many_is_not_worse(call, made):
    """The first of four pictures is the one that a count of 1 draws."""
    scores = []
    for count in (1, 4):
        _, out, _ = call("ambigram", "25", "--count", count, "--model", made["class"], "--classifier", made["classifier"])
        scores.append(float(out.partition("score ")[2].partition(";")[0]))
    assert scores[1] >= scores[0]


def test_all_ambigrams(call, made, monkeypatch):
    """The table, its rates and its green frames agree. (Chance reads as it likes, so the judge is told what to say.)"""
    from phosphene.tasks import ambigram

    def judge(classifier, pictures, pairs):
        read = torch.tensor([a == b and k % 2 == 1 for k, (a, b) in enumerate(pairs)])
        return ambigram.Judged(read.float(), read)

    monkeypatch.setattr(ambigram, "judge", judge)
    argv = ["--model", made["class"], "--classifier", made["classifier"], "--count", 2, "--steps", 2]
    code, out, err = call("ambigram", "--all", *argv)
    assert (code, err) == (0, "") and "single: 5.0%; pairs read: 10 of 100" in out
    table = [line.split() for line in out.splitlines()[2:12]]
    assert table == [[str(a), *("50" if a == b else "0" for b in range(10))] for a in range(10)]
    with Image.open("ambigram.png") as image:
        colours = dict((colour, number) for number, colour in image.convert("RGB").getcolors(1 << 20))
    side = 28 * 3 + 8
    assert colours[GREEN] == 10 * (side**2 - (side - 8) ** 2)
    assert read_provenance(Path("ambigram.png"))["arguments"]["all"] is True


def test_all_ambigrams_of_fewer_classes(call, made):
    argv = ["--model", made["five"], "--classifier", made["judge-of-five"], "--count", 1]
    code, out, err = call("ambigram", "--all", *argv, "--solver", "ddim", "--steps", 2)
    assert (code, err) == (0, "") and "of 25" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "DIGITS"),
        (["6"], "DIGITS 6"),
        (["690"], "DIGITS 690"),
        (["6x"], "'6x'"),
        (["69", "--all"], "--all"),
        (["69", "--count", "0"], "--count 0"),
        (["--all", "--count", "101"], "--count 101"),
        (["69", "--steps", "0"], "--steps 0"),
        (["69", "--steps", "11"], "--steps 11"),
        (["69", "--solver", "magic"], "--solver magic"),
        (["69", "--guidance", "nan"], "--guidance nan"),
        (["69", "--seed", "-1"], "--seed -1"),
        (["69", "--model", "{five}"], "class 6"),
        (["69", "--model", "{time}"], "no classes"),
        (["--all", "--model", "{time}"], "no classes"),
        (["69", "--model", "{classifier}"], "classifier"),
        (["69", "--classifier", "{class}"], "classifier"),
        (["69", "--classifier", "nowhere"], "nowhere"),
        (["69", "--classifier", "{judge-of-five}"], "--classifier"),
    ],
)
def test_ambigrams_that_cannot_be(refused, made, argv, words):
    argv = [word.format(**made) for word in argv]
    defaults = {"--model": made["class"], "--classifier": made["classifier"]}
    refused("ambigram", *argv, *(w for k, v in defaults.items() if k not in argv for w in (k, v)), words=words)


# evaluate


def test_evaluate_models_of_every_kind(call, made):
    names = [made[kind] for kind in ("class", "time", "denoiser", "classifier")]
    argv = [*names, "--dataset", "digits", "--classifier", made["classifier"], "--samples", 40, "--guidance", "0,3", "--steps", 3]
    code, out, err = call("evaluate", *argv, "--solver", "ddim", "--device", "cpu", "--json", "figures/all.json")
    assert (code, err) == (0, "")
    figures = json.loads(Path("figures/all.json").read_text())
    assert figures["command"] == "evaluate" and figures["machine"]["processor"] and figures["date"].startswith("20")
    assert [result["model"] for result in figures["results"]] == names
    by_kind = [result["figures"] for result in figures["results"]]
    assert [f["guidance"] for f in by_kind[0]] == [0, 3] and [f["guidance"] for f in by_kind[1]] == [None]
    assert by_kind[1][0]["accuracy"] is None and math.isfinite(by_kind[1][0]["frechet"])
    assert [f["sigma"] for f in by_kind[2]] == [0, 0.2, 0.4, 0.5, 0.6, 0.8, 1]
    for f in by_kind[2]:
        assert f["noisy_mse"] == pytest.approx(f["sigma"] ** 2, rel=0.02)
        assert f["psnr"] == pytest.approx(-10 * math.log10(f["mse"]))

    # The same as by hand.
    real, judge = load_dataset("digits"), catalogue.load(made["classifier"])
    reference = refer(judge, real.train, real.test, 40)
    model = catalogue.load(made["class"])
    by_hand = measure(model, judge, reference, 40, 180, sampling=Sampling("ddim", 3, guidance=3.0))
    assert by_kind[0][1]["accuracy"] == by_hand.accuracy and by_kind[0][1]["frechet"] == pytest.approx(by_hand.frechet)
    assert figures["classifier"] == {"model": made["classifier"], "accuracy": reference.accuracy, "floor": reference.floor}
    assert by_kind[3] == [{"pictures": 360, "accuracy": reference.accuracy}]

    # And all of it on the screen.
    assert f"{by_hand.frechet:.3f}" in out and f"{reference.floor:.3f}" in out and f"{reference.accuracy:.2%}" in out
    assert all(f"{f['psnr']:.2f}" in out for f in by_kind[2])


def test_evaluate_draws_samples_beside_real_digits(call, made):
    argv = ["--dataset", "digits", "--classifier", made["classifier"], "--samples", 100, "--steps", 2, "--guidance", "1,2"]
    code, _, err = call("evaluate", made["class"], *argv, "--picture", "samples.png")
    assert (code, err) == (0, "")
    assert size(Path("samples.png"))[0] == 3 * (560 + GAP) + GAP
    with Image.open("samples.png") as image:
        real = image.convert("L").crop((2 * (560 + GAP) + GAP, GAP, 3 * (560 + GAP), GAP + 560))
    pixels = torch.tensor(list(real.tobytes()), dtype=torch.uint8).view(560, 560)[::2, ::2]
    test = load_dataset("digits").test
    for digit in (0, 7):
        for column, picture in enumerate(test.images[test.labels == digit][:10]):
            assert torch.equal(pixels[28 * digit : 28 * digit + 28, 28 * column : 28 * column + 28], picture[0])
    assert read_provenance(Path("samples.png"))["command"] == "evaluate"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["nowhere"], "nowhere"),
        (["{damaged}"], "model.safetensors"),
        (["{class}", "{other-shape}"], "does not fit"),
        (["{class}", "--samples", "1"], "--samples 1"),
        (["{class}", "--samples", "-5"], "--samples -5"),
        (["{class}", "--guidance", "1,nan"], "--guidance 1,nan"),
        (["{class}", "--guidance", "one"], "--guidance one"),
        (["{class}", "--solver", "magic"], "--solver magic"),
        (["{class}", "--steps", "0"], "--steps 0"),
        (["{class}", "--seed", "-1"], "--seed -1"),
        (["{class}", "--dataset", "cifar"], "--dataset cifar"),
        (["{class}", "--dataset", "mnist", "--data", "nowhere"], "--data nowhere"),
        (["{class}", "--classifier", "{denoiser}"], "classifier"),
        (["{class}", "--json", "folder"], "--json folder"),
        (["{class}", "--json", "file/f.json"], "--json file/f.json"),
        (["{class}", "--picture", "x.pdf"], "--picture x.pdf"),
        (["{class}", "--picture", "file/x.png"], "--picture file/x.png"),
        (["{denoiser}", "--picture", "x.png"], "--picture"),
    ],
)
def test_evaluations_that_cannot_be(refused, here, made, argv, words):
    (here / "folder").mkdir()
    (here / "file").write_text("in the way")
    argv = [word.format(**made) for word in argv]
    defaults = {"--dataset": "digits", "--classifier": made["classifier"], "--samples": "20"}
    refused("evaluate", *argv, *(w for k, v in defaults.items() if k not in argv for w in (k, v)), words=words)


@pytest.mark.parametrize(
    ("models", "argv", "words"),
    [
        (["denoiser"], ["--samples", "20"], "--samples 20"),
        (["classifier"], ["--classifier", "{classifier}"], "--classifier {classifier}"),
        (["denoiser"], ["--guidance", "1"], "--guidance 1"),
        (["classifier", "denoiser"], ["--solver", "dpm"], "--solver dpm"),
        (["denoiser"], ["--steps", "3"], "--steps 3"),
        (["denoiser"], ["--solver", "ddim", "--eta", "0.5"], "--solver ddim"),
        (["classifier"], ["--resample", "2"], "--resample 2"),
        (["classifier"], ["--seed", "7"], "--seed 7"),
        (["time"], ["--guidance", "1,3"], "--guidance 1,3"),
        (["time", "denoiser"], ["--guidance", "3"], "--guidance 3"),
    ],
    ids=str,
)
def test_what_changes_no_figure_is_refused(refused, here, made, models, argv, words):
    names, argv = [made[name] for name in models], [word.format(**made) for word in argv]
    refused("evaluate", *names, *argv, "--dataset", "digits", words=(words.format(**made), f"no figure of {', '.join(names)}"))


@pytest.mark.parametrize("models", [["denoiser"], ["classifier"], ["time"]], ids=str)
def test_what_changes_a_figure_is_not_refused(call, here, made, models):
    few = ["--samples", 20, "--steps", 2, "--classifier", made["classifier"]] if models == ["time"] else []
    seed = ["--seed", 7] if models != ["classifier"] else []
    assert call("evaluate", *(made[name] for name in models), *few, *seed, "--dataset", "digits", "--device", "cpu")[0] == 0


# train


def test_train_resume_and_show_the_losses(call, refused, here):
    argv = ("train", "class", *SMALL, "--timesteps", 20, "--epochs", 2, "--keep", 1)
    code, out, err = call(*argv)
    assert (code, err) == (0, "")
    run = Path("runs/class")
    assert [line[:12] for line in out.splitlines() if line.startswith("epoch")] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert all((run / f"model-0{epoch}" / "model.safetensors").is_file() for epoch in (1, 2)) and (run / "loss.png").is_file()
    assert "recipe" in read_provenance(run / "samples" / "epoch-01.png")

    # What is there is not trodden upon, and is not another run.
    refused(*argv, words=("--out runs/class", "--resume"))
    refused("train", "class", "--resume", "--width", "8", words=("--width 8", "4"))
    refused("train", "class", "--resume", "--epochs", "1", words=("--epochs 1", "2"))
    refused("train", "class", "--resume", "--keep", "2", words="--keep")
    refused("train", "time", "--resume", "--out", run, words="class")
    refused("train", "class", "--resume", "--lr", "nan", words="--lr nan")

    # Options not given are the run's, and the same ones given are no others.
    weights = (run / "model-02" / "model.safetensors").read_bytes()
    for again in (("train", "class", "--resume"), (*argv, "--resume")):
        assert call(*again)[0] == 0
    assert (run / "model-02" / "model.safetensors").read_bytes() == weights

    # Its model is one like the others, and its curve can be drawn.
    assert call("digits", "3", "--model", run, "--device", "cpu")[0] == 0
    judge = ("train", "classifier", "--dataset", "digits", "--width", 4, "--epochs", 1, "--batch-size", 500, "--out", "judge")
    code, out, _ = call(*judge)
    assert code == 0 and "test accuracy" in out
    assert call("evaluate", run, "--dataset", "digits", "--classifier", "judge", "--samples", 20, "--picture", "loss.png")[0] == 0
    assert size(Path("loss.png")) == size(run / "loss.png")

    # Damaged, missing and misfitting checkpoints.
    checkpoint = run / "checkpoint.safetensors"
    whole = checkpoint.read_bytes()
    tensors = load_file(checkpoint)
    tensors["network.first.0.0.weight"] = tensors["network.first.0.0.weight"][:2].clone()
    from safetensors import safe_open

    with safe_open(checkpoint, "pt") as file:
        metadata = file.metadata()
    save_file(tensors, checkpoint, metadata)
    refused("train", "class", "--resume", words=("checkpoint.safetensors", "is damaged"))
    checkpoint.write_bytes(whole[: len(whole) // 2])
    refused("train", "class", "--resume", words="checkpoint.safetensors")
    checkpoint.unlink()
    refused("train", "class", "--resume", words=("--resume", "checkpoint.safetensors"))
    checkpoint.write_bytes(whole)
    for text in ("{", "[]", "{}", '{"network": "class", "width": "wide"}', '{"network": "class", "epochs": 0}'):
        (run / "recipe.json").write_text(text)
        code, out, err = call("train", "class", "--resume")
        assert (code, out) == (2, "") and err.startswith("phosphene: ") and err.count("\n") == 1


def test_ctrl_c_keeps_the_run_and_says_how_to_go_on(call, monkeypatch):
    steps, follow = [], Average.follow

    def interrupt(average, count):
        follow(average, count)
        steps.append(None)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Average, "follow", interrupt)
        code, out, err = call("train", "denoiser", *SMALL, "--epochs", 3, "--out", "my run")
    assert code == 130 and "done" not in out and err.count("\n") == 1
    assert err.startswith("phosphene: stopped, and the checkpoint in my run is kept")
    assert "`phosphene train denoiser --out 'my run' --resume`" in err
    code, out, err = call("train", "denoiser", "--out", "my run", "--resume")
    assert (code, err) == (0, "") and out.splitlines()[-1].startswith("done") and "epoch 3 of 3" in out
    assert [line["step"] for line in read_log(Path("my run/log.jsonl"))][-1] == 6


def test_a_loss_that_is_no_number_is_one_sentence(call):
    code, _, err = call("train", "denoiser", *SMALL, "--epochs", 2, "--lr", "1e30")
    assert code == 2 and err.startswith("phosphene: epoch ") and "--lr" in err and err.count("\n") == 1


def test_only_the_leading_process_speaks(call, monkeypatch):
    monkeypatch.setattr(Place, "leads", property(lambda self: False))
    monkeypatch.setattr(cli.common, "leads", lambda: False)
    assert call("train", "denoiser", *SMALL, "--epochs", 1) == (0, "", "")
    assert not Path("runs").exists()


def test_a_terminal_sees_training_live(here, monkeypatch, capfd):
    monkeypatch.setattr(rich.console.Console, "is_terminal", property(lambda self: True))
    assert cli.main(["train", "denoiser", *SMALL, "--epochs", "1"]) == 0
    out, err = capfd.readouterr()
    assert "images/s" in err and "left" in err and "epoch 1 of 1" in out
    assert err.index("the digits of digits are loaded") < err.index("images/s")


OPTIONS = {
    "denoiser": {"sigma", "compile"},
    "time": {"objective", "schedule", "timesteps", "time-spread", "time-mean", "compile"},
    "class": {"objective", "schedule", "timesteps", "time-spread", "time-mean", "drop", "compile"},
    "classifier": {"compile"},
    "cascade": {
        *("drop", "target", "patch", "hidden", "layers", "heads", "held-out", "teacher", "wordnet", "minutes", "cooldown"),
        *("shift", "listens", "simple"),
    },
    "upscaler": {"target", "patch", "hidden", "layers", "heads", "held-out", "wordnet", "minutes", "cooldown", "shift"},
    "retrieval": {"drop", "held-out", "picture-width", "teacher", "wordnet", "minutes", "cooldown", "turned"},
    "student": {"rank", "visits", "guidance", "held-out", "wordnet", "minutes", "cooldown"},
    "unprompted": {"rank", "shift", "simple", "held-out", "wordnet", "minutes", "cooldown"},
}
"""Of each network; all have --lr and --seed."""


@pytest.mark.parametrize("network", OPTIONS)
def test_a_network_has_the_options_of_its_recipe_and_no_others(call, refused, network):
    _, out, _ = call("train", network, "--help")
    found = set(re.findall(r"^  --([a-z-]+)", out, re.MULTILINE))
    assert {*OPTIONS[network], "lr", "seed", "out", "resume", "device", "data"} <= found
    foreign = {name for names in OPTIONS.values() for name in names} - OPTIONS[network]
    assert not foreign & found
    for name in foreign:
        refused("train", network, f"--{name}", "1", words=f"No such option: --{name}")


def test_help_says_what_holds_where_nothing_is_said(call):
    for network in OPTIONS:
        out = " ".join(call("train", network, "--help")[1].split())
        if network in NETWORKS:
            usual = recipe(network)
            assert f"first level. [default: {usual.width}]" in out
        else:
            usual = stage_recipe(network)
            assert f"Pictures of a step. [default: {usual.batch_size}]" in out
        assert f"rate. [default: {usual.lr}]" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["gan"], "'gan'"),
        (["class", "--dataset", "cifar"], "--dataset cifar"),
        (["class", "--dataset", "mnist", "--data", "nowhere"], "--data nowhere"),
        (["class", "--dataset", "mnist", "--data", "."], "--data ."),
        (["class", "--width", "0"], "--width 0"),
        (["class", "--lr", "nan"], "--lr nan"),
        (["class", "--lr", "-1"], "--lr -1"),
        (["class", "--lr-decay", "0"], "--lr-decay 0"),
        (["class", "--epochs", "0"], "--epochs 0"),
        (["class", "--epochs", "1.5"], "--epochs 1.5"),
        (["class", "--batch-size", "1"], "--batch-size 1"),
        (["class", "--batch-size", "5000"], "--batch-size 5000"),
        (["class", "--objective", "beauty"], "--objective beauty"),
        (["class", "--schedule", "tight"], "--schedule tight"),
        (["class", "--timesteps", "1"], "--timesteps 1"),
        (["class", "--drop", "1"], "--drop 1"),
        (["denoiser", "--sigma", "0"], "--sigma 0"),
        (["class", "--ema", "1"], "--ema 1"),
        (["class", "--keep", "0"], "--keep"),
        (["class", "--keep", "5,x"], "--keep 5,x"),
        (["class", "--seed", "-1"], "--seed -1"),
        (["class", "--save-every", "-1"], "--save-every -1"),
        (["class", "--device", "quantum"], "--device quantum"),
        (["class", "--resume"], "--resume"),
        (["class", "--out", "file"], "--out file"),
        (["class", "--out", "file/run"], "--out file/run"),
    ],
)
def test_training_that_cannot_be(refused, here, argv, words):
    (here / "file").write_text("in the way")
    refused("train", *argv, *([] if "--dataset" in argv else ["--dataset", "digits"]), words=words)


# models, inspect, report


@pytest.fixture
def embedded(made, tmp_path_factory, monkeypatch) -> Path:
    """Two models as if they had come with the package."""
    folder = tmp_path_factory.mktemp("embedded")
    for name in ("class", "classifier"):
        (folder / name).mkdir()
        for file in Path(made[name]).iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(folders, "EMBEDDED", folder)
    return folder


def test_an_option_without_its_value_is_told_so(refused):
    refused("generate", "a castle", "--seed", words="--seed: has no value; give one")


def test_models(call, refused, embedded):
    code, out, err = call("models")
    assert (code, err) == (0, "") and out == call("models", "list")[1]
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [(row[0], row[1], row[-2], row[-1]) for row in rows] == [
        ("class", "diffusion", "float32", "1"),
        ("classifier", "classifier", "float32", "1"),
    ]
    assert int(rows[0][2].replace(",", "")) == sum(file.stat().st_size for file in (embedded / "class").iterdir())
    known = json.loads(call("models", "info", "class")[1])
    assert known["kind"] == "diffusion" and known["network"]["width"] == 8
    assert call("models", "verify") == (0, "class: whole\nclassifier: whole\n", "")
    assert call("models", "verify", "class") == (0, "class: whole\n", "")
    refused("models", "info", "nowhere", words=("nowhere", "class, classifier"))
    refused("models", "verify", "nowhere", words="nowhere")

    weights = embedded / "class" / folders.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, out, err = call("models", "verify")
    assert code == 2 and "classifier: whole" in out and "class" in err and err.count("\n") == 1
    refused("models", "verify", "class", words="SHA-256")
    refused("digits", "3", "--model", "class", words="SHA-256")


def test_names_of_embedded_models_are_the_defaults(call, embedded):
    (embedded / "class").rename(embedded / "class-20")
    assert call("digits", "3")[0] == 0 and read_provenance(Path("digits.png"))["model"] == "class-20"
    assert call("ambigram", "69", "--count", 1)[0] == 0


def test_no_embedded_models(call, here, monkeypatch):
    monkeypatch.setattr(folders, "EMBEDDED", here / "none")
    code, out, err = call("models")
    assert (code, err) == (0, "") and "phosphene train" in out


def test_nothing_to_verify_with(refused, made):
    refused("models", "verify", made["torn"], words="SHA256SUMS")


def test_inspect_prints_how_a_picture_was_made(call, refused, here, made):
    call("digits", "3", "--model", made["class"])
    code, out, err = call("inspect", "digits.png")
    assert (code, err) == (0, "") and json.loads(out) == read_provenance(Path("digits.png"))
    Image.new("RGB", (4, 4), PAPER).save("plain.png")
    Path("text.png").write_text(PROVENANCE)
    refused("inspect", "plain.png", words="plain.png")
    refused("inspect", "text.png", words="text.png")
    refused("inspect", "nowhere.png", words="nowhere.png")
    refused("inspect", ".", words=".")


def test_report_tells_each_section(call, refused, here, monkeypatch):
    asked = []

    def write(out, device, progress, *more):
        asked.append((out, device, *more))
        for done, section in enumerate(("forward", "denoise", "done")):
            progress(section, done, 2, 20.4 - 10 * done)
        return out / "index.html"

    page = types.ModuleType("phosphene.report.page")
    page.write = write
    monkeypatch.setitem(sys.modules, "phosphene.report", types.ModuleType("phosphene.report"))
    monkeypatch.setitem(sys.modules, "phosphene.report.page", page)
    code, out, err = call("report", "-o", "page", "--device", "cpu")
    assert (code, err) == (0, "")
    assert out == (
        "section 1 of 2: forward (some 20 s left)\nsection 2 of 2: denoise (some 10 s left)\nthe page is page/index.html\n"
    )
    assert [given[:5] for given in asked] == [(Path("page"), "cpu", "glyph", False, None)]
    (here / "mine" / "stage-1").mkdir(parents=True)
    (here / "mine" / "stage-1" / "model_index.json").write_text("{}")
    call("report", "-o", "page", "--model", "mine", "--quick", "--sections", "1.8, setup", "--device", "cpu")
    assert asked[1][:5] == (Path("page"), "cpu", "mine", True, ["1.8", "setup"])
    (here / "file").write_text("in the way")
    refused("report", "-o", "file", words="-o file")
    refused("report", "-o", "file/page", words="file/page")
    refused("report", "--device", "quantum", words="--device quantum")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("cascade", "--data", ".", "--target", "noise"), ("--target noise", "sample")),
        (("cascade", "--data", ".", "--heads", "7"), ("--hidden 320", "7 heads")),
        (("cascade", "--data", ".", "--teacher", "judge"), ("--teacher judge", "phosphene train retrieval")),
    ],
)
def test_options_of_stages_that_do_not_fit(refused, here, argv, words):
    refused("train", *argv, words=words)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), ("--device cuda", "--device cpu")),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), ("--device cpu", "--count")),
        (MemoryError(), ("--device cpu", "--count")),
    ],
)
def test_memory_that_does_not_suffice_is_one_sentence(refused, made, monkeypatch, error, words):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("phosphene.drawing.denoise", fail)
    refused("digits", "3", "--model", made["class"], "-o", "full.png", words=words)
    assert not Path("full.png").exists()


def test_an_error_of_our_own_is_not_hidden(call, made, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("phosphene.drawing.denoise", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        call("digits", "3", "--model", made["class"])
