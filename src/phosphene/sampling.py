"""How pictures are drawn, whatever they are asked for, as a value: solver, steps, guidance, thresholding."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, get_type_hints

from phosphene import sampler
from phosphene.defaults import IF_USUAL, OWN_ENLARGING, SOLVERS, UPSCALE_GUIDANCE, Usual
from phosphene.errors import UserError, require_eta, require_number, require_one_of
from phosphene.models.protocol import Denoiser
from phosphene.sampler import Solver, Threshold, ancestral, clamp, ddim


class Sampling(NamedTuple):
    """How pictures are drawn, whatever they are asked for. ``upscale_...`` and ``noise_level`` are of the second stage."""

    solver: str | None = None  # None: the model's own, for what is drawn; see :meth:`of`
    steps: int | None = None  # timesteps to visit; None: those of the model or, where a solver is named, see defaults.SOLVERS
    eta: float | None = None  # of ddim, the share of fresh noise, 0..1; None is 0
    resample: int = 1  # see sampler.resampled
    timesteps: Sequence[int] | None = None  # decreasing; None: ``steps`` of them, spaced as the model's scheduler does
    guidance: float | None = None  # None: the model's own
    threshold: bool = True  # clean estimates are kept in range as the model's scheduler does; False: left as they are
    upscale_guidance: float = UPSCALE_GUIDANCE
    upscale_solver: str | None = None  # None: that of the first, or dpm where the stage reads no prompt
    upscale_steps: int | None = None  # None: as many as the first stage takes, or 8 where the stage reads no prompt
    noise_level: int | None = None  # how much the second stage may change; None: the model's own
    max_rows: int | None = None  # of a forward pass
    guidance_interval: Sequence[int] | None = None  # these three: see guidance.Guidance
    guidance_parallel: float = 1.0
    guidance_norm: float | None = None
    guidance_every: int | None = None  # what guidance leads away from, at every so many-th step alone; see reuse.Reusing
    together: bool = False  # one generator on the model's device, of the first seed, for all: quick, for statistics alone

    def of(self, stage: Denoiser, stays: bool = False, begins: bool = False) -> Sampling:
        """How ``stage`` is sampled: as it says, what it leaves open as the model says, and what is the second stage's own.

        What ``begins`` with an image takes as many steps as Part A counts its starts on; what ``stays`` with one, being edited
        towards it on the way, walks Part A's ancestral path. UserError where what must be a number is none.
        """
        for name, whole in _NUMBERS.items():
            if (value := getattr(self, name)) is not None:
                require_number(f"--{name.replace('_', '-')}", value, whole)
        for name in ("timesteps", "guidance_interval"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, str) or not isinstance(value, Sequence)):
                raise UserError(f"--{name.replace('_', '-')} {value!r}: is no list of whole numbers; give one.")
        usual, own = getattr(stage, "usual", IF_USUAL), self
        if usual.timesteps is not None:
            return own._of_a_distilled(usual, stays or begins)
        if own.guidance is None:
            own = own._replace(guidance=usual.guidance)
        if own.guidance_interval is None:
            own = own._replace(guidance_interval=usual.guidance_interval)
        if own.solver is None:
            solver, steps = IF_USUAL[:2] if stays else (usual.begins, None) if begins else usual[:2]
            solver, steps = (solver, steps) if own.eta is None else ("ddim", None)
            few = steps is not None and own.steps is None and own.timesteps is None
            own = own._replace(solver=solver, steps=min(steps, stage.schedule.steps) if few else own.steps)
        return own if getattr(stage, "low_res_schedule", None) is None else own._of_the_second(stage)

    def _of_a_distilled(self, usual: Usual, stays: bool) -> Sampling:
        """As it was taught: UserError where another solver, other timesteps or other guidance is asked for."""
        if stays:
            told = f"is distilled to {len(usual.timesteps)} steps from pure noise, and this is not"
            raise UserError(f"--model: {told}; {usual.instead}.")
        own = {"solver": usual.solver, "timesteps": usual.timesteps, "guidance": usual.guidance}
        only = own | {"resample": 1, "guidance_parallel": 1.0}
        only |= dict.fromkeys(("steps", "eta", "guidance_interval", "guidance_norm", "guidance_every"))
        for name, value in only.items():
            given = getattr(self, name)
            if given is not None and given != value and not (name == "timesteps" and tuple(given) == value):
                taught = f"is distilled to {usual.solver} at {','.join(map(str, usual.timesteps))}, its guidance built in"
                said = ",".join(map(str, given)) if isinstance(given, Sequence) else given
                raise UserError(f"--{name.replace('_', '-')} {said}: the model {taught}; leave it out, or {usual.instead}.")
        return self._replace(**own)

    def _of_the_second(self, stage: Denoiser) -> Sampling:
        own = self
        if not stage.reads:
            usual = getattr(stage, "usual", IF_USUAL)
            solver, steps, *_ = OWN_ENLARGING if usual == IF_USUAL else usual
            own = self._replace(solver=solver, steps=steps, eta=None, resample=1, timesteps=None)
        if self.upscale_solver is not None:
            own = own._replace(solver=self.upscale_solver, eta=None)
        if self.upscale_steps is not None:
            if not 1 <= self.upscale_steps <= stage.schedule.steps:
                raise UserError(f"--upscale-steps {self.upscale_steps}: must lie in 1..{stage.schedule.steps}.")
            own = own._replace(steps=self.upscale_steps, timesteps=None)
        return own._replace(guidance=self.upscale_guidance)

    def table(self, stage: Denoiser | None = None) -> Solver:
        """The solver; of ``stage``, the ancestral one has the variance it was made for. UserError where options do not fit."""
        name = self.solver or IF_USUAL.solver
        require_one_of("--solver", name, sampler.SOLVERS)
        chosen = sampler.SOLVERS[name]
        if self.eta is not None:
            require_eta(self.eta, self.solver or "ddim")
            chosen = partial(ddim, eta=self.eta)
        if chosen is ancestral and hasattr(stage, "scheduler"):
            kinds = {"learned_range": "auto", "fixed_small": "small", "fixed_large": "large"}
            chosen = partial(ancestral, variance=kinds[stage.scheduler.variance_type])
        return sampler.resampled(chosen, self.resample)

    def visited(self, stage: Denoiser) -> list[int]:
        """The timesteps that a run of ``stage`` leads through, decreasing; of the :meth:`of` that says all."""
        self.table()  # refuses a solver that is none
        if self.timesteps is not None:
            if any(t >= stage.schedule.steps for t in self.timesteps):
                timesteps, most = ",".join(map(str, self.timesteps)), stage.schedule.steps - 1
                raise UserError(f"--timesteps {timesteps}: must lie in 0..{most}, the model's timesteps.")
            return list(self.timesteps)
        scheduler = getattr(stage, "scheduler", None)
        usual = SOLVERS.get(self.solver, SOLVERS["ddim"])[scheduler is None]  # a new solver takes as many as ddim
        count = min(usual, stage.schedule.steps) if self.steps is None else self.steps
        return stage.schedule.timesteps(count, "linspace" if scheduler is None else scheduler.timestep_spacing)


_KINDS = {int: True, int | None: True, float: False, float | None: False}
_NUMBERS = {name: _KINDS[kind] for name, kind in get_type_hints(Sampling).items() if kind in _KINDS}
"""Fields of a Sampling that are one number each, and whether that must be a whole one."""


def threshold(stage: Denoiser) -> Threshold | None:
    """What is done to clean estimates: what the stage's scheduler says, or what keeps them in the model's range."""
    scheduler = getattr(stage, "scheduler", None)
    if scheduler is None:
        return clamp(*stage.value_range)
    if scheduler.thresholding:
        return sampler.dynamic_threshold(scheduler.dynamic_thresholding_ratio, scheduler.sample_max_value)
    return clamp(-scheduler.clip_sample_range, scheduler.clip_sample_range) if scheduler.clip_sample else None
