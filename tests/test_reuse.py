"""Step caching for guidance: which rows are asked for, what is reused, and that a run is its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from conftest import TinyDenoiser, randn, refusal
from test_cli import call, here  # noqa: F401 (fixtures)

from phosphene.drawing import Sampling, Task, run
from phosphene.expression import cond, guide, mean, viewed
from phosphene.forward import Evaluation
from phosphene.models.protocol import Estimate
from phosphene.reuse import Reusing, marked
from phosphene.sampler import last
from phosphene.schedule import linear
from phosphene.tasks.anagram import anagram
from phosphene.tasks.digits import digits
from phosphene.tasks.generate import generate
from phosphene.views import VIEWS

SCHEDULE = linear(300)
FLIP = VIEWS["flip"]


class Reader(TinyDenoiser):
    reads = True


class Steady(Reader):
    """What a condition adds to its answer is the same at every step and for every picture."""

    def __call__(self, x, t, embedding):
        plain = super().__call__(x, t, torch.zeros_like(embedding))
        return Estimate(plain.noise + 0.1 * embedding.mean(1).to(x)[:, None, None, None], plain.variance)


def drawn(denoiser, task, seeds=(3,), **how):
    return last(run(task, denoiser, list(seeds), sampling=Sampling(steps=8, **{"guidance": 4.0, **how})))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    "task", [generate(["a"], negative="b"), anagram(["a", "bc"], ["identity", "flip"])], ids=["one", "two views"]
)
@pytest.mark.parametrize("solver", ["ancestral", "dpm", "heun"])
def test_at_every_step_it_is_guidance_as_it_is(task, learned, solver):
    denoiser = Reader(SCHEDULE, learned=learned)
    plain, reused = (drawn(denoiser, task, solver=solver, guidance_every=every) for every in (None, 1))
    torch.testing.assert_close(reused, plain, rtol=0, atol=1e-5)


@pytest.mark.parametrize("every", [2, 3, 100])
def test_where_the_difference_does_not_change_nothing_does(every):
    task = anagram(["a", "bc"], ["identity", "flip"])
    plain, reused = (drawn(Steady(SCHEDULE, learned=True), task, (3, 4), guidance_every=n) for n in (None, every))
    torch.testing.assert_close(reused, plain, rtol=0, atol=1e-4)
    other = drawn(Reader(SCHEDULE), task, (3, 4), guidance_every=every)
    assert (other - drawn(Reader(SCHEDULE), task, (3, 4))).abs().max() > 1e-3  # elsewhere it is lossy


def test_what_guidance_leads_away_from_is_asked_for_at_every_so_many_th_step():
    denoiser = Reader(SCHEDULE)
    drawn(denoiser, generate(["a"]), (1, 2, 5), guidance_every=3)
    assert denoiser.calls == [6, 3, 3, 6, 3, 3, 6, 3]
    denoiser.calls.clear()
    drawn(denoiser, anagram(["a", "bc"], ["identity", "flip"]), guidance_every=2)
    assert denoiser.calls == [4, 2] * 4
    denoiser.calls.clear()
    drawn(denoiser, generate(["a"]), (1, 2, 5), guidance_every=2, max_rows=2)  # a picture at a time
    assert denoiser.calls == ([2] * 3 + [1] * 3) * 4


def test_the_difference_is_the_one_of_the_last_step_that_asked():
    denoiser, x = Reader(SCHEDULE), [randn(1, 3, 12, 12, seed=k) for k in range(3)]
    asked = guide(cond("a"), 4.0)
    evaluation = Evaluation(marked(asked), Reusing(denoiser, 2))
    for index, (state, t) in enumerate(zip(x, (200, 150, 100), strict=True)):
        found = evaluation(state, t).noise
        toward, away = (
            Evaluation(cond(c), denoiser)(x[index - index % 2], (200, 150, 100)[index - index % 2]).noise for c in ("a", None)
        )
        now = Evaluation(cond("a"), denoiser)(state, t).noise
        torch.testing.assert_close(found, now + 3 * (toward - away), rtol=0, atol=1e-5)


def test_two_prompts_away_from_one_are_asked_for_whole():
    """Which row belongs to which cannot be told where there are not as many."""
    denoiser = Reader(SCHEDULE)
    both = Task(lambda stage, scale: mean(guide(cond("a"), scale), guide(cond("bc"), scale)))
    plain = drawn(denoiser, both)
    assert drawn(denoiser, both, guidance_every=4).equal(plain) and set(denoiser.calls) == {3}


TWO = mean(guide(cond("a"), 4.0, away=cond("x")), guide(cond("b"), 4.0, away=cond("yy")))


@pytest.mark.parametrize(
    ("one", "other"),
    [(guide(cond("a"), 4.0), TWO), (TWO, guide(mean(cond("bc"), cond("d")), 4.0, away=mean(cond("e"), cond("fff"))))],
    ids=["of another number", "in another order"],
)
def test_views_that_are_guided_otherwise_are_asked_for_whole(one, other):
    task = Task(lambda *_: mean(one, viewed(other, FLIP)))
    assert drawn(Reader(SCHEDULE), task, (3, 4), guidance_every=3).equal(drawn(Reader(SCHEDULE), task, (3, 4)))


def test_in_inference_mode_it_draws_the_same():
    task = anagram(["a", "bc"], ["identity", "flip"])
    plain = drawn(Reader(SCHEDULE), task, guidance_every=2)
    with torch.inference_mode():
        assert drawn(Reader(SCHEDULE), task, guidance_every=2).equal(plain)


def test_a_run_begins_anew_and_a_picture_does_not_depend_on_its_company():
    denoiser = Reader(SCHEDULE, learned=True)
    task = anagram(["a", "bc"], ["identity", "flip"])
    one = [drawn(denoiser, task, (seed,), guidance_every=3) for seed in (7, 8, 7)]
    assert one[0].equal(one[2])
    torch.testing.assert_close(drawn(denoiser, task, (7, 8), guidance_every=3), torch.cat(one[:2]), rtol=0, atol=1e-5)


def test_at_guidance_one_nothing_is_led_away_from():
    denoiser = Reader(SCHEDULE)
    plain = drawn(denoiser, generate(["a"]), guidance=1.0)
    assert drawn(denoiser, generate(["a"]), guidance=1.0, guidance_every=2).equal(plain)
    refusal(lambda: drawn(denoiser, generate(["a"]), guidance_every=0), "--guidance-every 0: must lie in 1..")


def test_what_is_led_away_from_is_marked_in_all_views():
    asked = marked(mean(guide(cond("a")), viewed(guide(cond("bc"), away=cond("d")), FLIP)))
    first, (second,) = asked.parts[0], asked.parts[1].parts
    assert [type(part.conditions[0]).__name__ for part in (*first.parts, *second.parts)] == ["str", "Away"] * 2
    whole = replace(first, parts=(first.parts[0], first.parts[0]))
    assert Evaluation(whole, Reusing(Reader(SCHEDULE), 2))(randn(1, 3, 12, 12, seed=1), 9).noise.isfinite().all()


def test_digits_take_it():
    from phosphene.models.catalogue import load

    model = load("class-20")
    plain, reused = (
        last(run(digits([3, 4]), model, [1, 2], sampling=Sampling(steps=20, guidance=3.0, guidance_every=n))) for n in (None, 1)
    )
    torch.testing.assert_close(reused, plain, rtol=0, atol=1e-3)


def test_the_command_line_refuses_it_where_nothing_guides(call):  # noqa: F811
    for command in (["digits", "3", "--guidance", "1"], ["generate", "a", "--guidance", "1"]):
        code, _, said = call(*command, "--guidance-every", "2")
        assert code == 2 and "--guidance-every 2: says how to guide, and at --guidance 1 nothing does" in said
