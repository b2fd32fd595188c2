"""The one way to draw: a :class:`Task` says what a picture is asked for, a ``Sampling`` how, :func:`run` does it.

Noise is taken from the pictures' own generators in one order: the start, the picture beside (second stage), then the
steps. So a picture depends on its seed alone, and not on what is drawn with it, nor on which of several processes draws it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from phosphene import sampler
from phosphene.autoguidance import Autoguided, autoguided
from phosphene.defaults import listed
from phosphene.errors import UserError, require_steps
from phosphene.expression import Asked, Expression, bent, picked
from phosphene.folds import Fold
from phosphene.guidance import PLAIN, Guidance
from phosphene.models.protocol import Denoiser
from phosphene.processes import ALONE, Place
from phosphene.reuse import Reusing, marked
from phosphene.sampler import Generators, Some, denoise, draw, generators
from phosphene.sampling import Sampling, threshold
from phosphene.schedule import CLEAN

Asks = Callable[[Denoiser, float], Asked]
"""From a stage and its guidance scale to what it is asked for."""


class Verdict(Protocol):
    """What a judge says of N pictures."""

    score: Tensor  # (N,), the higher the better


class Reading(NamedTuple):
    """A way of looking at the finished picture."""

    caption: str = ""
    look: Callable[[Tensor], Tensor] = lambda x: x  # from (B, C, H, W) to what is seen, of the same shape


@dataclass(frozen=True)
class Task:
    """What a picture is asked for. It knows no seed, no solver and no terminal: those are of a run."""

    asks: Asks
    image: Tensor | None = None
    """(1 or B, C, H, W), of the first stage's size and range: what the run starts from, or what ``edit`` keeps of."""
    starts: Sequence[int] | None = None
    """How many steps of the run are left out, for all pictures or for each: ``image`` is noised so far. None: pure noise."""
    edit: Callable[[Tensor, Tensor], Tensor] | None = None
    """After each step of the first stage: from what is drawn and ``image``, noised as far, to what takes its place."""
    steer: Callable[[Denoiser, Expression, sampler.Step], Expression] | None = None
    """After each step of the first stage: from what was asked and what is known, to what is asked next, on the same leaves."""
    large: Tensor | None = None
    """``image`` at the second stage's size: where given, ``edit`` keeps of it there too."""
    mix: Callable[[Tensor], Tensor] | None = None
    """From the noise of the seeds (S, C, H, W) to that of B pictures between them. On the way all have the first seed's."""
    small: Tensor | None = None
    """(B, C, h, w): pictures that are there already and are enlarged, by the second stage alone."""
    fold: Fold | None = None
    """Where given, a picture is several, as channels one after the other, and this makes their clean estimates agree."""
    judge: Callable[[Denoiser, Tensor, Sequence[int]], Verdict] | None = None
    """From a stage, pictures it drew, and which of the task's they are, to what is to be thought of them (a tuple)."""
    readings: Sequence[Reading] = (Reading(),)

    @property
    def stays(self) -> bool:
        """Whether it is kept near an image on the way; see :meth:`~phosphene.sampling.Sampling.of`."""
        return self.edit is not None

    @property
    def begins(self) -> bool:
        """Whether it starts from an image."""
        return self.starts is not None

    def part(self, rows: Sequence[int], count: int) -> Task:
        """What is asked of pictures ``rows`` of ``count`` alone, but for ``asks``: see :meth:`_Plan.part`."""
        if len(rows) == count:
            return self

        def own(several: Tensor | None) -> Tensor | None:
            return several if several is None or len(several) == 1 else several[list(rows)]

        starts = self.starts if self.starts is None or len(self.starts) == 1 else [self.starts[k] for k in rows]
        return replace(self, image=own(self.image), large=own(self.large), small=own(self.small), starts=starts)


class Step(NamedTuple):
    """What is known after a step of a run; see :class:`sampler.Step`. At ``t`` -1 pictures of a stage are finished."""

    index: int
    total: int
    t: int
    xt: Tensor
    x0: Tensor
    stage: int  # 0-based
    seeds: tuple[int, ...]  # each makes its picture of xt alone (of a mixture: those that were mixed)
    verdict: Verdict | None = None  # once the best are chosen: on all that there were


def best(score: Tensor, each: int) -> list[int]:
    """Of consecutive groups of ``each`` pictures, the index of the one with the highest score (of equal ones the first)."""
    groups = score.view(-1, each)
    return (groups.argmax(1).cpu() + torch.arange(len(groups)) * each).tolist()


def run(
    task: Task,
    model: object,
    seeds: Sequence[int],
    *,
    sampling: Sampling = Sampling(),
    best_of: int = 1,
    place: Place = ALONE,
) -> Iterator[Step]:
    """Draw ``task`` once for each seed with every stage of ``model``, and yield each step.

    ``model`` is a denoiser, a list of stages or what has some, such as a cascade; where its memory is short, call its
    ``encode`` and ``free_text`` before. A second stage enlarges what the first has drawn. Of each ``best_of`` consecutive
    seeds the one picture is kept that the task's judge scores highest after the first stage; a step more tells of it.
    It is the picture that its seed makes alone, at every stage. Whatever cannot be is refused before anything is drawn.

    Where ``place`` is one of several processes, all of which call this, each draws its share and is told the steps of that;
    in each the last step has all pictures.
    """
    stages = getattr(model, "stages", model)
    stages = list(stages) if isinstance(stages, Sequence) else [stages]
    seeds = tuple(int(seed) for seed in seeds)
    plans = [_Plan.of(task, stage, sampling) for stage in stages]
    for k, plan in enumerate(plans):
        if plan.enlarges != (k > 0 or task.small is not None):
            which, what = ("enlarges", "draws") if plan.enlarges else ("draws", "enlarges")
            raise UserError(
                f"stage: {which} pictures and {what} none; take a model with a {'first' if plan.enlarges else 'second'} stage."
            )
    if not seeds:
        raise UserError("--seed: none is given; give one for each picture.")
    if best_of < 1 or len(seeds) % best_of:
        raise UserError(f"--best-of {best_of}: one of so many is kept, and {len(seeds)} seeds cannot be parted so; give more.")
    if best_of > 1 and (task.judge is None or sampling.together):
        raise UserError(
            f"--best-of {best_of}: needs a task that says what is good, and pictures of their own seeds; leave it out."
        )
    _require_fit(task, plans, len(seeds))
    source = torch.Generator(_device(stages[0])).manual_seed(seeds[0]) if sampling.together else generators(seeds)
    return _drawn(task, plans, seeds, source, best_of, place)


def _drawn(
    task: Task, plans: list[_Plan], seeds: tuple[int, ...], source: Generators, best_of: int, place: Place
) -> Iterator[Step]:
    mixed, source, count = plans[0].begin(task, seeds, source)
    left = list(range(count))  # the task's pictures that are in the running,
    own: Sequence[int] = place.share(count)  # and those of them that are drawn here
    source, picture, verdict, step = _some(source, own, count), task.part(own, count).small, None, None
    for k, plan in enumerate(plans):
        own_seeds = seeds if task.mix else tuple(seeds[i] for i in own)
        noise = None if mixed is None else mixed[list(own)]
        part = task.part(own, count)
        for step in plan.part(own, count).steps(part, source, len(own), picture, noise) if own else ():
            picture = step.xt
            if step.t == CLEAN and place.world == 1:
                _require_finite(plan.stage, picture)
            yield Step(*step, k, own_seeds, verdict)
        if not own:
            picture = torch.empty(0, *plan.shape, device=_device(plan.stage))
        if best_of > 1 and verdict is None:
            verdict = place.joined(task.judge(plan.stage, picture, own) if own else None, count)
            left, whole = best(verdict.score, best_of), place.gathered(picture, count)
            source, own = place.generators(source, count), [left[i] for i in place.share(len(left))]
            picture, source = whole[own], [source[i] for i in own]
            if own:
                yield Step(step.index, step.total, CLEAN, picture, picture, k, tuple(seeds[i] for i in own), verdict)
    if place.world > 1:
        whole, kept = place.gathered(picture, len(left)), seeds if task.mix else tuple(seeds[i] for i in left)
        _require_finite(plans[-1].stage, whole)
        index, total = (0, 1) if step is None else step[:2]
        yield Step(index, total, CLEAN, whole, whole, len(plans) - 1, kept, verdict)


def _some(source: Generators, rows: Sequence[int], count: int) -> Generators:
    """Where the noise of pictures ``rows`` of ``count`` comes from."""
    if len(rows) == count:
        return source
    return Some(source, rows, count) if isinstance(source, torch.Generator) else [source[k] for k in rows]


def _require_finite(stage: Denoiser, picture: Tensor) -> None:
    """UserError where finished pictures hold NaN or infinity: what is seen of those is black."""
    if bool(picture.isfinite().all()):
        return
    network = getattr(stage, "network", None)
    half = network is not None and any(p.dtype == torch.float16 for p in network.parameters())
    why = "half precision overflowed; take --device cpu, or load the model with dtype=torch.float32"
    if not half:
        why = "its weights or the prompt embeddings are damaged, or --guidance is too high; check them: phosphene models verify"
    raise UserError(f"--model: what it drew holds numbers that are not finite (NaN), most likely because {why}.")


def _device(stage: Denoiser) -> torch.device:
    return torch.device(getattr(stage, "device", "cpu"))


def _require_fit(task: Task, plans: list[_Plan], count: int) -> None:
    """UserError where pictures or starts are not as the stages, the run or the seeds want them."""
    first = plans[0]
    if task.small is not None and len(task.small) != count:
        raise UserError(f"--seed: {count} seeds for {len(task.small)} images; give one seed for each.")
    for image, plan in zip((task.image, task.large), plans, strict=False):  # the second stage may not be there
        wanted = plan.stage.image_shape
        if image is not None and (tuple(image.shape[1:]) != wanted or len(image) not in (1, count)):
            shape, size = ("x".join(str(n) for n in of) for of in (image.shape, wanted))
            raise UserError(f"image: is {shape}; this stage draws {size}, and there must be one for all seeds or one for each.")
    if task.starts is None:
        return
    for start in task.starts:
        if not 0 <= start < len(first.times):
            raise UserError(f"--start {start}: must lie in 0..{len(first.times) - 1}, the steps of this run.")
    if len(task.starts) not in {1, count}:
        raise UserError(f"--start {listed(task.starts)}: {count} seeds for {len(task.starts)} starts; give one for each.")
    if len(set(task.starts)) > 1 and first.sampling.solver not in ("ancestral", "ddim"):
        # Those whose step depends on nothing but the picture before it, so that a picture may join a run under way.
        raise UserError(
            f"--solver {first.sampling.solver}: remembers its last step, and starts here have none; take ddim or ancestral."
        )


@dataclass(frozen=True)
class _Plan:
    """A stage with what it is asked for and how it is sampled."""

    stage: Denoiser
    sampling: Sampling
    asked: Asked
    times: list[int]
    fold: Fold | None = None

    @classmethod
    def of(cls, task: Task, stage: Denoiser, sampling: Sampling) -> _Plan:
        own = sampling.of(stage, task.stays, task.begins)
        if getattr(stage, "low_res_schedule", None) is not None and own.noise_level is not None:
            stage = replace(stage, noise_level=own.noise_level)
        times = own.visited(stage)
        own.table(stage)(stage.schedule, times)  # refuses timesteps that do not decrease
        interval = None if own.guidance_interval is None else tuple(own.guidance_interval)
        how = Guidance(interval, own.guidance_parallel, own.guidance_norm)
        asked = task.asks(stage, own.guidance)
        alone = getattr(asked, "ending", None)
        if alone is not None and alone > len(times) and getattr(stage, "low_res_schedule", None) is None:
            raise UserError(f"--last ...:{alone}: the run has {len(times)} steps; choose at most so many.")
        if isinstance(stage, Autoguided):
            asked = autoguided(asked)
        if own.guidance_every is not None and getattr(stage, "reads", True):
            require_steps("--guidance-every", own.guidance_every)
            stage, asked = Reusing(stage, own.guidance_every), marked(asked)
        return cls(stage, own, asked if how == PLAIN else bent(asked, how), times, task.fold)

    @property
    def enlarges(self) -> bool:
        return getattr(self.stage, "low_res_schedule", None) is not None

    @property
    def sheets(self) -> int:
        """How many pictures of the stage make one of the task's."""
        return 1 if self.fold is None else self.fold.sheets

    @property
    def shape(self) -> tuple[int, ...]:
        channels, *size = self.stage.image_shape
        return (self.sheets * channels, *size)

    def part(self, rows: Sequence[int], count: int) -> _Plan:
        """As it is for pictures ``rows`` of ``count``."""
        if len(rows) == count:
            return self
        return replace(self, asked=picked(self.asked, rows, count))

    def steps(
        self, task: Task, source: Generators, count: int, small: Tensor | None, noise: Tensor | None
    ) -> Iterator[sampler.Step]:
        """What this stage makes of ``small`` pictures, or else of ``noise``, which is of ``source`` where none is given."""
        if self.enlarges:
            return self.enlarged(task, small, source)
        return self.begun(task, self.noise(source, count) if noise is None else noise, source)

    def noise(self, source: Generators, count: int) -> Tensor:
        noise = draw(source, count, self.shape, _device(self.stage))
        return noise if self.fold is None else self.fold.noise(noise)

    def mended(self, x0: Tensor) -> Tensor:
        """Clean estimates, each sheet kept in range by itself, and then such as agree."""
        keep = threshold(self.stage) if self.sampling.threshold else None
        if keep is not None:
            x0 = keep(x0.unflatten(1, (self.sheets, -1)).flatten(0, 1)).unflatten(0, (-1, self.sheets)).flatten(1, 2)
        return x0 if self.fold is None else self.fold(x0)

    def sampled(self, xt: Tensor, source: Generators, start: int = 0, **more: object) -> Iterator[sampler.Step]:
        """:func:`~phosphene.sampler.denoise` from timestep number ``start`` of the run, at which ``xt`` is."""
        return denoise(
            self.stage,
            self.asked,
            xt,
            self.times[start:],
            solver=self.sampling.table(self.stage),
            threshold=self.mended,
            noised=None if self.fold is None else self.fold.noise,
            generators=source,
            max_rows=self.sampling.max_rows,
            **more,
        )

    def enlarged(self, task: Task, small: Tensor, source: Generators) -> Iterator[sampler.Step]:
        """Super-resolution: from pure noise, with the small pictures, noised once, beside (Ho et al. 2022)."""
        start, noise = (self.noise(source, len(small)) for _ in range(2))
        anchored = task.edit is not None and task.large is not None
        edit = partial(self.edited, task.edit, task.large.to(start), source) if anchored else None
        pairs = zip(small.to(start).chunk(self.sheets, 1), noise.chunk(self.sheets, 1), strict=True)
        return self.sampled(start, source, low_res=torch.cat([self.stage.low_res(*pair) for pair in pairs], 1), edit=edit)

    def begin(self, task: Task, seeds: Sequence[int], source: Generators) -> tuple[Tensor | None, Generators, int]:
        """The noise of a mixture, where later noise comes from, and of how many pictures."""
        if task.mix is None:
            return None, source, len(seeds)
        noise = task.mix(self.noise(source, len(seeds)))
        source = generators([seeds[0]] * len(noise))
        self.noise(source, len(noise))  # their own starts, whose place the mixture takes
        return noise, source, len(noise)

    def begun(self, task: Task, noise: Tensor, source: Generators) -> Iterator[sampler.Step]:
        """The steps of a first stage from ``noise``."""
        image = None if task.image is None else task.image.to(noise)
        edit = None if task.edit is None else partial(self.edited, task.edit, image, source)
        if task.starts is None:
            steer = None if task.steer is None else partial(task.steer, self.stage)
            return self.sampled(noise, source, edit=edit, steer=steer)
        if len(set(task.starts)) == 1:  # SDEdit (Meng et al. 2022)
            start = task.starts[0]
            return self.sampled(self.noised(image, start, noise), source, start, edit=edit)
        image = image.expand_as(noise)
        state = torch.cat([self.noised(image[k : k + 1], s, noise[k : k + 1]) for k, s in enumerate(task.starts)])
        return self.joining(task, state, image, source)

    def noised(self, image: Tensor, start: int, noise: Tensor) -> Tensor:
        return self.stage.schedule.add_noise(image, self.times[start], noise)

    def edited(self, edit: Callable, image: Tensor, source: Generators, step: sampler.Step) -> Tensor:
        if step.t == CLEAN:
            return edit(step.xt, image)
        return edit(step.xt, self.stage.schedule.add_noise(image, step.t, self.noise(source, len(step.xt))))

    def joining(self, task: Task, state: Tensor, image: Tensor, source: Sequence[torch.Generator]) -> Iterator[sampler.Step]:
        """From each start to the next: the pictures whose start has come, as one batch. Until then they cost nothing."""
        estimates, begun, index = state.clone(), sorted(set(task.starts)), 0
        total = len(self.sampling.table(self.stage)(self.stage.schedule, self.times[begun[0] :]))
        for begin, end in zip(begun, [*begun[1:], None], strict=True):
            active = [k for k, start in enumerate(task.starts) if start <= begin]
            own = [source[k] for k in active]
            edit = None if task.edit is None else partial(self.edited, task.edit, image[active], own)
            for step in self.part(active, len(state)).sampled(state[active], own, begin, edit=edit):
                state, estimates = state.clone(), estimates.clone()  # what was yielded stays as it was
                state[active], estimates[active] = step.xt, step.x0
                yield sampler.Step(index, total, step.t, state, estimates)
                index += 1
                if end is not None and step.t == self.times[end]:
                    break
