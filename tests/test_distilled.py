"""Models distilled to a few steps: what they draw, what they refuse, what generate makes of that, and how they learn."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import randn, refusal
from test_cli import call, here  # noqa: F401 (fixtures)
from test_glyph import gallery, shards, spoken, taught, tiny  # noqa: F401 (fixtures)

from phosphene import load
from phosphene.cli.drawing import Drawing
from phosphene.defaults import CASCADE, FAST
from phosphene.drawing import Sampling, run
from phosphene.errors import UserError
from phosphene.expression import cond, guide
from phosphene.models import distilled, folders, weights
from phosphene.models.cascade import open_cascade, usual_of
from phosphene.sampler import clamp, ddim, denoise, dpm_solver, last
from phosphene.schedule import CLEAN, squared_cosine
from phosphene.tasks.edit import edit
from phosphene.tasks.generate import generate
from phosphene.tasks.score import score
from phosphene.training.text_to_image import run as run_module
from phosphene.training.text_to_image import student
from phosphene.training.text_to_image.recipe import difference_recipe
from phosphene.training.text_to_image.run import CascadeRun

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import ship_difference
from blind_sheets import read_prompts

PROMPTS, SEEDS = ("a castle", "a dog face"), (180, 181)


@pytest.fixture(scope="module")
def fast():
    return load(FAST)


# What ships


def test_from_the_same_noise_it_draws_what_its_teacher_draws(fast):
    """Nearer than the teacher itself in as many steps, and in as few as eight, though it is asked four times and not sixteen.

    So of every twelfth ordinary prompt together: of one or another a step decides what it becomes.
    """
    first, teacher = fast.stages[0], load(CASCADE).stages[0]
    ordinary = read_prompts(Path(__file__).parents[1] / "docs" / "prompts.txt")[::12]

    def drawn(stage, *how, prompts=ordinary):
        return last(run(generate(prompts), stage, range(180, 180 + len(prompts)), sampling=Sampling(*how, max_rows=64)))

    right, own = drawn(teacher), drawn(first)
    apart = {steps: (drawn(teacher, "dpm", steps) - right).square().mean() for steps in (4, 8)}
    assert (own - right).square().mean() < min(apart.values())
    own = drawn(first, prompts=PROMPTS)
    looks = [lambda x, k=k: own[k : k + 1] for k in range(len(PROMPTS))]
    assert score(teacher, own[:1], PROMPTS, looks).gain[0].argmax(1).tolist() == [0, 1]


def test_it_is_asked_once_a_step_in_four_steps(fast, monkeypatch):
    network, rows = fast.stages[0].network, []
    forward = network.forward
    monkeypatch.setattr(
        network, "forward", lambda x, t, *others, **named: (rows.append((len(x), int(t[0]))), forward(x, t, *others, **named))[1]
    )
    steps = list(run(generate(["a castle"]), fast.stages[0], [7]))
    asked = dict.fromkeys(t for _, t in rows)  # with bfloat16 one row is asked as two
    assert tuple(asked) == fast.stages[0].usual.timesteps and len(steps) == 4
    assert all(count <= network.rows for count, _ in rows)


def test_it_is_small_and_told_of(call):  # noqa: F811
    assert FAST in folders.cascades() and usual_of(FAST) == load(FAST).stages[0].usual
    assert sum(file.stat().st_size for file in folders.locate(FAST).iterdir()) < 1e6
    code, out, _ = call("models", "info", FAST)
    told = json.loads(out)
    own = {"timesteps": [999, 833, 600, 300], "guidance": 3.0, "upscale_steps": 4, "teacher": CASCADE}
    assert code == 0 and told["distilled"] == own
    assert [stage["folder"] for stage in told["stages"]] == [str(folders.locate(CASCADE) / f"stage-{k}") for k in (1, 2)]
    card = (folders.locate(FAST) / "README.md").read_text()
    assert "asked 4 times" in card and "32 times" in card and "999, 833, 600, 300" in card


def test_its_second_stage_takes_four_steps_and_its_teacher_s_eight(fast):
    for cascade, steps in ((fast, 4), (load(CASCADE), 8)):
        second = cascade.stages[1]
        assert len(Sampling().of(second).visited(second)) == steps
        assert len(Sampling(upscale_steps=3).of(second).visited(second)) == 3


# What it refuses, and generate with it


OTHERWISE = {
    "solver": "dpm",
    "steps": 16,
    "timesteps": [999, 500],
    "eta": 0.0,
    "resample": 2,
    "guidance": 4.0,
    "guidance_interval": [200, 800],
    "guidance_parallel": 0.5,
    "guidance_norm": 0.1,
    "guidance_every": 2,
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_it_is_sampled_as_it_was_taught_or_not_at_all(fast, name):
    first = fast.stages[0]
    words = (f"--{name.replace('_', '-')}", "999,833,600,300", "take the model that it was distilled from, glyph.")
    refusal(lambda: Sampling(**{name: OTHERWISE[name]}).of(first), *words)
    own = Sampling().of(first)
    assert Sampling(own.solver, timesteps=list(own.timesteps), guidance=own.guidance).of(first).visited(first) == list(
        own.timesteps
    )


def test_what_stays_with_an_image_is_no_work_for_it(fast):
    first = fast.stages[0]
    refusal(lambda: next(run(edit(torch.zeros(1, *first.image_shape), [2], "a house"), first, [7])), "--model", "distilled")


HOW = {
    **{f"--{name.replace('_', '-')}": str(value).strip("[]").replace(" ", "") for name, value in OTHERWISE.items()},
    "--guidance": "0",
    "--negative": "blurry",
    "--autoguidance": "skip:4",
    "--no-threshold": None,
    "--guidance-sweep": "1,3",
    "--steps-sweep": "3,5",
}


@pytest.mark.parametrize("option", [None, "--no-upscale", "--noise-level", *HOW])
def test_generate_is_quick_unless_an_option_says_how_to_sample(call, monkeypatch, option):  # noqa: F811
    """Whatever the distilled model has no choice in: of the others none changes who draws."""
    asked = []

    def opened(self, prompts):
        asked.append(self.model)
        raise UserError("enough.")

    monkeypatch.setattr(Drawing, "open", opened)
    value = HOW.get(option, {"--noise-level": "50"}.get(option))
    given = [] if option is None else [option] if value is None else [option, value]
    given += ["--solver", "ddim"] if option == "--eta" else []
    assert call("generate", "a castle", *given)[0] == 2
    assert asked == [CASCADE if option in HOW else FAST]
    call("generate", "a castle", *given, "--model", CASCADE)
    assert asked[1:] == [CASCADE]


def test_every_way_of_sampling_is_among_those():
    """A new one has to be refused here, and to be told to generate."""
    own = {"upscale_guidance", "upscale_solver", "upscale_steps", "noise_level"}  # of the second stage
    assert set(Sampling._fields) == {*OTHERWISE, *own, "threshold", "max_rows", "together"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("generate", "a castle", "--negative", "blurry"), ("--negative blurry", FAST, "distilled")),
        (("generate", "a castle", "--steps", "8"), ("--steps 8", "distilled to ddim at 999,833,600,300")),
        (("generate", "a castle", "--timesteps", "999,500"), ("--timesteps 999,500: ", "glyph.")),
        (("generate", "a castle", "--guidance-sweep", "1,2"), (f"--model {FAST}: is distilled", "take glyph.")),
        (("generate", "a castle", "--steps-sweep", "1,2"), (f"--model {FAST}: is distilled", "take glyph.")),
        (("edit", "sketch-house"), ("--model", "distilled to 4 steps from pure noise", "glyph.")),
        (("anagram", "a cow", "a car", "--view", "flip", "--best-of", "2"), ("--model", "too few timesteps to judge")),
        (("report", "--quick"), (f"--model {FAST}", "distilled", "take glyph.")),
    ],
)
def test_what_it_cannot_do_is_one_sentence(call, given, words):  # noqa: F811
    code, _, err = call(*given, "--model", FAST, *(() if given[0] == "report" else ("--no-upscale",)))
    assert code == 2 and len(err.splitlines()) == 1 and all(word in err for word in words)
    assert not list(Path().glob("*.png"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("generate", "a", "--model", "nowhere"), ("--model nowhere", "glyph, glyph-fast", "OWNER/NAME")),
        (("generate", "a", "--model", ""), ('--model ""', "glyph, glyph-fast")),
        (("generate", "a", "--model", "class-20"), ("--model class-20: is a model of digits", "glyph-fast or glyph-unprompted")),
        (("digits", "3", "--model", "glyph"), ("--model glyph: draws from text", "of digits, such as class")),
        (("models", "info", "nowhere"), ("NAME nowhere", "class-20", "glyph-fast")),
    ],
)
def test_a_model_of_another_kind_is_told_from_none(call, given, words):  # noqa: F811
    code, _, err = call(*given)
    assert code == 2 and len(err.splitlines()) == 1 and all(word in err for word in words), err


@pytest.mark.parametrize("model", [CASCADE, "a-folder"])
def test_the_studio_draws_with_it_unless_the_sliders_are_to_say_how(model):
    """And only where its model is the one that was distilled."""
    gr = pytest.importorskip("gradio", reason="takes gradio: pip install 'phosphene[web]'")
    from phosphene.web.widgets import Bench, prompts_of

    studio = SimpleNamespace(model=["--model", model], usual=usual_of(CASCADE), run=None, stop=None)
    with gr.Blocks(), Bench(studio, "generate", "dpm", quick=True).laid_out() as bench:
        bench.ask("", gr.Textbox("a castle"), prompts_of)
    sliders = ["--model", model, "--guidance", "5", "--steps", "9", "--solver", "heun"]
    if model == CASCADE:
        assert bench.line(7, ["a castle", True, 5, 9, "heun"]) == ["generate", "--seed", "7", "--", "a castle"]
        assert bench.line(7, ["a castle", False, 5, 9, "heun"]) == ["generate", "--seed", "7", *sliders, "--", "a castle"]
    else:
        assert bench.line(7, ["a castle", 5, 9, "heun"]) == ["generate", "--seed", "7", *sliders, "--", "a castle"]


# Its files


@pytest.fixture
def copied(tmp_path) -> Path:
    """The distilled model, in a folder without sums."""
    folder = tmp_path / "copy"
    shutil.copytree(folders.locate(FAST), folder)
    (folder / folders.SUMS).unlink()
    return folder


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"teacher": None}, "names no teacher"),
        ({"teacher": " "}, "names no teacher"),
        ({"teacher": FAST}, "is no cascade that lies here"),
        ({"teacher": "."}, "is no cascade that lies here"),
        ({"teacher": "nowhere"}, "is no cascade that lies here"),
        ({"teacher": "class-20"}, "is no cascade that lies here"),
        ({"teacher": "x" * 300}, "is no cascade that lies here"),
        ({"timesteps": []}, "the list is empty"),
        ({"timesteps": [300, 600]}, "must decrease"),
        ({"timesteps": [5000, 3]}, "has not all of its timesteps"),
        ({"timesteps": "999"}, "no list of whole numbers"),
        ({"timesteps": [999.5]}, "no list of whole numbers"),
        ({"upscale_steps": 0}, "is no number of steps"),
        ({"upscale_steps": 2.5}, "is no number of steps"),
        ({"guidance": float("nan")}, "is no number"),
        ({"guidance": "4"}, "is no number"),
        ({"guidance": 10**400}, "is no number"),
    ],
)
def test_what_is_told_of_it_is_checked(copied, changes, words):
    path = copied / folders.DISTILLED
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refusal(lambda: open_cascade(copied, stages=1), str(copied), words)


@pytest.mark.parametrize("damage", ["part", "shape", "axes", "both", "kind", "name", "bytes", "missing"])
def test_a_difference_that_does_not_fit_is_refused(copied, damage):
    path = copied / distilled.DIFFERENCE
    changes = weights.load(path)
    name = next(name for name in changes if name.endswith(distilled.UP))
    if damage == "part":
        del changes[name]
    elif damage == "shape":
        changes[name] = changes[name][:, :-1]
    elif damage == "axes":
        changes[name] = changes[name][:, :, None]
    elif damage == "both":
        weight = name.removesuffix(distilled.UP)
        changes[weight] = torch.zeros(changes[name].shape[1], changes[weight + distilled.DOWN].shape[1])
    elif damage == "kind":
        changes["scale_shift_table"] = torch.ones(2, 384, dtype=torch.int32)
    elif damage == "name":
        changes["no_such.weight"] = torch.zeros(3)
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "missing":
        path.unlink()
    else:
        weights.save(changes, path)
    refusal(lambda: open_cascade(copied, stages=1), str(path))


def test_a_product_of_another_shape_is_not_even_computed(copied, monkeypatch):
    """Two short rows may say a matrix of any size."""
    path, made = copied / distilled.DIFFERENCE, []
    up, down = torch.ones(1, 9000), torch.ones(1, 9000)
    weights.save({"adaln_single.linear.weight" + distilled.UP: up, "adaln_single.linear.weight" + distilled.DOWN: down}, path)
    multiplied = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: (made.append(a.shape), multiplied(a, b))[1])
    refusal(lambda: open_cascade(copied, stages=1), str(path), "does not fit the network")
    assert (9000, 1) not in made


def test_sums_of_the_teacher_hold_for_it_too(copied, tmp_path):
    shutil.copytree(folders.locate(CASCADE), tmp_path / "teacher")
    path = copied / folders.DISTILLED
    path.write_text(json.dumps(json.loads(path.read_text()) | {"teacher": "../teacher"}))
    assert open_cascade(copied).stages[0].usual.timesteps == (999, 833, 600, 300)
    log = tmp_path / "teacher" / "stage-1" / "log.jsonl"
    log.write_text(log.read_text() + "{}\n")
    refusal(lambda: open_cascade(copied), "differs from its SHA-256")


# How it learns


@pytest.fixture
def learner(taught, shards, tmp_path, monkeypatch) -> CascadeRun:  # noqa: F811
    monkeypatch.setattr(run_module, "learned_tokenizer", spoken)
    monkeypatch.setattr("phosphene.training.text_to_image.run.WORDNET", Path("/nowhere"))
    recipe = difference_recipe("student", taught, images=16 * 60, batch_size=16, rank=4, guidance=3.0, warmup=4, lr=1e-2, ema=0.5)
    return CascadeRun(recipe, tmp_path / "run", shards)


def test_legs_lead_from_one_timestep_to_the_next():
    """The student's step is DDIM's; the teacher's begin and end where it does, and the last of all at the picture."""
    found = student.legs(squared_cosine(), (999, 600, 2, 0), 20.0)
    assert [(leg.own.t, leg.own.s) for leg in found] == [(999, 600), (600, 2), (2, 0), (0, CLEAN)]
    for leg in found:
        assert (leg.rows[0].t, leg.rows[-1].s) == (leg.own.t, leg.own.s)
        assert all(a.s == b.t for a, b in zip(leg.rows, leg.rows[1:], strict=False))
        assert leg.weight == min(1 / (1 - squared_cosine().level(leg.own.t)), 20.0)


def test_the_teacher_leads_as_the_sampler_does(learner, taught, monkeypatch):  # noqa: F811
    """Where it looks at every step where to lead away from; at every other the update of the step before holds."""
    monkeypatch.setattr(student, "LOOKS", 1)
    trainer, stage = learner.trainer, open_cascade(taught).stages[0]
    prompts = ["a disc", "a red box"]
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    ids, mask = run_module.tokens.encode(trainer.tokenizer, prompts, trainer.recipe.length, 120)
    none = [part.expand(2, -1) for part in trainer.nothing]
    with torch.no_grad():
        text = torch.cat([trainer.painter.text(ids, mask), trainer.painter.text(*none)])
    for leg in trainer.legs:
        stops = [row.t for row in leg.rows]
        asked = guide(cond(*prompts), scale=3.0)
        own = dpm_solver if leg.own.s == CLEAN else lambda schedule, steps, leg=leg: leg.rows
        wanted = last(denoise(stage, asked, x, stops, solver=own, threshold=clamp(-1, 1)))
        torch.testing.assert_close(trainer.led(x, leg.rows, text, torch.cat([mask, none[1]])), wanted, rtol=0, atol=2e-3)


def test_the_student_is_taught_where_it_stands(learner, taught, monkeypatch):  # noqa: F811
    """A new student is its teacher unguided: its way is DDIM's. The teacher looks at every other step what to lead away from."""
    trainer, stage = learner.trainer, open_cascade(taught).stages[0]
    ids, mask = run_module.tokens.encode(trainer.tokenizer, ["a disc", "a red box"], trainer.recipe.length, 120)
    begun, rows, led, forward = [], [], trainer.led, trainer.teacher.forward
    monkeypatch.setattr(trainer, "led", lambda x, *others: (begun.append(x), led(x, *others))[1])
    monkeypatch.setattr(trainer.teacher, "forward", lambda x, *others: (rows.append(len(x)), forward(x, *others))[1])
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    loss = trainer.loss(trainer.average, x, ids, mask, torch.Generator().manual_seed(5))
    asked, way = cond("a disc", "a red box"), clamp(-1, 1)
    steps = list(denoise(stage, asked, x, trainer.recipe.visits, solver=ddim, threshold=way))
    for own, wanted in zip(begun, [x, *(step.xt for step in steps[:-1])], strict=True):
        torch.testing.assert_close(own, wanted, rtol=0, atol=2e-3)
    assert loss.shape == (2,) and (loss > 0).all()
    assert rows == [4, 2, 4, 2] * 3 + [4, 2, 4, 2, 4]


def test_a_student_comes_nearer_to_its_teacher_and_is_opened_as_it_was(learner, taught, tmp_path):  # noqa: F811
    frozen = {n: p.clone() for n, p in learner.trainer.painter.named_parameters() if not p.requires_grad}
    before = learner.trainer.check()["train, right"]
    reports = list(learner)
    assert reports[-1].checks["train, right"] < 0.8 * before
    assert all(torch.equal(p, frozen[n]) for n, p in learner.trainer.painter.named_parameters() if n in frozen)
    model = tmp_path / "run" / "model"
    told = distilled.read(model)
    assert told == ((999, 833, 600, 300), 3.0, None, str(taught.resolve())) and folders.whole_folder(model) == taught
    stage, own = open_cascade(model).stages[0], learner.trainer.average
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([833, 300])
    ids, mask = run_module.tokens.encode(learner.trainer.tokenizer, ["a disc", "a box"], 16, 120)
    with torch.no_grad():
        text = own.text(ids, mask)
        wanted = own.image(x, t, text, mask.bool())
        torch.testing.assert_close(stage.network.transformer(x, t, text, mask.bool()), wanted, rtol=0, atol=5e-3)
    assert (tmp_path / "run" / "samples").is_dir() and list((tmp_path / "run" / "samples").iterdir())


def test_the_sum_of_differences_adds_what_each_adds():
    """Each so strong: of products and of all else; what one of them lacks is the other's alone."""
    one = {"a.up": randn(2, 5), "a.down": randn(2, 3), "b": randn(4)}
    other = {"a.up": randn(1, 5), "a.down": randn(1, 3), "b": randn(4), "c": randn(2)}
    found = ship_difference.mixed([(one, 0.5), (other, 0.25)])
    product = [each["a.up"].T @ each["a.down"] for each in (found, one, other)]
    torch.testing.assert_close(product[0], 0.5 * product[1] + 0.25 * product[2])
    torch.testing.assert_close(found["b"], 0.5 * one["b"] + 0.25 * other["b"])
    torch.testing.assert_close(found["c"], 0.25 * other["c"])


def test_as_few_bytes_as_keep_it(learner):
    """Of all components those are kept that count most; of all of them the whole difference."""
    list(learner)
    changes = weights.load(learner.model / distilled.DIFFERENCE)
    teacher = {name: weight for name, weight in learner.trainer.before.items()}
    whole, half = (ship_difference.kept(changes, teacher, share) for share in (1.0, 0.5))

    def product(found, name):
        return found[name + distilled.UP].T @ found[name + distilled.DOWN] if name + distilled.UP in found else 0.0

    names = [name.removesuffix(distilled.UP) for name in changes if name.endswith(distilled.UP)]
    for name in names:
        torch.testing.assert_close(product(whole, name), product(changes, name), rtol=0, atol=1e-5)
    rest = sum(((product(half, n) - product(changes, n)).square().sum() / teacher[n].square().sum()).item() for n in names)
    all_of = sum((product(changes, n).square().sum() / teacher[n].square().sum()).item() for n in names)
    assert 0 < rest < 0.5 * all_of
    assert sum(v.numel() for v in half.values()) < 0.75 * sum(v.numel() for v in whole.values())


def test_what_cannot_be_distilled_is_refused(taught, tmp_path, call):  # noqa: F811
    for name, changed in (("target", "epsilon"), ("network", "upscaler")):
        folder = tmp_path / name
        shutil.copytree(taught, folder)
        recipe = json.loads((folder / "recipe.json").read_text())
        recipe["recipe"][name] = changed
        (folder / "recipe.json").write_text(json.dumps(recipe))
        refusal(lambda folder=folder: difference_recipe("student", folder), f"--from {folder}", changed)
    for given, words in (
        ((), ("--from: is missing",)),
        (("--from", str(taught), "--visits", "300,600"), ("--visits 300,600", "must decrease")),
        (("--from", str(taught), "--visits", "1200,600"), ("--visits", "0..999")),
        (("--from", str(taught), "--rank", "0"), ("--rank 0",)),
    ):
        code, _, err = call("train", "student", "--data", ".", *given)
        assert code == 2 and all(word in err for word in words), err
