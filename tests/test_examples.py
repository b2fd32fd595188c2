"""The notebooks run from top to bottom, and a document says what the script beside it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent


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


def test_the_gigabytes_of_deepfloyd_are_those_of_its_configs():
    """What docs/deepfloyd.md says of memory is what its script prints."""
    script = [sys.executable, str(ROOT / "tools" / "deepfloyd_memory.py")]
    counted = subprocess.run(script, capture_output=True, text=True, check=True).stdout.strip()
    for part in counted.rsplit("\n\n", 1):
        assert len(part) > 200 and part in (ROOT / "docs" / "deepfloyd.md").read_text(encoding="utf-8")
