"""The recipes of CONTRIBUTING, followed to the letter: a solver, a view and a kind of model, used from the command line.

Each is a file that is imported before the command, in a process of its own, so that what derives from the tables is made
with it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_generate import cascade  # noqa: F401  (fixture)

from phosphene.readers import read_picture

TESTS = Path(__file__).parent

SOLVER = """
from phosphene import defaults, sampler

def euler(schedule, timesteps):
    return sampler.ddim(schedule, timesteps, eta=0.0)

sampler.SOLVERS["euler"] = euler
defaults.SOLVERS["euler"] = defaults.Steps(cascade=3, digits=4)
"""

VIEW = """
from dataclasses import dataclass

from phosphene import defaults, views

@dataclass(frozen=True)
class Rolled(views.View):
    sign = 1
    mark = views.Mark("beside", "Cut it in the middle and change the halves.")

    def apply(self, x):
        return x.roll(x.shape[-1] // 2, -1)

    invert = apply

views.VIEWS["rolled"] = Rolled()
defaults.VIEWS.append("rolled")
"""

KIND = """
import torch
from torch import nn

from phosphene.models import catalogue, folders
from phosphene.models.protocol import Estimate
from phosphene.schedule import schedule_from

class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.config = {"width": width}
        self.layers = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, x):
        return self.layers(x)

class Mixed:
    image_shape, value_range, classes = (1, 28, 28), (0.0, 1.0), 10

    def __init__(self, network, schedule):
        self.network, self.schedule = network, schedule

    @property
    def device(self):
        return next(self.network.parameters()).device

    def embed(self, condition):
        return torch.tensor([-1.0 if condition is None else float(condition)])

    def __call__(self, x, t, embedding):
        return Estimate(self.network(x).float())

def build(network, config):
    return Mixed(network, schedule_from(config["schedule"]))

catalogue.KINDS["mixer"] = catalogue.Kind(Mixer, build, role="diffusion")
folders.ROLES["mixer"] = "diffusion"
"""

RUN = """
import json, sys; sys.path.insert(0, '.')
import extension
from phosphene.__main__ import main
for argv in json.loads(sys.argv[1]):
    sys.argv[1:] = argv
    if main():
        sys.exit(f"{argv} failed")
    print("\f", end="")
"""


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """Run command lines, or some code, in a process that imported a file with the extension; what each of them printed."""
    monkeypatch.chdir(tmp_path)

    def run(extension: str, *lines: tuple, code: str = RUN) -> list[str]:
        Path("extension.py").write_text(extension)
        words = json.dumps([[str(word) for word in line] for line in lines])
        result = subprocess.run([sys.executable, "-c", code, words], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        return result.stdout.split("\f")

    return run


RECIPES = {"Adding a solver": SOLVER, "Adding a view": VIEW, "Adding a model": KIND}


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_names_all_tables_and_keeps_the_laws_of_the_house(extended, title):
    """What the text names is all that an extension writes to, and tables that must agree then do."""
    text = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]
    tables = re.findall(r"^(\w+)\.([A-Z]+)(?:\[|\.append)", RECIPES[title], re.MULTILINE)
    assert len(tables) == 2
    for module, table in tables:
        assert re.search(rf"`({module}\.)?{table}`", text), f"{module}.{table}"
    house = f"""
import sys; sys.path[:0] = ['.', {str(TESTS)!r}]
import extension, test_house
test_house.test_names_without_torch_are_those_of_the_tables()
"""
    extended(RECIPES[title], code=house)


def test_a_solver_is_offered_and_takes_the_steps_it_declares(extended):
    draws = ("digits", "3", "--solver", "euler", "-o")
    offered, *_ = extended(SOLVER, ("digits", "--help"), (*draws, "usual.png"), (*draws, "four.png", "--steps", 4))
    assert "heun or euler" in offered
    assert read_picture(Path("usual.png")) == read_picture(Path("four.png"))


def test_a_view_draws_anagrams_and_is_on_the_studios_list(extended, cascade):  # noqa: F811
    pytest.importorskip("gradio")
    base = ("--view", "rolled", "--model", cascade / "stage-1", "--steps", 2)
    listed = RUN + "from phosphene.web import tabs; print(tabs.STUDIO_VIEWS)"
    line = ("anagram", "a", "b", *base, "-o", "one.png", "--animate", "turn.gif", "--print", "a4")
    *_, views = extended(VIEW, line, code=listed)
    assert Path("one.pdf").is_file()
    assert read_picture(Path("one.png")).size and read_picture(Path("turn.gif")).size
    assert "rolled" in views


def test_a_kind_of_model_is_built_of_its_own_network(extended):
    weights = """
import sys; sys.path.insert(0, '.')
from pathlib import Path
import extension
from phosphene.models import catalogue
from phosphene.schedule import linear
network = extension.Mixer(4)
config = {"kind": "mixer", "network": network.config, "schedule": dict(linear(10).config)}
catalogue.write(Path("mine"), config, network.state_dict())
print(type(catalogue.load("mine", role="diffusion")).__name__)
"""
    lines = ("digits", "37", "--model", "mine", "--device", "cpu", "-o", "one.png"), ("models", "info", "mine")
    built, info, _ = extended(KIND, *lines, code=weights + RUN)
    assert built.startswith("Mixed\n")
    assert read_picture(Path("one.png")).size
    assert json.loads(info)["kind"] == "mixer"
