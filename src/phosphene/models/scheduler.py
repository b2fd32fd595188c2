"""What a ``scheduler_config.json`` of diffusers says of a model: its schedule, what it predicts, how it is kept in range."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from phosphene.errors import UserError
from phosphene.models.diffusers_files import read_json
from phosphene.models.folders import AGAIN
from phosphene.readers import first_line
from phosphene.schedule import NoiseSchedule, linear, squared_cosine


class Scheduler(NamedTuple):
    """What a ``scheduler_config.json`` says of a model. The defaults are those of diffusers' DDPMScheduler."""

    num_train_timesteps: int = 1000
    beta_schedule: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    trained_betas: Sequence[float] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: str = "epsilon"
    variance_type: str = "fixed_small"
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    sample_max_value: float = 1.0
    clip_sample: bool = True
    clip_sample_range: float = 1.0
    timestep_spacing: str = "leading"
    steps_offset: int = 0

    @classmethod
    def read(cls, path: Path) -> Scheduler:
        """The settings in the file ``path``; UserError where they ask for what this package does not do."""
        config = read_json(path)
        if config.get("_class_name") not in CLASSES:
            name = config.get("_class_name")
            raise UserError(f"{path}: is of {name}, whose schedule is not known here; only {' and '.join(CLASSES)} are.")
        for name, usual in cls._field_defaults.items():
            kind = int | float if type(usual) is float else type(usual)
            value = config.get(name, usual)
            if usual is not None and not (isinstance(value, kind) and isinstance(value, bool) == isinstance(usual, bool)):
                raise UserError(f"{path}: {name} {value!r} is not supported; it should be like {usual!r}.")
        scheduler = cls(**{name: config[name] for name in cls._fields if name in config})
        for name, known in _KNOWN.items():
            if getattr(scheduler, name) not in known:
                choices = ", ".join(str(value) for value in known)
                raise UserError(f"{path}: {name} {getattr(scheduler, name)!r} is not supported; it should be {choices}.")
        for name, (least, most) in _RANGES.items():
            if not least <= (value := getattr(scheduler, name)) <= most:
                raise UserError(f"{path}: {name} {value} is not supported; it should lie in {least:g}..{most:g}.")
        return scheduler

    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the model was trained with."""
        if self.beta_schedule == "linear":
            return linear(self.num_train_timesteps, self.beta_start, self.beta_end)
        return squared_cosine(self.num_train_timesteps)

    def noise(self, schedule: NoiseSchedule, xt: Tensor, t: Tensor, answer: Tensor) -> Tensor:
        """The noise estimate, from what the network answers. The one place that knows what networks predict."""
        if self.prediction_type == "epsilon":
            return answer
        signal, sigma = schedule.signal_and_noise(t, xt)
        if self.prediction_type == "sample":
            return (xt - signal * answer) / sigma
        return signal * answer + sigma * xt  # v_prediction: signal * noise - sigma * x0 (Salimans & Ho 2022)


CLASSES = ("DDPMScheduler", "DDIMScheduler")
"""Whose settings mean what they mean here. Others (FlowMatchEulerDiscreteScheduler, EDM...) leave out what they do otherwise."""

_KNOWN = {
    "beta_schedule": ("squaredcos_cap_v2", "linear"),
    "trained_betas": (None,),
    "rescale_betas_zero_snr": (False,),
    "prediction_type": ("epsilon", "sample", "v_prediction"),
    "variance_type": ("learned_range", "fixed_small", "fixed_large"),
    "timestep_spacing": ("leading", "linspace", "trailing"),
    "steps_offset": (0,),
}
_RANGES = {"dynamic_thresholding_ratio": (0, 1), "sample_max_value": (1, 1000), "clip_sample_range": (1e-3, 1000)}
"""Beyond, what is kept of each clean estimate is a picture of one colour, or no number."""


def read_schedule(folder: Path) -> tuple[Scheduler, NoiseSchedule]:
    path = folder / "scheduler_config.json"
    scheduler = Scheduler.read(path)
    try:
        return scheduler, scheduler.schedule()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: describes no noise schedule ({first_line(error)}); {AGAIN}.") from error
