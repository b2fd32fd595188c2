"""Hybrids as people see them: from near, and from where the eye blurs as much as the bands part; and how wide a gap reads."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import randn
from hypothesis import given
from hypothesis import strategies as st
from test_cascade import BOAT, LARGE, MAN, SMALL, cascade, folder  # noqa: F401  (fixtures)
from test_generate import call  # noqa: F401  (a fixture)
from test_generate import cascade as written  # noqa: F401  (a fixture)
from test_part_a import here  # noqa: F401  (a fixture)
from test_tasks import QUICK, ours, rows

from phosphene.frequency import Grayscale, MotionBlur, low_pass
from phosphene.models.protocol import Estimate
from phosphene.readers import read_picture
from phosphene.schedule import linear
from phosphene.tasks import hybrid as hybrids
from phosphene.tasks.generate import generate
from phosphene.tasks.hybrid import GAPS, SIGMAS, FromAfar, completed, hybrid, part_of, seen, widest
from phosphene.tasks.printed import SIDE, distance

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
sigmas = st.floats(1.0, 4.0)
seeds = st.integers(0, 99)


class Knowing:
    """A stage that takes pictures for what they are; ``known``: what each prompt looks like, (3, 64, 64)."""

    image_shape, device, reads, schedule, value_range = (3, 64, 64), torch.device("cpu"), True, linear(100), (-1.0, 1.0)

    def __init__(self, **known):
        self.known = known

    def embed(self, condition):
        return torch.zeros(3, 64, 64) if condition is None else self.known[condition]

    def __call__(self, x, t, embedding):
        signal, sigma = self.schedule.signal_and_noise(t, x)
        return Estimate((x - signal * embedding) / sigma)


def stripes(period, size=64, strength=1.0):
    return strength * torch.cos(2 * math.pi * torch.arange(size) / period).expand(3, size, size)


# From afar


@given(sigma=sigmas, seed=seeds)
def test_from_afar_what_is_finer_than_the_eye_sees_changes_nothing(sigma, seed):
    checks = torch.ones(64, 64)
    checks[::2, ::2] = checks[1::2, 1::2] = -1
    x, look = randn(2, 3, 64, 64, seed=seed), FromAfar(sigma)
    torch.testing.assert_close(look(x + checks)[..., 4:-4, 4:-4], look(x)[..., 4:-4, 4:-4], rtol=0, atol=1e-3)


@given(sigma=sigmas, level=st.floats(-1, 1))
def test_from_afar_colours_are_what_they_were(sigma, level):
    torch.testing.assert_close(FromAfar(sigma)(torch.full((1, 3, 64, 64), level)), torch.full((1, 3, 64, 64), level))


@given(sigma=sigmas, seed=seeds)
def test_from_afar_what_is_seen_is_the_blur(sigma, seed):
    """Shrinking to a pixel a sigma loses little of what the blur has left."""
    x = randn(2, 3, 64, 64, seed=seed)
    blurred = low_pass(x, sigma)
    assert (FromAfar(sigma)(x) - blurred).square().mean() < 0.15 * blurred.square().mean()


@given(sigma=sigmas, seed=seeds)
def test_from_afar_large_pictures_are_as_small_ones(sigma, seed):
    small = low_pass(randn(1, 3, 64, 64, seed=seed), 1.5)
    large = F.interpolate(small, (256, 256), mode="bilinear", align_corners=False)
    found = F.interpolate(FromAfar(sigma)(large), (64, 64), mode="area")
    assert (found - FromAfar(sigma)(small)).abs().mean() < 0.1 * small.std()


# How wide a gap reads


def drawn(far, near, sigma):
    """What a sampler that is never wrong draws."""
    return (low_pass(far[None], sigma) + near[None] - low_pass(near[None], sigma)).clamp(-1, 1)


FINE = stripes(6, strength=0.6)


def choice(period):
    far = stripes(period, strength=0.4).mT.contiguous()
    stage = Knowing(far=far, near=FINE)
    return widest(stage, [drawn(far, FINE, *gap) for gap in GAPS[2]], ["far", "near"])


def test_the_coarser_the_far_picture_the_wider_a_gap_it_survives():
    found = [choice(period) for period in (64, 21, 12)]
    assert all(gap.reads for gap in found)
    chosen = [gap.sigmas[0] for gap in found]
    assert chosen == sorted(chosen, reverse=True) and chosen[0] == 4.0 and chosen[-1] < 3.0
    for gap in found:  # and it is the widest of those that read
        k = GAPS[2].index(gap.sigmas)
        assert gap.sure[k] > 0.5 and all(sure <= 0.5 for sure in gap.sure[:k])


def test_where_none_reads_the_surest_is_taken():
    gap = choice(5)  # finer than any of the blurs
    assert not gap.reads and gap.sure[GAPS[2].index(gap.sigmas)] == max(gap.sure)


def test_each_of_three_is_read_from_where_it_is_seen():
    """The third from near, the second from a little away, where the third is gone, the first from where both are."""
    parts = {
        "far": stripes(32, strength=0.25).mT.contiguous(),
        "between": stripes(14, strength=0.4),
        "near": stripes(4, strength=0.6),
    }
    picture, prompts = sum(parts.values())[None].clamp(-1, 1), list(parts)
    assert seen(Knowing(**parts), picture, prompts, (4.5, 1.5)).worst > 0.5
    for k in range(3):
        for wrong in range(k):
            others = list(prompts)
            others[k], others[wrong] = others[wrong], others[k]
            assert seen(Knowing(**parts), picture, others, (4.5, 1.5)).worst < 0.5
    judged = hybrid(prompts, sigmas=(4.5, 1.5)).judge(Knowing(**parts), picture, [0])
    assert judged.worst.equal(seen(Knowing(**parts), picture, prompts, (4.5, 1.5)).worst)


def test_gaps_begin_with_the_widest_and_have_what_is_usual():
    for count, gaps in GAPS.items():
        assert list(gaps) == sorted(gaps, reverse=True) and SIGMAS[count] in gaps and all(len(gap) == count - 1 for gap in gaps)


def test_auto_draws_with_the_sigma_that_it_says_and_again(call, here, written, monkeypatch):  # noqa: F811
    base = ["--model", written, "--steps", 2, "--no-upscale", "--seed", 5]
    code, out, err = call("hybrid", "a rocket", "a skull", "--sigma", "auto", *base, "--print", "a4", "-o", "auto.png")
    assert (code, err) == (0, "")
    sigma = float(out.split("sigma ")[1].split(",")[0])
    told = f"{SIDE:g} mm wide, it changes {distance(sigma):.0f} m away"
    assert (told in out) != ("at none can all prompts be read" in out) and (sigma,) in GAPS[2]
    assert all(f"{gap[0]:g}: 0." in out or f"{gap[0]:g}: 1." in out for gap in GAPS[2])
    assert call("hybrid", "a rocket", "a skull", "--sigma", sigma, *base, "-o", "told.png")[0] == 0
    assert read_picture(Path("auto.png")).tobytes() == read_picture(Path("told.png")).tobytes()
    code, out, err = call("rerun", "auto.png", "-o", "again.png", "--allow-model", written)
    assert code == 0 and "byte for byte" in out, err
    # Which it is depends on how sure each reading is, and on that alone.
    surest = iter([0.1, 0.2, 0.7, 0.6, 0.9])
    monkeypatch.setattr(hybrids, "seen", lambda *_: type("Sure", (), {"worst": next(surest)}))
    out = call("hybrid", "a rocket", "a skull", "--sigma", "auto", *base, "-o", "third.png")[1]
    assert "sigma 2, the widest at which all prompts can be read (4: 0.10, 3: 0.20, 2: 0.70, 1.5: 0.60, 1: 0.90)" in out
    assert f"{SIDE:g} mm wide, it changes {distance(2.0):.0f} m away" in out
    surest = iter([0.1, 0.2, 0.3, 0.25])
    monkeypatch.setattr(hybrids, "seen", lambda *_: type("Sure", (), {"worst": next(surest)}))
    out = call("hybrid", "a rocket", "a skull", "a dog", "--sigma", "auto", *base, "-o", "three.png")[1]
    assert "sigma 2.25,0.9, though at none can all prompts be read" in out and "it changes" not in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["a", "b", "--kind", "color"], "--sigma auto: is of --kind frequency"),
        (["a", "--from", "clock-tower"], "--sigma auto: --from takes one number"),
        (["a", "b", "c", "d"], "two or three prompts"),
    ],
)
def test_what_auto_cannot_be_is_one_sentence(call, here, argv, words):  # noqa: F811
    code, _, err = call("hybrid", *argv, "--sigma", "auto", "-o", "it.png")
    assert code == 2 and words in err and err.count("\n") == 1 and not Path("it.png").exists()


# From a photo, in both stages


@pytest.mark.parametrize("band", ["low", "high"])
@pytest.mark.parametrize("kind", ["frequency", "color", "motion", "scale"])
def test_every_kind_keeps_its_part_of_a_photo_in_both_stages(cascade, kind, band):  # noqa: F811
    """Nearer to the photo's, in that part, than what is drawn without it; where the part of a part is that part, exactly."""
    large = low_pass(randn(1, *LARGE, seed=9), 1.0).clamp(-1, 1)
    small = F.interpolate(large, size=SMALL[1:], mode="area")
    component = part_of(kind, 2.0, MotionBlur(15, 30))

    def kept(x):
        return component(x) if band == "low" else x - component(x)

    for model, photo in ((cascade.stages[0], small), (cascade, large)):
        task = completed(small, BOAT, kind=kind, band=band, component=component, large=large)
        found, without = ours(model, task, [1], QUICK), ours(model, generate([BOAT]), [1], QUICK)
        away, otherwise = ((kept(x) - kept(photo)).abs().mean() for x in (found, without))
        assert away < (1e-5 if component == Grayscale() else 0.75 * otherwise)


def test_rows_of_hybrids(cascade):  # noqa: F811
    """One a prompt and one for nothing, whatever the kind: what to go away from is asked once for all."""
    stage = cascade.stages[0]
    assert [rows(stage, hybrid([BOAT, MAN], kind=kind)) for kind in ("frequency", "color", "motion", "scale")] == [3] * 4
    assert rows(stage, hybrid([BOAT, MAN, "a dog"])) == 4
    photo = completed(torch.zeros(1, *SMALL), BOAT)
    assert rows(stage, photo) == rows(stage, generate([BOAT])) == 2


def test_a_sheet_says_where_each_prompt_is_to_be_seen():
    told = {
        kind: [reading.caption for reading in hybrid([BOAT, MAN], kind=kind).readings] for kind in ("color", "motion", "scale")
    }
    assert told["color"] == [f"in colour: {MAN}", f"in grey: {BOAT}"]  # the first rules the light
    assert told["motion"] == [f"at rest: {MAN}", f"in motion: {BOAT}"]
    assert told["scale"] == ["whole", "half"]  # of either there is half in both
