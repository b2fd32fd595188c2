"""What is drawn of nothing: glyph adapted to it, what an edit makes of that, and how it is learned."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import refusal
from test_cli import call, here  # noqa: F401 (fixtures)
from test_glyph import gallery, shards, spoken, taught, tiny  # noqa: F401 (fixtures)

from phosphene import load
from phosphene.cli.drawing import Drawing
from phosphene.defaults import ADAPTED_USUAL, CASCADE, FAST, UNPROMPTED
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.images import fitted, to_tensor
from phosphene.models import distilled, folders, weights
from phosphene.models.cascade import open_cascade, usual_of
from phosphene.readers import read_picture
from phosphene.report.sections import Desk
from phosphene.sampler import last
from phosphene.tasks.denoise import TIMESTEPS
from phosphene.tasks.edit import edit
from phosphene.training.text_to_image import grounds, places
from phosphene.training.text_to_image import run as run_module
from phosphene.training.text_to_image.casting import FLAT, PEN, Casting
from phosphene.training.text_to_image.cutouts import Cutouts
from phosphene.training.text_to_image.recipe import difference_recipe
from phosphene.training.text_to_image.run import CascadeRun
from phosphene.training.text_to_image.scenes import KINDS
from phosphene.training.text_to_image.settings import chosen_place, flattened

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import blind_sheets
import ship_cascade
import ship_difference
import simple_drawings

EDITED = ("clock-tower", "castle-hill", "sketch-house", "sketch-fish")


# What ships


def test_of_a_picture_it_leaves_more_than_glyph_does():
    """From start 7 of Part A's 34, the same noise: nearer to what it started from, as strangers see too."""
    apart = {}
    for name in (CASCADE, UNPROMPTED):
        stage, apart[name] = load(name).stages[0], 0.0
        for picture in EDITED:
            image = to_tensor(fitted(read_picture(Path(picture)), stage.image_shape[1:]))
            made = last(run(edit(image, [7]), stage, [180], sampling=Sampling(timesteps=TIMESTEPS)))
            apart[name] += (made - image).square().mean().item() / len(EDITED)
    assert apart[UNPROMPTED] < 0.8 * apart[CASCADE]


def test_it_is_sampled_like_glyph_and_told_of(call):  # noqa: F811
    assert UNPROMPTED in folders.cascades() and usual_of(UNPROMPTED) == ADAPTED_USUAL == load(UNPROMPTED).stages[0].usual
    # A fifth of its components, 0.5 MB, draws worse.
    assert sum(file.stat().st_size for file in folders.locate(UNPROMPTED).iterdir()) < 1.3e6
    code, out, _ = call("models", "info", UNPROMPTED)
    told = json.loads(out)
    assert code == 0 and told["adapted"] == {"base": CASCADE} and "distilled" not in told
    assert [stage["folder"] for stage in told["stages"]] == [str(folders.locate(CASCADE) / f"stage-{k}") for k in (1, 2)]
    code, out, _ = call("models", "list")
    assert [line.split()[3] for line in out.splitlines() if line.startswith(UNPROMPTED)] == ["int8"]


@pytest.mark.parametrize("name", [UNPROMPTED, FAST, CASCADE])
def test_its_card_is_what_the_tool_writes(name):
    card = ship_cascade.card() if name == CASCADE else ship_difference.card(name)
    assert (folders.locate(name) / "README.md").read_text() == card


# Who draws


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ((), UNPROMPTED),
        (("--prompt", ""), UNPROMPTED),
        (("--prompt", " "), UNPROMPTED),
        (("--strength", "0.5"), UNPROMPTED),
        (("--prompt", "a house"), CASCADE),
        (("--negative", "blurry"), CASCADE),
        (("--model", CASCADE), CASCADE),
        (("--model", UNPROMPTED, "--prompt", "a house"), UNPROMPTED),
    ],
)
def test_an_edit_is_its_work_where_nothing_is_said(call, monkeypatch, given, name):  # noqa: F811
    asked = []

    def opened(self, prompts):
        asked.append(self.model)
        raise UserError("enough.")

    monkeypatch.setattr(Drawing, "open", opened)
    assert call("edit", "sketch-house", *given)[0] == 2 and asked == [name]


def test_sheets_of_edits_are_drawn_as_the_command_draws_them(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(blind_sheets, "load", lambda name: (asked.append(name), load(name))[1])
    monkeypatch.setattr(
        blind_sheets, "run", lambda task, *_, sampling: (asked.append(sampling.solver), run(task, *_, sampling=sampling))[1]
    )
    monkeypatch.setattr(blind_sheets, "EDITED", {"sketch-fish": "a fish"})
    for more, solver in (([], None), (["--solver", "dpm"], "dpm")):
        monkeypatch.setattr(sys, "argv", ["blind_sheets", "--edits", "31", "--out", str(tmp_path / "x"), *more])
        blind_sheets.main()
        assert asked == [UNPROMPTED, solver] and len(json.loads((tmp_path / "x" / "key.json").read_text())) == 3
        asked.clear()


def test_scenes_that_nobody_learned_from_are_named_too(tmp_path, monkeypatch, capsys):
    for first, name in ((0, "learned.tar"), (1000, "new.tar")):
        monkeypatch.setattr(
            sys, "argv", ["simple_drawings", str(tmp_path / name), "--size", "32", "--each", "1", "--first", str(first)]
        )
        simple_drawings.main()
    learned, new = (Cutouts.open(tmp_path / name, 32) for name in ("learned.tar", "new.tar"))
    apart = (learned.pictures.float() - new.pictures.float()).square().mean((1, 2, 3)).sqrt()
    assert [s.called for s in learned.subjects] == [s.called for s in new.subjects] and (apart > 5).float().mean() > 0.9
    images, shown, names = blind_sheets.simple_scenes(tmp_path / "new.tar", 6)
    assert images.shape == (6, 3, 64, 64) and len(set(shown)) > 2 and set(shown) <= set(names) == set(simple_drawings.DRAWINGS)
    again, _, _ = blind_sheets.simple_scenes(tmp_path / "new.tar", 3)
    assert torch.equal(images[:3], again)  # more of them are the same and others
    scenes = ["blind_sheets", "--edits", "31", "--scenes", str(tmp_path / "new.tar"), "--count", "2"]
    monkeypatch.setattr(sys, "argv", [*scenes, "--out", str(tmp_path / "x")])
    blind_sheets.main()
    assert sorted(json.loads((tmp_path / "x" / "key.json").read_text()).values()) == sorted(
        f"{name} (scene {k})" for k, name in enumerate(shown[:2])
    )

    class Knowing:
        """Knows the scenes by their pixels; takes all else for the first name."""

        def texts(self, prompts):
            assert prompts == [blind_sheets.with_article(name) for name in names]
            return torch.eye(len(names))

        def pictures(self, x):
            known = [next((n for n, one in zip(shown, images, strict=True) if torch.equal(one, each)), names[0]) for each in x]
            return torch.eye(len(names))[[names.index(name) for name in known]]

    monkeypatch.setattr(blind_sheets, "open_judge", lambda folder: Knowing())
    monkeypatch.setattr(sys, "argv", [*scenes, "--judge", "J"])
    capsys.readouterr()
    blind_sheets.main()
    assert names[0] not in shown[:2] and capsys.readouterr().out == "0 of 2, among 37 names; of the scenes themselves 2\n"
    monkeypatch.setattr(blind_sheets, "_unprompted", lambda drawer, image, *_: image)
    blind_sheets.main()
    assert capsys.readouterr().out == "2 of 2, among 37 names; of the scenes themselves 2\n"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--scenes", "D.tar"], "say --edits START"),
        (["--edits", "7", "--scenes", "D.tar", "--count", "0"], "a --count of at least 1"),
        (["--edits", "7", "--judge", "J"], "--judge looks at what becomes of --scenes"),
    ],
)
def test_scenes_without_edits_are_refused(given, words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["blind_sheets", *given])
    with pytest.raises(SystemExit) as ended:
        blind_sheets.main()
    assert ended.value.code == 2 and words in capsys.readouterr().err


def test_the_studio_and_the_page_leave_it_to_that(tmp_path):
    desk = Desk(tmp_path, "cpu")
    first, other = desk.open(1), desk.open(1, unsaid=True)
    assert desk.open(1) is first and desk.open(1, unsaid=True).stages[0] is other.stages[0] is not first.stages[0]
    assert desk.open(2, unsaid=True).stages[1] is desk.open(2).stages[1] and desk.opened == [CASCADE, UNPROMPTED]
    weight = next(iter(first.stages[0].network.transformer.transformer_blocks.parameters()))
    assert not torch.equal(weight, next(iter(other.stages[0].network.transformer.transformer_blocks.parameters())))
    elsewhere = Desk(tmp_path, "cpu", FAST)
    assert elsewhere.open(1, unsaid=True) is elsewhere.open(1) and elsewhere.opened == [FAST]
    gr = pytest.importorskip("gradio", reason="takes gradio: pip install 'phosphene[web]'")
    from phosphene.web.widgets import Bench

    for model, told in ((CASCADE, []), ("a-folder", ["--model", "a-folder"])):
        studio = SimpleNamespace(model=["--model", model], usual=usual_of(CASCADE), run=None, stop=None)
        with gr.Blocks(), Bench(studio, "edit", "ancestral", owns=True).laid_out() as bench:
            pass
        chosen = next(component for name, component, _ in bench.asked if name == "--solver")
        assert chosen.value == ("" if model == CASCADE else "ancestral")  # where nothing is chosen it is left to the command
        for solver in (chosen.value, "ancestral", "heun"):
            line, more = bench.line(7, [3, 34, solver]), ["--solver", solver] if solver else []
            assert line == ["edit", "--seed", "7", *told, "--guidance", "3", "--steps", "34", *more, "--"]


# Its files


@pytest.fixture
def copied(tmp_path) -> Path:
    """It, in a folder without sums."""
    folder = tmp_path / "copy"
    shutil.copytree(folders.locate(UNPROMPTED), folder)
    (folder / folders.SUMS).unlink()
    return folder


@pytest.mark.parametrize(
    ("base", "words"),
    [
        (None, "names no base"),
        (" ", "names no base"),
        (3, "names no base"),
        (FAST, "its base glyph-fast is no cascade"),
        (UNPROMPTED, "is no cascade that lies here"),
        (".", "is no cascade that lies here"),
        ("nowhere", "is no cascade that lies here"),
    ],
)
def test_what_is_told_of_its_base_is_checked(copied, base, words):
    (copied / folders.ADAPTED).write_text(json.dumps({"base": base}))
    refusal(lambda: open_cascade(copied, stages=1), str(copied), words)


def test_a_difference_that_is_missing_or_damaged_is_refused(copied):
    refusal(lambda: open_cascade(copied / "x", stages=1), "x")
    path = copied / distilled.DIFFERENCE
    path.write_bytes(path.read_bytes()[:1000])
    refusal(lambda: open_cascade(copied, stages=1), distilled.DIFFERENCE)


# What it learns from


@pytest.fixture(scope="module")
def drawings(tmp_path_factory) -> Cutouts:
    folder = tmp_path_factory.mktemp("drawings")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["simple_drawings", str(folder / "simple.tar"), "--size", "20", "--each", "2"])
        simple_drawings.main()
    return Cutouts.open(folder, 20)


def test_a_flat_place_has_no_textures_and_no_weather():
    chance = random.Random(3)
    for kind, time in (("field", "day"), ("hilltop", "sunset"), ("sea", "storm"), ("village", "snow"), ("forest", "fog")):
        place = places.made(kind, time, chance)
        flat = flattened(place)
        assert flat.ground.texture == grounds.PLAIN and flat.shadow == 0 and flat.standing == place.standing
        assert not any(vars(flat.ground)[what] for what in ("clouds", "glow", "mist", "flakes", "rain", "rays"))
        assert (flat.ground.sky_top, flat.ground.far) == (place.ground.sky_top, place.ground.far)
    grass, flat = (
        grounds.draw_grounds(torch.tensor([each.ground.row()]), 32, torch.Generator().manual_seed(0))[0, :, -8:]
        for each in (lambda p: (p, flattened(p)))(chosen_place("field", random.Random(1)))
    )
    assert flat.std(2).max() < 1e-6 < 1e-3 < grass.std(2).max()  # along each row


def test_a_simply_drawn_scene_is_simply_drawn_throughout(drawings):
    """In flat colours and not with a pen; somewhat more than half show a building."""
    cast, chance = Casting(drawings.subjects, drawings.shapes, ordinary=True), random.Random(0)
    made = [scene for _ in range(600) if (scene := KINDS["simple"](cast, chance)) is not None]
    shown = [[drawings.subjects[layer.index] for layer in scene.layers] for scene in made]
    assert len(made) > 500 and {subject.style for row in shown for subject in row} == {FLAT}
    assert all(scene.ground.texture == grounds.PLAIN for scene in made)
    built = sum(row[-1].category == "building" for row in shown) / len(made)
    assert 0.45 < built < 0.7
    clouds = [any(subject.name == "cloud" for subject in row[:-1]) for row in shown]
    assert 0.1 < sum(clouds) / len(made) < 0.6
    assert PEN in {subject.style for subject in drawings.subjects}


# How it is learned


@pytest.fixture
def learner(taught, shards, tmp_path, monkeypatch) -> CascadeRun:  # noqa: F811
    monkeypatch.setattr(run_module, "learned_tokenizer", spoken)
    monkeypatch.setattr("phosphene.training.text_to_image.run.WORDNET", Path("/nowhere"))
    changes = {"images": 16 * 60, "batch_size": 16, "rank": 4, "warmup": 4, "lr": 1e-2, "ema": 0.5}
    return CascadeRun(difference_recipe("unprompted", taught, **changes), tmp_path / "run", shards)


def test_it_is_shown_pictures_without_words_alone(learner):
    stories = learner.trainer.stories
    assert {stories.scene(k, row)[1] for k in range(20) for row in range(4)} == {""}
    assert learner.recipe.drop == 1 and learner.recipe.simple == 0.5


def test_it_learns_a_difference_of_low_rank_and_is_opened_with_it(learner, taught, tmp_path):  # noqa: F811
    trainer = learner.trainer
    frozen = {n: p.clone() for n, p in trainer.painter.named_parameters() if not p.requires_grad}
    before = trainer.check()["train, right"]
    reports = list(learner)
    assert reports[-1].checks["train, right"] < before
    assert frozen and all(torch.equal(p, frozen[n]) for n, p in trainer.painter.named_parameters() if n in frozen)
    model = tmp_path / "run" / "model"
    assert folders.difference_of(model) == (folders.ADAPTED, str(taught.resolve())) and folders.whole_folder(model) == taught
    assert (
        distilled.read(model) is None
        and max(v.shape[0] for n, v in weights.load(model / distilled.DIFFERENCE).items() if n.endswith(distilled.DOWN)) == 4
    )
    stage, own = open_cascade(model).stages[0], trainer.average
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([833, 300])
    ids, mask = run_module.tokens.encode(trainer.tokenizer, ["", ""], 16, 120)
    with torch.no_grad():
        text = own.text(ids, mask)
        wanted = own.image(x, t, text, mask.bool())
        torch.testing.assert_close(stage.network.transformer(x, t, text, mask.bool()), wanted, rtol=0, atol=5e-3)
        base = open_cascade(taught).stages[0].network.transformer(x, t, text, mask.bool())
    assert (wanted - base).abs().max() > 2e-2
    assert list((tmp_path / "run" / "samples").iterdir())


def test_what_cannot_be_adapted_is_refused(taught, call):  # noqa: F811
    for given, words in (
        ((), "--from: is missing"),
        (("--from", str(taught), "--simple", "1.5"), "--simple 1.5"),
        (("--from", str(taught), "--rank", "0"), "--rank 0"),
        (("--from", "nowhere"), "--from nowhere"),
    ):
        code, _, err = call("train", "unprompted", "--data", ".", *given)
        assert code == 2 and len(err.splitlines()) == 1 and words in err, err
    refusal(lambda: tiny(drop=1.0), "--drop 1.0")
