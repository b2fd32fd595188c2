"""What all commands that draw share: their options, how a model is opened, how a run is shown and told of."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from phosphene.cli import common, options
from phosphene.cli.common import app
from phosphene.defaults import (
    ADAPTED_USUAL,
    CASCADE,
    FAST,
    IF_USUAL,
    MOST_STEPS,
    NOISE_LEVEL,
    OFFLOADS,
    OWN_ENLARGING,
    OWN_NOISE_LEVEL,
    OWN_USUAL,
    QUANTIZED,
    SEED,
    SHAPES,
    SKIP,
    SOLVERS,
    UPSCALE_GUIDANCE,
    listed,
)
from phosphene.errors import UserError, require_eta, require_finite, require_timesteps

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Sampling, Step, Task
    from phosphene.models.cascade import Cascade

CELL = 256
"""Pixels of a picture on a sheet, at least."""
USUAL = ", ".join(f"{steps.cascade} ({name})" for name, steps in SOLVERS.items())
LEVELS = f"{OWN_NOISE_LEVEL} of glyph, {NOISE_LEVEL} of DeepFloyd IF"

_NEAR = f"{IF_USUAL.solver} of DeepFloyd IF and near an image"
_SOLVER = f"{OWN_USUAL.solver} of glyph, {_NEAR}, {ADAPTED_USUAL.begins} of edits without a prompt and with --eta"
_SCALE = f"{OWN_USUAL.guidance:g} of glyph, {IF_USUAL.guidance:g} of DeepFloyd IF"
Solver = Annotated[str | None, options.chosen(SOLVERS, f"by default {_SOLVER}")]
Steps = Annotated[
    int | None,
    options.steps_of(
        f"of the first stage; by default {OWN_USUAL.steps} of glyph, "
        f"{SOLVERS[IF_USUAL.solver].cascade} of what begins with an image or keeps to one, or what is usual for --solver: {USUAL}"
    ),
]
Scale = Annotated[float | None, options.checked(f"Classifier-free guidance, 1 is none; by default {_SCALE}.", require_finite)]
"""Of a cascade: where nothing is said, they are its own."""


@dataclass
class Options:
    """What commands that draw share: options by their names on the command line, and what is told of a picture."""

    solver: options.SolverName = None
    steps: options.Steps = None
    eta: options.Eta = None
    resample: options.Resample = None
    guidance: options.Guidance = None
    guidance_interval: options.GuidanceInterval = None
    guidance_parallel: options.GuidanceParallel = None
    guidance_norm: options.GuidanceNorm = None
    guidance_every: options.GuidanceEvery = None
    seed: options.Seed = SEED
    device: options.Device = "auto"
    sheet: options.Sheet = False
    model: str = ""
    # No options: what :func:`drawing_command` says of the command, and how :meth:`settled` found that a model is sampled.
    command, out, arguments, used = "", Path(), {}, {}

    def check(self) -> None:
        """UserError where options contradict each other; before anything heavy is imported."""
        require_eta(self.eta, self.solver or "ddim")  # of ambigrams, where none is named, that is the usual one
        from phosphene.guidance import Guidance

        Guidance(**{name.removeprefix("guidance_"): value for name, value in self.bends().items()})

    def bends(self) -> dict[str, Any]:
        """How guidance is bent, as a :class:`~phosphene.drawing.Sampling` has it, as far as it is said."""
        text, option = self.guidance_interval, "--guidance-interval"
        interval = None if text is None else tuple(common.numbers(option, text, int, "200,800"))
        every = {"guidance_interval": interval, "guidance_parallel": self.guidance_parallel, "guidance_norm": self.guidance_norm}
        return {name: value for name, value in every.items() if value is not None}

    def require_unbent(self, *others: str, where: str = "at --guidance 1") -> None:
        """UserError where one of the ``others`` or a bend says how to guide, and nothing does."""
        for name in (*others, *self.bends(), *(["guidance_every"] if self.guidance_every else [])):
            option, value = f"--{name.replace('_', '-')}", getattr(self, name)
            raise UserError(f"{option} {value}: says how to guide, and {where} nothing does; leave one of the two out.")

    def given(self) -> dict[str, Any]:
        """Options that are a :class:`~phosphene.drawing.Sampling`'s."""
        from phosphene.drawing import Sampling

        plain = {name: getattr(self, name) for name in Sampling._fields if getattr(self, name, None) is not None}
        return plain | self.bends()

    def by_name(self) -> dict[str, Any]:
        """All options, by name."""
        return {option.name: getattr(self, option.name) for option in fields(self)}

    def sampling(self) -> Sampling:
        from phosphene.drawing import Sampling

        return Sampling(**self.given(), max_rows=common.max_rows(common.device(self.device)))

    def draw(self, task: Task, model: object, seeds: Sequence[int] | None = None, made: int | None = None, **how: Any) -> Step:
        """The last step of a run of ``task``; of --seed alone where no ``seeds`` are named.

        ``made``: how many pictures come of it, where these are not one for each seed.
        """
        from phosphene.drawing import run

        seeds = [self.seed] if seeds is None else seeds
        if "sampling" not in how:
            how["sampling"] = self.settled(task, model)
        self.require_room(len(seeds) // how.get("best_of", 1) if made is None else made)
        how["place"] = common.place(self.device)
        return common.finished(run(task, model, seeds, **how))

    def require_apart(self, path: Path) -> None:
        """UserError where a picture at ``path`` would take the place of one of the files that the command reads."""
        for name, file in _files(self.arguments | self.by_name()).items():
            if path.exists() and file.exists() and path.samefile(file):
                raise UserError(f"-o {self.out}: {path.name} is what it is made of ({name}); choose another name.")

    def require_room(self, count: int) -> None:
        """UserError where ``count`` pictures beside a sheet would take the place of files that phosphene did not make."""
        from phosphene.readers import read_provenance

        if count == 1 and not self.sheet:
            return  # no sheet, and nothing beside it
        for path in filter(Path.exists, (common.numbered(self.out, number, count) for number in range(1, count + 1))):
            self.require_apart(path)
            try:
                read_provenance(path)
            except UserError as error:
                lost = f"{path.name} beside it is no picture of phosphene's and would be lost"
                raise UserError(f"-o {self.out}: {lost}; choose another name.") from error

    def settled(self, task: Task, model: object) -> Sampling:
        """How ``model`` is sampled, with what was left open said: the picture tells of it as it was ``used``."""
        whole = self.sampling().of(getattr(model, "stages", [model])[0], task.stays, task.begins)
        self.used = {name: getattr(whole, name) for name in ("solver", "steps", "guidance")}
        sampling = self.sampling()._replace(**self.used)
        if whole.guidance_interval is not None and whole.guidance != 1:  # as the option has it, so that it can be asked for again
            self.used["guidance_interval"] = listed(whole.guidance_interval)
        return sampling

    def save(self, pictures: Sequence[Image.Image], whole: Callable[[], Image.Image]) -> str:
        """Write what was drawn, and what made it; what is to be said of it.

        A picture alone is ``out``, at its own size with nothing around it. Of several, or with --sheet, the sheet that
        ``whole`` makes is, and they lie beside it, numbered; none, where they are nothing without the others. Of several
        processes one writes; for the others the command ends here.
        """
        if not common.leads():
            raise typer.Exit
        from phosphene.images import save_png

        out, count = self.out, len(pictures)
        self.require_room(count)
        arguments = self.arguments | self.by_name() | self.used
        story = common.provenance(self.command, self.model, described(arguments, self.device))
        story |= {"inputs": digests} if (digests := inputs(arguments)) else {}
        if count == 1 and not self.sheet:
            save_png(pictures[0], out, story)
            return f"1 picture in {out}"
        save_png(whole(), out, story)
        if not pictures:
            return f"pictures in {out}"
        for number, picture in enumerate(pictures, 1):
            save_png(picture, common.numbered(out, number, count), {**story, "number": [number, count]})
        ends = " to ".join(dict.fromkeys(str(common.numbered(out, number, count)) for number in (1, count)))
        return f"{common.several(count, 'picture')} in {out}, and alone in {ends}"


@dataclass
class Drawing(Options):
    """The options of a command that draws from text."""

    model: options.CascadeName = CASCADE
    solver: Solver = None
    steps: Steps = None
    guidance: Scale = None
    timesteps: Annotated[str | None, typer.Option(help="The timesteps themselves, such as 990,960,930,...,0.")] = None
    negative: Annotated[str, typer.Option(help="What to stay away from.")] = ""
    autoguidance: options.Autoguidance = None
    upscale: Annotated[bool, typer.Option(help="Go on to the second stage, where the model has one.")] = True
    upscale_guidance: Annotated[
        float | None,
        options.checked(f"Of a second stage that reads the prompt; {UPSCALE_GUIDANCE:g} by default.", require_finite),
    ] = None
    upscale_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_STEPS,
            help=f"Of the second stage; by default {OWN_ENLARGING.steps} (dpm) of glyph, 4 of {FAST}, else as --steps.",
        ),
    ] = None
    noise_level: Annotated[
        int | None, typer.Option(min=0, max=MOST_STEPS, help=f"How much the second stage may change; by default {LEVELS}.")
    ] = None
    threshold: Annotated[bool, typer.Option(help="Keep clean estimates in range, as the model's scheduler says.")] = True
    embeddings: options.Embeddings = None
    text_encoder: options.TextEncoder = "auto"
    offload: Annotated[str, options.chosen(OFFLOADS, "what waits in main memory until it is needed")] = "none"
    quantize: Annotated[str, options.chosen(QUANTIZED, "weights of DeepFloyd IF in half the memory, a little off")] = "none"
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the networks; on a GPU, a minute once.")] = False

    def check(self) -> None:
        super().check()
        if self.timesteps is not None and self.steps is not None:
            raise UserError(f"--steps {self.steps}: --timesteps says which already; leave one of the two out.")
        for name, value in self.of_the_second():
            if not self.upscale:
                raise UserError(f"{name} {value}: is of the second stage, and only the first draws here; leave it out.")
        self.visited()

    def visited(self) -> list[int] | None:
        if self.timesteps is None:
            return None
        steps = common.numbers("--timesteps", self.timesteps, int, "990,960,930", MOST_STEPS)
        require_timesteps("--timesteps", steps)
        return steps

    def open(self, prompts: Sequence[str | None]) -> Cascade:
        """The model, with ``prompts`` encoded and the text encoder let go of."""
        from phosphene.files import cache_folder
        from phosphene.models.cascade import open_cascade
        from phosphene.models.text import PromptRemark, tidy

        how = {"embeddings": self.embeddings, "text": self.text_encoder == "auto", "cache": cache_folder() / "prompts"}
        place = common.device(self.device)
        how |= {"stages": 2 if self.upscale else 1, "offload": self.offload, "compiled": self.compiled, "quantize": self.quantize}
        cascade: Cascade = common.cached((self.model, str(place), *how.items()), lambda: open_cascade(self.model, place, **how))
        self.require_use(cascade)
        asked = list(dict.fromkeys([*prompts, *([self.negative] if self.guides(cascade) else [])]))
        with warnings.catch_warnings(action="ignore", category=PromptRemark):  # it is said below, each time
            if self.autoguidance is not None:
                cascade = self.autoguided(cascade, asked, **how | {"stages": 1})
            cascade.encode(asked)
        cascade.free_text()
        for prompt in asked:
            for remark in cascade.text.remarks.get(tidy(prompt or ""), ()):
                common.say(remark)
        return cascade

    def autoguided(self, cascade: Cascade, asked: Sequence[str | None], **how: Any) -> Cascade:
        """``cascade``, whose first stage is guided by a weaker one that knows the prompts ``asked``; ``how`` that is opened."""
        from phosphene.autoguidance import Autoguided, without_block
        from phosphene.models.cascade import open_cascade

        first, *rest = cascade.stages
        if self.autoguidance.startswith(SKIP):
            weak = without_block(first, self.autoguidance)
        else:
            weaker = open_cascade(self.autoguidance, common.device(self.device), **how)
            weaker.encode([*asked, None])  # of which Autoguided asks for the shape
            weaker.free_text()
            (weak,) = weaker.stages
        return replace(cascade, stages=(Autoguided(first, weak, self.autoguidance), *rest))

    def require_use(self, cascade: Cascade) -> None:
        """UserError where an option was given that changes nothing of what ``cascade`` draws."""
        for name, value in self.of_the_second():
            if len(cascade.stages) == 1:
                raise UserError(f"{name} {value}: is of a second stage, and {self.model} has none; leave it out.")
        if self.upscale_guidance is not None and not cascade.stages[1].reads:
            raise UserError(
                f"--upscale-guidance {self.upscale_guidance:g}: the second stage of {self.model} reads no prompt, and so nothing "
                "guides it; leave it out."
            )
        if not self.guides(cascade):
            distilled = cascade.stages[0].usual.timesteps is not None
            where = {"where": f"in {self.model}, which is distilled,"} if distilled else {}
            self.require_unbent(*(name for name in ("negative", "autoguidance") if getattr(self, name)), **where)

    def guides(self, cascade: Cascade) -> bool:
        """Whether a stage that reads text is asked for what to stay away from: at guidance 1 it is not."""
        sampling = self.sampling()
        return any(sampling.of(stage).guidance != 1 for stage in cascade.stages if stage.reads)

    def of_the_second(self) -> list[tuple[str, float]]:
        """Options of the second stage that were given, with their values."""
        names = ("upscale_guidance", "upscale_steps", "noise_level")
        return [(f"--{n.replace('_', '-')}", value) for n in names if (value := getattr(self, n)) is not None]

    def sampling(self) -> Sampling:
        return super().sampling()._replace(timesteps=self.visited(), max_rows=64)


def _require_prompts(prompts: Sequence[str]) -> None:
    """UserError where one of ``prompts`` is empty, or what the shell made of one without its quotes."""
    if any(not prompt.strip() for prompt in prompts):
        raise UserError('PROMPT "": is empty; say what to draw.')
    for article, noun in pairwise(prompts):
        if article.lower() in ("a", "an", "the") and len(noun) > 1:
            raise UserError(f'PROMPT {article} {noun}: are two prompts; put one into quotes: "{article} {noun}".')


def drawing_command(usual: str) -> Callable[[Callable], Callable]:
    """For a command whose parameter ``drawing`` stands for all options of its class, one of :class:`Options`, and for --out.

    Its arguments go into the provenance of what it draws. ``usual`` is where that goes if nobody says; where --out names a
    folder, it is a file in it.
    """

    def declared(command: Callable) -> Callable:
        hints = get_type_hints(command, include_extras=True)
        kind, name = hints["drawing"], command.__name__.replace("_", "-")
        shared, known = get_type_hints(kind, include_extras=True), fields(kind)

        def whole(out: Path, **values: Any) -> None:
            drawing = kind(**{option.name: values.pop(option.name) for option in known})
            drawing.check()
            _require_prompts(values.get("prompts", ()))
            drawing.command, drawing.arguments = name, values
            drawing.out = common.destination(out, name)
            drawing.require_apart(drawing.out)
            command(drawing=drawing, **values)

        def parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
            return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

        own = [each for each in inspect.signature(command).parameters.values() if each.name != "drawing"]
        parameters = [parameter(each.name, each.default, hints[each.name]) for each in own]
        parameters.append(parameter("out", Path(usual), options.Out))
        parameters += [parameter(option.name, option.default, shared[option.name]) for option in known]
        whole.__signature__, whole.__doc__ = inspect.Signature(parameters), command.__doc__
        whole.__annotations__ = {each.name: each.annotation for each in parameters}
        REMADE.append(name)
        common.SHARED.append(name)
        return app.command(name)(whole)

    return declared


REMADE: list[str] = []
"""Commands whose pictures can be made again: their provenance is :func:`described` of their options."""

ELSEWHERE = ("out", "animate", "paper", "data", "compiled")
"""Options that say where something lies or goes, or how fast, and so are no part of how it was made."""


def described(options: Mapping[str, Any], device: str) -> dict[str, Any]:
    """What provenance says of the ``options`` of a command, in whatever order given; the model stands by itself.

    Where a file lay is no part of how a picture was made, so it is told by its name (and by :func:`inputs`).
    """
    own = {name: path.name for name, path in _files(options).items()}
    values = {name.rstrip("_"): value for name, value in sorted(options.items()) if name not in (*ELSEWHERE, "model")}
    return values | own | {"device": common.named(common.device(device))}


def inputs(options: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 of each file of the reader's own among ``options``, by the option's name."""
    from phosphene.files import sha256
    from phosphene.readers import sample

    return {name: sha256(path) for name, path in _files(options).items() if sample(path) is None}


def _files(options: Mapping[str, Any]) -> dict[str, Path]:
    named = ((name.rstrip("_"), value) for name, value in options.items() if name not in ELSEWHERE)
    return {n: Path(v) for n, v in named if isinstance(v, Path) or (n == "mask" and v not in SHAPES)}


def viewed(task: Task, picture: Tensor, value_range: tuple[float, float] = (-1, 1), side: int = CELL) -> list[Image.Image]:
    """``picture`` (C, H, W) in each reading of ``task``, enlarged to ``side`` pixels at least."""
    from phosphene.images import rescaled, to_images

    scale = max(1, side // picture.shape[-1])
    return [*chain.from_iterable(to_images(rescaled(r.look(picture[None]), value_range), scale) for r in task.readings)]
