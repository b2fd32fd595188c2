"""Laws of the noise expressions: unity, equality with plain loops, and what a step costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from conftest import Echo, TinyDenoiser, randn, rows_an_image
from hypothesis import given, settings
from hypothesis import strategies as st

from phosphene.errors import UserError
from phosphene.expression import bands, clamped_mask, cond, guide, masked, mean, viewed
from phosphene.forward import Evaluation
from phosphene.guidance import Guidance
from phosphene.models.protocol import Estimate
from phosphene.schedule import linear
from phosphene.views import VIEWS

SCHEDULE = linear(300)
SIZE, BATCH, T = 12, 2, 120
FLIP, TURNED, HALF, NEGATE = VIEWS["flip"], VIEWS["rotate-90"], VIEWS["rotate-180"], VIEWS["negate"]


def evaluate(expression, x, denoiser=None, max_rows=None):
    """The expression's estimate, and how many rows the network was shown for it."""
    denoiser = denoiser or TinyDenoiser(SCHEDULE)
    before = sum(denoiser.calls)
    estimate = Evaluation(expression, denoiser, max_rows)(x, T)
    return estimate, sum(denoiser.calls) - before


def ask(denoiser, x, condition, t=T):
    """The denoiser's estimate for each image of x, one at a time: nothing is batched."""
    answers = [denoiser(x[i : i + 1], torch.tensor([t]), denoiser.embed(condition)[None]) for i in range(len(x))]
    variance = torch.cat([a.variance for a in answers]) if denoiser.learned else None
    return Estimate(torch.cat([a.noise for a in answers]), variance)


def guided(denoiser, x, condition, scale=7.0, away=None):
    off, to = ask(denoiser, x, away), ask(denoiser, x, condition)
    return Estimate(off.noise + scale * (to.noise - off.noise), to.variance)


def blur(x, sigma):
    """The low-pass as two dense matrices with reflected borders. ``sigma`` is in pixels of a picture 64 high."""

    def matrix(n):
        pixels = sigma * x.shape[-2] / 64
        reach = min(max(1, math.ceil(3 * pixels)), n - 1)
        weights = torch.tensor([math.exp(-(k**2) / (2 * pixels**2)) for k in range(-reach, reach + 1)], dtype=torch.float64)
        m = torch.zeros(n, n, dtype=torch.float64)
        for i in range(n):
            for k, weight in zip(range(-reach, reach + 1), weights / weights.sum(), strict=True):
                at = abs(i + k)
                m[i, at if at < n else 2 * (n - 1) - at] += weight
        return m

    return (matrix(x.shape[-2]) @ x.double() @ matrix(x.shape[-1]).T).to(x.dtype)


# Random expressions, each with the same thing said as plain functions of (denoiser, x), by the formulas and unbatched.


class Twin(NamedTuple):
    expression: object
    plain: object


def twin_of_a_leaf(conditions):
    def plain(denoiser, x):
        several = conditions if len(conditions) > 1 else conditions * len(x)
        answers = [ask(denoiser, x[i : i + 1], c) for i, c in enumerate(several)]
        return Estimate(torch.cat([a.noise for a in answers]), torch.cat([a.variance for a in answers]))

    return Twin(cond(*conditions), plain)


def twin_of_a_guide(to, away, scale):
    def plain(denoiser, x):
        c, u = to.plain(denoiser, x), away.plain(denoiser, x)
        # Unconditional only has no conditional variance to take.
        return Estimate(u.noise + scale * (c.noise - u.noise), u.variance if scale == 0 else c.variance)

    return Twin(guide(to.expression, scale, away.expression), plain)


def rms(x):
    return x.square().mean((1, 2, 3), keepdim=True).sqrt()


def twin_of_a_bent_guide(to, away, scale, parallel, norm):
    """By the formulas of the paper, which are of clean estimates: project on the conditional one, then guide."""
    how = Guidance(parallel=parallel, norm=norm)

    def plain(denoiser, x):
        c, u = to.plain(denoiser, x), away.plain(denoiser, x)
        if scale in (0, 1):
            return u if scale == 0 else c
        signal, sigma = (math.sqrt(a) for a in (SCHEDULE.level(T), 1 - SCHEDULE.level(T)))
        conditional, unconditional = ((x - sigma * e.noise) / signal for e in (c, u))
        update = conditional - unconditional
        if norm is not None:
            update = torch.where(rms(update) > norm, update * norm / rms(update), update)
        unit = conditional / conditional.square().sum((1, 2, 3), keepdim=True).sqrt()
        along = (update * unit).sum((1, 2, 3), keepdim=True) * unit
        clean = conditional + (scale - 1) * (update - along + parallel * along)
        return Estimate((x - signal * clean) / sigma, c.variance)

    return Twin(guide(to.expression, scale, away.expression, how), plain)


def twin_of_a_rectified_mean(parts):
    def plain(denoiser, x):
        said = [p.plain(denoiser, x) for p in parts]
        average = sum(e.noise for e in said) / len(said)
        size = torch.stack([rms(e.noise).square() for e in said]).mean(0).sqrt()
        return Estimate(average * size / rms(average), sum(e.variance for e in said) / len(said))

    return Twin(mean(*(p.expression for p in parts), rectified=True), plain)


def twin_of_a_mean(parts):
    def plain(denoiser, x):
        said = [p.plain(denoiser, x) for p in parts]
        return Estimate(sum(e.noise for e in said) / len(said), sum(e.variance for e in said) / len(said))

    return Twin(mean(*(p.expression for p in parts)), plain)


def twin_through_a_view(part, view):
    def plain(denoiser, x):
        said = part.plain(denoiser, view.apply(x))
        # Negation is its own inverse and has no geometry: a variance does not notice it.
        return Estimate(view.invert(said.noise), said.variance if view == NEGATE else view.invert(said.variance))

    return Twin(viewed(part.expression, view), plain)


def twin_of_bands(parts, sigmas):
    def plain(denoiser, x):
        said = [p.plain(denoiser, x) for p in parts]
        noise = 0
        for e, coarser, finer in zip(said, (None, *sigmas), (*sigmas, None), strict=True):
            # Each part from the frequencies that its coarser neighbour leaves up to those where its finer one begins.
            noise = noise + (e.noise if finer is None else blur(e.noise, finer))
            noise = noise - (0 if coarser is None else blur(e.noise, coarser))
        return Estimate(noise, sum(e.variance for e in said) / len(said))

    return Twin(bands(*(p.expression for p in parts), sigmas=sigmas), plain)


def twin_of_a_mask(inside, outside, mask):
    def plain(denoiser, x):
        a, b = inside.plain(denoiser, x), outside.plain(denoiser, x)
        return Estimate(mask * a.noise + (1 - mask) * b.noise, mask * a.variance + (1 - mask) * b.variance)

    return Twin(masked(inside.expression, outside.expression, mask), plain)


conditions = st.one_of(st.none(), st.integers(0, 3), st.sampled_from(["a boat", "a bear"]))
masks = st.integers(0, 99).map(lambda seed: randn(SIZE, SIZE, seed=seed).sigmoid())
scales = st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, -1.0])
decreasing = st.sampled_from([(2.0,), (8.0,), (16.0, 2.0), (30.0, 10.0, 3.0)])


def grown(parts):
    """One level more of nesting."""
    return st.one_of(
        st.builds(twin_of_a_guide, parts, parts, scales),
        st.builds(twin_of_a_bent_guide, parts, parts, scales, st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([None, 0.05])),
        st.builds(twin_of_a_rectified_mean, st.lists(parts, min_size=1, max_size=3)),
        st.builds(twin_of_a_mean, st.lists(parts, min_size=1, max_size=3)),
        st.builds(twin_through_a_view, parts, st.sampled_from(list(VIEWS.values()))),
        decreasing.flatmap(lambda s: st.builds(twin_of_bands, st.tuples(*[parts] * (len(s) + 1)), st.just(s))),
        st.builds(twin_of_a_mask, parts, parts, masks),
    )


leaf = st.one_of(conditions.map(lambda c: (c,)), st.tuples(*[conditions] * BATCH)).map(twin_of_a_leaf)
twins = st.recursive(leaf, grown, max_leaves=8)


@settings(max_examples=150)
@given(twin=twins, seed=st.integers(0, 99))
def test_every_expression_has_unity(twin, seed):
    # Each leaf is shown the noise through its view and answers just that. In double precision, because guidance in
    # guidance multiplies rounding by its scale.
    noise = randn(BATCH, 3, SIZE, SIZE, seed=seed, dtype=torch.float64)
    returned = Evaluation(twin.expression, Echo(SCHEDULE))(noise, T).noise
    torch.testing.assert_close(returned, noise, rtol=0, atol=1e-8)


@settings(max_examples=80)
@given(twin=twins, seed=st.integers(0, 99))
def test_every_expression_is_what_its_formulas_say(twin, seed):
    x = randn(BATCH, 3, SIZE, SIZE, seed=seed, dtype=torch.float64)
    denoiser = TinyDenoiser(SCHEDULE, learned=True)
    estimate, _ = evaluate(twin.expression, x, denoiser)
    plain = twin.plain(denoiser, x)
    torch.testing.assert_close(estimate.noise, plain.noise, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(estimate.variance, plain.variance, rtol=0, atol=1e-6)


@given(twin=twins, rows=st.integers(1, 9))
def test_splitting_the_batch_changes_nothing(twin, rows):
    x = randn(BATCH, 3, SIZE, SIZE, dtype=torch.float64)
    denoiser = TinyDenoiser(SCHEDULE, learned=True)
    whole, needed = evaluate(twin.expression, x, denoiser)
    assert denoiser.calls == [needed]
    denoiser.calls.clear()
    split, again = evaluate(twin.expression, x, denoiser, max_rows=rows)
    assert again == needed and max(denoiser.calls) == min(rows, needed) and len(denoiser.calls) == math.ceil(needed / rows)
    torch.testing.assert_close(split.noise, whole.noise, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(split.variance, whole.variance, rtol=1e-9, atol=1e-9)


@given(weights=st.lists(st.floats(-1, 3), min_size=2, max_size=4).filter(lambda w: sum(w) > 0.5), seed=st.integers(0, 99))
def test_weights_count_relative_to_their_sum(weights, seed):
    x = randn(BATCH, 3, SIZE, SIZE, seed=seed, dtype=torch.float64)
    denoiser = TinyDenoiser(SCHEDULE)
    expression = mean(*(cond(i) for i in range(len(weights))), weights=weights)
    plain = sum(w * ask(denoiser, x, i).noise for i, w in enumerate(weights)) / sum(weights)
    estimate, rows = evaluate(expression, x, denoiser)
    torch.testing.assert_close(estimate.noise, plain, rtol=0, atol=1e-9)
    assert rows == BATCH * sum(w != 0 for w in weights)
    torch.testing.assert_close(Evaluation(expression, Echo(SCHEDULE))(x, T).noise, x, rtol=0, atol=1e-9)


# The expressions of the tasks, in the precision they run in, and what they cost


def check(expression, plain, rows, denoiser=None):
    """The expression equals the plain loop and costs ``rows`` forward rows an image, in one pass."""
    x = randn(BATCH, 3, SIZE, SIZE, seed=7)
    denoiser = denoiser or TinyDenoiser(SCHEDULE)
    evaluation = Evaluation(expression, denoiser)
    noise = evaluation(x, T).noise
    assert rows_an_image(expression) == rows
    assert denoiser.calls == [rows * BATCH]
    assert noise.dtype == torch.float32
    torch.testing.assert_close(noise, plain(denoiser, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 2.0, 7.0])
def test_guidance(scale):
    rows = 1 if scale in (0, 1) else 2
    check(guide(cond("a boat"), scale), lambda d, x: guided(d, x, "a boat", scale).noise, rows)


def test_guidance_is_by_7_and_from_the_null_condition_unless_told_otherwise():
    assert guide(cond(3)) == guide(cond(3), scale=7, away=cond(None))


def test_a_negative_prompt():
    check(guide(cond("a boat"), away=cond("blurry")), lambda d, x: guided(d, x, "a boat", away="blurry").noise, 2)


def test_an_anagram_of_two_views():
    check(
        mean(guide(cond("a")), viewed(guide(cond("b")), FLIP)),
        lambda d, x: (guided(d, x, "a").noise + guided(d, x.flip(-2), "b").noise.flip(-2)) / 2,
        4,
    )


def test_an_anagram_of_four_views():
    def plain(d, x):
        terms = [torch.rot90(guided(d, torch.rot90(x, k, (-2, -1)), f"p{k}").noise, -k, (-2, -1)) for k in range(4)]
        return sum(terms) / 4

    turns = ["identity", "rotate-90", "rotate-180", "rotate-270"]
    check(mean(*(viewed(guide(cond(f"p{k}")), VIEWS[name]) for k, name in enumerate(turns))), plain, 8)


def test_an_anagram_with_a_negative():
    check(
        mean(guide(cond("a")), viewed(guide(cond("b")), NEGATE)),
        lambda d, x: (guided(d, x, "a").noise - guided(d, -x, "b").noise) / 2,
        4,
    )


def test_a_view_in_a_view():
    # From the outside in: the picture is turned first and flipped then; the answer comes back the other way round.
    def plain(d, x):
        noise = ask(d, torch.rot90(x, 1, (-2, -1)).flip(-2), 0).noise
        return torch.rot90(noise.flip(-2), -1, (-2, -1))

    check(viewed(viewed(cond(0), FLIP), TURNED), plain, 1)


def test_a_hybrid():
    # Both prompts share one unconditional row.
    def plain(d, x):
        coarse, fine = guided(d, x, "a").noise, guided(d, x, "b").noise
        return blur(coarse, 8) + fine - blur(fine, 8)

    check(bands(guide(cond("a")), guide(cond("b")), sigmas=(8,)), plain, 3)


def test_a_hybrid_of_three_bands():
    def plain(d, x):
        coarse, middle, fine = (guided(d, x, c).noise for c in "abc")
        return blur(coarse, 16) + blur(middle, 6) - blur(middle, 16) + fine - blur(fine, 6)

    check(bands(*(guide(cond(c)) for c in "abc"), sigmas=(16, 6)), plain, 4)


def test_a_composition_in_space():
    mask = randn(SIZE, SIZE, seed=8).sigmoid()
    check(
        masked(guide(cond("a")), guide(cond("b")), mask),
        lambda d, x: mask * guided(d, x, "a").noise + (1 - mask) * guided(d, x, "b").noise,
        3,
    )


def test_a_composition_seen_through_a_view_has_its_mask_there():
    mask = randn(SIZE, SIZE, seed=8).sigmoid()

    def plain(d, x):
        turned = torch.rot90(x, 1, (-2, -1))
        return torch.rot90(mask * ask(d, turned, 0).noise + (1 - mask) * ask(d, turned, 1).noise, -1, (-2, -1))

    check(viewed(masked(cond(0), cond(1), mask), TURNED), plain, 2)


def test_a_mask_may_be_one_for_each_image():
    mask = randn(BATCH, 1, SIZE, SIZE, seed=9).sigmoid()
    check(masked(cond(0), cond(1), mask), lambda d, x: mask * ask(d, x, 0).noise + (1 - mask) * ask(d, x, 1).noise, 2)


def test_the_same_question_is_asked_once():
    a, b = guide(cond(0)), guide(cond(1), away=cond(0))
    check(
        mean(a, b, viewed(a, VIEWS["identity"])), lambda d, x: (2 * guided(d, x, 0).noise + guided(d, x, 1, away=0).noise) / 3, 3
    )
    # Through another view it is another question.
    assert rows_an_image(mean(a, viewed(a, HALF))) == 4


def test_the_width_of_a_band_scales_with_the_picture():
    # Sigma 8 of 64 pixels is sigma 1.5 of 12: the same band in every stage of a cascade.
    class Apart(Echo):
        def embed(self, condition):
            return torch.full((1,), float(condition))

        def __call__(self, x, t, embedding):
            return Estimate(x * embedding[:, :, None, None])

    for size in (12, 24):
        x = torch.zeros(1, 1, size, size)
        x[..., : size // 2] = 1
        coarse = Evaluation(bands(cond(1), cond(0), sigmas=(8,)), Apart(SCHEDULE, (1, size, size)))(x, T).noise
        torch.testing.assert_close(coarse, blur(x, 8), rtol=0, atol=1e-5)


def test_a_condition_for_each_image_is_each_image_with_its_condition():
    x, denoiser = randn(3, 3, SIZE, SIZE, seed=3), TinyDenoiser(SCHEDULE)
    makers = (
        lambda *c: cond(*c),
        lambda *c: guide(cond(*c), 5),
        lambda *c: mean(guide(cond(*c)), viewed(cond("b"), FLIP)),
    )
    for make in makers:
        together = Evaluation(make(0, 1, 2), denoiser)(x, T).noise
        alone = torch.cat([Evaluation(make(i), denoiser)(x[i : i + 1], T).noise for i in range(3)])
        torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_one_evaluation_serves_batches_of_any_size_at_any_timestep():
    denoiser = TinyDenoiser(SCHEDULE)
    evaluation = Evaluation(guide(cond("a")), denoiser)
    for batch, t in ((2, 5), (1, 299), (3, 0), (2, 77)):
        x = randn(batch, 3, SIZE, SIZE, seed=batch)
        off, to = ask(denoiser, x, None, t).noise, ask(denoiser, x, "a", t).noise
        torch.testing.assert_close(evaluation(x, t).noise, off + 7 * (to - off), rtol=0, atol=1e-5)


def test_a_condition_is_embedded_once_however_often_it_is_asked():
    class Slow(TinyDenoiser):
        embedded = []

        def embed(self, condition):
            self.embedded.append(condition)
            return super().embed(condition)

    evaluation = Evaluation(mean(guide(cond("a", "b")), viewed(guide(cond("a")), FLIP)), Slow(SCHEDULE))
    for t in (9, 8, 7):
        evaluation(randn(2, 3, SIZE, SIZE), t)
    assert sorted(Slow.embedded, key=str) == [None, "a", "b"]


# Variance, which is not linear


def variances(expression):
    denoiser, x = TinyDenoiser(SCHEDULE, learned=True), randn(BATCH, 3, SIZE, SIZE, seed=4)
    return evaluate(expression, x, denoiser)[0].variance, lambda picture, c: ask(denoiser, picture, c).variance, x


def test_the_variance_of_guidance_is_the_conditional_one():
    for scale in (0.5, 1.0, 7.0, -2.0):
        got, of, x = variances(guide(cond("a"), scale, away=cond("b")))
        torch.testing.assert_close(got, of(x, "a"), rtol=0, atol=1e-6)


def test_the_variance_of_a_mean_and_of_bands_is_the_average():
    for both in (mean(cond(0), cond(1)), bands(cond(0), cond(1))):
        got, of, x = variances(both)
        torch.testing.assert_close(got, (of(x, 0) + of(x, 1)) / 2, rtol=0, atol=1e-6)


def test_the_variance_of_a_composition_is_blended_by_its_mask():
    mask = randn(SIZE, SIZE, seed=8).sigmoid()
    got, of, x = variances(masked(cond(0), cond(1), mask))
    torch.testing.assert_close(got, mask * of(x, 0) + (1 - mask) * of(x, 1), rtol=0, atol=1e-6)


def test_the_variance_seen_through_a_view_is_brought_back_but_never_negated():
    got, of, x = variances(viewed(cond(0), TURNED))
    torch.testing.assert_close(got, torch.rot90(of(torch.rot90(x, 1, (-2, -1)), 0), -1, (-2, -1)), rtol=0, atol=1e-6)
    got, of, x = variances(viewed(cond(0), NEGATE))
    torch.testing.assert_close(got, of(-x, 0), rtol=0, atol=1e-6)
    got, of, x = variances(viewed(viewed(cond(0), NEGATE), FLIP))
    torch.testing.assert_close(got, of(-x.flip(-2), 0).flip(-2), rtol=0, atol=1e-6)


@given(twin=twins)
def test_a_variance_never_leaves_its_range(twin):
    estimate, _ = evaluate(twin.expression, randn(BATCH, 3, SIZE, SIZE), TinyDenoiser(SCHEDULE, learned=True))
    assert estimate.variance.shape == estimate.noise.shape
    assert estimate.variance.abs().max() <= 1


@given(twin=twins)
def test_where_no_variance_was_learned_there_is_none(twin):
    assert evaluate(twin.expression, randn(BATCH, 3, SIZE, SIZE))[0].variance is None


# What is refused


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: cond(), "cond"),
        (lambda: guide(cond(0), float("nan")), "--guidance"),
        (lambda: guide(cond(0), float("inf")), "--guidance"),
        (lambda: mean(), "--weights"),
        (lambda: mean(cond(0), weights=[1, 2]), "--weights"),
        (lambda: mean(cond(0), cond(1), weights=[1, -1]), "--weights"),
        (lambda: mean(cond(0), cond(1), weights=[1, float("inf")]), "--weights"),
        (lambda: bands(cond(0)), "--sigma"),
        (lambda: bands(cond(0), cond(1), cond(2), sigmas=(2,)), "--sigma"),
        (lambda: bands(cond(0), cond(1), sigmas=(3, 2)), "--sigma"),
        (lambda: bands(cond(0), cond(1), cond(2), sigmas=(2, 3)), "--sigma"),
        (lambda: bands(cond(0), cond(1), sigmas=(0,)), "--sigma"),
        (lambda: masked(cond(0), cond(1), torch.full((4, 4), 255.0)), "mask"),
        (lambda: masked(cond(0), cond(1), torch.full((4, 4), -0.1)), "mask"),
        (lambda: masked(cond(0), cond(1), torch.full((4, 4), float("nan"))), "mask"),
        (lambda: masked(cond(0), cond(1), torch.full((4, 4), 1.001)), "mask: values run from 1.001 to 1.001.*clamp"),
        (lambda: masked(cond(0), cond(1), torch.full((4, 4), 255.0)), "divide an 8-bit mask by 255"),
        (lambda: Evaluation(cond(0), Echo(SCHEDULE), max_rows=0), "max_rows"),
    ],
)
def test_what_would_break_the_law_cannot_be_made(make, what):
    with pytest.raises(UserError, match=what):
        make()


def test_what_rounding_adds_to_a_mask_is_clamped():
    mask = torch.tensor([[1.0000001, -1e-7], [0.5, 1.0]])
    assert masked(cond(0), cond(1), mask).mask.equal(torch.tensor([[1.0, 0.0], [0.5, 1.0]]))
    exact = torch.tensor([[0.0, 1.0]])
    assert clamped_mask(exact) is exact
    # Enlarging by Lanczos overshoots by more than rounding: that is for its maker to clamp.
    with pytest.raises(
        UserError,
        match=r"^--mask: values run from -0.01 to 1.02 and must lie in 0..1; clamp what overshoots, and leave no NaN\.$",
    ):
        clamped_mask(torch.tensor([-0.01, 1.02]), "--mask")


def test_conditions_must_fit_the_batch():
    with pytest.raises(UserError, match="3 conditions for a batch of 2"):
        evaluate(cond(0, 1, 2), randn(2, 3, SIZE, SIZE))
