"""What all commands that draw from text share: their options, how a model is opened, how a run is shown and told of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from phosphene.cli import common
from phosphene.cli.common import Device, Eta, Guidance, Resample, Seed, SolverName, app
from phosphene.errors import UserError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from phosphene.models.cascade import Cascade
    from phosphene.models.stage import Stage
    from phosphene.sampler import Step
    from phosphene.tasks.generate import Settings


@dataclass
class Drawing:
    """The options of a command that draws from text, by their names on the command line."""

    model: Annotated[str, typer.Option(help="A cascade: its name, its folder, or OWNER/NAME on the hub.")] = "glyph"
    steps: Annotated[int | None, typer.Option(help="Timesteps of the first stage; by default 34 (20 of dpm and heun).")] = None
    timesteps: Annotated[str | None, typer.Option(help="The timesteps themselves, such as 990,960,930,...,0.")] = None
    solver: SolverName = "ancestral"
    eta: Eta = None
    resample: Resample = None
    guidance: Guidance = 7.0
    negative: Annotated[str, typer.Option(help="What to stay away from.")] = ""
    seed: Seed = 180
    upscale: Annotated[bool, typer.Option(help="Go on to the second stage, where the model has one.")] = True
    upscale_steps: Annotated[
        int | None,
        typer.Option(min=1, help="Of the second stage; by default 8 (dpm) of glyph, else as --steps."),
    ] = None
    noise_level: Annotated[
        int | None, typer.Option(help="How much the second stage may change: by default 100 of glyph, 250 of DeepFloyd IF.")
    ] = None
    threshold: Annotated[bool, typer.Option(help="Keep clean estimates in range, as the model's scheduler says.")] = True
    embeddings: Annotated[Path | None, typer.Option(help="A .pth file of prompt embeddings, instead of a text encoder.")] = None
    text_encoder: Annotated[str, typer.Option(help="auto, or none: only prompts of --embeddings or encoded before.")] = "auto"
    offload: Annotated[str, typer.Option(help="none, stages or layers: what waits in main memory until it is needed.")] = "none"
    device: Device = "auto"

    def check(self) -> None:
        """UserError where options contradict each other; before anything heavy is imported."""
        if self.timesteps is not None and self.steps is not None:
            raise UserError(f"--steps {self.steps}: --timesteps says which already; leave one of the two out.")
        for name, value in (("--upscale-steps", self.upscale_steps), ("--noise-level", self.noise_level)):
            if value is not None and not self.upscale:
                raise UserError(f"{name} {value}: is of the second stage, and only the first draws here; leave it out.")
        if self.text_encoder not in ("auto", "none"):
            raise UserError(f"--text-encoder {self.text_encoder}: choose auto or none.")
        self.visited()

    def visited(self) -> list[int] | None:
        return None if self.timesteps is None else common.numbers("--timesteps", self.timesteps, int, "990,960,930")

    def open(self, prompts: Sequence[str | None]) -> Cascade:
        """The model, with ``prompts`` encoded and the text encoder let go of."""
        from phosphene.files import cache_folder
        from phosphene.models.cascade import open_cascade

        self.settings()  # refuses a solver that is none
        said = {"embeddings": self.embeddings, "text": self.text_encoder == "auto", "cache": cache_folder() / "prompts"}
        place = common.device(self.device)
        said |= {"stages": 2 if self.upscale else 1, "offload": self.offload}
        cascade: Cascade = common.kept((self.model, str(place), *said.items()), lambda: open_cascade(self.model, place, **said))
        cascade.encode([*prompts, self.negative])
        cascade.free_text()
        for name, value in (("--upscale-steps", self.upscale_steps), ("--noise-level", self.noise_level)):
            if value is not None and len(cascade.stages) == 1:
                raise UserError(f"{name} {value}: is of a second stage, and {self.model} has none; leave it out.")
        if self.noise_level is not None:
            stages = [s if s.noising is None else replace(s, noise_level=self.noise_level) for s in cascade.stages]
            cascade = replace(cascade, stages=tuple(stages))
        self.manners(cascade.stages)  # refuses what the second stage cannot do before the first has drawn
        return cascade

    def settings(self) -> Settings:
        from phosphene.sampler import Route
        from phosphene.tasks.generate import Settings

        route = Route(self.solver, self.steps, self.eta, self.resample or 1)
        route.table()
        return Settings(route, self.visited(), self.threshold, max_rows=64)

    def manners(self, stages: Sequence[Stage]) -> list[Settings]:
        """How each of ``stages`` is sampled."""
        from phosphene.tasks.generate import ENLARGING

        first = self.settings()
        own = ENLARGING._replace(max_rows=first.max_rows, thresholded=first.thresholded)
        second = first if stages[-1].reads else own
        if self.upscale_steps is not None:
            most = stages[-1].schedule.steps
            if self.upscale_steps > most:
                raise UserError(f"--upscale-steps {self.upscale_steps}: must lie in 1..{most}.")
            second = second._replace(route=second.route._replace(steps=self.upscale_steps), timesteps=None)
        return [first, *[second] * (len(stages) - 1)]

    def scales(self) -> tuple[float, float]:
        """Guidance of the two stages."""
        from phosphene.tasks.generate import GUIDANCE

        return (self.guidance, GUIDANCE[1])

    def told(self) -> dict[str, Any]:
        """For the provenance; the model is told apart."""
        told = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "model"}
        place = str(common.device(self.device))
        return told | {"embeddings": None if self.embeddings is None else str(self.embeddings), "device": place}


def drawing_command(command: Callable) -> Callable:
    """A command whose parameter ``drawing`` stands for all options of :class:`Drawing`."""
    hints = get_type_hints(command, include_extras=True)
    shared = get_type_hints(Drawing, include_extras=True)

    @wraps(command)
    def whole(**values: Any) -> None:
        drawing = Drawing(**{field.name: values.pop(field.name) for field in fields(Drawing)})
        drawing.check()
        command(drawing=drawing, **values)

    parameters = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name != "drawing":
            parameters.append(parameter.replace(annotation=hints[parameter.name], kind=parameter.KEYWORD_ONLY))
            continue
        for field in fields(Drawing):
            keyword = {"default": field.default, "annotation": shared[field.name]}
            parameters.append(inspect.Parameter(field.name, parameter.KEYWORD_ONLY, **keyword))
    whole.__signature__ = inspect.Signature(parameters)
    whole.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del whole.__wrapped__
    return app.command()(whole)


def require_prompts(prompts: Sequence[str]) -> None:
    if any(not prompt.strip() for prompt in prompts):
        raise UserError('PROMPT "": is empty; say what to draw.')


def finished(steps: Iterator[Step], what: str = "drawing") -> Tensor:
    """The finished pictures of a run, shown with a bar meanwhile; of several stages those of the last."""
    pictures = None
    for step in common.shown(steps, what):
        if step.t < 0:
            pictures = step.xt
    return pictures


def write(picture: Image.Image, out: Path, command: str, drawing: Drawing, arguments: Mapping[str, Any]) -> None:
    """Write ``picture`` with what made it."""
    from phosphene.images import save_png

    save_png(picture, out, common.provenance(command, drawing.model, {**arguments, **drawing.told()}))
