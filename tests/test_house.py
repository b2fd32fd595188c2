"""Laws of the house, read from its sources: which room may know which, and how large anything may grow."""

from __future__ import annotations

import ast
import importlib.util
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import phosphene
from phosphene import defaults, sampler, schedule, views, warps
from phosphene.models import catalogue, folders
from phosphene.report import page
from phosphene.training.mnist import data

HOUSE = Path(phosphene.__file__).parent

FLOORS = (
    ("", "defaults"),
    ("errors",),
    ("notation", "launch"),
    ("files",),
    ("devices", "lock", "schedule", "readers"),
    ("models.protocol", "processes"),
    ("frequency", "guidance", "images", "plots"),
    ("moved", "pyramid"),
    ("pieces",),
    ("views",),
    ("warps",),
    ("folds",),
    ("expression",),
    ("forward",),
    ("sampler",),
    ("models",),
    ("autoguidance", "reuse"),
    ("sampling",),
    ("drawing",),
    ("evaluation",),
    ("training", "tasks"),
    ("training.mnist",),
    ("report",),
    ("cli",),
    ("web",),
    ("__main__",),
)
"""Rooms from the ground up. A file knows files of its own room and of lower floors. "": the package's own name and version."""


def name_of(path: Path) -> str:
    """The module in ``path``, without the package's name: ``models.cascade``."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {name_of(path): path.read_text() for path in HOUSE.rglob("*.py")}
TREES = {name: ast.parse(text) for name, text in SOURCES.items()}


def imports(name: str) -> set[str]:
    """The modules of the package that the module ``name`` imports, wherever in it that is, and for types alone too."""
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "phosphene":
            above = node.module.partition(".")[2]
            for alias in node.names:
                whole = f"{above}.{alias.name}".lstrip(".")
                found.add(whole if whole in SOURCES else above)
        elif isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[2] for alias in node.names if alias.name.partition(".")[0] == "phosphene"}
    return found - {name}


def room(name: str) -> tuple[int, str]:
    """Floor and room of a module."""
    rooms = {room: floor for floor, several in enumerate(FLOORS) for room in several}
    while name not in rooms and "." in name:
        name = name.rpartition(".")[0]
    assert name in rooms, f"{name} is in no room"
    return rooms[name], name


def test_no_arrow_points_up():
    upward = []
    for name in SOURCES:
        floor, here = room(name)
        for other in imports(name):
            below, there = room(other)
            if there != here and below >= floor:
                upward.append(f"{name} -> {other}")
    assert not upward


def test_no_model_knows_the_core_above_the_protocol():
    floors = {name: room(name)[0] for name in SOURCES}
    above = {name for name in SOURCES if floors["models.protocol"] < floors[name] < floors["models"]}
    assert {"sampler", "forward", "expression", "views", "frequency"} <= above
    lent = {"images", "plots"}  # which lie between, and are no core
    found = {name: imports(name) & above - lent for name in SOURCES if room(name)[1] == "models"}
    assert not {name: known for name, known in found.items() if known}


def test_no_file_is_in_a_circle():
    try:
        TopologicalSorter({name: imports(name) for name in SOURCES}).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_the_command_line_imports_at_first_is_light():
    """All of it, down to the ground: the commands import torch when they run."""

    def at_first(name: str) -> set[str]:
        top = [n for n in TREES[name].body if isinstance(n, ast.Import | ast.ImportFrom)]
        return {(n.module if isinstance(n, ast.ImportFrom) else n.names[0].name).partition(".")[0] for n in top}

    heavy = {"torch", "numpy", "PIL", "matplotlib", "safetensors", "diffusers", "transformers", "gradio"}
    ground = ["defaults", "files", "errors", "notation", "launch"]
    light = [*ground, "training.options", "training.mnist.recipes", "training.text_to_image.recipe"]
    for name in [*light, *(name for name in SOURCES if name.startswith("cli"))]:
        assert not at_first(name) & heavy, name


Function = ast.FunctionDef | ast.AsyncFunctionDef


def is_command(node: Function) -> bool:
    return any("command" in ast.unparse(d) or "callback" in ast.unparse(d) for d in node.decorator_list)


def body_lines(node: Function) -> int:
    """Lines of what a command does; its options and its help are not counted."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return node.end_lineno - body[0].lineno + 1 if body else 0


def measured(sources: dict[str, str]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Lines of modules, of functions and of commands; the latter by where they begin, for names come more than once."""
    modules = {name: text.count("\n") for name, text in sources.items()}
    functions, commands = {}, {}
    for name, text in sources.items():
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, Function):
                continue
            where = f"{name}:{node.lineno} {node.name}"
            if is_command(node):
                commands[where] = body_lines(node)
            else:
                functions[where] = node.end_lineno - node.lineno + 1
    return modules, functions, commands


@pytest.mark.parametrize(("what", "limit"), enumerate((400, 60, 30)), ids=["modules", "functions", "commands"])
def test_nothing_is_too_large(what, limit):
    """Lines of a module, of a function, and of what a command does."""
    assert not {name: lines for name, lines in measured(SOURCES)[what].items() if lines > limit}


CORE = ("schedule", "frequency", "moved", "views", "guidance", "expression", "forward", "sampler")
"""Forward process, bands, views, guidance, noise expressions, their one forward pass, and the loop with its solvers."""


def test_the_core_can_be_read_in_an_hour():
    """All lines are counted: code, docstrings, comments and blank ones."""
    assert sum(SOURCES[name].count("\n") for name in CORE) <= 1250


def test_no_function_is_hidden_by_a_namesake():
    source = ""
    for name, kind, lines in (("A", "def", 70), ("B", "async def", 70), ("C", "def", 1), ("D", "async def", 1)):
        source += f"class {name}:\n    {kind} apply():\n" + "        x = 1\n" * lines
    _, functions, _ = measured({"views": source})
    assert sorted(functions.values()) == [2, 2, 71, 71]


def test_no_six_lines_are_there_twice():
    """Whatever their indentation; imports repeat themselves."""
    where: dict[tuple[str, ...], str] = {}
    for name, text in SOURCES.items():
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        for k in range(len(lines) - 5):
            run = tuple(lines[k : k + 6])
            if not all(line.startswith(("import ", "from ")) for line in run):
                assert run not in where, f"{name} and {where[run]}: {run}"
                where[run] = name


def test_names_without_torch_are_those_of_the_tables():
    assert defaults.SECTIONS == {each.name: each.number for each in page.SECTIONS}
    assert folders.ROLES == {name: kind.role for name, kind in catalogue.KINDS.items()}
    assert list(defaults.SOLVERS) == list(sampler.SOLVERS)
    assert list(defaults.SCHEDULES) == list(schedule.KINDS)
    assert defaults.VIEWS == list(views.VIEWS) and list(defaults.WARPS) == list(warps.WARPS)
    assert list(defaults.DATASETS) == [*data.SOURCES, "digits", "idx"]


@pytest.mark.parametrize("name", phosphene.__all__)
def test_each_name_of_the_package_is_there(name):
    """They are looked up on first use; one that has gone would break ``from phosphene import *``."""
    assert getattr(phosphene, name) is not None


SCRIPTS = sorted(each for room in ("tools", "benchmarks") for each in (Path(__file__).parent.parent / room).glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_import_what_there_is(script):
    """Few of them are run by a test, and what they take from the package may have gone elsewhere."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "phosphene":
            room = importlib.import_module(node.module)
            for name in (each.name for each in node.names):
                assert hasattr(room, name) or importlib.util.find_spec(f"{node.module}.{name}"), f"{node.module} has no {name}"
