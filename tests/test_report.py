"""The page: every section has its figures, what is there is kept, what was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from unicodedata import normalize
from xml.etree import ElementTree

import html5lib
import numpy as np
import pytest
from PIL import Image
from test_generate import cascade  # noqa: F401  (fixture)

from phosphene.errors import UserError
from phosphene.report import formulas, kept
from phosphene.report import sections as report
from phosphene.report.page import write
from phosphene.report.sections import SECTIONS, chosen

ASSIGNMENT = ["0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.7.1", "1.7.2", "1.7.3", "1.8", "1.10", "2"]
"""The sections of Part A, as the course's project numbers them."""


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def page(cascade, tmp_path_factory) -> Path:  # noqa: F811
    """The whole page, quick, on a model too small to draw anything."""
    return write(tmp_path_factory.mktemp("page"), "cpu", silent, str(cascade), quick=True)


def held(page: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (page.parent / kept.CACHE).glob("*.json")}


def test_sections_are_the_assignments_and_more():
    numbers = [each.number for each in SECTIONS]
    assert [n for n in numbers if n[0].isdigit()] == ASSIGNMENT
    assert [n for n in numbers if n.startswith("B")] == ["B 1.1", "B 1.2", "B 1.2.2", "B 2.1", "B 2.4"]
    assert len(set(numbers)) == len({each.name for each in SECTIONS}) == len(SECTIONS)


def test_every_section_has_figures_none_empty_none_repeated(page):
    found = held(page)
    assert set(found) == {each.name for each in SECTIONS}
    files = [figure["file"] for each in found.values() for figure in each["content"]["figures"]]
    assert all(each["content"]["figures"] for each in found.values())
    assert len(set(files)) == len(files)
    content = [(page.parent / file).read_bytes() for file in files]
    assert len({hashlib.sha256(data).hexdigest() for data in content}) == len(files)
    for file in files:
        with Image.open(page.parent / file) as image:
            assert np.asarray(image.convert("L")).std() > 5, file
    for each in found.values():
        for figure in each["content"]["figures"]:
            assert figure["caption"] and (not figure["command"] or figure["command"].startswith("phosphene ")), figure
            with Image.open(page.parent / figure["file"]) as image:
                assert image.size == (figure["width"], figure["height"])
    assert sum(len(data) for data in content) < 25e6


def test_every_section_says_something_and_every_text_is_of_a_section(page):
    whole = page.read_text(encoding="utf-8")
    said = re.findall(r'<section aria-labelledby="([\w-]+)">.*?</h3>(.*?)<div class="figures">', whole, re.DOTALL)
    assert [name for name, _ in said] == [each.name for each in SECTIONS]
    assert all(re.fullmatch(r"(\s*<p>[^{}]{60,}?</p>\s*|\s*<math.*?</math>\s*)+", text, re.DOTALL) for _, text in said)
    assert whole.count("<math") == len(formulas.FORMULAS) and "None" not in "".join(text for _, text in said)
    written = {}
    for file in (Path(report.__file__).parent / "text").iterdir():
        written |= dict.fromkeys(re.findall(r"{% macro (\w+)", file.read_text(encoding="utf-8")), file.name)
    assert written.pop("chosen") == "part_a.html"  # what two of them say of their pictures
    assert written == {each.name.replace("-", "_"): each.text for each in SECTIONS}


SIGNS = {
    "forward": "x_t=√(ᾱ_t)x_0+√(1−ᾱ_t)ε,ε∼N(0,1)",
    "one_step": "x_0̂=(x_t−√(1−ᾱ_t)ε̂(x_t,t))/(√(ᾱ_t))",
    "step": "x_s=(√(ᾱ_s)β_t)/(1−ᾱ_t)x_0̂+(√(α_t)(1−ᾱ_s))/(1−ᾱ_t)x_t+v_t",
    "guidance": "ε=ε_u+γ(ε_c−ε_u)",
    "inpaint": "x_t←mx_t+(1−m)forward(x_orig,t)",
    "anagram": "ε=(1)/(2)(ε̂(x_t,p_1)+V^−1ε̂(Vx_t,p_2))",
    "hybrid": "ε=f_lowε̂(x_t,p_far)+f_highε̂(x_t,p_near)",
    "loss": "L=E‖D_θ(x_0+σε)−x_0‖^2",
    "loss_time": "L=E‖ε_θ(x_t,t)−ε‖^2",
    "flow": "x_t=(1−t)x_0+tε,u_θ(x_t,t)≈ε−x_0",
}
"""The formulas as their signs follow each other, with roots, fractions, indices and accents marked."""


def signs(node: ElementTree.Element) -> str:
    """What a piece of MathML reads as, in the notation of :data:`SIGNS`."""
    parts = [signs(each) for each in node]
    match node.tag.rpartition("}")[2]:
        case "msqrt":
            return f"√({''.join(parts)})"
        case "mfrac":
            return f"({parts[0]})/({parts[1]})"
        case "msub" | "msup" as tag:
            return parts[0] + "_^"[tag == "msup"] + parts[1]
        case "mover":
            return parts[0] + {"¯": "\u0304", "^": "\u0302"}[parts[1]]
    return (node.text or "") + "".join(parts)


@pytest.mark.parametrize("name", formulas.FORMULAS)
def test_a_formula_is_mathml_with_the_signs_it_should_have(name):
    root = ElementTree.fromstring(formulas.mathml(name))
    assert root.tag == "{http://www.w3.org/1998/Math/MathML}math" and root.get("display") == "block"
    assert signs(root) == normalize("NFD", SIGNS[name]) and "\\" not in signs(root)
    assert 'display="inline"' in formulas.mathml(name, "inline")


def test_the_page_is_valid_html_without_anything_from_elsewhere(page):
    text = page.read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(text)
    assert "http:" not in text.replace("http://www.w3.org", "") and "https:" not in text
    assert all(f'id="{each.name}"' in text and f'href="#{each.name}"' in text for each in SECTIONS)
    assert text.count("<img") == text.count(" alt=") and "{" not in text.split("</style>")[1].split("<script>")[0]


def test_a_second_page_makes_nothing_anew(page, cascade, monkeypatch):  # noqa: F811
    def never(*_: object) -> None:
        raise AssertionError("made again")

    before = page.read_bytes()
    never_made = [replace(each, make=never) for each in SECTIONS]
    for module in (report, kept):
        monkeypatch.setattr(module, "SECTIONS", never_made)
    told = []
    write(page.parent, "cpu", lambda *said: told.append(said), str(cascade), quick=True)
    assert page.read_bytes() == before and told[0][3] == 0 and len(told) == len(SECTIONS) + 1


def test_a_stopped_page_goes_on_and_a_spoilt_picture_is_made_again(cascade, tmp_path, monkeypatch):  # noqa: F811
    names, made = ["1.1", "1.2", "1.3"], []

    class Stop(Exception):
        pass

    def follow(title: str, done: int, total: int, left: float) -> None:
        made.append(title)
        if len(made) == 3:
            raise Stop

    with pytest.raises(Stop):
        write(tmp_path, "cpu", follow, str(cascade), True, names)
    assert not (tmp_path / "index.html").exists() and len(list((tmp_path / kept.CACHE).iterdir())) == 2
    dates = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    page = write(tmp_path, "cpu", silent, str(cascade), True, names)
    assert page.is_file() and all(path.stat().st_mtime_ns == date for path, date in dates.items())
    (tmp_path / "forward.png").write_bytes(b"spoilt")
    write(tmp_path, "cpu", silent, str(cascade), True, names)
    with Image.open(tmp_path / "forward.png") as image:
        assert image.width > 100
    assert all(path.stat().st_mtime_ns == date for path, date in dates.items() if path.stem != "forward")


def test_sections_are_chosen_by_name_or_number():
    assert {each.number for each in chosen(["2", "setup", "B 1.1"])} == {"0", "2", "B 1.1"}
    with pytest.raises(UserError, match="--sections 1.9: there is none of that name; choose of setup, forward"):
        chosen(["1.9"])
