"""The notebooks run from top to bottom, and a document says what the script beside it counts."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from conftest import thorough
from PIL import Image
from test_cli import call, here  # noqa: F401

import phosphene.__main__  # noqa: F401 (all commands)
from phosphene.cli.common import app
from phosphene.cli.drawing import REMADE
from phosphene.cli.examples import EXAMPLES
from phosphene.defaults import VIEWS, WARPS
from phosphene.errors import UserError
from phosphene.models import folders
from phosphene.readers import SAMPLES, read_provenance

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize(("name", "pictures"), [("walkthrough", 10), ("deepfloyd", 2)])
def test_the_notebook_runs(monkeypatch, tmp_path, name, pictures):
    """Each cell, quickly, in one namespace, without a network; those that end in a call of ``show`` give a picture."""
    monkeypatch.setenv("PHOSPHENE_QUICK", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((ROOT / "examples" / f"{name}.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    held: dict = {"__name__": "__main__"}
    shown = 0
    for number, cell in enumerate(cells):
        assert not cell["outputs"]
        *lines, end = "".join(cell["source"]).splitlines()
        if end.startswith("show("):
            exec(compile("\n".join(lines), f"cell {number}", "exec"), held)
            picture = eval(compile(end, f"cell {number}", "eval"), held)
            assert isinstance(picture, Image.Image) and picture.width > 64
            shown += 1
        else:
            exec(compile("\n".join([*lines, end]), f"cell {number}", "exec"), held)
    assert shown == pictures


def cell_of(name: str, number: int) -> str:
    cells = json.loads((ROOT / "examples" / name).read_text(encoding="utf-8"))["cells"]
    return "".join([cell for cell in cells if cell["cell_type"] == "code"][number]["source"])


@pytest.mark.parametrize("where", ["wheel", "zip", "repository", "upload", "nowhere"])
def test_the_notebook_for_colab_installs_what_is_at_hand(monkeypatch, tmp_path, where):
    """A file beside it, the repository around it, or what its reader uploads; and says so where there is nothing."""
    (tmp_path / "examples").mkdir()
    monkeypatch.chdir(tmp_path / "examples")
    installed: list[str] = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda argv, check: installed.append(argv[-1]))
    expected = {
        "wheel": "phosphene-0.1.0-py3-none-any.whl",
        "zip": "phosphene-main.zip",
        "repository": "..",
        "upload": "mine.whl",
    }
    if where in ("wheel", "zip"):
        Path(expected[where]).touch()
    if where == "repository":
        (tmp_path / "src" / "phosphene").mkdir(parents=True)
    if where == "upload":
        colab = SimpleNamespace(files=SimpleNamespace(upload=lambda: {"mine.whl": b""}))
        monkeypatch.setitem(sys.modules, "google.colab", colab)
        monkeypatch.setitem(sys.modules, "google", SimpleNamespace(colab=colab))
    code = compile(cell_of("deepfloyd.ipynb", 0), "cell", "exec")
    if where == "nowhere":
        with pytest.raises(SystemExit, match="set SOURCE"):
            exec(code, {})
    else:
        exec(code, {})
    assert installed == [expected[where] for _ in range(where in expected)]


@pytest.mark.parametrize("typed", [" hf_x ", ""])
def test_the_notebook_for_colab_waits_for_a_token(monkeypatch, typed):
    """And goes on without one where none is typed: what follows finds it, or draws by the model that ships."""
    given: list[str] = []
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace())
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    monkeypatch.setattr("huggingface_hub.notebook_login", lambda: pytest.fail("does not wait"))
    monkeypatch.setattr("huggingface_hub.login", given.append)
    monkeypatch.setattr("getpass.getpass", lambda prompt: typed)
    exec(compile(cell_of("deepfloyd.ipynb", 1), "cell", "exec"), {"sys": sys})
    assert given == [token for token in [typed.strip()] if token]


@thorough
def test_the_gigabytes_of_deepfloyd_are_those_of_its_configs():
    """What docs/deepfloyd.md says of memory is what its script prints."""
    script = [sys.executable, str(ROOT / "benchmarks" / "deepfloyd_memory.py")]
    counted = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    for part in counted.rsplit("\n\n", 1):
        assert len(part) > 200 and part in (ROOT / "docs" / "deepfloyd.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_command_in_a_document_is_one(document):
    """It has the options that are given, and takes their values; but for models and files that the reader is to have."""
    text = document.read_text(encoding="utf-8").replace("\\\n", " ")
    started = r"(?:torchrun [^`\n]*?-m )?(phosphene "
    lines = re.findall(rf"^ *{started}[^\n]*)$", text, re.MULTILINE)
    inline = re.findall(rf"`{started}[^`]*)`", re.sub("^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in lines + [" ".join(each.split()) for each in inline]:
        require_command(line)


def require_command(line: str) -> None:
    """That ``line`` is one, but for those that stand for several."""
    command, words = typer.main.get_command(app), shlex.split(line, comments=True)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    if not words or re.search(r"\.\.\.( |$)| \| |--help|NETWORK", line):
        return
    try:
        command.make_context(line, words)
    except UserError as error:
        assert re.search("no such f|neither a folder|does not exist|--sections NAME", str(error)), line


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_help_of_a_command_shows_how_it_is_used(call, name):  # noqa: F811
    code, out, _ = call(name, "--help")
    assert code == 0 and "\n  Examples:\n" in out
    for line in EXAMPLES[name]:
        assert f"\n    {line}\n" in out and line.startswith(f"phosphene {name} ")
        require_command(line)


def test_the_help_of_anagrams_names_every_view(call):  # noqa: F811
    table = call("anagram", "--help")[1].partition("Views, and")[2].partition("patches:8")[0]
    rows = [line.strip().partition("  ")[0] for line in table.splitlines()]
    named = {name.partition(":")[0] for row in rows for name in row.split(", ") if re.fullmatch(r"[\w:-]+", name)}
    assert named == {*VIEWS, *WARPS, "four-way"}


def test_whatever_draws_has_an_example():
    assert set(REMADE) < set(EXAMPLES)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(document):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    assert not [link for link in links if "://" not in link and not (document.parent / link).exists()]


def test_a_picture_in_the_documents_is_of_a_model_that_ships():
    """Nobody else has the folder of its maker, which its provenance would tell."""
    told = {}
    for path in ROOT.glob("docs/**/*.png"):
        with suppress(UserError):  # a photograph of a page says nothing
            told[path.name] = read_provenance(path).get("model")
    named = {name: model for name, model in told.items() if model is not None}
    ours = {folder.name for folder in folders.EMBEDDED.iterdir()}
    assert len(named) > 20 and not [name for name, model in named.items() if model not in ours]


def test_the_readme_names_every_view_and_every_sample():
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    views = text.partition("Views of anagrams: ")[2].partition(" for four prompts")[0].replace(" and ", " ").split(", ")
    assert views == [*VIEWS, *WARPS, "four-way"]
    samples = re.findall("`([^`]+)`", text.partition("samples that ship: ")[2].partition(", and masks")[0])
    assert set(samples) == {file.stem for file in SAMPLES.glob("*.png") if not file.stem.endswith("-mask")}
