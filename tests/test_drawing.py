"""One way to draw: what a run is, which picture is kept, and that nothing goes round it."""

from __future__ import annotations

import ast
import inspect
import json
import pkgutil
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import TinyDenoiser, randn, refusal
from hypothesis import given
from hypothesis import strategies as st

from phosphene.drawing import Sampling, Task, best, run
from phosphene.expression import cond, guide
from phosphene.models.protocol import Estimate
from phosphene.sampler import SOLVERS, ancestral, ddim, dpm_solver, last, resampled
from phosphene.schedule import CLEAN, linear
from phosphene.tasks.ambigram import ambigram, judge
from phosphene.tasks.anagram import anagram
from phosphene.tasks.hybrid import hybrid
from phosphene.tasks.score import score

BOAT = Task(lambda stage, scale: guide(cond("a boat"), scale=scale))
FEW = Sampling(steps=4)


class First(TinyDenoiser):
    """A first stage of 8 pixels."""

    low_res_schedule, reads, device = None, True, torch.device("cpu")

    def __init__(self):
        super().__init__(linear(50), (3, 8, 8))


@dataclass
class Second:
    """A second stage of 16 pixels: it wants what the small picture shows, a little noised."""

    noise_level: int = 5
    reads: bool = True
    tiny = TinyDenoiser(linear(50), (3, 16, 16))
    schedule = low_res_schedule = tiny.schedule
    image_shape, value_range, device = (3, 16, 16), (-1.0, 1.0), torch.device("cpu")

    def embed(self, condition):
        return self.tiny.embed(condition)

    def low_res(self, small, noise):
        return self.low_res_schedule.add_noise(F.interpolate(small, scale_factor=2.0), self.noise_level, noise)

    def __call__(self, x, t, embedding):
        noise = self.tiny(x[:, :3], t, embedding).noise
        return Estimate(noise - 0.5 * x[:, 3:])


def judged(*scores):
    """The task of a boat, by a judge who has made up his mind."""
    verdict = type("Verdict", (), {"score": torch.tensor(scores)})()
    return replace(BOAT, judge=lambda stage, pictures, rows: verdict)


def finished(steps):
    return [step for step in steps if step.t == CLEAN]


# The choice of the best


@given(st.lists(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_best_of_each_group_has_its_highest_score(groups):
    found = best(torch.tensor(groups).flatten(), 3)
    assert [groups[k // 3][k % 3] for k in found] == [max(group) for group in groups]
    assert [k // 3 for k in found] == list(range(len(groups)))


@pytest.mark.parametrize("model", [[First()], [First(), Second()]], ids=len)
@pytest.mark.parametrize("sampling", [FEW, Sampling("ddim", 4, eta=0.7), Sampling(steps=4, resample=2)], ids=str)
def test_the_picture_kept_scores_highest_and_is_the_one_its_seed_makes_alone(model, sampling):
    """At every stage, whatever comes before or after it; here of two times three."""
    task = judged(0.2, 0.9, 0.4, 0.7, -0.3, 0.1)
    steps = list(run(task, model, [20, 21, 22, 30, 31, 32], sampling=sampling, best_of=3))
    assert steps[-1].seeds == (21, 30) and len(steps[-1].xt) == 2
    for k, seed in enumerate((21, 30)):
        alone = finished(run(BOAT, model, [seed], sampling=sampling))
        kept = finished(steps)[1:]  # the first is all that were drawn
        assert len(alone) == len(kept) == len(model)
        for one, many in zip(alone, kept, strict=True):
            torch.testing.assert_close(many.xt[k : k + 1], one.xt, rtol=0, atol=1e-5)
    assert finished(steps)[0].seeds == (20, 21, 22, 30, 31, 32) and finished(steps)[0].verdict is None
    assert all((step.verdict is None) == (len(step.xt) == 6) for step in steps)


def test_what_cannot_be_chosen_is_refused_before_anything_is_drawn():
    stage = First()
    for call, words in (
        (partial(run, BOAT, stage, [1, 2], best_of=2), ("--best-of 2", "says what is good")),
        (partial(run, judged(1.0), stage, [1, 2, 3], best_of=2), ("--best-of 2", "3 seeds")),
        (partial(run, judged(1.0), stage, [1], best_of=0), ("--best-of 0",)),
        (partial(run, BOAT, stage, []), ("--seed",)),
        (partial(run, judged(1.0), stage, [1, 2], best_of=2, sampling=Sampling(together=True)), ("--best-of 2",)),
        (partial(run, BOAT, [stage, Second()], [1], sampling=Sampling(upscale_steps=51)), ("--upscale-steps 51", "1..50")),
        (partial(run, BOAT, [stage, Second()], [1], sampling=Sampling(timesteps=[3, 9])), ("timesteps", "decrease")),
    ):
        refusal(call, *words)
    assert stage.calls == []


class Knowing:
    """A stage that takes pictures for what they are. ``known``: what each prompt looks like, (3, 8, 8)."""

    image_shape, device, reads, schedule = (3, 8, 8), torch.device("cpu"), True, linear(100)

    def __init__(self, **known):
        self.known = {name: torch.as_tensor(value).float().expand(3, 8, 8) for name, value in known.items()}

    def embed(self, condition):
        return torch.zeros(3, 8, 8) if condition is None else self.known[condition]

    def __call__(self, x, t, embedding):
        signal, sigma = self.schedule.signal_and_noise(t, x)
        return Estimate((x - signal * embedding) / sigma)


def test_a_sure_reading_beats_one_that_is_close_to_both_prompts():
    """The first picture is nearer to what was asked for (alignment), but nobody can tell which of the two it shows."""
    stage = Knowing(bright=0.8, dim=0.6)
    unsure, sure = torch.full((1, 3, 8, 8), 0.7), torch.cat([torch.full((1, 3, 8, 4), 1.0), torch.full((1, 3, 8, 4), 0.5)], -1)
    looks = [lambda x: x[..., :4].repeat(1, 1, 1, 2), lambda x: x[..., 4:].repeat(1, 1, 1, 2)]
    found = score(stage, torch.cat([unsure, sure]), ["bright", "dim"], looks)
    assert found.alignment[0] > found.alignment[1]
    assert found.score[1] > 0.9 > 0.6 > found.score[0]
    assert best(found.score, 2) == [1]


def test_an_anagram_is_judged_as_each_view_shows_it():
    """Bright above is bright below when turned over: that reads both ways. What is bright above in both views does not."""
    above = torch.linspace(1, -1, 8)[None, :, None]
    stage = Knowing(above=above, below=-above)
    picture = above.expand(1, 3, 8, 8)
    assert anagram(["above", "below"], ["flip"]).judge(stage, picture, [0]).score > 0.9
    for prompts, views in ((["below", "above"], ["flip"]), (["above", "below"], ["mirror"])):
        assert anagram(prompts, views).judge(stage, picture, [0]).score < 0.1


def test_a_hybrid_is_judged_by_what_each_prompt_rules():
    red = torch.tensor([1.0, 0.4, 0.4])[:, None, None]
    stage = Knowing(light=0.6, red=red)
    picture = red.expand(1, 3, 8, 8)
    assert hybrid(["light", "red"], kind="color").judge(stage, picture, [0]).score > 0.9
    assert hybrid(["red", "light"], kind="color").judge(stage, picture, [0]).score < 0.1


class Glance(torch.nn.Module):
    """Reads what is bright above as a 6 and, less surely, what is bright below as a 9."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(2, 10)
        torch.nn.init.zeros_(self.head.bias)
        torch.nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.weight[6, 0], self.head.weight[9, 1] = 6.0, 4.0

    def features(self, x):
        return x.unflatten(2, (2, -1)).mean((1, 3, 4))


def test_an_ambigram_is_judged_as_it_stands_and_turned():
    above = torch.zeros(1, 1, 28, 28)
    above[:, :, :14] = 1
    six, nine = (float(torch.tensor([surety] + [0.0] * 9).softmax(0)[0]) for surety in (6, 4))
    low = (1 - six) / 9, (1 - nine) / 9  # what each is thought to be any other digit
    expected = {(6, 9): (nine, True), (9, 6): (min(low), False), (6, 6): (low[1], False), (9, 9): (low[0], False)}
    for pair, (least, read) in expected.items():
        found = judge(Glance(), above, [pair])
        assert found.score.tolist() == pytest.approx([least], rel=1e-4) and found.read.tolist() == [read], pair
    every = judge(Glance(), above.repeat(4, 1, 1, 1), list(expected))  # a pair for each picture
    assert every.score.tolist() == pytest.approx([least for least, _ in expected.values()], rel=1e-4)
    assert every.read.tolist() == [read for _, read in expected.values()]
    # By the task, each row is judged by its own pair.
    task = ambigram(list(expected), Glance())
    assert task.judge(None, above.repeat(2, 1, 1, 1), [2, 0]).read.tolist() == [False, True]


# A run


@pytest.mark.parametrize("sampling", [FEW, FEW._replace(guidance=1.0), Sampling("heun", 3, guidance=0.0)], ids=str)
def test_every_stage_is_drawn_whatever_the_sampling(sampling):
    """A guidance of one number once lost the second stage."""
    assert [tuple(step.xt.shape) for step in finished(run(BOAT, [First(), Second()], [1], sampling=sampling))] == [
        (1, 3, 8, 8),
        (1, 3, 16, 16),
    ]
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in list(inspect.signature(run).parameters.values())[3:])


NUMBERS = ["steps", "eta", "resample", "guidance", "upscale_guidance", "upscale_steps", "noise_level", "max_rows"]


@pytest.mark.parametrize("name", [*NUMBERS, "guidance_parallel", "guidance_norm"])
def test_what_must_be_a_number_is_refused_where_it_is_none(name):
    """The tuple of one for each stage that guidance once was, and a text. A number of its kind is taken."""
    stage = First()
    option = "--" + name.replace("_", "-")
    for value in ((7.0,), "7"):
        refusal(lambda value=value: run(BOAT, stage, [1], sampling=Sampling(**{name: value})), f"{option} {value!r}", "number")
    refusal(lambda: guide(cond("a boat"), scale=(7.0,)), "--guidance (7.0,)")
    for one in ("timesteps", "guidance_interval"):
        for value in (5, "9,1"):
            how = Sampling(**{one: value})
            refusal(lambda how=how: run(BOAT, stage, [1], sampling=how), f"--{one.replace('_', '-')} {value!r}", "no list")
    assert stage.calls == []


def test_each_stage_has_its_own_guidance_steps_and_level():
    seen = []
    task = Task(lambda stage, scale: seen.append((stage.image_shape[-1], scale)) or cond("a boat"))
    changed = Sampling(steps=4, guidance=3.0, upscale_guidance=2.0, upscale_steps=5, noise_level=9)
    steps = list(run(task, [First(), Second()], [1], sampling=changed))
    assert seen == [(8, 3.0), (16, 2.0)] and [step.stage for step in steps] == [0] * 4 + [1] * 5
    plain = last(run(task, [First(), Second()], [1], sampling=changed._replace(noise_level=None)))
    assert (plain - steps[-1].xt).abs().max() > 1e-3
    # Where no prompt is read there is no guidance to follow with care.
    assert changed._replace(upscale_steps=None).of(Second(reads=False))[:2] == ("dpm", 8)
    assert changed._replace(upscale_solver="heun").of(Second(reads=False))[:2] == ("heun", 5)


def test_the_generators_go_on_from_stage_to_stage(monkeypatch):
    """The second stage begins with what the first has left, not with its noise over again; of a best one, its own."""
    seen, call = [], Second.__call__
    monkeypatch.setattr(Second, "__call__", lambda self, x, *rest: seen.append(x[:, :3]) or call(self, x, *rest))
    for task, seeds, best_of in ((BOAT, [7], 1), (judged(0.1, 0.8), [6, 7], 2)):
        list(run(task, [First(), Second()], seeds, sampling=Sampling("ddim", 2, guidance=1.0), best_of=best_of))
        source = torch.Generator().manual_seed(7)
        torch.randn(3, 8, 8, generator=source)  # all that the first stage takes of it
        assert seen[0][0].equal(torch.randn(3, 16, 16, generator=source))
        seen.clear()


def test_pictures_of_a_batch_are_those_made_alone_unless_drawn_together():
    whole = last(run(BOAT, [First(), Second()], [5, 9], sampling=FEW))
    alone = last(run(BOAT, [First(), Second()], [9], sampling=FEW))
    torch.testing.assert_close(whole[1:], alone, rtol=0, atol=1e-5)
    together = [last(run(BOAT, First(), seeds, sampling=FEW._replace(together=True))) for seeds in ([5, 9], [5, 7])]
    assert together[0].equal(together[1])  # of the first seed alone
    assert not together[0].allclose(last(run(BOAT, First(), [5, 9], sampling=FEW)), atol=1e-3)


def test_a_sampling_is_its_solver():
    times = [40, 20, 3]
    assert Sampling().table() is ancestral
    assert Sampling("ddim", eta=0.3).table()(linear(50), times) == ddim(linear(50), times, 0.3)
    assert Sampling("dpm", resample=2).table()(linear(50), times) == resampled(dpm_solver, 2)(linear(50), times)
    refusal(Sampling("magic").table, "--solver magic")
    refusal(Sampling("dpm", eta=0.5).table, "--eta 0.5: belongs to ddim, not to dpm")


def test_a_new_solver_needs_no_number_of_steps(monkeypatch):
    monkeypatch.setitem(SOLVERS, "mine", ddim)
    found, plain = (last(run(BOAT, First(), [1], sampling=Sampling(name))) for name in ("mine", "ddim"))
    assert found.equal(plain)


def test_an_edit_sees_the_image_noised_as_far_as_the_step_has_come():
    image, seen = randn(1, 3, 8, 8, seed=3).clamp(-1, 1), []
    task = replace(BOAT, image=image, edit=lambda drawn, kept: seen.append(kept) or drawn)
    steps = list(run(task, First(), [1, 2], sampling=FEW))
    apart = [float((kept - image).std()) for kept in seen]
    assert apart == sorted(set(apart), reverse=True) and apart[-1] == 0 and len(seen) == len(steps)
    plain = last(run(BOAT, First(), [1, 2], sampling=Sampling("ddim", 4)))
    kept = last(run(task, First(), [1, 2], sampling=Sampling("ddim", 4)))
    assert kept.equal(plain)  # an edit that changes nothing changes nothing


def test_an_edit_goes_on_in_the_second_stage_where_it_is_told_of_the_large_image():
    image, large = randn(1, 3, 8, 8, seed=3).clamp(-1, 1), randn(1, 3, 16, 16, seed=4).clamp(-1, 1)
    task = replace(BOAT, image=image, edit=lambda drawn, kept: torch.cat([kept[..., :4], drawn[..., 4:]], -1))
    small, free = finished(run(task, [First(), Second()], [1], sampling=FEW))
    again, kept = finished(run(replace(task, large=large), [First(), Second()], [1], sampling=FEW))
    assert again.xt.equal(small.xt) and small.xt[..., :4].equal(image[..., :4])
    assert kept.xt[..., :4].equal(large[..., :4]) and not free.xt[..., :4].allclose(large[..., :4], atol=0.1)
    refusal(lambda: run(replace(task, large=image), [First(), Second()], [1]), "image: is 1x3x8x8", "3x16x16")


def test_an_edit_is_of_every_picture_whenever_it_joins():
    image, half = randn(1, 3, 8, 8, seed=3).clamp(-1, 1), torch.ones(8)
    half[:4] = 0
    task = replace(BOAT, image=image, edit=lambda drawn, kept: half * drawn + (1 - half) * kept)
    together = last(run(replace(task, starts=[2, 0, 1]), First(), [4, 5, 6], sampling=FEW))
    for k, (start, seed) in enumerate(zip((2, 0, 1), (4, 5, 6), strict=True)):
        alone = last(run(replace(task, starts=[start]), First(), [seed], sampling=FEW))
        torch.testing.assert_close(together[k : k + 1], alone, rtol=0, atol=1e-5)
        assert alone[..., :4].equal(image[..., :4]) and not alone[..., 4:].allclose(image[..., 4:], atol=0.1)


# Nothing goes round it

HOME = Path(__file__).parent.parent
WITHIN = {"sampler.denoise": "drawing", "forward.Evaluation": "sampler", "sampling.threshold": "drawing"}
"""What makes a step of a run, and the one module that uses it."""


@cache
def meaning(dotted: str) -> object:
    """What a dotted name of the package stands for; None where it is none."""
    try:
        return pkgutil.resolve_name(dotted)
    except (ImportError, AttributeError, ValueError):  # the last: what an attribute is taken of is more than a name
        return None


def uses(source: str, package: str = "") -> set[str]:
    """Which of WITHIN a module uses, by whatever name: imported, under an alias, or as an attribute of a module."""
    tree, bound = ast.parse(source), defaultdict(set)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                for each in vars(meaning(module)) if name.name == "*" and meaning(module) else [name.name]:
                    bound[name.asname or each].add(f"{module}.{each}")
        elif isinstance(node, ast.Import):
            for name in node.names:
                bound[name.asname or name.name.partition(".")[0]].add(name.name if name.asname else name.name.partition(".")[0])
    dotted = {each for several in bound.values() for each in several}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            dotted |= {f"{each}.{rest}" for each in bound.get(first, ())}
    sought = {id(meaning(f"phosphene.{name}")): name for name in WITHIN}
    found = (meaning(each) for each in dotted if each.partition(".")[0] == "phosphene")
    return {sought[id(value)] for value in found if id(value) in sought}


@pytest.mark.parametrize(
    "source",
    [
        "from phosphene.sampler import denoise",
        "from phosphene import denoise as loop",
        "import phosphene\nphosphene.denoise(1)",
        "import phosphene as p\nloop = p.denoise",
        "import phosphene.sampler\nphosphene.sampler.denoise(1)",
        "def late():\n    from phosphene import sampler as s\n    s.denoise(1)",
        "from phosphene.drawing import denoise",
        "from phosphene.sampler import *",
        "from ..sampler import denoise",
        "from .. import sampler\nsampler.denoise(1)",
    ],
)
def test_whoever_uses_the_loop_is_found(source):
    assert "sampler.denoise" in uses(source, "phosphene.tasks")
    assert not uses(source.replace("denoise", "draw").replace("*", "draw"), "phosphene.tasks")


def test_nothing_goes_round_the_one_way_to_draw():
    """Nor do benchmarks, tools and notebooks; the modules that define these are not looked at."""
    users = defaultdict(set)
    for folder in ("src", "benchmarks", "tools"):
        for file in sorted((HOME / folder).rglob("*.py")):
            package = ".".join(file.relative_to(HOME / folder).parent.parts)
            for name in uses(file.read_text(encoding="utf-8"), package):
                users[name].add(f"{package}.{file.stem}")
    for file in (HOME / "examples").glob("*.ipynb"):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        lines = [line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()]
        for name in uses("\n".join(line for line in lines if not line.startswith(("%", "!")))):
            users[name].add(file.name)
    assert users == {name: {f"phosphene.{user}"} for name, user in WITHIN.items()}


def test_the_readme_s_python_runs(capsys):
    """Block after block in one namespace, with fewer steps."""
    text = (HOME / "README.md").read_text(encoding="utf-8")
    held: dict = {}
    for block in text.split("```python\n")[1:]:
        exec(block.partition("```")[0].replace('Sampling("dpm")', 'Sampling("dpm", 1, upscale_steps=1)').replace("16", "2"), held)
    assert held["picture"].shape == (1, 1, 28, 28)
