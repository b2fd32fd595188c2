"""The page: every section has its figures, what is there is kept, what was stopped goes on."""

from __future__ import annotations

import csv
import errno
import hashlib
import html
import json
import os
import re
import shlex
import shutil
import socket
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from unicodedata import normalize
from xml.etree import ElementTree

import html5lib
import numpy as np
import pytest
import torch
from conftest import refusal
from matplotlib.text import Text
from PIL import Image
from test_cascade import WIDTH, copy, folder  # noqa: F401  (fixtures)
from test_generate import cascade  # noqa: F401  (fixture)

from phosphene import cli, plots
from phosphene.defaults import SEED
from phosphene.errors import UserError
from phosphene.evaluation.classifier import accuracy
from phosphene.expression import cond
from phosphene.forward import Evaluation
from phosphene.images import PAPER, to_tensor
from phosphene.models import catalogue, folders
from phosphene.models.cascade import open_cascade
from phosphene.models.folders import CONFIG
from phosphene.plots import smoothed
from phosphene.readers import read_provenance
from phosphene.report import course, formulas, kept
from phosphene.report import sections as report
from phosphene.report.config import read_config
from phosphene.report.course import asked, checklist, table
from phosphene.report.formulas import FORMULAS, mathml
from phosphene.report.page import templates, write
from phosphene.report.part_b import EDITIONS, Real, measured, real_digits, recipe_of, taught_on_noise
from phosphene.report.part_c import differs
from phosphene.report.pictures import CALLED
from phosphene.report.samples import EPOCHS, config_of, drawn_in
from phosphene.report.sections import SECTIONS, Desk, chosen
from phosphene.tasks import inpaint as inpainting
from phosphene.tasks.denoise_digits import denoise_at
from phosphene.training.log import NAME, curve, read_log
from phosphene.training.mnist import data
from phosphene.training.mnist.recipes import recipe

ASSIGNMENT = ["0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6", "1.7", "1.7.1", "1.7.2", "1.7.3", "1.8", "1.10", "2"]
"""The sections of Part A, as the course's project numbers them."""


def silent(*_: object) -> None:
    pass


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """What ships, but in the place of each network of digits a random one of width 4, which takes a hundredth of the time."""
    real, place = folders.EMBEDDED, tmp_path_factory.mktemp("models")
    for number, source in enumerate(sorted(real.iterdir())):
        config = json.loads((source / CONFIG).read_text()) if (source / CONFIG).is_file() else {}
        if config.get("kind", "classifier") == "classifier":
            (place / source.name).symlink_to(source)
            continue
        (place / source.name).mkdir()
        if (source / NAME).is_file():
            shutil.copy(source / NAME, place / source.name)
        config["network"] |= {"width": 4}
        with torch.random.fork_rng():
            torch.manual_seed(number)
            network = catalogue.KINDS[config["kind"]].network(**config["network"])
            for parameter in network.parameters():  # else hardly anything would depend on the class
                parameter.data.add_(0.3 * torch.randn_like(parameter))
        catalogue.write(place / source.name, config, network.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folders, "EMBEDDED", place)
        patch.setattr("phosphene.report.part_b.taught_on_noise", partial(taught_on_noise, width=2))
        yield


@pytest.fixture(scope="module")
def page(cascade, narrow, tmp_path_factory) -> Path:  # noqa: F811
    """The whole page, quick, on models too small to draw anything."""
    return write(tmp_path_factory.mktemp("page"), "cpu", silent, str(cascade), quick=True)


def held(page: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in (page.parent / kept.CACHE).glob("*.json")}


def test_sections_are_the_assignments_and_more():
    numbers = [each.number for each in SECTIONS]
    assert [n for n in numbers if n[0].isdigit()] == ASSIGNMENT
    assert [n for n in numbers if n.startswith("B")] == ["B 1.1", "B 1.2", "B 1.2.2", "B 2.1", "B 2.4"]
    assert [n for n in numbers if n.startswith("F")] == ["F 1.2.3", "F 2.1", "F 2.4"]
    assert len(set(numbers)) == len({each.name for each in SECTIONS}) == len(SECTIONS)


def test_every_section_has_figures_none_empty_none_repeated(page):
    found = held(page)
    assert set(found) == {each.name for each in SECTIONS}
    files = [figure["file"] for each in found.values() for figure in each["figures"]]
    assert all(each["figures"] for each in found.values())
    assert len(set(files)) == len(files)
    content = [(page.parent / file).read_bytes() for file in files]
    assert len({hashlib.sha256(data).hexdigest() for data in content}) == len(files)
    for file in files:
        with Image.open(page.parent / file) as image:
            assert np.asarray(image.convert("L")).std() > 5, file
    for each in found.values():
        for figure in each["figures"]:
            assert figure["caption"] and (not figure["command"] or figure["command"].startswith("phosphene ")), figure
            with Image.open(page.parent / figure["file"]) as image:
                assert image.size == (figure["width"], figure["height"])
    assert sum(len(data) for data in content) < 25e6


def test_every_section_says_something_and_every_text_is_of_a_section(page):
    whole = page.read_text(encoding="utf-8")
    said = re.findall(r'<section aria-labelledby="([\w-]+)">.*?</h3>(.*?)<div class="figures">', whole, re.DOTALL)
    assert [name for name, _ in said] == [each.name for each in SECTIONS]
    parts = r"<p>[^{}]{60,}?</p>|<math.*?</math>|<div class=\"drawing\".*?</div>"
    assert all(re.fullmatch(rf"(\s*({parts})\s*)+", text, re.DOTALL) for _, text in said)
    assert whole.count("<math") == len(formulas.FORMULAS) and "None" not in "".join(text for _, text in said)
    written = {}
    for file in (Path(report.__file__).parent / "text").iterdir():
        written |= dict.fromkeys(re.findall(r"{% macro (\w+)", file.read_text(encoding="utf-8")), file.name)
    shared = {
        "chosen": "part_a.html",
        "trained": "part_b.html",
        "curve": "part_b.html",
        "after": "part_b.html",
        "times": "part_b.html",
        "reads": "part_b.html",
        "course_flow": "part_b.html",
        "steps_of": "part_c.html",
        "command": "command.html",
        "unet": "unet.html",
    }
    assert all(written.pop(name) == file for name, file in shared.items())  # what several of them say
    assert written == {each.name.replace("-", "_"): each.text for each in SECTIONS}


SIGNS = {
    "forward": "x_t=√(ᾱ_t)x_0+√(1−ᾱ_t)ε,ε∼N(0,1)",
    "one_step": "x̂_0=(x_t−√(1−ᾱ_t)ε̂(x_t,t))/(√(ᾱ_t))",
    "step": "x_s=(√(ᾱ_s)β_t)/(1−ᾱ_t)x̂_0+(√(α_t)(1−ᾱ_s))/(1−ᾱ_t)x_t+v_t",
    "guidance": "ε=ε_u+γ(ε_c−ε_u)",
    "inpaint": "x_t←mx_t+(1−m)forward(x_orig,t)",
    "anagram": "ε=(1)/(2)(ε̂(x_t,p_1)+V^−1ε̂(Vx_t,p_2))",
    "hybrid": "ε=f_lowε̂(x_t,p_far)+f_highε̂(x_t,p_near)",
    "loss": "L=E‖D_θ(x_0+σε)−x_0‖^2",
    "loss_pure": "L=E‖D_θ(ε)−x_0‖^2",
    "mean": "D^*(ε)=E[x_0∣ε]=E[x_0]",
    "loss_time": "L=E‖ε_θ(x_t,t)−ε‖^2",
    "betas": "β_t=0.0001+(t−1)/(T−1)(0.02−0.0001)",
    "products": "α_t=1−β_t,ᾱ_t=∏_s=1^tα_s",
    "gradient": "∇_θ‖ε−ε_θ(√(ᾱ_t)x_0+√(1−ᾱ_t)ε,t)‖^2",
    "gradient_class": "∇_θ‖ε−ε_θ(√(ᾱ_t)x_0+√(1−ᾱ_t)ε,t,c)‖^2",
    "previous": "x_t−1=(√(ᾱ_t−1)β_t)/(1−ᾱ_t)x̂_0+(√(α_t)(1−ᾱ_t−1))/(1−ᾱ_t)x_t+√(β_t)z",
    "flow": "x_t=(1−t)x_0+tε,u_θ(x_t,t)≈ε−x_0",
    "flow_gradient": "∇_θ‖u_θ((1−t)x_0+tε,t)−(ε−x_0)‖^2",
    "flow_gradient_class": "∇_θ‖u_θ((1−t)x_0+tε,t,c)−(ε−x_0)‖^2",
    "flow_step": "x_t−(1)/(T)=x_t−(1)/(T)u_θ(x_t,t)",
    "flow_guidance": "u=u_u+γ(u_c−u_u)",
    "flow_loss": "L=E‖u_θ(x_t,t)−(ε−x_0)‖^2",
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
        case "munderover" | "msubsup":
            return f"{parts[0]}_{parts[1]}^{parts[2]}"
        case "mover":
            return parts[0] + {"¯": "\u0304", "^": "\u0302"}[parts[1]]
    return (node.text or "") + "".join(parts)


@pytest.mark.parametrize("name", formulas.FORMULAS)
def test_a_formula_is_mathml_with_the_signs_it_should_have(name):
    root = ElementTree.fromstring(formulas.mathml(name))
    assert root.tag == "{http://www.w3.org/1998/Math/MathML}math" and root.get("display") == "block"
    assert signs(root) == normalize("NFD", SIGNS[name]) and "\\" not in signs(root)


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
    assert all(path.stat().st_mtime_ns == date for path, date in dates.items() if "forward" not in path.stem)


def test_sections_are_chosen_by_name_or_number():
    assert {each.number for each in chosen(["2", "setup", "B 1.1"])} == {"0", "2", "B 1.1"}
    with pytest.raises(
        UserError, match=r"--sections 1.9: there is none of that name or number; choose of setup \(0\), forward \(1.1\)"
    ):
        chosen(["1.9"])


def test_an_edition_of_part_b_is_left_out_unless_it_is_named():
    """What remains has its models and formulas; both by default."""
    everything, ddpm = chosen(None), chosen(None, [EDITIONS["flow"]])
    left_out = {each.number for each in everything} - {each.number for each in ddpm}
    assert everything == SECTIONS and left_out == {"F 1.2.3", "F 2.1", "F 2.4"}
    assert [each.number for each in chosen(["F 2.1"], [EDITIONS["flow"]])] == ["F 2.1"]
    refusal(lambda: write(Path("nowhere"), "cpu", silent, part_b="both of them"), "--part-b both of them", "ddpm, flow or both")
    assert not Path("nowhere").exists()


def test_the_digits_that_ship_are_read_as_what_they_are(monkeypatch):
    """A hundred, the first ten of which are 0 to 9; where MNIST is at hand, those of its test split in their order."""
    monkeypatch.delenv("PHOSPHENE_DATA", raising=False)
    monkeypatch.setattr(data, "cache_folder", lambda: Path("/nowhere"))
    images, said = real_digits.__wrapped__(True)
    assert images.shape == (100, 1, 28, 28) and 0 == images.min() and images.max() == 1 and "a hundred" in said
    assert accuracy(catalogue.load("classifier"), images, [k % 10 for k in range(100)]) > 0.97


@pytest.mark.skipif(not os.environ.get("PHOSPHENE_DATA"), reason="wants the real MNIST, in the folder PHOSPHENE_DATA")
def test_the_digits_that_ship_are_mnists():
    test = data.load_dataset("mnist").test
    shipped, (every, said) = real_digits.__wrapped__(False).images, real_digits.__wrapped__(True)
    assert len(every) == 10_000 and "all 10,000" in said and torch.allclose(shipped[:10], every[:10])
    for digit in range(10):
        assert torch.equal((shipped[digit::10] * 255).round(), test.images[test.labels == digit][:10].float())


@pytest.mark.parametrize("quick", [True, False])
def test_denoisers_are_measured_on_fifty_digits_that_ship_or_on_a_full_page_on_all(narrow, tmp_path, monkeypatch, quick):
    """And once at each level, whatever sections show it."""
    both = {False: Real(torch.rand(100, 1, 28, 28), "a hundred"), True: Real(torch.rand(300, 1, 28, 28), "all")}
    monkeypatch.setattr("phosphene.report.part_b.real_digits", both.get)
    desk = Desk(tmp_path, "cpu", quick=quick)
    found = measured(desk, 0.5)
    assert torch.equal(found.clean, both[False].images[:50] if quick else both[True].images)
    assert found.said.startswith("fifty" if quick else "all")
    assert measured(desk, 0.5) is found
    several = denoise_at(desk.model("denoiser-5"), found.clean, SEED, [0.5, 1.0])
    for level, sigma in enumerate((0.5, 1.0)):
        assert torch.allclose(measured(desk, sigma).result.estimates[0], several.estimates[level, :10], atol=1e-5)
        assert torch.allclose(measured(desk, sigma).result.error, several.error[level], atol=1e-6)


def test_no_roots_line_lies_on_a_letter_like_a_bar():
    roots = [root for name in FORMULAS for root in mathml(name).split("<msqrt>")[1:]]
    assert len(roots) > 8 and all(root.startswith('<mspace height="1em" />') for root in roots)


def test_a_loss_curve_has_every_step_where_the_log_has(tmp_path):
    """Else a point for every line; and its average stays amid its points, without lag."""
    lines = [{"step": 4, "epoch": 1.0, "loss": 2.5, "losses": [4.0, 3.0, 2.0, 1.0]}, {"step": 8, "epoch": 2.0, "loss": 0.5}]
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert curve(read_log(tmp_path / "log.jsonl")) == [(0.25, 4.0), (0.5, 3.0), (0.75, 2.0), (1.0, 1.0), (2.0, 0.5)]
    falling = [1000.0 - k for k in range(1000)]
    assert smoothed(falling) == pytest.approx(falling)
    power = [1 / (1 + k) for k in range(1000)]
    assert all(ours < 1.2 * loss for ours, loss in zip(smoothed(power), power, strict=True))
    flat = [1.0 + 0.5 * (-1) ** k for k in range(1000)]
    assert all(abs(ours - 1) < 0.06 for ours in smoothed(flat)[100:])  # to the end, where a point alone would be a spike


def test_no_letters_of_a_plot_are_smaller_than_those_that_a_phone_can_show(monkeypatch):
    """Titles, ticks, axes and legend, in points; and none is cut off at the edge."""
    found = []
    monkeypatch.setattr(plots, "_drawn", lambda figure: found.append(figure))
    curves = {"the course's recipe": [(1, 0.3), (20, 0.002)], "longer": [(1, 0.4), (20, 0.03)]}
    plots.loss_curves(curves, "a title of middling length", x="step")
    plots.lines(curves, "steps", "share")
    for figure in found:
        figure.canvas.draw()
        words = [each for each in figure.findobj(Text) if each.get_visible() and each.get_text()]
        assert len(words) > 8 and min(each.get_fontsize() for each in words) >= plots.LETTERS
        drawn = figure.get_tightbbox()  # in inches
        assert min(drawn.x0, drawn.y0) > -0.01 and drawn.x1 < plots.SIZE[0] + 0.01 and drawn.y1 < plots.SIZE[1] + 0.01


def test_a_recipe_on_the_page_is_that_of_the_model_that_ships():
    """And of a network that does not ship the assignment's, which the DDPM that ships was trained by."""
    assert recipe_of("class-20", "class")["lr_decay"] == 0.5 and recipe_of("class-20", "class")["time_spread"] == 1
    assert recipe_of("class-10-flow", "class")["time_spread"] == 0  # as the course has it
    assert recipe_of("class-10-flat", "class")["lr_decay"] == 1  # of which samples alone ship
    none = recipe_of("none of that name", "class")
    assert none == recipe_of("class-20-ddpm", "class") and none["timesteps"] == 300


LOGS = sorted(each for root in (folders.EMBEDDED, EPOCHS) for each in root.glob("*/log.jsonl"))


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log.parent.name)
def test_logs_that_ship_hold_the_loss_of_every_step(log):
    """The page says of each curve that a point is a step."""
    if json.loads((log.parent / CONFIG).read_text())["kind"] == "classifier":
        return  # of which no curve is shown
    points = curve(read_log(log))
    assert len(points) == read_log(log)[-1]["step"] and all(loss > 0 for _, loss in points)


ROOT = Path(__file__).parent.parent


def test_the_table_of_the_course_is_what_the_page_shows(page):
    """Each line names a section and figures or formulas in it, or says that there is none yet; the docs have the same table."""
    docs, whole, found = (ROOT / "docs" / "course.md").read_text(encoding="utf-8"), page.read_text(encoding="utf-8"), held(page)
    assert docs.endswith(table()) and len(asked()) > 50
    for each in asked():
        assert bool(each.sections) == bool(each.shown), each
        if not each.sections:
            continue
        section = each.sections[0]
        here = re.search(rf'<section aria-labelledby="{section}">.*?</section>', whole, re.DOTALL)
        assert here, each
        figures = {Path(figure["file"]).stem for figure in found[section]["figures"]}
        for name in each.shown:
            formula = name in formulas.FORMULAS and formulas.mathml(name) in here[0]
            assert formula or name in figures or f'<svg id="{name}"' in here[0], (each, name)
        assert f'<a href="#{section}">{section}</a>' in whole.split('id="checklist"')[1]


def test_what_takes_a_model_that_does_not_ship_is_not_there_yet(tmp_path, monkeypatch):
    four = "Algorithm 4, and four of each digit"
    assert next(each for each in asked() if each.what.startswith(four)).sections == ("class-conditioned",)
    monkeypatch.setattr("phosphene.models.folders.EMBEDDED", tmp_path)
    assert next(each for each in asked() if each.what == "the same after 5 epochs").sections  # its samples ship
    lacking = next(each for each in asked() if each.what.startswith(four))
    assert not lacking.sections and not lacking.shown and lacking.command.endswith("class-20-ddpm")


def test_what_is_trained_on_pure_noise_answers_any_noise_with_the_mean():
    clean = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(1)).round()
    answers, points = taught_on_noise(clean, (2, 60), width=2)
    assert list(answers) == [2, 60] and len(points) == 60
    made, mean = answers[60](torch.randn(4, 1, 28, 28)), clean.mean(0)
    assert (made - mean).square().mean() < 0.1 * (answers[2](torch.randn(4, 1, 28, 28)) - mean).square().mean() + 0.03
    assert made.var(0).mean() < 0.1 * clean.var(0).mean()


def test_the_commands_of_the_course_are_commands():
    """Every option in the table is one that its command has."""
    import typer

    commands = typer.main.get_command(cli.app).commands
    for each in asked():
        if each.command:
            _, command, *words = shlex.split(each.command)
            within = getattr(commands[command], "commands", {})  # of train and models
            command = within[words[0]] if within else commands[command]
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            assert {word for word in words if word.startswith("-")} <= known, each


def pictures_in(figure: Path, picture: Path) -> int:
    """How often ``picture``, enlarged by whole numbers as it may be, is found in ``figure``, pixel by pixel."""
    sheet, found = np.asarray(Image.open(figure).convert("RGB")), 0
    with Image.open(picture) as opened:
        small = opened.convert("RGB")
    for scale in (1, 2, 3, 4, 6, 8, 16):
        part = np.asarray(small.resize((small.width * scale, small.height * scale), Image.Resampling.NEAREST))
        height, width = part.shape[:2]
        if height > sheet.shape[0] or width > sheet.shape[1]:
            break
        begun = (sheet[: sheet.shape[0] - height + 1, : sheet.shape[1] - width + 1] == part[0, 0]).all(-1)
        found += sum(bool((sheet[y : y + height, x : x + width] == part).all()) for y, x in np.argwhere(begun))
    return found


def test_an_inpainting_of_the_page_is_the_commands_by_the_model_that_ships(tmp_path, monkeypatch):
    """Whose pictures tell masks apart that differ by a rounding, as those of a model too small to draw do not."""
    monkeypatch.setattr("phosphene.report.part_a._inpainting", lambda desk: 4)  # steps: twelve take three times as long
    figure = held(write(tmp_path / "page", "cpu", silent, quick=True, sections=["2"]))["laplacian"]["figures"][0]
    _, *words = shlex.split(figure["command"])
    assert cli.main([*words, "--device", "cpu", "-o", str(tmp_path / "made.png")]) == 0
    made = sorted(tmp_path.glob("made-*.png"))
    assert len(made) == 3 and all(pictures_in(tmp_path / "page" / figure["file"], picture) for picture in made)


def test_a_mask_without_a_border_has_no_seam_to_tell():
    picture = torch.rand(1, 3, 16, 16)
    assert inpainting.seam_text(picture, torch.ones(1, 1, 16, 16)) == "no border"
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 5:] = 1
    assert float(inpainting.seam_text(picture, mask)) > 0


def test_the_noised_picture_of_part_a_is_one_throughout_and_comes_back_as_what_it_is(tmp_path):
    """So that the ways of undoing noise compare; asked for what it is called, the model that ships draws no other thing."""
    four = [each for each in SECTIONS if each.number in ("1.1", "1.2", "1.3", "1.4")]
    (picture,) = {each.asks["picture"] for each in four}
    assert four[-1].asks["prompt"] == CALLED[str(picture)]
    write(tmp_path, "cpu", silent, quick=True, sections=["1.4"])
    with Image.open(tmp_path / "iterative-compared.png") as sheet:
        back = sheet.convert("RGB").crop((140, 6, 268, 134)).resize((64, 64), Image.Resampling.BOX)  # the second of the row
    (stage,) = open_cascade("glyph", "cpu", stages=1).stages
    errors = {}
    for thing in (CALLED[str(picture)], "a faucet", "a water tap", "a house", "a teapot", "a chess rook"):
        evaluate, errors[thing] = Evaluation(cond(thing), stage), 0.0
        for t in (300, 500, 700):  # of a diffusion classifier: what helps most to tell the noise
            noise = torch.randn((2, *stage.image_shape), generator=torch.Generator().manual_seed(t))
            noisy = stage.schedule.add_noise(to_tensor(back).expand_as(noise), t, noise)
            with torch.no_grad():
                errors[thing] += float((evaluate(noisy, t).noise - noise).square().mean())
    assert min(errors, key=errors.get) == CALLED[str(picture)], errors


def test_a_command_beside_a_figure_makes_it(page, tmp_path, monkeypatch):
    """Typed as it stands there, it makes the pictures that the figure shows; and each figure says how it is made again."""
    monkeypatch.chdir(tmp_path)
    figures = [figure for each in held(page).values() for figure in each["figures"]]
    lines = {figure["file"]: figure["command"] for figure in figures if figure["command"]}
    assert {line.split()[1] for line in lines.values()} == {"generate", "edit", "inpaint", "anagram", "hybrid", "digits", "morph"}
    for file, line in lines.items():
        _, command, *words = shlex.split(line)
        place = tmp_path / Path(file).stem
        place.mkdir()
        assert cli.main([command, "-o", str(place / "made.png"), "--device", "cpu", *words]) == 0, line
        made = sorted(place.glob("made-*.png")) or [place / "made.png"]
        assert all(pictures_in(page.parent / file, picture) for picture in made), line


def test_a_figure_says_how_it_is_made_again(page, capsys):
    for name, each in held(page).items():
        for figure in each["figures"]:
            story = read_provenance(page.parent / figure["file"])
            assert story["command"].startswith("phosphene report --quick --model ") and story["command"].endswith(
                f" --sections {name}"
            )
    assert cli.main(["rerun", str(page.parent / "edited-1.png")]) == 2
    said = capsys.readouterr().err
    assert (
        "phosphene report" in said and "--sections image-to-image" in said and not (page.parent / "edited-1-again.png").exists()
    )


EXAMPLE = ROOT / "examples" / "page.toml"


def test_the_example_of_a_page_of_ones_own(cascade, tmp_path, monkeypatch):  # noqa: F811
    """Its title, its texts, its prompts and its pictures are those of the page; other sections are as they were."""
    monkeypatch.chdir(ROOT)
    own = read_config(EXAMPLE)
    names = [*own.asked, "one-step"]
    whole = write(tmp_path, "cpu", silent, str(cascade), True, names, Path("examples/page.toml")).read_text(encoding="utf-8")
    assert f"<h1>{own.title}</h1>" in whole and own.lead in whole and all(text in whole for text in own.texts.values())
    assert own.asked["guided"]["prompt"] == "an owl" and "An owl at rising guidance" in whole
    assert "House, on its way to a house, from several starts" in whole
    commands = re.findall(r"<code>(.*?)</code>", whole)
    assert any("examples/house.png" in each for each in commands)
    stories = [read_provenance(file)["command"] for file in tmp_path.glob("*.png")]
    assert all("--config examples/page.toml --sections " in each for each in stories)
    clean = write(tmp_path / "plain", "cpu", silent, str(cascade), True, ["forward", "one-step"]).parent
    assert (clean / "forward.png").read_bytes() != (tmp_path / "forward.png").read_bytes()
    with Image.open(clean / "one-step.png") as plain, Image.open(tmp_path / "one-step.png") as same:
        assert plain.tobytes() == same.tobytes()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("titel = 'x'", ["titel is no key here", "title, lead, sections"]),
        ("[sections.guidde]", ["sections.guidde is no section", "guided"]),
        ("[sections.guided]\nprompts = ['x']", ["sections.guided.prompts is no key here", "text, prompt, neutral."]),
        ("[sections.guided]\nprompt = ['x']", ["sections.guided.prompt must be text"]),
        ("[sections.guided]\n[sections.'1.6']", ["sections.guided stands there twice"]),
        ("[sections.hybrid-pictures]\nprompts = [['x']]", ["prompts[0] must be a list of text and text"]),
        ("[sections.setup]\nprompts = []", ["sections.setup.prompts must be a list, each of it text"]),
        ("[sections.hybrid-pictures]\nsigma = true", ["sigma must be a number"]),
        ("[sections.forward]\npicture = 'none.png'", ["sections.forward.picture none.png: no such file"]),
        ("[sections.'1.7']\npictures = ['clock-tower', 'page.toml']", ["pictures[1]", "cannot be read as a picture"]),
        ("title", ["is no TOML"]),
        ("title = '" + "x" * 300_000 + "'", ["is more than 262,144 bytes of TOML"]),
        ("x = " + "[" * 100_000, ["is no TOML that is read here (it is nested too deep)"]),
        ("x = " + "9" * 5000, ["is no TOML (", "5000 digits"]),
        ("x" + ".x" * 100_000 + " = 1", ["is no TOML that is read here (a key of very many parts)"]),
        ('["x' + '"."x' * 60_000 + '"]', ["a key of very many parts"]),
        ("x = {x" + " . x" * 60_000 + " = 1}", ["a key of very many parts"]),
        ('"a\\nb" = 1', ['"a\\nb" is no key here']),
        ('[sections."a\\nb"]', ['sections."a\\nb" is no section']),
        ("[sections.hybrid-pictures]\nsigma = nan", ["sigma must be a number from 0.001 to 4096"]),
        ("[sections.hybrid-pictures]\nsigma = 1e-320", ["sigma must be a number from 0.001"]),
        ("[sections.hybrid-pictures]\nsigma = -2", ["sigma must be a number from 0.001"]),
        ("[sections.hybrid-pictures]\nsigma = 1" + "0" * 400, ["sigma must be a number from 0.001"]),
        ("[sections.forward]\npicture = '" + "x" * 5000 + "'", ["sections.forward.picture xxx", "no such file"]),
        ('[sections.forward]\npicture = "a\\u0000b"', ["sections.forward.picture must be the path of a picture"]),
        ('title = "a\\u001b[31m"', ["title holds control characters"]),
        ('lead = "a\\u0000"', ["lead holds control characters"]),
        ('[sections.forward]\ntext = "a\\u0085"', ["sections.forward.text holds control characters"]),
        ('[sections.setup]\nprompts = ["a", "b\\u0007"]', ["sections.setup.prompts[1] holds control characters"]),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_a_page_of_ones_own_cannot_say(tmp_path, text, names):
    """One sentence, with the file and the key, before anything is drawn or written."""
    file = tmp_path / "page.toml"
    file.write_text(text)
    out = tmp_path / "out"
    refusal(lambda: write(out, "cpu", silent, config=file), "--config", str(file), *names)
    assert not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="links are a right there")
def test_a_page_of_anothers_shows_no_picture_from_elsewhere(tmp_path, monkeypatch):
    """By any way out of its folder; one of the same name where the command is typed is not the page's."""
    (tmp_path / "page" / "deep").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "page" / "deep"):
        Image.new("RGB", (16, 16), "red").save(place / "own.png")
    (tmp_path / "page" / "link.png").symlink_to(tmp_path / "own.png")
    file = tmp_path / "page" / "page.toml"
    monkeypatch.chdir(tmp_path)
    for name in ("../own.png", str(tmp_path / "own.png"), "deep/../../own.png", "link.png"):
        file.write_text(f"[sections.forward]\npicture = '{name}'")
        for path in (file, Path("page/page.toml")):
            refusal(lambda path=path: read_config(path), f"sections.forward.picture {name}: lies outside the folder of the page")
    file.write_text("[sections.forward]\npicture = 'own.png'")
    refusal(lambda: read_config(file), "own.png: no such file")
    for name, place in (("deep/own.png", file.parent / "deep/own.png"), ("clock-tower", Path("clock-tower"))):
        file.write_text(f"[sections.forward]\npicture = '{name}'")
        assert read_config(file).asked["forward"]["picture"] == place


def test_a_page_that_cannot_be_read_is_one_sentence(tmp_path, monkeypatch):
    """Its file is none, or the system refuses it; tests may run as somebody whom it refuses nothing."""
    (tmp_path / "page.toml").write_text("")
    for path in (tmp_path, tmp_path / "none.toml", tmp_path / "page.toml" / "x", tmp_path / ("x" * 300), Path("a\0b")):
        refusal(
            lambda path=path: read_config(path), f"--config {path}: ", "; name a page's TOML file, such as examples/page.toml."
        )

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    refusal(lambda: read_config(tmp_path / "page.toml"), "page.toml: cannot be read (Permission denied); name a page's TOML file")


def test_a_page_saved_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "page.toml").write_bytes(b'\xef\xbb\xbftitle = "T"\r\n[sections.guided]\r\nprompt = "a. b. c. d."\r\n')
    own = read_config(tmp_path / "page.toml")
    assert own.title == "T" and own.asked["guided"] == {"prompt": "a. b. c. d."}


def test_sections_join_the_page_that_is_there(cascade, tmp_path, monkeypatch):  # noqa: F811
    """In the order of the page, with title and texts; one that another version made is left out, and named."""
    config, said = tmp_path / "own.toml", []
    config.write_text("title = 'Mine'\n[sections.blurred]\ntext = 'It blurs.'")

    def sections(*names: str, config: Path | None = None) -> list[str]:
        page = write(tmp_path / "out", "cpu", silent, str(cascade), True, names, config, say=said.append)
        whole = page.read_text(encoding="utf-8")
        assert "<h1>Mine</h1>" in whole and ("It blurs." in whole) == ("blurred.png" in whole)
        return re.findall(r'<section aria-labelledby="([\w-]+)">', whole)

    assert sections("1.2", config=config) == ["blurred"]
    assert sections("1.1") == ["forward", "blurred"]
    assert sections("1.1") == ["forward", "blurred"] and not said
    monkeypatch.setattr(kept, "_code", lambda: "another version")
    assert sections("1.1") == ["forward"] and len(said) == 1 and "Undoing it with a blur" in said[0]


@pytest.fixture
def textless(copy):  # noqa: F811
    """A cascade as a course hands it out: its text encoder stays where it is."""
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(copy / "stage-1" / part)
    return copy


def test_prompt_embeddings_of_a_file_will_do(textless, cascade, tmp_path):  # noqa: F811
    """Without a text encoder; what the file lacks is named, with the section, before anything is drawn."""

    def course(name: str, *prompts: str) -> Path:
        torch.save({prompt: torch.randn(1, 77, WIDTH) for prompt in prompts}, tmp_path / name)
        return tmp_path / name

    config, whole = tmp_path / "own.toml", course("whole.pth", "", "a man")
    config.write_text("[sections.sampling]\nprompt = 'a dog'\n[sections.guided]\nprompt = 'a man'\nneutral = 'a man'")
    page = write(tmp_path / "out", "cpu", silent, str(textless), True, ["1.6"], config, whole)
    assert f"--embeddings {whole}" in read_provenance(page.parent / "guided.png")["command"]
    none = tmp_path / "none"
    refusal(
        lambda: write(none, "cpu", silent, str(textless), True, ["1.5", "1.6"], config, whole),
        "[sections.sampling] prompt",
        "'a dog'",
    )
    refusal(
        lambda: write(none, "cpu", silent, str(cascade), True, ["1.6"], config, whole), f"--embeddings {whole}", "leave it out"
    )
    assert not none.exists()


def test_the_empty_prompt_is_asked_for_where_it_is_used(textless, tmp_path, capsys):
    """A command at guidance 1 does without; any other names what the file lacks."""
    file = tmp_path / "bare.pth"
    torch.save({"a man": torch.randn(1, 77, WIDTH)}, file)
    line = [
        "generate",
        "a man",
        "--model",
        str(textless),
        "--embeddings",
        str(file),
        "--steps",
        "2",
        "--device",
        "cpu",
        "--no-upscale",
    ]
    assert cli.main([*line, "-o", str(tmp_path / "one.png"), "--guidance", "1"]) == 0
    assert cli.main([*line, "-o", str(tmp_path / "two.png")]) == 2 and not (tmp_path / "two.png").exists()
    assert "prompt '': is not among the prompt embeddings" in capsys.readouterr().err


def test_the_studio_takes_prompt_embeddings(textless, tmp_path):
    """It opens on a prompt that the file has, its commands name the file, and a file without prompts is refused."""
    pytest.importorskip("gradio", reason="takes gradio: pip install 'phosphene[web]'")
    from phosphene.web.studio import open_studio

    file = tmp_path / "course.pth"
    torch.save({prompt: torch.randn(1, 77, WIDTH) for prompt in ("", "a man")}, file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with open_studio(str(textless), "cpu", "127.0.0.1", port, embeddings=file) as (studio, _):
        assert studio.model == ["--model", str(textless), "--embeddings", str(file)]
    torch.save({}, file)
    with pytest.raises(UserError, match="holds no prompt embeddings"), open_studio("glyph", "cpu", "", port, embeddings=file):
        pass


def cells_of(sheet: Path) -> set[bytes]:
    """The pictures of a contact sheet that are 128 pixels wide and high: squares with paper above and below."""
    pixels, found = np.asarray(Image.open(sheet).convert("RGB")), set()
    for x in range(6, pixels.shape[1] - 128, 134):
        column = pixels[:, x : x + 128]
        paper = (column == PAPER).all((1, 2))
        begun = [y for y in range(1, len(column) - 128) if paper[y - 1] and paper[y + 128] and not paper[y : y + 128].any()]
        found |= {column[y : y + 128].tobytes() for y in begun}
    return found


def test_a_command_of_the_table_is_that_of_its_figure_on_a_full_page(cascade, narrow, tmp_path, monkeypatch):  # noqa: F811
    """To the last option, where one stands beside it; else the page's own, a training, or one whose sheet has its pictures."""
    monkeypatch.setattr("phosphene.report.part_b.drawn", lambda desk, model, wanted, *_: torch.zeros(len(wanted), 1, 28, 28))
    drawn = ("generate", "denoise", "edit", "inpaint", "anagram", "hybrid", "digits")
    names = {each.sections[0] for each in asked() if each.command.split()[1] in drawn}
    out = write(tmp_path / "page", "cpu", silent, str(cascade), sections=sorted(names)).parent
    found, sheets = held(out / "index.html"), {}
    for each in asked():
        made = {Path(figure["file"]).stem: figure for name in each.sections if name in names for figure in found[name]["figures"]}
        figures = [made[name] for name in each.shown if name in made]
        lines = [figure["command"].replace(f" --model {cascade}", "") for figure in figures if figure["command"]]
        match each.command.split()[1]:
            case "train":
                continue
            case "report":
                assert not lines and each.command.removeprefix("phosphene report --sections ") in each.sections, each
            case "denoise":
                _, *words = shlex.split(each.command)
                sheets[each.command] = tmp_path / f"{len(sheets)}.png"
                typed = [*words, "--model", str(cascade), "--device", "cpu", "-o", str(sheets[each.command])]
                assert cli.main(typed) == 0
                shared = cells_of(out / figures[0]["file"]) & cells_of(sheets[each.command])
                assert len(shared) == {"forward": 4, "iterative": 6, "iterative-compared": 4}.get(each.shown[0], 6), each
            case "generate" | "anagram" | "hybrid":  # which solver is usual, the model says, and the page's are not one model's
                command = each.command.replace(" --guidance-interval 400,1000", "")  # glyph's alone, which this page is not by
                assert command in lines and "--solver ancestral" in command, (each, lines)
            case _:
                assert each.command in lines, (each, lines)


@pytest.mark.parametrize("line", sorted({each.command for each in asked() if each.command.startswith("phosphene train ")}))
def test_a_training_of_the_table_is_that_of_the_model_it_stands_for(line):
    """In every number that decides what is learned."""
    network, *words = shlex.split(line)[2:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    typed = recipe(
        network, **{key.removeprefix("--").replace("-", "_"): value for key, value in given.items() if key == "--objective"}
    )
    fields = asdict(typed)
    for key, value in given.items():
        if key not in ("--out", "--objective"):
            name = key.removeprefix("--").replace("-", "_")
            fields[name] = [int(n) for n in value.split(",")] if name == "keep" else type(fields[name])(float(value))
    with course.COURSE.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["command"] == line]
    for models in {row["models"] for row in rows} - {""}:
        recipes = [config_of(model)["recipe"] for model in models.split()]
        assert any(all(fields[name] == value for name, value in each.items() if name != "keep") for each in recipes), models


def said(page: Path, name: str) -> str:
    """The prose of a section, without its marks."""
    text = re.search(rf'<h3 id="{name}">.*?</h3>(.*?)<div class="figures">', page.read_text(encoding="utf-8"), re.DOTALL)[1]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize("name", ["time-conditioned", "class-conditioned", "time-flow", "class-flow"])
def test_what_is_said_of_samples_is_what_stands_below_them(page, name):
    """In how many steps each was drawn, shipped or now, and by which recipe: no two sheets have the same caption."""
    steps = r"in \d+ (?:ancestral steps|steps of DPM-Solver\+\+)"
    figures = [figure for figure in held(page)[name]["figures"] if " samples " in figure["caption"]]
    captions = [figure["caption"] for figure in figures]
    assert len(set(captions)) == len(captions) > 1 and all(re.search(steps, each) for each in captions)
    assert {re.search(steps, each)[0] for each in captions} == set(re.findall(steps, said(page, name)))
    for file, caption in ((Path(figure["file"]).stem, figure["caption"]) for figure in figures if not figure["command"]):
        kind, *ending, epoch = file.split("-")
        assert caption.endswith(f", drawn when the network was trained, {drawn_in('-'.join([kind, epoch, *ending]))}")
    if name == "class-flow":
        assert any("without the decay after 10 epochs" in each for each in captions)


def test_a_checklist_says_where_a_quick_page_has_less(page):
    """In numbers that stand in that section too; and only there."""
    whole = page.read_text(encoding="utf-8")
    lines = [line for _, part in checklist({each.name: True for each in SECTIONS}) for line in part]
    fewer = [line for line in lines if line.instead]
    assert len(fewer) > 15 and whole.count("(here: ") == len(fewer)
    for line in fewer:
        assert f"(here: {line.instead})" in whole
        here = re.search(rf'<section aria-labelledby="{line.section}">.*?</section>', whole, re.DOTALL)[0]
        assert set(re.findall(r"\d+", line.instead)) <= set(re.findall(r"\d+", html.unescape(re.sub("<[^>]+>", " ", here)))), line
    assert not any(line.instead for _, part in checklist({each.name: False for each in SECTIONS}) for line in part)


def test_flow_alone_has_the_drawings_and_says_where(cascade, narrow, tmp_path):  # noqa: F811
    whole = write(tmp_path, "cpu", silent, str(cascade), True, ["F 2.1", "F 2.4"]).read_text(encoding="utf-8")
    html5lib.HTMLParser(strict=True).parse(whole)
    drawings = re.findall(r'<svg id="([\w-]+)"', whole)
    assert drawings == ["unet-time", "unet-class"]
    for name, what in (
        ("time-flow", "the UNet's drawing with the time"),
        ("class-flow", "the UNet's drawing with time and class"),
    ):
        assert f'<td>{what}</td><td><a href="#{name}">{name}</a></td>' in html.unescape(whole)


def test_a_page_of_ones_own_is_not_said_to_be_the_courses(page, cascade, tmp_path):  # noqa: F811
    """Nor what was measured to be better where it is not."""
    config = tmp_path / "own.toml"
    config.write_text("[sections.setup]\nprompts = ['a dog']\n[sections.sampling]\nprompt = 'a dog'")
    own = write(tmp_path / "out", "cpu", silent, str(cascade), True, ["0", "1.5"], config)
    assert "the course's own" in said(page, "setup") and "says little" in said(page, "sampling")
    assert "course" not in said(own, "setup") and "says little" not in said(own, "sampling")
    assert "throughout" not in said(own, "setup")


def test_the_conclusion_of_two_recipes_is_that_of_their_shares():
    """Of 200 digits 13 % and 13 % say nothing; 60 % and 30 % do."""
    assert not differs(0.13, 0.13, 200) and not differs(0.15, 0.13, 200) and not differs(0.3, 0.6, 200)
    assert differs(0.6, 0.3, 200) and not differs(0.6, 0.5, 30)
    told = templates().get_template("text/part_c.html").module.flow_matching
    shares = [(2, "13%", "13%"), (4, "60%", "30%")]
    assert "Flow matching is ahead, by more than chance (two standard errors), in 4 steps." in told(shares, [4], [], 200)
    assert "Flow matching is ahead" not in told(shares, [], [], 200) and "neither is ahead" in told(shares, [], [], 200)
    assert "Noise prediction is ahead, by more than chance, in 2 and 4 steps" in told(shares, [], [2, 4], 200)


def test_the_time_that_is_left_is_not_told_by_a_cheap_section():
    """The first waits for a model to be loaded; the seventh of a page says what this machine can do."""
    assert kept._left(170, 0, 0) == 170 and kept._left(0, 0, 0) == 0
    assert kept._left(170, 0.5, 8) < 260
    assert kept._left(170, 85, 170) == pytest.approx(160, abs=10)
