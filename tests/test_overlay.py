"""Overlays: sheets in one state, the fold that makes their estimates agree, and what is drawn, slid and printed of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Echo, TinyDenoiser, energy, randn, refusal, rows_an_image
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_generate import call, cascade  # noqa: F401  (fixtures)
from test_part_a import here  # noqa: F401  (a fixture)

from phosphene.drawing import Sampling, run
from phosphene.expression import cond, guide, mean, picked, sheets, viewed
from phosphene.folds import Overlaid, Sheet
from phosphene.forward import Evaluation
from phosphene.readers import read_provenance
from phosphene.sampler import last
from phosphene.schedule import linear
from phosphene.tasks import printed
from phosphene.tasks.animate import slid, sliding_frames
from phosphene.tasks.overlay import overlay
from phosphene.tasks.printed import laid_out, overlay_pages, pixels
from phosphene.views import VIEWS

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
THREE = ["a rocket", "a skull", "a dog"]
weights = st.lists(st.floats(0.1, 10), min_size=3, max_size=5).map(tuple)
seeds = st.integers(0, 99)


def estimates(count: int, seed: int, spread: float = 1.5) -> torch.Tensor:
    """Of two states of ``count`` pictures, some of their pixels out of range."""
    return spread * randn(2, 3 * count, 4, 4, seed=seed, dtype=torch.float64)


def light(x: torch.Tensor, count: int) -> torch.Tensor:
    return (x.unflatten(1, (count, 3)) + 1) / 2


# The fold


@given(weights, seeds)
def test_what_is_seen_of_folded_sheets_is_the_product_of_their_light(weights, seed):
    found = light(Overlaid(weights)(estimates(len(weights), seed)), len(weights))
    torch.testing.assert_close(found[:, -1], found[:, :-1].prod(1), rtol=0, atol=1e-12)
    assert found.min() >= 0 and found.max() <= 1


@given(weights, seeds)
def test_what_agrees_is_not_moved(weights, seed):
    own = light(estimates(len(weights), seed), len(weights))[:, :-1].clamp(0, 1)
    agreed = (2 * torch.cat([own, own.prod(1, keepdim=True)], 1) - 1).flatten(1, 2)
    torch.testing.assert_close(Overlaid(weights)(agreed), agreed, rtol=0, atol=1e-12)


@given(weights, seeds)
def test_the_energy_does_not_rise(weights, seed):
    """Not from the sheets as they are estimated, kept in range, and not from one sweep to the next."""
    wanted = estimates(len(weights), seed)
    found = [Overlaid(weights, sweeps=sweeps) for sweeps in (0, 1, 2, 4, 8)]
    # A picture in -1..1 is twice as far away as its light in 0..1.
    energies = torch.stack([energy(fold, fold(wanted), wanted) / 4 for fold in found])
    own = light(wanted, len(weights))[:, :-1].clamp(0, 1)
    start = torch.cat([own, own.prod(1, keepdim=True)], 1) - light(wanted, len(weights))
    torch.testing.assert_close(energies[0], (start.square().sum((2, 3, 4)) * torch.tensor(weights).double()).sum(1))
    assert (energies.diff(dim=0) <= 1e-9).all() and (energies[1] < energies[0]).all()


@given(weights, seeds, st.floats(1e-4, 0.3))
def test_no_other_light_through_a_sheet_is_nearer_to_the_estimates(weights, seed, step):
    """Once sweeps change nothing more, each pixel of each sheet is the best within 0..1, the others being what they are."""
    count, wanted = len(weights), estimates(len(weights), seed)
    fold = Overlaid(weights, sweeps=300)
    found = fold(wanted)
    own = light(found, count)[:, :-1]
    for k in range(count - 1):
        for sign in (-1, 1):
            moved = own.clone()
            moved[:, k] = (moved[:, k] + sign * step * torch.rand(own[:, k].shape, dtype=torch.float64)).clamp(0, 1)
            other = (2 * torch.cat([moved, moved.prod(1, keepdim=True)], 1) - 1).flatten(1, 2)
            assert (energy(fold, other, wanted) >= energy(fold, found, wanted) - 4e-6).all()


def test_the_heavier_a_prompt_the_nearer_its_estimate_stays():
    wanted = estimates(3, 5, 0.8).clamp(-1, 1)
    away = {k: [] for k in range(3)}
    for k in range(3):
        for weight in (0.2, 1.0, 5.0, 1e6):
            found = Overlaid(tuple(weight if j == k else 1.0 for j in range(3)), sweeps=100)(wanted)
            away[k].append(float((light(found, 3) - light(wanted, 3))[:, k].square().mean()))
        assert away[k] == sorted(away[k], reverse=True)
    assert away[0][-1] < 1e-8 and away[1][-1] < 1e-8  # a sheet can be what it will, but not every product is one of light


@pytest.mark.parametrize("wrong", [(1, 1), (1, 0, 1), (1, 1, -1), (1, 1, math.nan)])
def test_weights_that_cannot_be(wrong):
    refusal(lambda: Overlaid(wrong), "--weights", "positive")


# The state


@given(st.integers(1, 4), seeds, st.floats(-2, 9))
def test_sheets_keep_the_law_of_expressions(count, seed, scale):
    """Each leaf is shown the noise of its sheet, through its view, and answers just that: the whole returns the noise."""
    x = randn(2, 3 * count, 12, 12, seed=seed, dtype=torch.float64)
    parts = [mean(guide(cond(k), scale), viewed(cond("b"), VIEWS["flip"])) for k in range(count)]
    found = Evaluation(sheets(*parts), Echo(linear(10)))(x, 3)
    torch.testing.assert_close(found.noise, x, rtol=0, atol=1e-12 * max(1, abs(scale)))


def test_each_sheet_is_asked_of_itself_alone_in_one_pass():
    denoiser, x = TinyDenoiser(linear(100), learned=True), randn(2, 9, 12, 12)
    asked = [guide(cond(prompt), 3) for prompt in THREE]
    assert rows_an_image(sheets(*asked)) == 6  # two a prompt, as without sheets
    found = Evaluation(sheets(*asked), denoiser)(x, 40)
    assert denoiser.calls == [12]
    for k, part in enumerate(asked):
        own = Evaluation(part, denoiser)(Sheet(k, 3).apply(x), 40)
        torch.testing.assert_close(Sheet(k, 3).apply(found.noise), own.noise, rtol=0, atol=1e-5)
        torch.testing.assert_close(Sheet(k, 3).apply(found.variance), own.variance, rtol=0, atol=1e-5)
    several = sheets(cond("a", "b"), cond("c"))
    assert picked(several, [1], 2) == sheets(cond("b"), cond("c"))
    refusal(lambda: sheets(), "sheets()")


# What is drawn


def test_an_overlay_is_the_loop_of_its_formula(cascade):  # noqa: F811
    """DDIM with three pictures beside each other, written out, the fold as a weighted mean in each pixel."""
    from phosphene.models.cascade import open_cascade

    stage, times, weights = open_cascade(cascade).stages[0], (900, 600, 300, 0), (1.0, 2.0, 3.0)
    sampling = Sampling("ddim", timesteps=times, threshold=False, guidance=3.0)
    found = last(run(overlay(THREE, weights=weights), stage, [4], sampling=sampling))
    x, abar = torch.randn(1, 9, 16, 16, generator=torch.Generator().manual_seed(4)), stage.schedule.abar.double()
    embedded = [stage.embed(prompt)[None] for prompt in (None, *THREE)]
    for t, s in zip(times, (*times[1:], None), strict=True):
        clean = []
        for k, own in enumerate(x.chunk(3, 1)):
            away, toward = (stage(own, torch.tensor([t]), e).noise for e in (embedded[0], embedded[k + 1]))
            noise = away + 3 * (toward - away)
            clean.append(((own - (1 - abar[t]).sqrt() * noise) / abar[t].sqrt()).double())
        a, b, both = ((c + 1) / 2 for c in clean)
        u, v = a.clamp(0, 1), b.clamp(0, 1)
        for _ in range(8):
            u = ((weights[0] * a + weights[2] * v * both) / (weights[0] + weights[2] * v**2)).clamp(0, 1)
            v = ((weights[1] * b + weights[2] * u * both) / (weights[1] + weights[2] * u**2)).clamp(0, 1)
        x0 = 2 * torch.cat([u, v, u * v], 1) - 1
        if s is None:
            break
        noise = (x.double() - abar[t].sqrt() * x0) / (1 - abar[t]).sqrt()
        x = (abar[s].sqrt() * x0 + (1 - abar[s]).sqrt() * noise).float()
    torch.testing.assert_close(found.double(), x0, rtol=0, atol=1e-4)
    assert x0.std() > 0.1


@pytest.mark.parametrize(
    "sampling", [Sampling(steps=3), Sampling("dpm", steps=3), Sampling("heun", steps=3), Sampling(steps=3, resample=2)]
)
def test_in_both_stages_what_is_finished_is_the_product_and_each_seed_its_own(cascade, sampling):  # noqa: F811
    from phosphene.models.cascade import open_cascade

    opened = open_cascade(cascade)
    steps = list(run(overlay(THREE), opened, [1, 2], sampling=sampling))
    for stage in (0, 1):
        (finished,) = [step.xt for step in steps if step.stage == stage and step.t == -1]
        assert finished.shape == (2, 9, *opened.stages[stage].image_shape[1:])
        found = light(finished, 3)
        torch.testing.assert_close(found[:, 2], found[:, 0] * found[:, 1], rtol=0, atol=1e-5)
        assert found.std() > 0.02
    alone = last(run(overlay(THREE), opened, [2], sampling=sampling))
    torch.testing.assert_close(alone[0], steps[-1].xt[1], rtol=0, atol=1e-3)


def test_in_the_second_stage_each_sheet_sees_its_own_small_picture(cascade, monkeypatch):  # noqa: F811
    from phosphene import drawing
    from phosphene.models.cascade import open_cascade

    shown, denoise = [], drawing.denoise

    def watched(*args, low_res=None, **more):
        shown.append(low_res)
        return denoise(*args, low_res=low_res, **more)

    monkeypatch.setattr(drawing, "denoise", watched)
    opened = open_cascade(cascade)
    steps = list(run(overlay(THREE), opened, [1], sampling=Sampling(steps=3, noise_level=0)))
    small, size = steps[2].xt, opened.stages[1].image_shape[1:]
    assert steps[2].stage == 0 and steps[2].t == -1
    for k in range(3):
        large = F.interpolate(Sheet(k, 3).apply(small), size, mode="bilinear", align_corners=True)
        # Hardly noised at level 0.
        assert (Sheet(k, 3).apply(shown[1])[:, :3] - large).abs().mean() < 0.1 * large.std()


def test_overlays_that_cannot_be():
    refusal(lambda: overlay(THREE[:2]), "PROMPT: 2", "one for all together")
    refusal(lambda: overlay(THREE, weights=[1, 2]), "--weights 1,2:", "3 prompts")
    refusal(lambda: overlay(THREE, weights=[1, 2, 0]), "--weights 1,2,0:", "positive")
    digits = TinyDenoiser(linear(10), value_range=(0.0, 1.0))
    refusal(lambda: run(overlay(THREE), digits, [1]), "--model", "[-1, 1]")


def test_an_overlay_from_typing_to_paper(call, here, cascade, monkeypatch):  # noqa: F811
    monkeypatch.setattr(printed, "DPI", 60)
    base = ["--model", cascade, "--steps", 2, "--best-of", 2, "--weights", "1,1,2"]
    code, out, err = call("overlay", *THREE, *base, "--animate", "slide.gif", "--print", "a4", "-o", "all.png")
    assert (
        (code, err) == (0, "")
        and "the best of 2: its weakest reading is sure by 0." in out
        and "2 pages to print in all.pdf" in out
    )
    a, b, both = (np.asarray(Image.open(f"all-{k}.png")).astype(float) / 255 for k in (1, 2, 3))
    assert np.abs(both - a * b).max() <= 1.6 / 255  # three roundings to eight bits
    with Image.open("slide.gif") as animation:
        assert animation.n_frames > 20
    assert Path("all.pdf").read_bytes().count(b"MediaBox") == 2
    story = read_provenance(Path("all-2.png"))
    assert story["command"] == "overlay" and story["arguments"]["prompts"] == THREE and story["number"] == [2, 3]
    for name in ("all", "all-2"):
        code, out, err = call("rerun", f"{name}.png", "-o", "again.png", "--allow-model", cascade)
        assert code == 0 and "byte for byte" in out, err


# What is shown


def test_sheets_slide_until_they_are_their_product():
    pictures = randn(2, 3, 64, 64).clamp(-1, 1)
    apart, over = slid(pictures, 0.0), slid(pictures, 1.0)
    room, side = (apart.shape[1] - 64) // 2, apart.shape[2]
    assert room > 0 and side > 128
    inside = slice(room, room + 64)
    torch.testing.assert_close(apart[:, inside, :64], pictures[0])
    torch.testing.assert_close(apart[:, inside, -64:], pictures[1])
    middle = (side - 64) // 2
    shown = over[:, inside, middle : middle + 64]
    torch.testing.assert_close((shown + 1) / 2, (pictures + 1).prod(0) / 4)
    for frame in (apart, over):  # the rest is light
        assert frame[:, :room].eq(1).all() and frame[:, -room:].eq(1).all()
    assert over[..., :middle].eq(1).all() and (slid(pictures, 0.6) != 1).sum() < (apart != 1).sum()
    frames, seconds = sliding_frames(pictures, THREE)
    assert len({frame.size for frame in frames}) == 1 and seconds > 2


def test_crosses_lie_at_one_place_on_every_sheet(monkeypatch):
    monkeypatch.setattr(printed, "DPI", 60)
    pages = overlay_pages(randn(4, 3, 16, 16).clamp(-1, 1), [*THREE, "a cat"])
    assert [page.title for page in pages] == THREE and all("a cat" in page.how for page in pages)
    marks = []
    for page in pages:
        whole, plain = (np.asarray(laid_out(p)) for p in (page, page._replace(marking=lambda *_: None)))
        marks.append((whole != plain).any(-1))
    assert marks[0].any() and all(np.array_equal(marks[0], other) for other in marks)
    y, x = marks[0].nonzero()  # symmetric about the picture, and outside of it
    assert abs(y.min() + y.max() - 2 * (pixels(printed.TOP) + pixels(printed.SIDE) / 2)) <= 2
    assert x.max() - x.min() > pixels(printed.SIDE)


def test_the_studio_shows_all_sheets_at_work():
    mosaic = pytest.importorskip("phosphene.web.jobs").mosaic
    x = randn(1, 9, 8, 8).clamp(-1, 1)
    assert np.array_equal(np.asarray(mosaic(x)), np.asarray(mosaic(x.unflatten(1, (3, 3))[0])))
