"""Part A's tasks on a tiny random cascade: each equals what its formulas say, and refuses what cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from conftest import Echo, randn, refusal, rows_an_image
from skimage.metrics import structural_similarity
from test_cascade import BOAT, LARGE, MAN, SMALL, cascade, folder  # noqa: F401  (fixtures)

from phosphene.cli import drawing
from phosphene.defaults import HYBRIDS
from phosphene.drawing import Sampling, run, threshold
from phosphene.evaluation.likeness import psnr, ssim
from phosphene.expression import cond, factorized, guide, mean, viewed
from phosphene.forward import Evaluation
from phosphene.frequency import Grayscale, LowPass, MotionBlur, low_pass
from phosphene.images import to_tensor
from phosphene.moved import Plan
from phosphene.sampler import last
from phosphene.schedule import linear
from phosphene.tasks.ambigram import ambigram
from phosphene.tasks.anagram import anagram, views_named
from phosphene.tasks.animate import MARGIN, on_the_way, turn_css, turn_frames
from phosphene.tasks.compose import compose, shape
from phosphene.tasks.denoise import levels, many_steps
from phosphene.tasks.edit import STARTS, edit, start_of
from phosphene.tasks.generate import generate
from phosphene.tasks.hybrid import FromAfar, completed, hybrid, part_of
from phosphene.tasks.inpaint import blend, inpaint, seam
from phosphene.tasks.morph import morph, slerp
from phosphene.tasks.overlay import overlay
from phosphene.tasks.score import score
from phosphene.views import VIEWS, view

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
QUICK = Sampling(steps=5)
TIMES = (900, 700, 400, 150, 0)
ROUGH = Sampling(timesteps=TIMES, threshold=False)
DOG = "a dog"


@pytest.fixture
def stage(cascade):  # noqa: F811
    return cascade.stages[0]


def ours(stage, task, seeds, sampling=ROUGH):
    return last(run(task, stage, seeds, sampling=sampling))


def same(found, expected, tolerance=None):
    """To 1e-5 of a deviation of 1. The random network's pictures have one of 7 where nothing holds them in range."""
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance or 1e-5 * max(1.0, float(expected.std())))
    assert expected.std() > 0.02


def anchored(stage, image, mix):
    """DDIM from seed 3, written out: after each step ``mix`` of what is drawn and of ``image``, noised anew as far."""
    source = torch.Generator().manual_seed(3)
    x = torch.randn(1, *SMALL, generator=source)
    abar = [float(a) for a in stage.schedule.abar]
    for t, s in zip(TIMES, (*TIMES[1:], None), strict=True):
        noise, _ = guided(stage, x, t, BOAT, 7.0)
        clean = (x - math.sqrt(1 - abar[t]) * noise) / math.sqrt(abar[t])
        kept, x = image, clean
        if s is not None:
            x = math.sqrt(abar[s]) * clean + math.sqrt(1 - abar[s]) * noise
            kept = math.sqrt(abar[s]) * image + math.sqrt(1 - abar[s]) * torch.randn(1, *SMALL, generator=source)
        x = mix(x, kept)
    return x


def plainly(stage, step, seed, times=TIMES):
    """The textbook loop for one picture: ``step(x, t)`` is the noise and the variance, DDPM's rule the rest."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randn(1, *stage.image_shape, generator=source)
    abar = [float(a) for a in stage.schedule.abar]
    for t, s in zip(times, (*times[1:], None), strict=True):
        noise, variance = step(x, t)
        at, before = abar[t], 1.0 if s is None else abar[s]
        beta = 1 - at / before
        clean = (x - math.sqrt(1 - at) * noise) / math.sqrt(at)
        x = math.sqrt(before) * beta / (1 - at) * clean + math.sqrt(at / before) * (1 - before) / (1 - at) * x
        if s is not None:
            small, large = math.log(beta * (1 - before) / (1 - at)), math.log(beta)
            f = (variance + 1) / 2
            x = x + torch.exp(0.5 * (f * large + (1 - f) * small)) * torch.randn(x.shape, generator=source)
    return x


def asked(stage, x, t, prompt):
    answer = stage(x, torch.tensor([t]), stage.embed(prompt)[None])
    return answer.noise, answer.variance


def guided(stage, x, t, prompt, scale):
    (u, _), (c, variance) = asked(stage, x, t, None), asked(stage, x, t, prompt)
    return u + scale * (c - u), variance


# Anagrams


@pytest.mark.parametrize("name", ["flip", "rotate-90", "negate", "jigsaw", "patches", "skew"])
def test_an_anagram_is_the_loop_of_its_formula(stage, name):
    v = view(name)

    def step(x, t):
        a, va = guided(stage, x, t, BOAT, 7.0)
        b, vb = guided(stage, v.apply(x), t, MAN, 7.0)
        return (a + v.invert(b)) / 2, (va + v.sign * v.invert(vb)) / 2

    found = ours(stage, anagram([BOAT, MAN], [VIEWS["identity"], v]), [3, 4])
    same(found, torch.cat([plainly(stage, step, seed) for seed in (3, 4)]))


def test_weights_and_turns_of_an_anagram(stage):
    flip = VIEWS["flip"]

    def heavy(x, t):
        a, va = guided(stage, x, t, BOAT, 7.0)
        b, vb = guided(stage, flip.apply(x), t, MAN, 7.0)
        return 0.75 * a + 0.25 * flip.invert(b), (va + flip.invert(vb)) / 2

    same(ours(stage, anagram([BOAT, MAN], ["flip"], weights=[3, 1]), [3]), plainly(stage, heavy, 3))

    def by_turns(x, t):
        if TIMES.index(t) % 2 == 0:
            return guided(stage, x, t, BOAT, 7.0)
        noise, variance = guided(stage, flip.apply(x), t, MAN, 7.0)
        return flip.invert(noise), flip.invert(variance)

    same(ours(stage, anagram([BOAT, MAN], ["flip"], reduce="alternate"), [3]), plainly(stage, by_turns, 3))


def rows(stage, task):
    return rows_an_image(task.asks(stage, 7.0))


def test_rows_of_a_step(stage):
    four = [BOAT, MAN, DOG, "a hat"]
    assert rows(stage, anagram([BOAT, MAN], ["flip"])) == 4
    assert rows(stage, anagram(four, ["four-way"])) == 8
    assert rows(stage, hybrid([BOAT, MAN])) == 3
    assert rows(stage, hybrid([BOAT, MAN, DOG])) == 4
    assert rows(stage, hybrid([BOAT, MAN], kind="color")) == 3
    assert rows(stage, compose([BOAT, MAN], shape("left", 32, 32))) == 3


def test_views_by_their_names():
    assert views_named(["flip"], 2) == [VIEWS["identity"], VIEWS["flip"]]
    assert views_named(["flip", "mirror"], 2) == [VIEWS["flip"], VIEWS["mirror"]]
    assert [v.quarters for v in views_named(["four-way"], 4)[1:]] == [1, 2, 3]
    assert views_named(["jigsaw"], 2, seed=5)[1] == view("jigsaw", 5)
    refusal(lambda: views_named(["flip"], 3), "--view flip", "3 prompts need 2")
    refusal(lambda: views_named([], 2), "--view none")
    refusal(lambda: views_named(["flip"], 1), "PROMPT: 1 is given")
    refusal(lambda: views_named(["four-way"], 2), "--view four-way: names 4 ways to look", "2 prompts need 1")
    refusal(lambda: views_named(["flip", "flip"], 2), "two views are the same")
    refusal(lambda: views_named(["sideways"], 2), "--view sideways: unknown")


def test_anagrams_that_cannot_be(stage):
    two = [BOAT, MAN]
    refusal(lambda: anagram([BOAT], ["flip", "mirror"]), "PROMPT: 1 is given", "two or more")
    refusal(lambda: anagram(two, ["flip"], reduce="max"), "--reduce max")
    refusal(lambda: run(anagram(two, ["flip"], weights=[1, -1]), stage, [1]), "--weights")
    refusal(lambda: anagram(two, ["flip"], weights=[1, 2], reduce="alternate"), "--weights 1,2:", "leave it out")
    refusal(lambda: last(run(anagram(two, ["jigsaw:6"]), stage, [1])), "--view jigsaw:6", "jigsaw:4")


def test_an_anagram_in_two_stages_keeps_its_reading(cascade):  # noqa: F811
    one = ours(cascade, anagram([BOAT, MAN], ["flip"]), [7], QUICK)
    assert one.shape == (1, *LARGE)
    assert not torch.allclose(one, ours(cascade, anagram([MAN, BOAT], ["flip"]), [7], QUICK), atol=1e-3)


# Hybrids


def test_a_hybrid_is_the_loop_of_its_formula(stage):
    def step(x, t):
        a, va = guided(stage, x, t, BOAT, 7.0)
        b, vb = guided(stage, x, t, MAN, 7.0)
        return low_pass(a, 0.5) + b - low_pass(b, 0.5), (va + vb) / 2  # sigma 2 of 64 pixels is 0.5 of 16

    same(ours(stage, hybrid([BOAT, MAN]), [3, 4]), torch.cat([plainly(stage, step, s) for s in (3, 4)]), 2e-4)


@pytest.mark.parametrize("kind", ["color", "motion", "scale"])
def test_other_kinds_are_loops_of_their_formulas(stage, kind):
    part = {"color": Grayscale(), "motion": MotionBlur(), "scale": lambda x: x / 2}[kind]

    def step(x, t):
        a, va = guided(stage, x, t, BOAT, 7.0)
        b, vb = guided(stage, x, t, MAN, 7.0)
        return part(a) + b - part(b), (va + vb) / 2

    same(ours(stage, hybrid([BOAT, MAN], kind=kind), [3]), plainly(stage, step, 3))


@pytest.mark.parametrize("component", [LowPass(2.0), Grayscale(), MotionBlur(), MotionBlur(10, 30)])
def test_the_law_holds_for_every_component(component):
    x = randn(2, 3, 12, 12)
    whole = factorized(guide(cond("a")), viewed(guide(cond("b")), VIEWS["rotate-90"]), component)
    for expression in (whole, mean(whole, cond("c")), viewed(whole, VIEWS["mirror"])):
        torch.testing.assert_close(Evaluation(expression, Echo(linear(10)))(x, 5).noise, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("prompts", "sigmas", "away"), [((BOAT, MAN), (3.0,), (1.5, 3.0)), ((BOAT, MAN, DOG), (3.0, 1.2), (1.2, 3.0))]
)
def test_a_hybrid_is_shown_from_near_to_far(prompts, sigmas, away):
    """At last from where its first prompt is read; before that from where the next is, or from half as far."""
    near, *others = hybrid(prompts, sigmas=sigmas).readings
    middle = f"farther away: {MAN}" if len(prompts) == 3 else "farther away"
    assert [near.caption, *(each.caption for each in others)] == [f"near: {prompts[-1]}", middle, f"from afar: {BOAT}"]
    assert [each.look for each in others] == [FromAfar(sigma) for sigma in away]
    picture = randn(3, 64, 64).clamp(-1, 1)
    cells = [to_tensor(cell) for cell in drawing.viewed(hybrid(prompts, sigmas=sigmas), picture, side=64)]
    assert (cells[0][0] - picture).abs().max() < 0.01 and cells[0].std() > 2 * cells[1].std() > 2 * cells[2].std()


def test_hybrids_that_cannot_be(stage):
    refusal(lambda: hybrid([BOAT]), "PROMPT: 1 given", "--kind frequency takes two or three prompts")
    refusal(lambda: hybrid([BOAT, MAN, DOG], kind="color"), "PROMPT: 3 given", "--kind color takes two prompts")
    refusal(lambda: hybrid([BOAT, MAN], kind="smell"), "--kind smell")
    refusal(lambda: run(hybrid([BOAT, MAN], sigmas=[0.0]), stage, [1]), "--sigma")
    refusal(lambda: hybrid([BOAT, MAN], kind="color", sigmas=[2.0]), "--sigma 2:", "leave it out")


@pytest.mark.parametrize("band", ["low", "high"])
def test_an_inverse_hybrid_keeps_its_band(stage, band):
    image = low_pass(randn(1, *SMALL, seed=9), 1.0).clamp(-1, 1)
    found = ours(stage, completed(image, BOAT, band=band), [1, 2], QUICK)
    other = ours(stage, generate([BOAT]), [1, 2], QUICK)
    low = LowPass(2.0)
    kept, drawn = (low(found), found - low(found)) if band == "low" else (found - low(found), low(found))
    wished = low(image) if band == "low" else image - low(image)
    # The band of what is kept is, but for what blurring twice blurs more, that of the image; the other one is drawn.
    assert (kept - wished).abs().mean() < 0.35 * (
        other - low(other) - wished if band == "high" else low(other) - wished
    ).abs().mean()
    assert drawn[0].std() > 0.02 and not drawn[0].allclose(drawn[1], atol=0.02)
    refusal(lambda: completed(image, BOAT, band="middle"), "--band middle")
    refusal(lambda: run(completed(image[..., :8], BOAT), stage, [1]), "image: is 1x3x16x8")


@pytest.mark.parametrize("band", ["low", "high"])
@pytest.mark.parametrize("kind", HYBRIDS)
def test_an_inverse_hybrid_is_the_loop_of_its_formula(stage, kind, band):
    part = {"frequency": lambda x: low_pass(x, 0.5), "color": Grayscale(), "motion": MotionBlur(9, 30), "scale": lambda x: x / 2}[
        kind
    ]

    def mix(x, kept):
        return part(kept) + (x - part(x)) if band == "low" else (kept - part(kept)) + part(x)

    image = randn(1, *SMALL, seed=5).clamp(-1, 1)
    x = anchored(stage, image, mix)
    component = part_of(kind, 2.0, MotionBlur(9, 30))
    same(ours(stage, completed(image, BOAT, band=band, component=component), [3], ROUGH._replace(solver="ddim")), x)


@pytest.mark.parametrize("band", ["low", "high"])
def test_an_inverse_hybrid_keeps_its_band_in_the_second_stage(cascade, band):  # noqa: F811
    large = low_pass(randn(1, *LARGE, seed=9), 1.0).clamp(-1, 1)
    small = F.interpolate(large, size=SMALL[1:], mode="area")

    def kept(x, component):
        return component(x) if band == "low" else x - component(x)

    def drawn(component, keeps=True):
        task = completed(small, BOAT, band=band, component=component, large=large if keeps else None)
        return ours(cascade, task, [1, 2], QUICK)

    # A picture's grey taken of its grey is its grey: this band is the photo's to rounding.
    grey = Grayscale()
    assert drawn(grey).shape == (2, *LARGE)
    torch.testing.assert_close(kept(drawn(grey), grey), kept(large, grey).expand(2, -1, -1, -1), rtol=0, atol=1e-5)
    # A blur of a blur blurs more, so low frequencies are kept but for those at the border.
    low = LowPass(2.0)
    away = [(kept(drawn(low, keeps), low) - kept(large, low)).abs().mean() for keeps in (True, False)]
    assert away[0] < 0.35 * away[1]
    refusal(lambda: run(completed(small, BOAT, large=small), cascade, [1]), "image: is 1x3x16x16")


# Editing


@pytest.mark.parametrize("sampling", [Sampling(), Sampling("ddim", eta=0.5), Sampling("ddim"), Sampling(resample=3)])
def test_pictures_that_start_by_and_by_are_those_made_alone(stage, sampling):
    sampling = sampling._replace(timesteps=TIMES)
    image = randn(1, *SMALL, seed=5).clamp(-1, 1)
    starts, seeds = [4, 1, 2, 1], [10, 11, 12, 13]
    together = ours(stage, edit(image, starts, BOAT), seeds, sampling)
    for k, (start, seed) in enumerate(zip(starts, seeds, strict=True)):
        same(together[k : k + 1], ours(stage, edit(image, [start], BOAT), [seed], sampling), 5e-5)


def test_the_later_the_start_the_nearer_to_the_picture(stage):
    image = low_pass(randn(1, *SMALL, seed=5), 2.0)
    found = ours(stage, edit(image, [0, 12, 24, 33], BOAT), [1] * 4, Sampling())
    away = (found - image).flatten(1).square().mean(1)
    assert away[0] > away[2] > away[3]


def test_strength_counts_as_diffusers_does():
    assert [start_of(s, 34) for s in (1.0, 0.7, 0.5, 0.03)] == [0, 11, 17, 33]
    for wrong in (0.0, 1.1, 0.02, float("nan")):
        refusal(lambda wrong=wrong: start_of(wrong, 34), "--strength")


def test_edits_that_cannot_be(stage):
    image = torch.zeros(1, *SMALL)

    def call(starts, picture=image, seeds=(1,), sampling=QUICK):
        return lambda: run(edit(picture, starts, BOAT), stage, seeds, sampling=sampling)

    refusal(call([5]), "--start 5", "0..4")
    refusal(call([-1]), "--start -1")
    refusal(call([]), "--start", "is empty")
    refusal(call([1, 2]), "1 seeds for 2 starts")
    refusal(call([1], torch.zeros(1, 3, 8, 8)), "image: is 1x3x8x8")
    refusal(call([1, 2], seeds=(1, 1), sampling=Sampling("dpm", 5)), "--solver dpm", "take ddim or ancestral")
    call([1], sampling=Sampling("dpm", 5))()  # alone it has no run to join


# Inpainting


def half():
    mask = torch.zeros(1, 1, *SMALL[1:])
    mask[..., : SMALL[2] // 2] = 1
    return mask


@pytest.mark.parametrize("sampling", [QUICK, Sampling("dpm", steps=5), Sampling(steps=5, resample=2)])
def test_inpainting_keeps_what_the_mask_keeps_bit_by_bit(stage, sampling):
    image, mask = randn(1, *SMALL, seed=5).clamp(-1, 1), half()
    found = ours(stage, inpaint(image, mask, BOAT), [1, 2], sampling)
    assert found[..., 8:].equal(image[..., 8:].expand(2, -1, -1, -1))
    assert (found[..., :8] - image[..., :8]).abs().mean() > 0.1
    assert not found[0].allclose(found[1], atol=0.05)


def test_what_is_kept_is_noised_anew_each_step(stage):
    """The loop of Part A, written out."""
    image, mask = randn(1, *SMALL, seed=5).clamp(-1, 1), half()
    x = anchored(stage, image, lambda x, kept: mask * x + (1 - mask) * kept)
    same(ours(stage, inpaint(image, mask, BOAT), [3], ROUGH._replace(solver="ddim")), x)


def test_soft_masks_mix(stage):
    image = torch.full((1, *SMALL), 0.25)
    soft = half() * 0.5
    found = ours(stage, inpaint(image, soft, BOAT), [1], QUICK)
    assert found[..., 8:].equal(image[..., 8:])
    assert 0.0 < (found[..., :8] - image[..., :8]).abs().mean()
    # White by a rounding error more than white is white.
    white = ours(stage, inpaint(image, half() * 1.0000001, BOAT), [1], QUICK)
    assert white.equal(ours(stage, inpaint(image, half(), BOAT), [1], QUICK))


def test_masks_that_cannot_be():
    image = torch.zeros(1, *SMALL)

    def call(mask, picture=image):
        return lambda: inpaint(picture, mask, BOAT)

    refusal(call(0 * half()), "MASK", "nowhere white", "16x16")
    refusal(call(0.4 * half()), "MASK", "nowhere white")  # what is drawn would never come up
    refusal(call(torch.ones(1, 1, 32, 32)), "MASK", "32")
    refusal(call(2 * half()), "MASK", "0..1")
    refusal(call(half() * float("nan")), "MASK", "0..1")
    refusal(call(half(), torch.zeros(1, 3, 8, 8)), "MASK")


def test_blends(stage):
    result, original, mask = torch.full((1, 3, 64, 64), 0.8), torch.full((1, 3, 64, 64), -0.8), torch.zeros(1, 1, 64, 64)
    mask[..., :32] = 1
    assert blend(result, original, mask, "none") is result
    pasted = blend(result, original, mask, "paste")
    assert (pasted[..., :32] == 0.8).all() and (pasted[..., 32:] == -0.8).all()
    soft = blend(result, original, mask, "laplacian")
    assert soft[..., 0].mean() > 0.7 and soft[..., -1].mean() < -0.7
    assert soft.diff(dim=-1).max() < 0.01 and soft.diff(dim=-1).min() > -0.4
    assert seam(soft + 0.01 * randn(1, 3, 64, 64), mask) < seam(pasted + 0.01 * randn(1, 3, 64, 64), mask)
    refusal(lambda: blend(result, original, mask, "glue"), "--blend glue")


def test_a_seam_is_a_step_at_the_border():
    texture, mask = randn(2, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    none = seam(texture, mask)
    assert (none - 1).abs().max() < 0.15
    assert (seam(texture + 8 * mask, mask) > 4).all()
    assert seam(texture, torch.ones(1, 1, 64, 64)).isnan().all()


# Composing


def test_prompts_rule_their_regions(stage):
    mask = shape("left", 64, 64)

    def step(x, t):
        a, va = guided(stage, x, t, BOAT, 7.0)
        b, vb = guided(stage, x, t, MAN, 7.0)
        m = half()
        return m * a + (1 - m) * b, m * va + (1 - m) * vb

    same(ours(stage, compose([BOAT, MAN], mask), [3]), plainly(stage, step, 3))


def test_shapes():
    assert shape("left", 8, 8)[0, 0, 3].tolist() == [1] * 4 + [0] * 4
    assert shape("top", 8, 8)[0, 0, :, 3].tolist() == [1] * 4 + [0] * 4
    disc = shape("circle", 100, 100)[0, 0]
    assert abs(float(disc.mean()) - math.pi * 0.09) < 0.005 and disc.equal(disc.T) and disc.equal(disc.flip(0))
    for height, width in ((40, 100), (100, 40)):  # of any proportions, a disc is round and in the middle
        disc = shape("circle", height, width)[0, 0]
        assert disc.shape == (height, width) and disc.sum(0).max() == disc.sum(1).max() == 24
        assert torch.equal(disc, disc.flip(0)) and torch.equal(disc, disc.flip(1))
        assert shape("left", height, width).mean() == shape("top", height, width).mean() == 0.5
    refusal(lambda: shape("star", 8, 8), "--mask star")


# Scores


class Knowing:
    """A stage that takes pictures for what they are: told "dark" or "light" of a dark or light picture it knows the noise."""

    image_shape, device = (3, 8, 8), torch.device("cpu")
    schedule = linear(100)

    def embed(self, condition):
        return torch.tensor([{"dark": -0.8, "light": 0.8, None: 0.0}[condition]])

    def __call__(self, x, t, embedding):
        from phosphene.models.protocol import Estimate

        signal, sigma = self.schedule.signal_and_noise(t, x)
        return Estimate((x - signal * embedding[:, :, None, None]) / sigma)


def test_the_prompt_that_explains_the_noise_is_what_a_picture_shows():
    dark, light = torch.full((1, 3, 8, 8), -0.8), torch.full((1, 3, 8, 8), 0.8)
    pictures = torch.cat([dark, light, torch.zeros_like(dark)])
    found = score(Knowing(), pictures, ["dark", "light"], [lambda x: x, lambda x: -x], max_rows=4)
    assert found.gain.shape == (3, 2, 2)
    assert found.gain[0].argmax(1).tolist() == [0, 1] and found.worst[0] > 0.9 and found.concealment[0] > 0.9
    assert found.gain[1].argmax(1).tolist() == [1, 0] and found.worst[1] < 0.1
    assert found.alignment[0] > 0.9 > 0 > found.alignment[1]
    # What shows neither is told from neither, and reads worse than chance, because no prompt at all explains it better.
    assert found.concealment[2] == pytest.approx(0.5, abs=0.01) and found.worst[2] < 0.1
    refusal(lambda: score(Knowing(), dark, ["dark"], [lambda x: x]), "--best-of")


def test_scores_do_not_depend_on_the_batch(stage):
    pictures = randn(3, *SMALL, seed=8)
    looks = [lambda x: x, VIEWS["flip"].apply]
    whole = score(stage, pictures, [BOAT, MAN], looks)
    parts = [score(stage, pictures[k : k + 1], [BOAT, MAN], looks, max_rows=2) for k in range(3)]
    torch.testing.assert_close(whole.gain, torch.cat([p.gain for p in parts]), rtol=0, atol=1e-4)


def test_default_starts_fit_the_default_run(stage):
    assert max(STARTS) < len(Sampling().visited(stage))


# Denoising


def test_levels_are_the_forward_process_a_blur_and_one_step(stage):
    image, times = low_pass(randn(1, *SMALL, seed=5), 1.0), [100, 600]
    found = levels(stage, image, times, [3], BOAT)
    noise = torch.randn(1, *SMALL, generator=torch.Generator().manual_seed(3))
    for level, t in zip(found, times, strict=True):
        abar = float(stage.schedule.abar[t])
        noisy = math.sqrt(abar) * image + math.sqrt(1 - abar) * noise
        same(level.noisy, noisy)
        same(level.blurred, low_pass(noisy, 2.0, 7))
        answer, _ = asked(stage, noisy, t, BOAT)
        clean = (noisy - math.sqrt(1 - abar) * answer) / math.sqrt(abar)
        same(level.estimate, threshold(stage)(clean), 1e-4)  # of a mean there is no guidance, unless it is asked for
    refusal(lambda: levels(stage, image, [1000], [3], BOAT), "--t 1000", "0..999")


def test_the_one_step_is_sampled_as_a_run_is(stage):
    """Whatever the solver, and whatever a run takes from where it begins: guidance, what bends it, thresholds."""
    image, t = low_pass(randn(1, *SMALL, seed=5), 1.0), 600
    noise = torch.randn(1, *SMALL, generator=torch.Generator().manual_seed(3))
    noisy = stage.schedule.add_noise(image, t, noise)
    plain = Sampling(timesteps=[t, 0], guidance=7.0)
    for sampling in (
        plain,
        *(plain._replace(solver=solver) for solver in ("ddim", "dpm", "heun")),
        plain._replace(threshold=False),
        plain._replace(guidance_norm=0.01),
        plain._replace(guidance_parallel=0.0),
        plain._replace(guidance_interval=(0, 300)),
        plain._replace(resample=2),
    ):
        (level,) = levels(stage, image, [t], [3], BOAT, negative=MAN, sampling=sampling)
        begun = next(run(edit(image, [0], BOAT, negative=MAN), stage, [3], sampling=sampling))
        assert level.noisy.equal(noisy) and level.estimate.equal(begun.x0), sampling


def test_many_steps_are_part_a_s_unless_others_are_named(stage):
    image = torch.zeros(1, *SMALL)
    steps = run(edit(image, [10], BOAT), stage, [3], sampling=many_steps(stage, Sampling()))
    assert [step.t for step in steps] == [*range(660, -1, -30), -1]
    for named in (QUICK, ROUGH):
        assert many_steps(stage, named) == named._replace(solver=named.solver or "ancestral")
    assert many_steps(stage, Sampling(eta=0.5)).solver is None  # which makes it ddim
    assert [step.t for step in run(edit(image, [2], BOAT), stage, [3], sampling=QUICK)] == [*QUICK.visited(stage)[3:], -1]


# Morphing


def test_the_way_between_two_draws_is_as_long_as_they_are():
    one, other = randn(3, 16, 16), randn(3, 16, 16, seed=1)
    way = slerp(one, other, torch.linspace(0, 1, 5))
    torch.testing.assert_close(way[0], one)
    torch.testing.assert_close(way[-1], other)
    lengths = way.flatten(1).norm(dim=1)
    assert (lengths - one.norm()).abs().max() < 0.05 * one.norm()
    torch.testing.assert_close(slerp(one, one, torch.tensor([0.3]))[0], one)


def test_both_ends_of_a_morph_are_the_pictures_of_its_prompts(stage):
    smooth = Sampling("ddim", timesteps=TIMES)
    strip = ours(stage, morph([BOAT, MAN], 3), [5, 9], smooth)
    same(strip[:1], ours(stage, generate([BOAT]), [5], smooth), 5e-5)
    same(strip[2:], ours(stage, generate([MAN]), [9], smooth), 5e-5)
    # With a solver that adds noise, the beginning is still the first prompt's picture.
    strip = ours(stage, morph([BOAT, MAN], 3), [5])
    same(strip[:1], ours(stage, generate([BOAT]), [5]))
    same(strip[2:], ours(stage, generate([MAN]), [5]))
    refusal(lambda: morph([BOAT], 3), "morph takes two")
    refusal(lambda: morph([BOAT, MAN], 1), "--frames 1")


# Animation


@pytest.mark.parametrize("name", [name for name in VIEWS if name != "identity"])
def test_a_turning_picture_begins_and_ends_as_what_it_shows(name):
    picture, v = randn(3, 64, 64, seed=4).clamp(-1, 1), view(name)
    room = round(MARGIN * 64)
    for share, expected in ((0.0, picture), (1.0, v.apply(picture[None])[0])):
        whole = on_the_way(picture, v, share)
        torch.testing.assert_close(whole[:, room:-room, room:-room], expected, rtol=0, atol=1e-4)
        assert whole[:, :room].std(dim=(1, 2)).max() < 1e-5  # paper around
    middle = on_the_way(picture, v, 0.5)
    assert middle.isfinite().all() and not middle.allclose(on_the_way(picture, v, 0.0), atol=0.1)
    frames = list(turn_frames(picture, v, ("one", "other")))
    assert len({frame.size for frame in frames}) == 1 and len(frames) > 40


@dataclass(frozen=True)
class Rolled:
    """A view of someone else's: animation knows nothing of it."""

    sign: ClassVar[int] = 1

    def apply(self, x):
        return x.roll(x.shape[-1] // 2, -1)

    invert = apply


@dataclass(frozen=True)
class Planned:
    """A view of someone else's with a plan of its pieces: the halves change places."""

    sign: ClassVar[int] = 1
    apply = Rolled.apply
    invert = apply

    def plan(self, size):
        right = (torch.arange(size) >= size // 2).long().expand(size, -1).flatten()
        middles = torch.tensor([[size / 2, size / 4], [size / 2, 3 * size / 4]], dtype=torch.float64)
        return Plan(right, middles, middles.flip(0), torch.zeros(2, dtype=torch.long))


def test_a_view_whose_path_is_unknown_fades_into_what_it_shows():
    small = randn(3, 16, 16, seed=4).clamp(-1, 1)
    large = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    shown, room = large.roll(32, -1), round(MARGIN * 64)
    for share in (0.0, 0.25, 1.0):
        frame = on_the_way(large, Rolled(), share, 4)
        torch.testing.assert_close(frame[:, room:-room, room:-room], (1 - share) * large + share * shown)
        assert frame[:, :room].std(dim=(1, 2)).max() < 1e-5
    assert len(list(turn_frames(small, Rolled(), ("one", "other")))) > 40 and turn_css(Rolled()) == ""


def test_a_view_with_a_plan_of_its_own_flies():
    picture = torch.ones(3, 64, 64)
    picture[:, 28:36, 12:20] = -1  # a mark in the middle of the left half: on its way to the middle of the right
    frames = [on_the_way(picture, Planned(), share) for share in (0.0, 0.1, 1.0)]
    assert [where_is(frame)[1] for frame in frames] == pytest.approx([-16, -12.8, 16], abs=0.5)
    assert frames[1].min() == -1  # as dark as it was: nothing fades


def where_is(frame):
    """The row and column, from the middle, of what is dark in a frame."""
    dark = (0.5 - frame.mean(0)).clamp(min=0)
    place = torch.arange(len(dark)) - (len(dark) - 1) / 2
    return tuple(float((dark.sum(axis) * place).sum() / dark.sum()) for axis in (1, 0))


@pytest.mark.parametrize(("name", "up"), [("rotate-90", 1), ("rotate-270", -1)])
def test_a_quarter_turn_goes_the_short_way(name, up):
    picture = torch.ones(3, 64, 64)
    picture[:, 28:36, 52:60] = -1  # a mark in the middle of the right
    y, x = where_is(on_the_way(picture, view(name), 0.5))
    assert y == pytest.approx(-up * 24 / math.sqrt(2), abs=1) and x == pytest.approx(24 / math.sqrt(2), abs=1)
    y, x = where_is(on_the_way(picture, view(name), 1.0))
    assert y == pytest.approx(-up * 24, abs=0.5) and x == pytest.approx(0, abs=0.5)
    # CSS counts degrees clockwise.
    assert turn_css(view(name)) == f"rotate({-90 * up}deg)"


@pytest.mark.parametrize(("column", "left"), [(1, 1), (2, -1)])
def test_squares_at_a_hinge_go_the_short_way(column, left):
    picture = torch.ones(3, 64, 64)
    middle = 16 * column + 8  # of a square of the second row: turning left in the second column, right in the third
    picture[:, 16:20, middle - 2 : middle + 2] = -1  # a mark at its top

    def frame(share):
        return where_is(on_the_way(picture, view("square-hinge"), share))

    (y0, x0), (y, x), (y1, x1) = frame(0.0), frame(0.5), frame(1.0)
    assert x1 - x0 == pytest.approx(-6 * left, abs=0.5) and y1 - y0 == pytest.approx(6, abs=0.5)
    # Half way it has passed the corner on that side, and is not below.
    assert (x0 - x) * left > 2 and y0 < y < y1


# Measures


def test_psnr_and_ssim():
    x = low_pass(randn(2, 3, 32, 32), 2.0)
    noisy, noisier = x + 0.1 * randn(2, 3, 32, 32, seed=1), x + 0.4 * randn(2, 3, 32, 32, seed=1)
    assert psnr(x, x).isinf().all() and torch.allclose(ssim(x, x), torch.ones(2))
    assert torch.allclose(psnr(x, noisy), torch.tensor(26.0), atol=0.3)  # 10 log10(4 / 0.01)
    assert (ssim(x, noisy) > ssim(x, noisier)).all() and (ssim(x, noisier) > 0).all()
    sharp = randn(1, 3, 32, 32).clamp(-1, 1)
    assert ssim(sharp, -sharp).max() < 0 < ssim(sharp, sharp * 0.9).min()


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_ssim_is_scikit_image_s(strength):
    # A border of one shade, wider than half a window: nothing depends on how either goes on beyond the picture.
    x = F.pad(low_pass(randn(2, 3, 40, 32), 1.5).clamp(-1, 1), (6,) * 4, value=0.25)
    y = F.pad((x + strength * randn(*x.shape, seed=1)).clamp(-1, 1)[..., 6:-6, 6:-6], (6,) * 4, value=-0.5)
    # The second pair is dark and flat, where the constants count.
    x[1], y[1] = 0.05 * x[1] - 0.95, 0.05 * y[1] - 0.95
    for ours, one, other in zip(ssim(x, y), (x.double() + 1) / 2, (y.double() + 1) / 2, strict=True):
        _, theirs = structural_similarity(
            one.numpy(),
            other.numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,  # the paper's, and the reason that the weights alone make the window
            data_range=1.0,
            channel_axis=0,
            full=True,
        )
        assert float(ours) == pytest.approx(float(theirs.mean()), abs=2e-5)


NONE, ONE, TWO, KINDS = [], ["a"], ["a", "b"], (*HYBRIDS, "loud")
MISUSES = [
    *((anagram, {"prompts": prompts, "views": views}) for prompts in (NONE, TWO) for views in (NONE, ["round", "flip"])),
    *((hybrid, {"prompts": NONE, "kind": kind}) for kind in KINDS),
    *((hybrid, {"prompts": TWO, "kind": kind, "sigmas": wrong}) for kind in KINDS for wrong in (NONE, [math.nan], [1.0, 2.0])),
    *((overlay, {"prompts": prompts}) for prompts in (NONE, TWO)),
    (overlay, {"prompts": [*TWO, "c"], "weights": NONE}),
    *((morph, {"prompts": prompts, "frames": frames}) for prompts, frames in ((NONE, 3), (ONE, 3), (TWO, 0), (TWO, -1))),
    *((ambigram, {"pairs": pairs}) for pairs in (NONE, [(1, 2, 3)], [()])),
]


@pytest.mark.parametrize(("task", "given"), MISUSES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_what_no_task_can_be_made_of_is_refused_in_a_sentence(task, given):
    """No prompts, no sigmas, no digits, too: nothing of Python's own comes through."""
    refusal(lambda: task(**given))
