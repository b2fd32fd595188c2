"""The commands of the cascade, from typing to PNG, on a cascade too small to draw anything."""

from __future__ import annotations

import hashlib
import json
import shutil
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from phosphene import cli
from phosphene.models import folders, hub
from phosphene.readers import read_picture, read_provenance
from phosphene.training.text_to_image.captions import Subject
from phosphene.training.text_to_image.cutouts import Cutouts, Shape
from phosphene.training.text_to_image.recipe import CascadeRecipe
from phosphene.training.text_to_image.stage_trainer import StageTrainer
from phosphene.training.text_to_image.stories import learned_tokenizer

TINY = {
    "hidden": 32,
    "layers": 2,
    "heads": 2,
    "text_width": 16,
    "text_layers": 1,
    "text_heads": 2,
    "vocabulary": 60,
    "length": 12,
}


@pytest.fixture(scope="module")
def cascade(tmp_path_factory) -> Path:
    """Two stages, 16 and 32 pixels, untrained: their last layers are random, or every picture would be grey."""
    folder = tmp_path_factory.mktemp("cascade")
    shape = Shape(0.1, 0.1, 0.9, 0.9, 0.5, 0.4, False, True, False, -1)
    things = [Subject(f"thing {k}", concept=f"{k}") for k in range(60)]
    gallery = Cutouts(torch.zeros(60, 4, 20, 20, dtype=torch.uint8), things, [shape] * 60)
    for stage, changes in (("stage-1", {"size": 16, "patch": 4}), ("stage-2", {"network": "upscaler", "size": 32, "patch": 8})):
        recipe = CascadeRecipe(**TINY, **changes)
        trainer = StageTrainer(recipe, gallery, learned_tokenizer(gallery, recipe, None))
        with torch.random.fork_rng():
            torch.manual_seed(5)
            for parameter in trainer.average.parameters():
                parameter.data.add_(0.1 * torch.randn_like(parameter))
        trainer.save(folder / stage)
    return folder


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*argv):
        code = cli.main([str(a) for a in argv])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def size(path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_the_second_stage_has_options_of_its_own(call, cascade):
    """Steps and noise level change the picture, and are told of; another level is another picture of the same small one."""
    base = ["generate", "a rocket", "--model", cascade, "--steps", 3]
    for name, more in (("plain", ()), ("steps", ("--upscale-steps", 2)), ("level", ("--noise-level", 400))):
        assert call(*base, *more, "-o", f"{name}.png")[0] == 0
    assert len({read_picture(f"{name}.png").tobytes() for name in ("plain", "steps", "level")}) == 3
    assert read_provenance(Path("level.png"))["arguments"]["noise_level"] == 400
    assert (
        call("rerun", "level.png", "-o", "again.png", "--allow-model", cascade)[0] == 0
        and Path("again.png").read_bytes() == Path("level.png").read_bytes()
    )


def test_many_prompts_of_one_seed_are_broken_into_rows(call, cascade):
    """Ten prompts are two rows of five; with seeds or scales for rows each prompt keeps its column."""
    base = ["generate", *"abcdefghij", "--model", cascade / "stage-1", "--steps", 1]
    assert call(*base, "-o", "many.png")[0] == 0 and call(*base[:6], *base[11:], "-o", "five.png")[0] == 0
    assert size("many.png") == (size("five.png")[0], 2 * size("five.png")[1] - 6)
    for more in (("--count", 2), ("--guidance-sweep", "1,3"), ("--guidance-sweep", "7")):
        assert call(*base, *more, "-o", "rows.png")[0] == 0
        assert size("rows.png")[0] > 1.9 * size("five.png")[0]


def test_a_model_without_second_stage_refuses_its_options(call, cascade):
    for option, value in (("--upscale-steps", 4), ("--noise-level", 5000)):
        code, _, err = call("generate", "a rocket", "--model", cascade / "stage-1", option, value, "-o", "x.png")
        assert code == 2 and f"{option} {value}" in err and "has none" in err and not Path("x.png").exists()


def test_a_sheet_of_denoising_refuses_them_too_and_can_be_made_again(call, cascade):
    """It draws with the first stage alone, and says so without options that nobody typed."""
    base = ["denoise", "castle-hill", "--model", cascade]
    code, _, err = call(*base, "--noise-level", 20, "-o", "x.png")
    assert code == 2 and "--noise-level 20" in err and not Path("x.png").exists()
    assert (
        call(*base, "-o", "sheet.png")[0] == 0 and call("rerun", "sheet.png", "-o", "again.png", "--allow-model", cascade)[0] == 0
    )
    assert Path("again.png").read_bytes() == Path("sheet.png").read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--upscale-steps", 0), ("--upscale-steps 0",)),
        (("--upscale-steps", 1001), ("--upscale-steps 1001", "1..1000")),
        (("--upscale-steps", 4, "--no-upscale"), ("--upscale-steps 4", "first")),
        (("--noise-level", 1000), ("--noise-level 1000", "0..999")),
        (("--noise-level", 9, "--no-upscale"), ("--noise-level 9", "first")),
    ],
)
def test_options_of_the_second_stage_that_cannot_be(call, cascade, options, words):
    code, _, err = call("generate", "a rocket", "--model", cascade, "--steps", 3, *options, "-o", "x.png")
    assert code == 2 and err.count("\n") == 1 and all(w in err for w in words) and not Path("x.png").exists()


def test_one_prompt_is_one_picture(call, cascade):
    code, out, err = call("generate", "a rocket", "--model", cascade, "--steps", 3, "-o", "rocket.png")
    assert (code, err) == (0, "") and "1 picture in rocket.png" in out and size("rocket.png") == (32, 32)
    story = read_provenance(Path("rocket.png"))
    assert story["command"] == "generate" and story["arguments"]["prompts"] == ["a rocket"] and story["model"] == str(cascade)
    call("generate", "a rocket", "--model", cascade, "--steps", 3, "--no-upscale", "-o", "small.png")
    assert size("small.png") == (16, 16)
    with Image.open("small.png") as image:
        assert len(set(image.getdata())) > 50


def test_prompts_stand_side_by_side_and_seeds_one_below_another(call, cascade):
    argv = ["generate", "a rocket", "a skull", "--count", 2, "--solver", "dpm", "--steps", 2, "--model", cascade]
    assert call(*argv, "-o", "sheet.png")[0] == 0
    width, height = size("sheet.png")
    assert width > 2 * 32 and height > 2 * 32 and [size(f"sheet-{k}.png") for k in (1, 2, 3, 4)] == [(32, 32)] * 4
    # A picture of the sheet is the picture made alone with its seed.
    call("generate", "a skull", "--seed", 181, "--solver", "dpm", "--steps", 2, "--model", cascade, "-o", "alone.png")
    with Image.open("sheet.png") as sheet, Image.open("alone.png") as alone:
        wanted, sheet = alone.convert("RGB"), sheet.convert("RGB")  # on a sheet each of its pixels is four wide
        wanted = wanted.resize((128, 128), Image.Resampling.NEAREST)
        places = [
            (x, y) for x in range(width - 127) for y in range(height - 127) if sheet.getpixel((x, y)) == wanted.getpixel((0, 0))
        ]
        crops = (sheet.crop((x, y, x + 128, y + 128)) for x, y in places)
        far = min(max(abs(a - b) for a, b in zip(crop.tobytes(), wanted.tobytes(), strict=True)) for crop in crops)
    assert far <= 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["generate", "a", "--upscale-guidance", 9], ["--upscale-guidance 9", "reads no prompt"]),
        (["generate", "a", "--negative", "red", "--guidance", 1], ["--negative red", "--guidance 1"]),
        (["edit", "clock-tower", "--guidance-norm", 0.2, "--guidance", 1], ["--guidance-norm 0.2", "--guidance 1"]),
        (
            ["anagram", "a", "b", "--view", "flip", "--guidance-parallel", 0, "--guidance", 1],
            ["--guidance-parallel 0", "nothing"],
        ),
        (["generate", "a", "--guidance-interval", "1,9", "--guidance", 1, "--no-upscale"], ["--guidance-interval 1,9"]),
        (["generate", "a", "--guidance-sweep", "1,9", "--guidance", 7], ["--guidance-sweep 1,9", "--guidance says"]),
        (["anagram", "a", "b", "--view", "flip", "--view-seed", 7], ["--view-seed 7", "jigsaw"]),
        (["anagram", "a", "b", "--view", "jigsaw@3", "--view-seed", 7], ["--view-seed 7", "seed of their own"]),
        (["hybrid", "a", "b", "--fit", "pad"], ["--fit pad", "--from"]),
        (["inpaint", "castle-hill", "castle-hill-mask", "--compare", "--blend", "paste"], ["--blend paste", "--compare"]),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(call, cascade, argv, words):
    code, out, err = call(*argv, "--model", cascade, "--steps", 2, "-o", "x.png")
    assert (code, out) == (2, "") and err.count("\n") == 1 and not Path("x.png").exists()
    assert all(word in err for word in words), err


def test_a_sweep_of_one_can_be_run_again(call, cascade):
    """Its picture says what was swept, and nothing of the same that was not so."""
    for name in ("guidance", "steps"):
        assert call("generate", "a", f"--{name}-sweep", 2, "--model", cascade, "--no-upscale", "-o", "one.png")[0] == 0
        assert read_provenance(Path("one.png"))["arguments"][name] is None
        code, out, err = call("rerun", "one.png", "-o", "again.png", "--allow-model", cascade)
        assert code == 0 and "byte for byte" in out, err


def test_options_reach_the_picture(call, cascade):
    base = ["generate", "a rocket", "--model", cascade, "--no-upscale", "--steps", 4]
    changes = [[], ["--guidance", 1], ["--negative", "a skull"], ["--seed", 5], ["--solver", "ddim"], ["--no-threshold"]]
    pictures = set()
    for k, change in enumerate(changes):
        assert call(*base, *change, "-o", f"{k}.png")[0] == 0
        with Image.open(f"{k}.png") as image:
            pictures.add(image.tobytes())
    assert len(pictures) == len(changes)
    assert call("generate", "a rocket", "--model", cascade, "--no-upscale", "--timesteps", "900,500,100", "-o", "t.png")[0] == 0
    assert (
        call("generate", "a rocket", "--model", cascade, "--no-upscale", "--timesteps", "900,500,...,100", "-o", "d.png")[0] == 0
    )
    with Image.open("t.png") as written_out, Image.open("d.png") as dotted:
        assert written_out.tobytes() == dotted.tobytes()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([""], "PROMPT"),
        (["a rocket", "--steps", 3, "--timesteps", "900,0"], "--steps 3"),
        (["a rocket", "--timesteps", "0,900"], "timesteps"),
        (["a rocket", "--timesteps", "x"], "--timesteps x"),
        (["a rocket", "--timesteps", "1000,0"], "--timesteps 1000,0: must lie in 0..999"),
        (["a rocket", "--timesteps", "990,960,...,1"], "--timesteps 990,960,...,1"),
        (["a rocket", "--timesteps", "990,...,0"], "--timesteps 990,...,0"),
        (["a rocket", "--timesteps", "990,990,...,0"], "--timesteps 990,990,...,0"),
        (["a rocket", "--steps", 0], "--steps 0"),
        (["a rocket", "--solver", "dpm", "--eta", 0.5], "--eta 0.5"),
        (["a rocket", "--solver", "magic"], "--solver magic"),
        (["a rocket", "--guidance", "nan"], "--guidance nan"),
        (["a rocket", "--model", "nowhere"], "--model nowhere"),
        (["a rocket", "-o", "rocket.jpg"], "-o rocket.jpg"),
        (["a rocket", "--embeddings", "nowhere.pth"], "nowhere.pth"),
        (["a rocket", "--text-encoder", "maybe"], "--text-encoder maybe"),
        (["a rocket", "--text-encoder", "none"], "never encoded here; leave --text-encoder none out"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(call, cascade, argv, words):
    model = [] if "--model" in argv else ["--model", cascade]
    code, _, err = call("generate", *argv, *model)
    assert code == 2 and words in err and err.count("\n") == 1 and not list(Path().glob("*.png"))


RERUNS = [
    ["generate", "a rocket", "a skull", "--steps", 2, "--negative", "red, green"],
    ["generate", "-3d cube", "--timesteps", "900,400,20", "--no-upscale", "--no-threshold"],
    ["digits", "01", "--solver", "dpm", "--steps", 2, "--count", 2],
    ["digits", "--unconditional", "--solver", "ddim", "--steps", 2],
    ["ambigram", "69", "--count", 2, "--steps", 3],
]


@pytest.mark.parametrize("argv", RERUNS, ids=lambda argv: " ".join(str(a) for a in argv[:3]))
def test_a_picture_can_be_made_again(call, cascade, argv):
    argv = [argv[0], *argv[1:], *(["--model", cascade] if argv[0] == "generate" else [])]
    if str(argv[1]).startswith("-3d"):
        argv = [argv[0], *argv[2:], "--", argv[1]]
        argv = [argv[0], "-o", "first.png", *argv[1:]]
    else:
        argv += ["-o", "first.png"]
    code, _, err = call(*argv)
    assert (code, err) == (0, "")
    code, out, err = call("rerun", "first.png", "--allow-model", cascade)
    assert (code, err) == (0, "") and "byte for byte" in out
    assert Path("first-again.png").read_bytes() == Path("first.png").read_bytes()


def test_what_cannot_be_made_again_is_one_sentence(call):
    Image.new("L", (4, 4)).save("plain.png")
    for argv, words in ((["rerun", "plain.png"], "plain.png"), (["rerun", "nowhere.png"], "nowhere.png")):
        code, _, err = call(*argv)
        assert code == 2 and words in err
    call("digits", "1", "--solver", "dpm", "--steps", 2, "-o", "one.png")
    code, _, err = call("rerun", "one.png", "-o", "one.png")
    assert code == 2 and "-o one.png" in err


def test_a_folder_of_ones_own_pictures_trains_a_stage(call, monkeypatch):
    from phosphene.training.text_to_image import recipe as training
    from phosphene.training.text_to_image import run, stories

    monkeypatch.setattr(run.CascadeRun, "preview", partialmethod(run.CascadeRun.preview, prompts=("a disc",)))
    monkeypatch.setattr(stories, "held_out", lambda concept, one_in: concept == "disc 3")
    Path("pictures").mkdir()
    for k in range(6):
        image = Image.new("RGBA", (32, 32))
        ImageDraw.Draw(image).ellipse((4 + k, 4, 24, 24), fill=(40 * k, 80, 200, 255))
        image.save(f"pictures/disc-{k}.png")
    monkeypatch.setattr(training, "CascadeRecipe", partial(CascadeRecipe, **TINY, size=16, patch=4, warmup=2))
    command = ["train", "cascade", "--data", "pictures", "--images", 32, "--batch-size", 8, "--out", "run", "--device", "cpu"]
    code, out, err = call(*command)
    assert (code, err) == (0, "") and "done: the model is in run/model" in out
    assert json.loads(Path("run/model/recipe.json").read_text())["images"] == 32
    # What is not said again stays as it was, though the defaults are others.
    monkeypatch.setattr(training, "CascadeRecipe", CascadeRecipe)
    code, _, err = call("train", "cascade", "--data", "pictures", "--images", 48, "--out", "run", "--device", "cpu", "--resume")
    assert (code, err) == (0, "")
    told = json.loads(Path("run/model/recipe.json").read_text())
    assert told["images"] == 48 and told["recipe"]["batch_size"] == 8 and told["recipe"]["hidden"] == 32
    # Weights alone begin another run, which counts on.
    command = [
        "train",
        "cascade",
        "--data",
        "pictures",
        "--from",
        "run/model",
        "--images",
        64,
        "--device",
        "cpu",
        "--out",
        "next",
    ]
    code, out, err = call(*command, "--optimizer", "muon")
    assert (code, err) == (0, "") and "64 images: loss" in out
    assert json.loads(Path("next/model/recipe.json").read_text())["recipe"] == told["recipe"] | {
        "images": 64,
        "optimizer": "muon",
    }
    code, _, err = call("generate", "a disc", "--model", "run/model", "--steps", 2, "-o", "disc.png")
    assert (code, err) == (0, "") and size("disc.png") == (16, 16)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--images", "10"], "--data"),
        (["--data", "nowhere"], "--data nowhere"),
        (["--data", ".", "--epochs", "3"], "--epochs"),
        (["--data", ".", "--resume", "--out", "nowhere"], "--resume"),
        (["--data", ".", "--from", "nowhere"], "--from nowhere"),
        (["--data", ".", "--images", "0"], "--images 0"),
        (["--data", ".", "--lr", "nan"], "--lr nan"),
    ],
)
def test_a_stage_that_cannot_be_trained_is_one_sentence(call, argv, words):
    code, _, err = call("train", "cascade", *argv, "--device", "cpu")
    assert code == 2 and words in err and not Path("runs").exists()


def test_models_tells_of_cascades(call, cascade, tmp_path, monkeypatch):
    told = json.loads(call("models", "info", cascade)[1])
    assert told["kind"] == "cascade" and [s["size"] for s in told["stages"]] == [16, 32]
    assert told["stages"][0]["text encoder"] and told["stages"][0]["predicts"] == "sample"
    assert told["bytes"] == sum(file.stat().st_size for file in Path(cascade).rglob("*") if file.is_file())
    code, _, err = call("models", "verify", cascade)
    assert code == 2 and "SHA256SUMS" in err
    # As if it came with the package.
    shutil.copytree(cascade, tmp_path / "models" / "tiny")
    monkeypatch.setattr(folders, "EMBEDDED", tmp_path / "models")
    names = sorted(p.relative_to(tmp_path / "models" / "tiny") for p in (tmp_path / "models" / "tiny").rglob("*") if p.is_file())
    sums = "".join(f"{hashlib.sha256((tmp_path / 'models' / 'tiny' / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    (tmp_path / "models" / "tiny" / "SHA256SUMS").write_text(sums)
    assert "tiny" in call("models", "list")[1]
    assert call("models", "verify") == (0, "tiny: whole\n", "")
    quick = tmp_path / "models" / "quick"
    quick.mkdir()
    (quick / "distilled.json").write_text('{"teacher": "tiny", "timesteps": [999], "guidance": 4}')
    (quick / "SHA256SUMS").write_text(f"{hashlib.sha256((quick / 'distilled.json').read_bytes()).hexdigest()}  distilled.json\n")
    assert call("models", "verify", "quick") == (0, "quick: whole\n", "")
    next((tmp_path / "models" / "tiny" / "stage-2").rglob("*.safetensors")).write_bytes(b"")
    code, out, err = call("models", "verify", "quick")
    assert (code, out) == (2, "") and "stage-2" in err and "SHA-256" in err  # for it draws with what is its teacher's
    shutil.rmtree(quick)
    code, _, err = call("models", "verify", "tiny")
    assert code == 2 and "differs from its SHA-256" in err


def test_models_fetch_asks_the_hub(call, cascade, monkeypatch):
    asked = []

    def fetch(name, dtype, text=True, stages=2):
        asked.append((name, dtype, text, stages))
        return [Path(cascade) / "stage-1", Path(cascade) / "stage-2"]

    monkeypatch.setattr(hub, "fetch", fetch)
    code, out, _ = call("models", "fetch", "somebody/something", "--device", "cpu", "--text-encoder", "none")
    assert code == 0 and out.count("bytes") == 2 and asked == [("somebody/something", torch.float32, False, 2)]
    for argv, words in (
        (["nobody"], "OWNER/NAME nobody"),
        (["a/b", "--text-encoder", "no"], "--text-encoder no"),
    ):
        code, _, err = call("models", "fetch", *argv)
        assert code == 2 and words in err and err.count("\n") == 1
    code, _, err = call("models", "info", "a/b")
    assert code == 2 and "phosphene models fetch a/b" in err
