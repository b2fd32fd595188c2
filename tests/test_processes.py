"""Several processes draw what one draws: the same pictures of the same seeds, written and told once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import randn, refusal
from PIL import Image
from test_drawing import FEW, First, Second
from test_generate import cascade  # noqa: F401  (fixture)

import phosphene
import phosphene.web.serve
from phosphene import cli, processes
from phosphene.drawing import Task, run
from phosphene.expression import bands, cond, factorized, guide, masked, mean, picked, viewed
from phosphene.frequency import Grayscale
from phosphene.models import catalogue
from phosphene.processes import ALONE, Place
from phosphene.readers import read_provenance
from phosphene.sampler import last
from phosphene.tasks.morph import slerp
from phosphene.training.mnist.objectives import build
from phosphene.training.mnist.recipes import recipe
from phosphene.views import VIEWS

WORLD = 2
PROMPTS = ("a", "b", "c", "d", "e")


class Verdict(NamedTuple):
    score: torch.Tensor
    each: torch.Tensor


def judge(stage, pictures, rows):
    """The brightest is the best, and the later where all are equal; what it is told of whose they are is kept."""
    return Verdict(pictures.mean((1, 2, 3)), torch.tensor(rows).view(-1, 1))


def asks(stage, scale):
    return guide(cond(*PROMPTS), scale=scale, away=cond("x"))


def everywhere(stage, scale):
    """Of every kind of expression, each with a condition for each picture."""
    one, other = guide(cond(*PROMPTS)), cond(*reversed(PROMPTS))
    shares = torch.linspace(0, 1, len(PROMPTS)).view(-1, 1, 1, 1)
    parts = (bands(one, other), factorized(one, other, Grayscale()), viewed(other, VIEWS["flip"]))
    return masked(mean(*parts), mean(one, other), shares)


def drawn(place: Place) -> dict[str, tuple]:
    """What runs of all kinds end with: pictures, seeds, verdict."""
    image, five = randn(5, 3, 8, 8, seed=9) / 3, range(40, 45)
    six = lambda stage, scale: guide(cond(*PROMPTS, "f"), scale=scale)  # noqa: E731
    mixed = Task(lambda *_: cond("a"), mix=lambda ends: slerp(ends[0], ends[1], torch.linspace(0, 1, 5)))
    edited = Task(asks, image=image, starts=(0, 2, 1, 3, 2), edit=lambda xt, image: (xt + image) / 2)
    runs = {
        "two stages": (Task(asks), [First(), Second()], five, {}),
        "one picture": (Task(lambda *_: cond("a")), First(), [7], {}),
        "every expression": (Task(everywhere), First(), five, {}),
        "best": (Task(six, judge=judge), [First(), Second()], range(6), {"best_of": 2}),
        "best of all": (Task(six, judge=judge), [First(), Second()], range(6), {"best_of": 6}),
        "starts": (edited, First(), five, {}),
        "mixture": (mixed, First(), (3, 4), {}),
        "together": (Task(asks), First(), five, {"sampling": FEW._replace(together=True)}),
        "enlarged": (Task(asks, small=image), Second(), five, {}),
    }
    ended = {}
    for name, (task, model, seeds, how) in runs.items():
        *_, step = run(task, model, seeds, **{"sampling": FEW, "place": place, **how})
        ended[name] = (step.xt, step.seeds, None if step.verdict is None else tuple(step.verdict))
    return ended


def lines(models: Path) -> list[list[str]]:
    """Command lines: six that draw, two that are refused."""
    quick, judge = ("--solver", "dpm", "--steps", 2), ("--classifier", models / "classifier")
    digits = ("--dataset", "digits", "--samples", 20, "--guidance", "1,2")
    tiny = ("--model", models / "cascade")
    found = (
        ("generate", "a castle", *tiny, "--steps-sweep", "1,2,3", "--no-upscale", "-o", "sweep.png"),
        ("digits", "012", "--model", models / "class", *quick, "-o", "digits.png"),
        ("ambigram", "69", "--model", models / "class", *judge, "--count", 3, *quick, "-o", "ambigram.png"),
        ("evaluate", models / "class", *judge, *digits, *quick, "--json", "figures.json", "--picture", "panel.png"),
        ("evaluate", "anagrams", "--pairs", models / "pairs.txt", "--view", "flip", *tiny, "--steps", 1, "--json", "table.json"),
        ("denoise", "castle-hill", "--t", "500", "--start", 0, *tiny, "--steps", 2),
        ("report",),
        ("generate", "a cat", "--solver", "dpm", "--eta", "1"),
    )
    return [[str(word) for word in words] for words in found]


CHILD = """
import os, sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_processes import drawn, lines, cli
from phosphene.processes import Place
written = []
sys.addaudithook(lambda event, of: written.append(of) if event == "os.rename" and not str(of[1]).endswith(".pyc") else None)
print("codes", [cli.main(words) for words in lines(Path("models"))], "files", len(written), flush=True)
torch.save(drawn(Place("cpu")), f"drawn-{os.environ['RANK']}.pt")
"""
STOPPED = """
import sys
from phosphene import cli, drawing
real = drawing.denoise
def told(*given, **how):
    print("drawing", flush=True)
    yield from real(*given, **how)
drawing.denoise = told
sys.exit(cli.main(["digits", "01", "--count", "100", "-o", "stopped.png"]))
"""


def started(script: str, folder: Path) -> list[subprocess.Popen]:
    """``script`` in several processes that know of each other, as torchrun starts them."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    path = os.pathsep.join(filter(None, [str(Path(phosphene.__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    told = {"PYTHONPATH": path, "WORLD_SIZE": str(WORLD), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    told |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "CUDA_VISIBLE_DEVICES": ""}
    command, pipes = [sys.executable, "-c", script, str(Path(__file__).parent)], {"stdout": subprocess.PIPE, "text": True}
    ranks = [{**os.environ, **told, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(WORLD)]
    return [subprocess.Popen(command, env=env, cwd=folder, stderr=subprocess.PIPE, **pipes) for env in ranks]


@pytest.fixture(scope="module")
def shared(cascade, tmp_path_factory) -> tuple[Path, list[tuple[str, str]]]:  # noqa: F811
    """The folder where two processes did it all, and what each said."""
    folder = tmp_path_factory.mktemp("shared")
    for network in ("class", "classifier"):
        built, _, config = build(recipe(network, dataset="digits", width=8), 10)
        catalogue.write(folder / "models" / network, {**config, "epoch": 1}, built.state_dict())
    (folder / "models" / "cascade").symlink_to(cascade)
    (folder / "models" / "pairs.txt").write_text("a cat, a hat\na fox, a box\na bee, a tree\n")
    processes = started(CHILD, folder)
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [0] * WORLD, said
    return folder, said


def test_a_seed_is_the_same_picture_by_however_many_processes(shared):
    folder, _ = shared
    alone = drawn(ALONE)
    for rank in range(WORLD):
        for name, (pictures, seeds, verdict) in torch.load(folder / f"drawn-{rank}.pt", weights_only=False).items():
            wanted, of, thought = alone[name]
            assert torch.allclose(pictures, wanted, atol=1e-5) and seeds == of, name
            assert (verdict is None) == (thought is None), name
            for one, other in zip(verdict or (), thought or (), strict=True):
                assert torch.allclose(one, other, atol=1e-5), name
    assert alone["best"][1] != tuple(range(0, 6, 2))  # else a choice of the first would do


def test_commands_write_the_same_files_and_say_it_once(shared, tmp_path, monkeypatch, capsys):
    folder, ((out, err), (silent, quiet)) = shared
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").symlink_to(folder / "models")
    codes = [cli.main(words) for words in lines(Path("models")) if words[0] != "report"]
    here, _ = capsys.readouterr()
    assert codes == [0] * 6 + [2]
    assert out.splitlines() == [*here.splitlines(), "codes [0, 0, 0, 0, 0, 0, 2, 2] files 13"]
    assert silent == "codes [0, 0, 0, 0, 0, 0, 2, 2] files 0\n" and not quiet
    assert [line for line in err.splitlines() if line.startswith("phosphene: ")] == [
        f"phosphene: report: is done by one process; start it without torchrun, which is for {', '.join(cli.common.SHARED)}.",
        "phosphene: --eta 1: belongs to ddim, not to dpm; leave it out, or take --solver ddim.",
    ]
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == sorted(path.name for path in folder.glob("*.png")) and len(pictures) == 11
    for name in pictures:
        one, other = (np.asarray(Image.open(place / name)).astype(int) for place in (tmp_path, folder))
        # Sums over a batch of another size are rounded otherwise: of a thousand values one may be a step off.
        assert np.abs(one - other).max() <= 1 and (one != other).mean() < 0.005, name
        assert read_provenance(tmp_path / name) == read_provenance(folder / name)
    told, wanted = (json.loads((place / "figures.json").read_text())["results"][0]["figures"] for place in (folder, tmp_path))
    assert [row["accuracy_by_class"] for row in told] == [row["accuracy_by_class"] for row in wanted]
    told, wanted = (json.loads((place / "table.json").read_text())["pairs"] for place in (folder, tmp_path))
    assert [one["prompts"] for one in told] == [one["prompts"] for one in wanted] and len(told) == 3
    for one, other in zip(told, wanted, strict=True):
        assert one["alignment"] == pytest.approx(other["alignment"], abs=1e-4)


def test_a_gpu_that_is_named_is_where_the_thread_is(monkeypatch):
    """Else streams, and with them CUDA graphs, would be made on the first."""
    there = []
    monkeypatch.setattr(processes, "choose_device", torch.device)
    monkeypatch.setattr(torch.cuda, "set_device", there.append)
    assert [Place(name).device for name in ("cpu", "cuda", "cuda:1")] == [torch.device(n) for n in ("cpu", "cuda", "cuda:1")]
    assert there == [torch.device("cuda:1")]  # of one without a number torch would say that it lacks it


def test_ctrl_c_ends_all_processes(tmp_path):
    processes = started(STOPPED, tmp_path)
    for process in processes:
        assert process.stdout.readline() == "drawing\n", process.communicate()
    for process in processes:
        process.send_signal(signal.SIGINT)
    said = [process.communicate(timeout=200) for process in processes]
    assert [process.returncode for process in processes] == [130] * WORLD, said
    assert [err for _, err in said] == ["phosphene: interrupted.\n", ""]
    assert not list(tmp_path.iterdir())


def test_a_part_of_an_expression_keeps_what_is_asked_of_its_pictures():
    expression = everywhere(None, 1.0)
    assert picked(cond("a"), [1], 3) == cond("a")
    assert picked(guide(cond(*PROMPTS)), [1, 4], 5) == guide(cond("b", "e"))
    assert torch.equal(picked(expression, [1, 4], 5).mask, expression.mask[[1, 4]])
    refusal(lambda: last(run(Task(asks), First(), range(4), sampling=FEW)), "5 conditions for a batch of 4")
