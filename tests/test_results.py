"""What the benchmarks measured is kept: a later measurement in the place of an earlier, one of another machine beside it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def results(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("results", BENCHMARKS / "results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "results.json")
    monkeypatch.setattr(module, "PAGE", tmp_path / "RESULTS.md")
    return module


def merge(module, monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["results.py", "--merge", *map(str, arguments)])
    module.main()
    return json.loads(module.KEPT.read_text())


def test_what_was_measured_elsewhere_is_taken_in_and_a_later_measurement_replaces_it(results, monkeypatch, tmp_path):
    found = tmp_path / "found.json"

    def measured(machine, value, *more):
        words = ["/elsewhere/benchmarks/deepfloyd.py", *more, "--json", "x.json"]
        values = {"shapes": {"IF-I-M": {"the loop": [value, 1.0, 3.0, 0.5]}}, "rate": 7e14}
        found.write_text(json.dumps({"machine": machine, "torch": "2.11", "command": words, **values}))
        return merge(results, monkeypatch, found)

    assert len(measured("H100", 2.0)) == 1
    assert len(measured("H200", 2.5)) == 2
    assert len(measured("H100", 2.25, "--compile")) == 3
    kept = measured("H100", 9.0)
    assert len(kept) == 3 and {each["script"] for each in kept} == {"deepfloyd.py"}
    page = results.PAGE.read_text()
    assert "| shapes: IF-I-M: the loop | 9 (1 to 3), the first call 0.5 s |" in page and "| rate | 7e+14 |" in page
    assert "    python benchmarks/deepfloyd.py --compile\n" in page and "2 (1 to 3)" not in page
    assert "H200; torch 2.11; 20" in page and "/elsewhere" not in page and "x.json" not in page


def test_a_file_that_names_no_script_must_be_told_of_one(results, monkeypatch, tmp_path):
    (tmp_path / "found.json").write_text('{"machine": "CPU", "ratio": [2.0, 1.5, 2.5]}')
    with pytest.raises(SystemExit, match="name it by --script"):
        merge(results, monkeypatch, tmp_path / "found.json")
    (kept,) = merge(results, monkeypatch, tmp_path / "found.json", "--script", "stock.py")
    assert kept["script"] == "stock.py" and kept["measured"] == {"ratio": [2.0, 1.5, 2.5]}


def test_every_script_says_what_it_compares(results):
    for script, *_ in results.wanted():
        assert (BENCHMARKS / script).read_text().startswith('"""'), script


def test_two_processes_are_timed_only_where_they_draw_what_one_draws(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    scale = importlib.import_module("scale")
    pictures = {1: torch.ones(4, 3, 8, 8), 2: torch.ones(4, 3, 8, 8)}
    monkeypatch.setattr(scale, "asked", lambda n, what: {"seconds": (2.0 / n, 2.0 / n, 2.0 / n), "pictures": pictures[n]})
    monkeypatch.setattr(sys, "argv", ["scale.py", "--count", "4", "--json", str(tmp_path / "found.json")])
    scale.main()
    told = json.loads((tmp_path / "found.json").read_text())
    assert [told[f"sampling, {n} processes, images/s"][0] for n in (1, 2)] == [2.0, 4.0]
    pictures[2] = pictures[2].clone()
    pictures[2][3] = -1
    with pytest.raises(AssertionError, match="2 processes: a picture differs"):
        scale.main()
