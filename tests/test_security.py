"""SECURITY.md promises nothing without a test, and what stands below its floors is not installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "SECURITY.md").read_text().splitlines()
    if line.startswith("|") and not line.startswith(("| Who |", "|---"))
]


def test_the_table_is_there():
    assert len(ROWS) >= 15 and all(len(row) == 4 and all(row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3].strip("`").rpartition("::")[2])
def test_each_promise_names_a_test_that_there_is(row):
    file, name = re.fullmatch(r"`(tests/test_\w+\.py)::(test_\w+)`", row[3]).groups()
    defined = [node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)]
    assert name in defined


def test_what_is_said_to_be_made_can_be_made():
    targets = re.findall(r"`make (\w+)", (ROOT / "SECURITY.md").read_text())
    makefile = (ROOT / "Makefile").read_text()
    assert targets and all(f"\n{target}:" in makefile for target in targets)


def test_the_versions_tested_together_are_above_the_floors():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    floors = {(one := Requirement(text)).name.lower(): one.specifier for text in asked}
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert all(pins[name] in floor for name, floor in floors.items() if name in pins)
    assert str(floors["pillow"]) == ">=12.3" and str(floors["gradio"]) == ">=6.31"


def test_every_reader_of_the_fuzzer_reads_what_is_whole(tmp_path):
    """In a process where nothing else has been imported: what is refused from the first would never be looked into."""
    asked = (
        "import fuzz, pathlib, tempfile\n"
        "assert set(fuzz.OF_BYTES) <= set(fuzz.READERS)\n"
        "for file, whole, read in fuzz.READERS.values():\n"
        "    path = pathlib.Path(tempfile.mkdtemp()) / file\n"
        "    path.parent.mkdir(exist_ok=True)\n"
        "    for content in whole():\n"
        "        path.write_bytes(content)\n"
        "        read(path)\n"
    )
    place = {**os.environ, "TMPDIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", asked], cwd=ROOT / "tools", env=place, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-1000:]
