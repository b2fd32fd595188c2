"""tools/blind_sheets.py: numbers on the sheets, prompts in the key alone, and a score that counts each number once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from conftest import refusal
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))
import blind_sheets as tool  # noqa: E402


def test_the_prompts_are_sixty_and_more_with_the_course_s():
    prompts = tool.read_prompts(ROOT / "docs" / "prompts.txt")
    assert len(prompts) >= 60
    for thing in (
        "snowy mountain village",
        "man wearing a hat",
        "rocket ship",
        "people around a campfire",
        "old man",
        "dog",
        "barista",
    ):
        assert sum(thing in prompt for prompt in prompts) >= 2, thing  # bare and in a manner
    assert {"waterfalls", "a skull", "a pencil", "a lithograph of a skull"} <= set(prompts)


def test_the_key_names_each_picture_and_the_sheet_does_not(tmp_path):
    colours = [(8 * k, 255 - 8 * k, 90) for k in range(30)]
    pictures, prompts = [Image.new("RGB", (16, 16), c) for c in colours], [f"prompt {k}" for k in range(30)]
    tool.write_sheets(pictures, prompts, tmp_path, 0)
    key = json.loads((tmp_path / "key.json").read_text())
    assert (
        list(key) == [str(k + 1) for k in range(30)] and sorted(key.values()) == sorted(prompts) and list(key.values()) != prompts
    )
    with Image.open(tmp_path / "sheet-1.png") as first, Image.open(tmp_path / "sheet-2.png") as second:
        assert first.height > second.height  # four rows and one
        shown = first.convert("RGB").getpixel((6 + tool.CELL // 2, 6 + tool.CELL // 2))
        assert shown == colours[prompts.index(key["1"])]
        assert not any("prompt" in str(value) for value in first.info.values())


def test_a_score_is_the_share_of_ones(tmp_path):
    key, judged = tmp_path / "key.json", tmp_path / "judged.tsv"
    key.write_text(json.dumps({"1": "a", "2": "b", "3": "c", "4": "d"}))
    judged.write_text("1 1 1\n2 1 0\n3\t0\t0\n# a remark\n4 1 0\n")
    assert tool.score(key, judged) == "object right 3 of 4, 75%; whole prompt right 1, 25%"
    for rows in (
        "1 1 1\n2 1 0\n3 0 0\n",
        "1 1 1\n1 1 1\n2 1 0\n3 0 0\n4 1 0",
        "1 1 1\n2 2 0\n3 0 0\n4 1 0",
        "1 1\n2 1\n3 0\n4 1",
    ):
        judged.write_text(rows)
        refusal(lambda: tool.score(key, judged), "judged.tsv")


@pytest.mark.parametrize("text", ["", "# nothing\n", "a\na\n"])
def test_prompts_that_are_none_or_twice(tmp_path, text):
    (tmp_path / "p.txt").write_text(text)
    refusal(lambda: tool.read_prompts(tmp_path / "p.txt"), "p.txt")
