"""The notebook runs from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

NOTEBOOK = Path(__file__).parent.parent / "examples" / "walkthrough.ipynb"


def test_the_notebook_runs(monkeypatch, tmp_path):
    """Each cell, quickly, in one namespace; those that end in a call of ``show`` give a picture."""
    monkeypatch.setenv("PHOSPHENE_QUICK", "1")
    monkeypatch.chdir(tmp_path)
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
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
    assert shown == 9
