"""``phosphene train``: a command for each network, whose options are those of its recipe."""

from __future__ import annotations

import inspect
import math
import shlex
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from phosphene.cli import common
from phosphene.cli.common import app
from phosphene.cli.options import Data, Device, checked, path, there
from phosphene.defaults import one_of
from phosphene.errors import UserError, require_finite
from phosphene.training.mnist.recipes import Recipe, recipe, resumed, shared_in_vain
from phosphene.training.options import RECIPE, BaseRecipe, options_of, require_recipe, require_resumable
from phosphene.training.text_to_image.recipe import (
    DIFFERENCES,
    CascadeRecipe,
    difference_recipe,
    saved_recipe,
    stage_recipe,
    weights_alone,
)

Out = Annotated[Path | None, typer.Option(help="Folder of the run; runs/NETWORK by default.", parser=path)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")]


def _lying(help: str, otherwise: str, *names: str) -> Any:
    """An option that names what is there already; ``otherwise`` is what to do where it is not."""
    return checked(help, there(otherwise), *names, parser=path)


PICTURES = "Shards, or pictures with NAME.txt, NAME.json, metadata.jsonl or metadata.csv."
Pictures = Annotated[Path | None, _lying(PICTURES, "name a folder of shards or of pictures")]
Workers = Annotated[int, typer.Option(min=0, max=1000, help="Processes that write captions.")]
WordNet = Annotated[Path | None, _lying("WordNet's folder, or a thesaurus.json.", "name one of the two, or leave it out")]
Teacher = Annotated[Path | None, _lying("Retrieval model whose text encoder it takes.", "train one: phosphene train retrieval")]
STARTED = "Model folder of a run: go on from its weights; student and unprompted learn a difference to them."
Source = Annotated[Path | None, _lying(STARTED, "name the model folder of a run", "--from")]
Minutes = Annotated[float | None, checked("Stop so long after the start.", require_finite, min=0.0)]

train = typer.Typer(subcommand_metavar="NETWORK [OPTIONS]")
app.add_typer(train, name="train")

DIGITS = {
    "denoiser": "The one-step denoiser.",
    "time": "A diffusion model of digits that is told how noisy they are.",
    "class": "A diffusion model that is told the digit too, and draws it on demand.",
    "classifier": "The classifier that judges digits.",
}
STAGES = {
    "cascade": "The first stage of a cascade: pictures from captions.",
    "upscaler": "The second stage: larger pictures from small ones.",
    "student": "A cascade's first stage in four steps instead of sixteen: distilled --from one.",
    "unprompted": "What a cascade's first stage, --from one, makes of pictures that are edited without a prompt.",
    "retrieval": "Which text belongs to which picture: the text encoder of a cascade, and its judge.",
}


@train.callback(invoke_without_command=True)
def networks(context: typer.Context) -> None:
    """Train a network of the MNIST chapter, or a stage of a text-to-image cascade."""
    if context.invoked_subcommand is None:
        raise UserError(f"train: NETWORK is missing; choose {one_of([*DIGITS, *STAGES])}.")


def _digits(
    network: str,
    changes: dict[str, Any],
    data: Data = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    save_every: Annotated[int, typer.Option(min=0, max=10**9, help="Steps between checkpoints; 0 is every half minute.")] = 0,
) -> None:
    """Options not given are the assignment's, or the resumed run's."""
    out = out or Path("runs") / network
    if changes["keep"] is not None:
        changes["keep"] = tuple(common.numbers("--keep", changes["keep"], int, "5,20"))
    settings = resumed(network, out, **changes) if resume else recipe(network, **changes)
    if resume:
        require_resumable(out)
        require_recipe(out)
    with common.waiting(f"torch and the digits of {settings.dataset} are loaded"):
        from phosphene.training.mnist.run import Run

        run = Run(settings, out, data, resume, device, compiled, save_every)
    trainer = run.trainer
    size = sum(p.numel() for p in trainer.parameters)
    done = f", {trainer.epoch} of {settings.epochs} epochs done" if resume else ""
    common.say(f"training {network} on {settings.dataset}: {size:,} parameters, on {trainer.place.device}, into {out}{done}")
    if trainer.on_gpu and (advice := shared_in_vain(settings.batch_size, run.place.world)):
        common.say(advice)
    try:
        _show_training(run)
    except KeyboardInterrupt:
        raise _stopped(network, out, data) from None
    common.say(f"done: the model is in {out / f'model-{settings.epochs:02d}'}, the loss curve in {out / 'loss.png'}")


def _stopped(network: str, out: Path, data: Path | None) -> common.Stopped:
    again = ["phosphene", "train", network, "--out", str(out), "--resume", *(["--data", str(data)] if data else [])]
    return common.Stopped(f"stopped, and the checkpoint in {out} is kept; `{shlex.join(again)}` goes on from there.")


def _show_training(run: Any) -> None:
    """Let ``run`` go: live speed and time left, and one line for each epoch."""
    epochs, losses = run.recipe.epochs, []
    with common.progress("{task.fields[note]}") as progress:
        task = progress.add_task("epoch", total=epochs * run.trainer.steps, note="starting")
        for now in run:
            epoch, step, steps, new, ended = now.progress
            left = timedelta(seconds=round(now.seconds_left))
            note = f"loss {now.loss:.4f}  {now.images_per_second:,.0f} images/s  {left} left"
            progress.update(task, completed=(epoch - 1) * steps + step, description=f"epoch {epoch}/{epochs}", note=note)
            losses += new
            if ended:
                more = "".join(f", {name.replace('_', ' ')} {value:.4f}" for name, value in now.figures.items())
                mean, speed = sum(losses) / len(losses), now.images_per_second
                common.say(f"epoch {epoch} of {epochs}: loss {mean:.4f}, {speed:,.0f} images/s, {left} left{more}")
                losses = []


def _stage(
    network: str,
    changes: dict[str, Any],
    data: Pictures = None,
    out: Out = None,
    resume: Resume = False,
    device: Device = "auto",
    wordnet: WordNet = None,
    workers: Workers = 0,
    minutes: Minutes = None,
    teacher: Teacher = None,
    source: Source = None,
) -> None:
    """Learns from --data. Options not given are the usual ones, or the resumed run's."""
    if data is None:
        raise UserError("--data: is missing; name a folder of shards or of captioned pictures.")
    out = out or Path("runs") / network
    if network in DIFFERENCES and source is None and not resume:
        raise UserError(f"--from: is missing; name the model folder of a cascade's run, which train {network} starts from.")
    if network == "student" and changes["visits"] is not None:
        changes["visits"] = tuple(common.numbers("--visits", changes["visits"], int, "999,833,600,300"))
    if resume and (out / RECIPE).exists():
        settings = CascadeRecipe.read(out).changed({**changes, "network": network})
    elif network in DIFFERENCES:
        settings, source = difference_recipe(network, source, **changes), None
    elif source is not None:
        settings = saved_recipe(source)[0].changed({**changes, "network": network})
    else:
        settings = stage_recipe(network, **changes)
    if resume:
        require_resumable(out, weights_alone(out))
        require_recipe(out)
    limit = math.inf if minutes is None else minutes * 60
    with common.waiting(f"torch and the pictures in {data} are loaded"):
        from phosphene.training.text_to_image.pictures import count
        from phosphene.training.text_to_image.run import CascadeRun

        run = CascadeRun(settings, out, data, resume, str(common.device(device)), wordnet, workers, limit, teacher, source)
    size, trainer = sum(p.numel() for p in run.trainer.painter.parameters()), run.trainer
    common.say(str(count(data)))
    common.say(f"training {network} on {len(trainer.cutouts)} pictures: {size:,} parameters, on {trainer.device}, into {out}")
    try:
        for report in run:
            done = report.step * settings.batch_size
            checks = "".join(f"; {name} {value:.4f}" for name, value in report.checks.items())
            common.say(f"{done:,} images: loss {report.loss:.4f}, {report.images_per_second:,.0f} images/s{checks}")
    except KeyboardInterrupt:
        raise _stopped(network, out, data) from None
    whole = trainer.step >= settings.steps
    ended = "done" if whole else f"stopped after {minutes:g} minutes, and --resume goes on from there"
    common.say(f"{ended}: the model is in {out / 'model'}, the losses in {out / 'loss.png'}")


def _option(name: str, metadata: Mapping[str, Any], kind: Any, usual: Any) -> inspect.Parameter:
    """The option of a recipe's field of type ``kind``; what it is where nothing is said is told in its help."""
    # Lists are read by the command. None: nothing was said, so that what is resumed or asked for otherwise can hold.
    kind = kind if kind in (int, float) else str
    value = ",".join(map(str, usual)) if isinstance(usual, tuple) else usual
    help = metadata["help"] if value in (None, "") else f"{metadata['help']} [default: {value}]"
    annotation = Annotated[kind | None, typer.Option(help=help, **metadata["limits"])]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _add(network: str, about: str, recipe: type[BaseRecipe], usual: Mapping[str, Any], run: Callable, without: str = "") -> None:
    """The command ``train NETWORK``: an option for each field of ``recipe`` that belongs to it, then those of ``run``."""
    hints, options = get_type_hints(recipe), options_of(recipe, network)
    notes = get_type_hints(run, include_extras=True)
    parameters = [_option(name, metadata, hints[name], usual.get(name)) for name, metadata in options.items()]
    for name, parameter in inspect.signature(run).parameters.items():
        if name not in ("network", "changes", without):
            parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=notes[name]))

    def command(**values: Any) -> None:
        changes = {name: values.pop(name) for name in options}
        run(network, changes, **values)

    command.__signature__ = inspect.Signature(parameters)
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    train.command(network, help=f"{about}\n\n{inspect.getdoc(run)}")(command)


for _network, _about in DIGITS.items():
    _add(_network, _about, Recipe, vars(recipe(_network)), _digits)
for _network, _about in STAGES.items():
    _without = "teacher" if _network in ("upscaler", *DIFFERENCES) else ""
    _add(_network, _about, CascadeRecipe, vars(stage_recipe(_network)), _stage, _without)
