"""Training: a run that was stopped, killed or shared between processes learns what an unbroken one learns."""

import errno
import gzip
import json
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import refusal
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

import phosphene
from phosphene.defaults import OBJECTIVES
from phosphene.devices import choose_device
from phosphene.errors import UserError
from phosphene.models import catalogue, folders
from phosphene.models.digits import DigitDiffusion
from phosphene.processes import Place
from phosphene.schedule import linear
from phosphene.training import checkpoint
from phosphene.training.log import Log, curve, read_log
from phosphene.training.mnist import run as run_module
from phosphene.training.mnist.data import PARTS, Split, load_dataset
from phosphene.training.mnist.loop import Trainer
from phosphene.training.mnist.objectives import Draws, _jittered, build, diffusion
from phosphene.training.mnist.recipes import NETWORKS, Recipe, recipe, shared_in_vain
from phosphene.training.mnist.run import Run

torch.set_num_threads(1)
pytestmark = pytest.mark.usefixtures("quick_ends")


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order: bits can be compared."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def few() -> Split:
    """48 digits: six batches of 8."""
    train = load_dataset("digits").train
    return Split(train.images[:48], train.labels[:48])


def small(network: str, **changes) -> Recipe:
    return recipe(network, **{"dataset": "idx", "width": 8, "batch_size": 8, "epochs": 2, "lr": 3e-3, **changes})


def make(settings: Recipe, split: Split, report_every: int = 2, **options) -> Trainer:
    network, loss, _ = build(settings, 10)
    return Trainer(settings, network, loss, split, report_every=report_every, **options)


def same(a: tuple[dict, dict], b: tuple[dict, dict]) -> None:
    """Two trainer states, bit for bit."""
    assert a[1] == b[1]
    assert a[0].keys() == b[0].keys()
    differing = [name for name in a[0] if not torch.equal(a[0][name], b[0][name])]
    assert not differing


# Recipes


WRONG = {
    "network": ["gan"],
    "width": [0, -8],
    "epochs": [0],
    "batch_size": [0, 1],
    "lr": [0, -1e-3, math.nan, math.inf],
    "lr_decay": [0, 1.5, math.nan],
    "objective": ["score"],
    "schedule": ["steep"],
    "timesteps": [1],
    "drop": [-0.1, 1, math.nan],
    "sigma": [0, math.inf, math.nan],
    "ema": [-0.5, 1, math.nan],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_recipes_that_cannot_be_trained(name, value):
    refusal(lambda: Recipe(**{"network": "class", name: value}), f"--{name.replace('_', '-')} {value}")


def test_epochs_kept_lie_in_the_run():
    refusal(lambda: Recipe("class", epochs=3, keep=(1, 4)), "--keep", "1..3")
    assert recipe("class", epochs=5).keep == (5,) and recipe("class").keep == (5, 20) and recipe("class", epochs=3).keep == ()


def test_recipes_of_the_assignment():
    refusal(lambda: recipe("gan"), *NETWORKS)
    denoiser, conditional = recipe("denoiser"), recipe("class", width=None)
    assert (denoiser.width, denoiser.batch_size, denoiser.epochs, denoiser.lr, denoiser.sigma) == (128, 256, 5, 1e-4, 0.5)
    assert (conditional.width, conditional.batch_size, conditional.epochs, conditional.lr) == (64, 128, 20, 1e-3)
    assert (conditional.lr_decay, conditional.drop, conditional.timesteps) == (0.1, 0.1, 300)
    assert recipe("time", objective="flow").schedule == "straight"
    assert recipe("time", objective="flow", schedule="linear", timesteps=50).timesteps == 50


def test_recipes_survive_json():
    for settings in (recipe("class", lr=1 / 3), recipe("time", objective="flow", keep=(1, 2))):
        assert Recipe.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize("seed", [0, -1, 2**31, 2**62])
def test_every_seed_accepted_can_be_trained_with(few, seed):
    try:
        trainer = make(small("classifier", seed=seed), few)
    except UserError as error:
        assert "--seed" in str(error)
        return
    next(trainer.run())


@pytest.mark.parametrize("name", ["warp", "cuda", "mps", "meta"])
def test_devices_that_are_not_there(name):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if there.get(name):
        pytest.skip(f"there is a {name} device")
    refusal(lambda: choose_device(name), f"--device {name}")


# The loop


def test_the_batch_must_fit(few):
    refusal(lambda: make(small("time", batch_size=49), few), "--batch-size 49", "48")
    place = Place("cpu")
    place.world = 3
    refusal(lambda: make(small("time", batch_size=8), few, place=place), "--batch-size 8", "3")


def test_an_epoch_sees_each_picture_at_most_once_with_its_label():
    """96 pictures, batches of 20: four steps, 80 different pictures, another order in the next epoch."""
    split = Split(torch.arange(96, dtype=torch.uint8)[:, None, None, None].expand(96, 1, 28, 28).clone(), torch.arange(96))
    seen = []

    def loss(network, x0, labels, draws):
        assert torch.equal((x0[:, 0, 5, 7] * 255).round().long(), labels)
        seen.append(labels.tolist())
        return network(x0).square().mean()

    trainer = Trainer(small("denoiser", batch_size=20, width=1), nn.Conv2d(1, 1, 1), loss, split)
    reports = list(trainer.run())
    assert [(r.epoch, r.step, r.steps, r.epoch_ended) for r in reports] == [(1, 4, 4, True), (2, 4, 4, True)]
    first, second = sum(seen[:4], []), sum(seen[4:], [])
    assert len(set(first)) == len(set(second)) == 80
    assert first != second and first != sorted(first)


def test_reports_count_every_step_once(few):
    reports = list(make(small("classifier"), few, report_every=4).run())
    assert [(r.epoch, r.step, len(r.losses), r.epoch_ended) for r in reports] == [
        (1, 4, 4, False),
        (1, 6, 2, True),
        (2, 4, 4, False),
        (2, 6, 2, True),
    ]


def test_reporting_more_often_changes_nothing(few):
    often, seldom = make(small("class"), few, report_every=1), make(small("class"), few, report_every=50)
    losses = [[x for r in trainer.run() for x in r.losses] for trainer in (often, seldom)]
    assert losses[0] == losses[1]
    same(often.state(), seldom.state())


STOPS = [("class", 1), ("class", 3), ("class", 5), ("time", 5), ("denoiser", 4), ("classifier", 5)]


@pytest.mark.parametrize(("network", "stop"), STOPS)
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(few, tmp_path, network, stop):
    """Two epochs of three reports, stopped after ``stop`` of them, gone on with from the file by a trainer that knew nothing."""
    settings, path = small(network), tmp_path / "checkpoint.safetensors"
    unbroken, broken = make(settings, few), make(settings, few)
    losses = [r.losses for r in unbroken.run()]
    assert unbroken.finished

    reports = broken.run()
    before = [next(reports).losses for _ in range(stop)]
    reports.close()
    checkpoint.save(broken, path)

    torch.manual_seed(stop)  # what else the process draws must not matter
    fresh = make(settings, few)
    with torch.no_grad():
        for tensor in [*fresh.network.state_dict().values(), *fresh.average.state_dict().values()]:
            tensor.fill_(3)
    fresh.generator.manual_seed(99)
    checkpoint.load(fresh, path)
    same(fresh.state(), broken.state())
    after = [r.losses for r in fresh.run()]
    assert before + after == losses
    same(fresh.state(), unbroken.state())


@pytest.mark.parametrize("network", ["denoiser", "classifier"])
def test_the_seed_decides_and_nothing_else(few, network):
    before = torch.get_rng_state()
    trainers = []
    for seed in (7, 7, 8):
        torch.set_rng_state(before)
        trainers.append(make(small(network, seed=seed, epochs=1), few))
        list(trainers[-1].run())
        assert torch.equal(torch.get_rng_state(), before)  # nor does training draw from what belongs to others
        torch.manual_seed(seed + 1)
    same(trainers[0].state(), trainers[1].state())
    assert not torch.equal(trainers[0].parameters[0], trainers[2].parameters[0])


@pytest.mark.parametrize("decay", [0.999, 0.2, 0.0])
def test_the_average_follows_its_recursion_to_the_last_step(few, decay):
    trainer = make(small("class", ema=decay), few, report_every=1)

    def floats(network):
        return {k: v.double().clone() for k, v in network.state_dict().items() if v.is_floating_point()}

    wanted, last, steps = floats(trainer.average), None, 0
    assert all(torch.equal(v, wanted[k]) for k, v in floats(trainer.network).items())
    for _ in trainer.run():
        steps += 1
        keep = min(decay, (1 + steps) / (10 + steps))
        now, last = floats(trainer.network), wanted
        wanted = {k: v + (1 - keep) * (now[k] - v) for k, v in wanted.items()}
    assert steps == 12
    got = floats(trainer.average)
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, atol=2e-6, rtol=1e-5)
    assert max((got[k] - last[k]).abs().max().item() for k in got) > 1e-3  # the last step shows
    assert any("running_mean" in k for k in got)  # BatchNorm's statistics are averaged, too


def test_the_learning_rate_falls_by_the_same_factor_each_epoch(few):
    settings = small("classifier", epochs=4, lr=2e-3, lr_decay=0.1, batch_size=24)
    rates, changes = [], []
    trainer = make(settings, few, report_every=1)
    before = [p.detach().clone() for p in trainer.parameters]
    for report in trainer.run():
        rates.append((report.epoch - 1, float(trainer.optimiser.param_groups[0]["lr"])))
        changes.append(max((p.detach() - b).abs().max().item() for p, b in zip(trainer.parameters, before, strict=True)))
    assert [epoch for epoch, _ in rates] == [0, 0, 1, 1, 2, 2, 3, 3]
    for epoch, rate in rates:
        assert rate == pytest.approx(2e-3 * 0.1 ** (epoch / 4), rel=1e-6)
    assert changes[0] == pytest.approx(2e-3, rel=1e-2)  # Adam's first step is the rate itself


def test_a_constant_learning_rate_stays(few):
    trainer = make(small("classifier", lr_decay=1.0), few)
    assert [float(trainer.optimiser.param_groups[0]["lr"]) for _ in trainer.run()] == pytest.approx([3e-3] * 6)


def spoiled(trainer: Trainer, at: int, spoil) -> None:
    """Let the ``at``-th loss of ``trainer`` (from 1) be ``spoil(loss, network)``."""
    honest, calls = trainer.loss, []

    def loss(network, x0, labels, draws):
        calls.append(0)
        value = honest(network, x0, labels, draws)
        return spoil(value, network) if len(calls) == at else value

    trainer.loss = loss


@pytest.mark.parametrize("report_every", [1, 4, 50])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_named(few, value, report_every):
    trainer = make(small("classifier"), few, report_every)
    spoiled(trainer, 6 + 3, lambda loss, network: loss * value)
    with pytest.raises(FloatingPointError, match=r"epoch 2, step 3 of 6: the loss is (nan|inf)"):
        list(trainer.run())


def test_a_gradient_that_is_no_number_is_named(few):
    """The root of 0 is 0, but its slope is infinite."""
    trainer = make(small("classifier"), few)
    spoiled(trainer, 2, lambda loss, network: loss + (next(network.parameters()).sum() * 0).abs().sqrt())
    with pytest.raises(FloatingPointError, match=r"epoch 1, step 2 of 6.*gradient"):
        list(trainer.run())


@pytest.mark.parametrize(
    ("network", "objective"),
    [("denoiser", "noise"), ("classifier", "noise"), *((network, t) for network in ("time", "class") for t in OBJECTIVES)],
)
def test_the_loss_falls(few, network, objective):
    trainer = make(small(network, objective=objective, epochs=4), few, report_every=3)
    losses = [sum(r.losses) / len(r.losses) for r in trainer.run()]
    assert len(losses) == 8
    assert sum(losses[-2:]) < 0.9 * sum(losses[:2])


# Objectives


def test_processes_share_the_draws_of_one():
    def drawn(rank, world, rows):
        draws = Draws(torch.Generator().manual_seed(5), rank, world)
        return draws.normal(torch.zeros(rows, 1, 3, 3)), draws.uniform(rows, 6), draws.integers(300, rows), draws.uniform(rows)

    alone = drawn(0, 1, 12)
    shared = [torch.cat(parts) for parts in zip(*(drawn(rank, 3, 4) for rank in range(3)), strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5])
def test_the_class_is_withheld_as_often_as_asked(drop):
    class Witness(nn.Module):
        config = {"classes": 10}

        def forward(self, x, t, c):
            self.t, self.c = t, c
            return x

    witness, labels = Witness(), torch.arange(4000) % 10
    x0 = torch.zeros(4000, 1, 1, 1)
    diffusion(linear(), "noise", drop)(witness, x0, labels, Draws(torch.Generator().manual_seed(0)))
    told = witness.c.sum(1) > 0
    assert torch.equal(witness.c[told], torch.eye(10)[labels[told]]) and not witness.c[~told].any()
    assert (~told).float().mean().item() == pytest.approx(drop, abs=4 * math.sqrt(drop * (1 - drop) / 4000))
    times = witness.t * 300
    torch.testing.assert_close(times, times.round(), atol=1e-4, rtol=0)
    assert times.min() >= 0 and times.max().round() <= 299 and len(times.round().unique()) > 290  # t / T, and every t


@pytest.mark.parametrize(("mean", "spread"), [(0.0, 1.0), (-1.0, 0.5), (0.5, 2.0)])
def test_logit_normal_times_are_what_they_say(mean, spread):
    times = Draws(torch.Generator().manual_seed(0)).times(1000, 20_000, mean, spread)
    assert times.dtype == torch.long and 0 <= times.min() and times.max() <= 999
    logits = torch.logit((times + 0.5) / 1000, eps=1e-3)
    inside = (times > 5) & (times < 994)  # the grid is too coarse for the tails
    assert logits[inside].median().item() == pytest.approx(mean, abs=0.05)
    assert 1 / (1 + math.exp(-mean)) == pytest.approx(times.float().quantile(0.5).item() / 1000, abs=0.02)
    low, high = (torch.sigmoid(torch.tensor(mean + sign * spread)).item() * 1000 for sign in (-1, 1))
    assert ((times >= low) & (times <= high)).float().mean().item() == pytest.approx(0.683, abs=0.02)  # within one deviation
    uniform, whole = (Draws(torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(uniform.times(7, 50), whole.integers(7, 50))


def test_the_jitter_starts_from_the_picture(few):
    x, u = few.images[:8].float() / 255, torch.zeros(8, 6)
    torch.testing.assert_close(_jittered(x, u), x, atol=1e-5, rtol=0)
    u[:, 4], u[:, 5] = 1, -1
    torch.testing.assert_close(_jittered(x, u)[:, :, 2:, :-2], x[:, :, :-2, 2:], atol=1e-4, rtol=0)  # two pixels at most


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_starts_the_same_everywhere(network):
    torch.manual_seed(1)
    first, _, config = build(small(network), 10)
    torch.manual_seed(2)
    second, _, _ = build(small(network), 10)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert config["network"] == first.config and config["kind"] in ("denoiser", "diffusion", "classifier")


# Runs and their folders


def write_set(folder: Path, split: Split, test: int) -> Path:
    """``split`` as IDX files, its first ``test`` pictures as the test set."""
    folder.mkdir(parents=True)
    for part, array in zip(PARTS, (split.images[:, 0], split.labels, split.images[:test, 0], split.labels[:test]), strict=True):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"{part}.gz").write_bytes(gzip.compress(header + array.numpy().tobytes()))
    return folder


@pytest.fixture(scope="module")
def files(few, tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("data") / "idx", few, 20)


def start(out: Path, files: Path, settings: Recipe | None = None, report_every: int = 2, **options) -> Run:
    run = Run(settings or small("denoiser", keep=(1,)), out, data=files, device="cpu", **options)
    run.trainer.report_every = report_every
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory) -> Path:
    """A finished run of two epochs: the small denoiser."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    list(start(out, files))
    return out


def compare(out: Path, other: Path, last: int = 2) -> None:
    """Two finished runs: the same weights, checkpoint and steps logged."""
    for name in (f"model-{last:02d}", f"model-{last:02d}-raw"):
        assert (out / name / "model.safetensors").read_bytes() == (other / name / "model.safetensors").read_bytes()
    a, b = load_file(out / checkpoint.NAME), load_file(other / checkpoint.NAME)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert position(out) == position(other) == {"epoch": last, "done": 0}


def position(out: Path) -> dict:
    with safe_open(out / checkpoint.NAME, framework="pt") as file:
        return json.loads(file.metadata()["position"])


def test_a_run_leaves_what_it_says(files, tmp_path, whole_ends):
    settings, out = small("class", keep=(1,)), tmp_path / "deep" / "run"
    run = start(out, files, settings)
    reports = list(run)
    models = [f"model-{e:02d}{s}" for e in (1, 2) for s in ("", "-raw")]
    names = ["recipe.json", "log.jsonl", "loss.png", "samples", "checkpoint.safetensors", *models]
    names += ["tensorboard"] if find_spec("tensorboard") else []
    assert sorted(p.name for p in out.iterdir()) == sorted(names)
    assert sorted(p.name for p in (out / "samples").iterdir()) == ["epoch-01.png", "epoch-02.png"]
    for name in models:
        assert sorted(p.name for p in (out / name).iterdir()) == ["SHA256SUMS", "config.json", "model.safetensors"]
    assert Recipe.from_json(json.loads((out / "recipe.json").read_text())) == settings

    lines = read_log(out / "log.jsonl")
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10, 12]
    assert [line["loss"] for line in lines] == [r.loss for r in reports] and lines[2]["epoch"] == 1
    assert [line["losses"] for line in lines] == [pytest.approx(r.progress.losses, rel=1e-3) for r in reports]
    assert all(r.images_per_second > 0 for r in reports) and reports[-1].seconds_left == 0 < reports[0].seconds_left

    assert folders.folder(out) == out / "model-02"
    model = catalogue.load(out, role="diffusion")
    assert isinstance(model, DigitDiffusion) and model.classes == 10
    for suffix, network in (("", run.trainer.average), ("-raw", run.trainer.network)):
        stored = load_file(out / f"model-02{suffix}" / "model.safetensors")
        assert all(torch.equal(v, network.state_dict()[k]) for k, v in stored.items())
        assert len(stored) == sum(v.is_floating_point() for v in network.state_dict().values())


@pytest.mark.parametrize(("network", "figure"), [("classifier", "test_accuracy"), ("denoiser", "mse_of_10")])
def test_the_end_of_an_epoch_logs_its_figure(files, tmp_path, network, figure):
    list(start(tmp_path / "run", files, small(network)))
    lines = read_log(tmp_path / "run" / "log.jsonl")
    assert [figure in line for line in lines] == [False, False, True] * 2
    assert all(0 <= line[figure] <= 1 for line in lines[2::3])


def test_a_run_that_was_left_goes_on_as_if_it_had_not(files, finished, tmp_path):
    out = tmp_path / "run"
    for report in start(out, files):
        if report.progress.epoch == 2:
            break
    del report
    assert position(out) == {"epoch": 1, "done": 2}
    resumed = list(start(out, files, resume=True))
    assert [(r.progress.epoch, r.progress.step) for r in resumed] == [(2, 4), (2, 6)]
    compare(out, finished)
    assert [line["step"] for line in read_log(out / "log.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_a_run_that_starts_anew_begins_its_log_anew(files, tmp_path):
    """Where one was killed after some lines and before its second checkpoint, none of them is of the new run."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 2, "epoch": 1, "loss": 9.0}\n{"step": 3, "epoch": 1, "loss": 9.0}\n')
    list(start(tmp_path / "run", files))
    assert [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_resuming_a_finished_run_changes_no_weight(files, finished, tmp_path):
    out = tmp_path / "run"
    list(start(out, files))
    assert list(start(out, files, resume=True)) == []
    compare(out, finished)
    assert [line["step"] for line in read_log(out / "log.jsonl")] == [2, 4, 6, 8, 10, 12]


def test_a_run_asked_to_stop_in_its_last_step_has_ended(files, finished, tmp_path):
    """Nothing is left to go on with, so nothing is said of going on."""
    run = start(tmp_path / "run", files)
    for _ in run:
        run.trainer.stopping = run.done == 12
    assert run.trainer.stopping
    compare(tmp_path / "run", finished)


ODD_LINES = [
    {"step": 1, "epoch": 0.1},
    {"step": 1, "epoch": 0.1, "loss": "x"},
    {"step": 1, "epoch": {}, "loss": 1.0},
    {"step": 0, "epoch": 0, "loss": 1.0},
    {"step": 1, "epoch": 10**400, "loss": 1.0},
    {"step": 1, "epoch": 0.1, "loss": float("nan")},
    {"step": 1, "epoch": 0.1, "losses": [1.0, None]},
    {"step": 1, "epoch": 0.1, "losses": 5},
    {"step": True, "epoch": 0.1, "loss": True},
]


def test_odd_lines_of_a_log_stop_no_run_at_its_end(files, finished, tmp_path, whole_ends):
    shutil.copytree(finished, tmp_path / "run")
    with (tmp_path / "run" / "log.jsonl").open("a") as log:
        log.writelines(json.dumps(line) + "\n" for line in ODD_LINES)
    before = curve(read_log(finished / "log.jsonl"))
    list(start(tmp_path / "run", files, small("denoiser", keep=(1,)), resume=True))
    assert curve(read_log(tmp_path / "run" / "log.jsonl")) == [*before, (0, 1.0)]


@pytest.mark.parametrize("fails", ["log.jsonl", "events.out"])
def test_a_log_that_cannot_be_opened_leaves_no_file_open(tmp_path, monkeypatch, fails):
    pytest.importorskip("tensorboard")
    opened, usual = [], Path.open

    def watched(path, mode="r", *rest, **how):
        if path.name.startswith(fails):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        opened.append(usual(path, mode, *rest, **how))
        return opened[-1]

    monkeypatch.setattr(Path, "open", watched)
    refusal(lambda: Log(tmp_path, 0), "cannot be written")
    assert all(file.closed for file in opened)


@pytest.mark.parametrize("lost", ["model-02", "model-02-raw"])
def test_resuming_a_finished_run_writes_the_model_that_was_lost(files, finished, tmp_path, lost):
    """As it was; in its place may lie what is none, and then nothing is said to be done."""
    shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / lost)
    list(start(tmp_path / "run", files, small("denoiser", keep=(1,)), resume=True))
    for name in ("config.json", "model.safetensors", "SHA256SUMS"):
        assert (tmp_path / "run" / lost / name).read_bytes() == (finished / lost / name).read_bytes()
    shutil.rmtree(tmp_path / "run" / lost)
    (tmp_path / "run" / lost).write_text("x")
    again = start(tmp_path / "run", files, small("denoiser", keep=(1,)), resume=True)
    refusal(lambda: list(again), lost, "cannot be written")


def test_an_interrupt_in_the_middle_of_a_step_loses_no_bit(files, finished, tmp_path):
    """Ctrl-C comes when it likes: here when the step has drawn its noise and moved BatchNorm's statistics."""
    out = tmp_path / "run"
    run = start(out, files)

    def interrupt(loss, network):
        signal.raise_signal(signal.SIGINT)
        return loss

    spoiled(run.trainer, 9, interrupt)
    with suppress(KeyboardInterrupt):
        list(run)
    assert (out / checkpoint.NAME).exists()
    list(start(out, files, resume=True))
    compare(out, finished)


def test_an_interrupt_at_the_end_of_an_epoch_loses_no_model(files, finished, tmp_path, monkeypatch):
    """While the samples of the last epoch are drawn: resuming must still leave its model and its line in the log."""
    out = tmp_path / "run"

    def interrupt(*arguments):
        if run.trainer.epoch == 2:
            signal.raise_signal(signal.SIGINT)
        return drawn(*arguments)

    drawn = run_module.preview
    run = start(out, files)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "preview", interrupt)
        with suppress(KeyboardInterrupt):
            list(run)
    list(start(out, files, resume=True))
    assert [line["step"] for line in read_log(out / "log.jsonl")][-1] == 12
    assert (out / "model-02" / "model.safetensors").is_file()
    compare(out, finished)


def test_numbers_gone_wrong_spare_the_last_checkpoint(files, finished, tmp_path):
    out = tmp_path / "run"
    run = start(out, files, save_every=2)
    spoiled(run.trainer, 9, lambda loss, network: loss * math.nan)
    with pytest.raises(FloatingPointError, match="epoch 2, step 3"):
        list(run)
    assert position(out) == {"epoch": 1, "done": 2}
    list(start(out, files, resume=True))
    compare(out, finished)


def test_checkpoints_come_every_so_many_steps(files, tmp_path, monkeypatch):
    """At most ``save_every`` steps are lost by a kill, whatever else the loop does at its own pace."""
    saved, real = [0], checkpoint.save

    def save(trainer, path):
        saved.append(trainer.epoch * trainer.steps + trainer.done)
        real(trainer, path)

    monkeypatch.setattr(checkpoint, "save", save)
    for _ in Run(small("denoiser"), tmp_path / "run", data=files, device="cpu", save_every=2):
        pass
    assert max(b - a for a, b in zip(saved, saved[1:], strict=False)) <= 2


@pytest.mark.parametrize("changes", [{"timesteps": 2}, {"timesteps": 19}, {"timesteps": 10, "objective": "flow"}])
def test_few_timesteps_are_trained_or_refused_at_once(files, tmp_path, changes):
    settings = small("time", epochs=1, **changes)
    try:
        run = start(tmp_path / "run", files, settings)
    except UserError as error:
        assert "--timesteps" in str(error) and not (tmp_path / "run").exists()
        return
    list(run)
    assert isinstance(catalogue.load(tmp_path / "run"), DigitDiffusion)


@pytest.mark.parametrize("network", NETWORKS)
def test_a_set_with_few_test_pictures_is_trained(few, tmp_path, network):
    files = write_set(tmp_path / "data", few, 3)
    list(start(tmp_path / "run", files, small(network, epochs=1, width=2)))
    catalogue.load(tmp_path / "run")


# What can be wrong with a run is found before anything is written


def test_nothing_is_left_behind_by_a_run_that_cannot_start(files, tmp_path):
    out = tmp_path / "deep" / "run"
    refusal(lambda: start(out, files, small("class", batch_size=500)), "--batch-size 500")
    refusal(lambda: start(out, files, small("class", dataset="cifar")), "--dataset cifar")
    refusal(lambda: start(out, tmp_path / "nowhere"), "--data", "nowhere")
    refusal(lambda: Run(small("class"), out, data=files, device="warp"), "--device warp")
    refusal(lambda: start(out, files, save_every=-1), "--save-every -1")
    refusal(lambda: start(out, files, small("class", timesteps=10_000_000)), "--timesteps 10000000")
    refusal(lambda: start(out, files, resume=True), "--resume", str(out))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_has_learned_and_kept_no_model_yet_is_not_overwritten(files, tmp_path):
    for _ in start(tmp_path / "run", files):
        break
    assert not list((tmp_path / "run").glob("model*")) and position(tmp_path / "run") == {"epoch": 0, "done": 2}
    refusal(lambda: start(tmp_path / "run", files), "already holds a run; continue it with --resume")


def test_a_state_stays_what_it_was_while_training_goes_on(few):
    trainer = make(small("class"), few)
    steps = trainer.run()
    next(steps)
    state, _ = trainer.state()
    before = {name: value.clone() for name, value in state.items()}
    next(steps)
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert any(not torch.equal(trainer.state()[0][name], value) for name, value in before.items())


def test_an_existing_run_is_not_overwritten(files, finished):
    before = contents(finished)
    refusal(lambda: start(finished, files), "--out", str(finished), "--resume")
    assert contents(finished) == before


def test_a_place_that_is_no_folder(files, tmp_path):
    (tmp_path / "file").write_text("x")
    refusal(lambda: start(tmp_path / "file", files), "--out", "file: is a file; name a folder.")
    refusal(lambda: start(tmp_path / "file" / "run", files), "--out", "file")
    assert contents(tmp_path) == {"file": b"x"}


def test_resuming_needs_a_checkpoint(files, finished, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_bytes((finished / "recipe.json").read_bytes())
    refusal(lambda: start(tmp_path / "run", files, resume=True), "--resume", str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("name", "value", "option"),
    [("width", 9, "--width 9"), ("lr", 1e-4, "--lr 0.0001"), ("epochs", 3, "--epochs 3"), ("batch_size", 4, "--batch-size 4")],
)
def test_resuming_with_another_recipe_names_the_option(files, finished, name, value, option):
    before = contents(finished)
    settings = small("denoiser", **{"keep": (1,), name: value})
    text = refusal(lambda: start(finished, files, settings, resume=True), option, str(finished))
    assert str(getattr(small("denoiser"), name)) in text  # and what the run has
    assert contents(finished) == before


def test_a_damaged_checkpoint(files, finished, tmp_path):
    whole = (finished / checkpoint.NAME).read_bytes()
    weights = (finished / "model-02" / "model.safetensors").read_bytes()
    for damage in (b"", b"x" * 100, whole[:7], whole[:-1], whole[: len(whole) // 2], weights):
        (tmp_path / checkpoint.NAME).write_bytes(damage)
        refusal(lambda: start(tmp_path, files, resume=True), str(tmp_path / checkpoint.NAME))
        assert contents(tmp_path) == {checkpoint.NAME: damage}


def test_a_checkpoint_of_another_data_set(few, finished, tmp_path):
    """The same recipe, but fewer pictures: another number of steps in an epoch."""
    fewer = write_set(tmp_path / "data", Split(few.images[:25], few.labels[:25]), 20)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoint.NAME).write_bytes((finished / checkpoint.NAME).read_bytes())
    refusal(lambda: start(tmp_path / "run", fewer, resume=True), str(tmp_path / "run" / checkpoint.NAME))


# Kills and several processes

DIGITS = {"dataset": "digits", "width": 8, "batch_size": 64, "lr": 1e-3}
CHILD = f"""
import sys, time, torch
from phosphene.training.mnist.recipes import recipe
from phosphene.training.mnist.run import Run
torch.set_num_threads(1)
network, epochs, out, pause = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
run = Run(recipe(network, epochs=epochs, **{DIGITS}), out, device="cpu", save_every=5)
run.trainer.report_every = 5
for number, report in enumerate(run, 1):
    time.sleep(pause)
    if sys.argv[5:] == [str(number)]:
        break
"""


def environment() -> dict[str, str]:
    source = str(Path(phosphene.__file__).parent.parent)
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    """SIGKILL in the second of two epochs, between two reports of it; 22 steps an epoch, a checkpoint every 5."""
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    arguments = [sys.executable, "-c", CHILD, "denoiser", "2", str(killed), "0.2"]
    process = subprocess.Popen(arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        deadline = time.monotonic() + 300
        while not ((killed / checkpoint.NAME).exists() and position(killed)["epoch"] == 1 and position(killed)["done"] > 0):
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    there = position(killed)
    assert there["epoch"] == 1 and 0 < there["done"] < 22
    assert not (killed / "model-02").exists() and not (killed / "loss.png").exists()

    # A run may be killed after it logged more than its last checkpoint has, and in the middle of a line.
    at = 22 + there["done"]
    with (killed / "log.jsonl").open("a") as log:
        for step in (at + 2, at + 5):
            log.write(json.dumps({"step": step, "epoch": 9, "loss": 9.0}) + "\n")
        log.write('{"step": 4')

    for out in (killed, unbroken):
        run = Run(recipe("denoiser", epochs=2, **DIGITS), out, resume=out == killed, device="cpu", save_every=5)
        run.trainer.report_every = 5
        list(run)
    compare(killed, unbroken)
    steps = [e * 22 + s for e in range(2) for s in (5, 10, 15, 20, 22)]
    lines, wanted = read_log(killed / "log.jsonl"), read_log(unbroken / "log.jsonl")
    assert [line["step"] for line in lines] == [line["step"] for line in wanted] == steps
    assert [line["loss"] for line in lines] == [line["loss"] for line in wanted]
    for name in ("recipe.json", "samples/epoch-02.png", "model-01/model.safetensors", "model-02/config.json"):
        assert (killed / name).read_bytes() == (unbroken / name).read_bytes()
    assert (killed / "loss.png").is_file()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


BOTH = (
    CHILD
    + """
from phosphene import cli
words = ["train", "class", "--dataset", "digits", "--epochs", "1", "--width", "4", "--batch-size", "128", "--out", "run"]
sys.exit(cli.main(words))
"""
)


@pytest.fixture(scope="module")
def together(tmp_path_factory) -> tuple[Path, str]:
    """Two processes, as torchrun starts them, learn together for two reports, then by the command line; what they said."""
    folder = tmp_path_factory.mktemp("together")
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", BOTH, "class", "1", str(folder / "two"), "0", "2"],
            env={**environment(), **told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=folder,
            **pipes,
        )
        for rank in range(2)
    ]
    try:
        said = "".join(process.communicate(timeout=300)[0] for process in started)
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    return folder, said


@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes would ask for two GPUs")
def test_without_a_gpu_two_processes_still_find_each_other(together):
    """By the command line, whose device is auto: one of them speaks, and each sees half of a batch."""
    assert together[1].count("done: the model is in") == 1


def test_a_batch_that_several_processes_learn_more_slowly_is_told():
    assert "22,200" in shared_in_vain(128, 2) and "8 at a --batch-size of 8192" in shared_in_vain(8192, 8)
    assert not shared_in_vain(128, 1) and not shared_in_vain(8193, 2)


def test_two_processes_learn_what_one_learns_and_one_goes_on(together):
    """One epoch of 22 steps of 64 digits: alone; as twice 32 over gloo for 10 steps, and the rest alone."""
    folder, _ = together
    for name in ("one", "two"):
        run = Run(recipe("class", epochs=1, **DIGITS), folder / name, device="cpu", resume=name == "two")
        run.trainer.report_every = 5
        list(run)
    one, two = (load_file(folder / name / "model-01" / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    apart = torch.cat([(one[k] - two[k]).abs().flatten() for k in one])
    # Not zero: the sums over a batch have another order, so gradients differ by a few millionths of the largest. The first
    # step of Adam is the sign of the gradient times the rate, so a weight whose gradient happens to be nearly zero may
    # take it the other way and end up two rates off; measured: 4 of 32,601 weights off by more than 2e-5, none by 4e-4.
    # Statistics or draws that are not shared are off by 1e-2, a running variance without Bessel's correction by 5e-5.
    assert apart.quantile(0.999) < 2e-5
    assert apart.max() < 2 * run.recipe.lr
    fresh = build(run.recipe, 10)[0].state_dict()
    moved = torch.cat([(one[k] - fresh[k]).abs().flatten() for k in one])
    assert moved.median() > 1e-3

    alone, shared = (read_log(folder / name / "log.jsonl") for name in ("one", "two"))
    assert [line["step"] for line in alone] == [line["step"] for line in shared] == [5, 10, 15, 20, 22]
    # The losses logged are those of the whole batch.
    assert [line["loss"] for line in shared] == pytest.approx([line["loss"] for line in alone], rel=1e-4)
