"""``phosphene train``."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli import common
from phosphene.cli.common import (
    Data,
    Device,
    app,
)
from phosphene.errors import UserError

if TYPE_CHECKING:
    pass

NETWORKS = "denoiser, time, class, classifier, cascade, upscaler or retrieval."


@app.command()
def train(
    network: Annotated[str, typer.Argument(metavar="NETWORK", help=NETWORKS)],
    dataset: Annotated[str | None, typer.Option(help="mnist, fashion, digits (needs no files) or idx.")] = None,
    data: Data = None,
    epochs: Annotated[int | None, typer.Option()] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the first level.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Of all processes together.")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's learning rate.")] = None,
    lr_decay: Annotated[float | None, typer.Option(help="Factor lost over the whole run; 1 keeps the rate.")] = None,
    objective: Annotated[str | None, typer.Option(help="noise, velocity or flow.")] = None,
    schedule: Annotated[str | None, typer.Option(help="linear, rescaled-linear, squared-cosine or straight.")] = None,
    timesteps: Annotated[int | None, typer.Option(help="T of the schedule.")] = None,
    time_spread: Annotated[float | None, typer.Option(help="Of the logit-normal timesteps are drawn from; 0: uniformly.")] = None,
    time_mean: Annotated[float | None, typer.Option(help="Of that logit-normal: below 0 favours cleaner pictures.")] = None,
    drop: Annotated[float | None, typer.Option(help="Share of examples whose class is withheld.")] = None,
    sigma: Annotated[float | None, typer.Option(help="Of the denoiser's noise.")] = None,
    ema: Annotated[float | None, typer.Option(help="Memory of the moving average of the weights.")] = None,
    keep: Annotated[str | None, typer.Option(help="Epochs whose models are kept, such as 5,20.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**32 - 1)] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NETWORK by default.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    device: Device = "auto",
    compiled: Annotated[bool, typer.Option("--compile", help="Run the network through torch.compile.")] = False,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints; 0 is every half minute.")] = 0,
    images: Annotated[int | None, typer.Option(help="cascade, upscaler: pictures to see in all.")] = None,
    cooldown: Annotated[
        float | None, typer.Option(help="cascade, upscaler: last share of images or minutes, in which the rate falls.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="cascade, upscaler: predict sample, epsilon or v_prediction.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="cascade, upscaler: adamw, or muon for the blocks' matrices.")] = None,
    patch: Annotated[int | None, typer.Option(help="cascade, upscaler: side of the patches, in pixels.")] = None,
    hidden: Annotated[int | None, typer.Option(help="cascade, upscaler: width of the transformer.")] = None,
    layers: Annotated[int | None, typer.Option(help="cascade, upscaler: blocks of the transformer.")] = None,
    heads: Annotated[int | None, typer.Option(help="cascade, upscaler: attention heads.")] = None,
    held_out: Annotated[
        int | None, typer.Option(help="cascade, upscaler: one concept in so many is not trained with but measured by; 0: none.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="cascade: retrieval model whose text encoder it takes.")] = None,
    wordnet: Annotated[Path | None, typer.Option(help="cascade: WordNet's folder, or a thesaurus.json.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="cascade, upscaler: processes that write captions.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="cascade, upscaler: stop so long after the start.")] = None,
) -> None:
    """Train a network of the MNIST chapter, or a stage of a text-to-image cascade.

    Options not given are the assignment's. A stage learns from --data: WebDataset shards, or a folder of pictures with
    captions (NAME.txt or NAME.json beside NAME.png).
    """
    stage = {"images": images, "cooldown": cooldown, "target": target, "patch": patch, "optimizer": optimizer}
    stage |= {"hidden": hidden, "layers": layers, "heads": heads, "held_out": held_out}
    if network in ("cascade", "upscaler", "retrieval"):
        given = stage | {"batch_size": batch_size, "lr": lr, "drop": drop, "ema": ema, "seed": seed}
        others = {"dataset": dataset, "epochs": epochs, "width": width, "objective": objective, "schedule": schedule}
        others |= {"lr_decay": lr_decay, "timesteps": timesteps, "time_spread": time_spread, "time_mean": time_mean}
        others |= {"sigma": sigma, "keep": keep, "compile": compiled or None, "save_every": save_every or None}
        _refuse(others, f"belongs to the MNIST chapter; leave it out of train {network}")
        place = out or Path("runs") / network
        return _train_cascade(network, given, data, place, resume, device, wordnet, workers or 0, minutes, teacher)
    others = stage | {"teacher": teacher, "wordnet": wordnet, "workers": workers, "minutes": minutes}
    _refuse(others, f"belongs to train cascade and train upscaler; leave it out of train {network}")
    from phosphene.training.recipes import recipe
    from phosphene.training.run import Run

    changes = {
        "dataset": dataset,
        "epochs": epochs,
        "width": width,
        "batch_size": batch_size,
        "lr": lr,
        "lr_decay": lr_decay,
        "objective": objective,
        "schedule": schedule,
        "timesteps": timesteps,
        "time_spread": time_spread,
        "time_mean": time_mean,
        "drop": drop,
        "sigma": sigma,
        "ema": ema,
        "keep": None if keep is None else tuple(common.numbers("--keep", keep, int, "5,20")),
        "seed": seed,
    }
    out = out or Path("runs") / network
    if resume:
        changes = _as_before(out, changes)
    run = Run(recipe(network, **changes), out, data, resume, device, compiled, save_every)
    speaks, trainer = run.place.leads, run.trainer
    if speaks:
        size = sum(p.numel() for p in trainer.parameters)
        done = f", {trainer.epoch} of {run.recipe.epochs} epochs done" if resume else ""
        common.say(
            f"training {network} on {run.recipe.dataset}: {size:,} parameters, on {trainer.place.device}, into {out}{done}"
        )
    interrupted = False
    try:
        _show_training(run, speaks)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted or not trainer.finished:
        again = ["phosphene", "train", network, "--out", str(out), "--resume", *(["--data", str(data)] if data else [])]
        said = f"stopped, and the checkpoint in {out} is kept; `{shlex.join(again)}` goes on from there."
        raise common.Stopped(said if speaks else "")
    if speaks:
        common.say(f"done: the model is in {out / f'model-{run.recipe.epochs:02d}'}, the loss curve in {out / 'loss.png'}")


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Complain of the first of ``options`` that was given."""
    for name, value in options.items():
        if value is not None:
            raise UserError(f"--{name.replace('_', '-')} {value}: {why}.")


def _train_cascade(
    network: str,
    changes: Mapping[str, Any],
    data: Path | None,
    out: Path,
    resume: bool,
    device: str,
    wordnet: Path | None,
    workers: int,
    minutes: float | None,
    teacher: Path | None,
) -> None:
    from phosphene.training.cascade import stage_recipe
    from phosphene.training.cascade_run import CascadeRun, saved_recipe

    if data is None:
        raise UserError("--data: is missing; name a folder of shards or of captioned pictures.")
    if teacher is not None and network != "cascade":
        raise UserError(f"--teacher {teacher}: train {network} takes none; leave it out.")
    recipe = stage_recipe(network, **changes)
    if resume:
        recipe = replace(saved_recipe(out)[0], **{name: value for name, value in changes.items() if value is not None})
    limit = math.inf if minutes is None else minutes * 60
    run = CascadeRun(recipe, out, data, resume, common.device(device), wordnet, workers, limit, teacher)
    size = sum(p.numel() for p in run.trainer.painter.parameters())
    common.say(
        f"training {network} on {len(run.trainer.gallery)} pictures: {size:,} parameters, on {run.trainer.device}, into {out}"
    )
    try:
        for report in run:
            done = report.step * recipe.batch_size
            checks = "".join(f"; {name} {value:.4f}" for name, value in report.checks.items())
            common.say(f"{done:,} images: loss {report.loss:.4f}, {report.images_per_second:,.0f} images/s{checks}")
    except KeyboardInterrupt:
        raise common.Stopped(f"stopped; the model in {out} is kept, and --resume goes on from there.") from None
    whole = run.trainer.step >= recipe.steps
    ended = "done" if whole else f"stopped after {minutes:g} minutes, and --resume goes on from there"
    common.say(f"{ended}: the model is in {out / 'model'}, the losses in {out / 'loss.png'}")


def _as_before(out: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that lead to the recipe of the run in ``out``, but for those the user asks for anew."""
    from phosphene.training.recipes import Recipe

    path = out / "recipe.json"
    if not path.exists():
        return dict(changes)  # Run says what is missing
    try:
        saved = Recipe.from_json(json.loads(path.read_text()))
    except UserError:
        raise
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a recipe ({error}); start the run anew.") from error
    given = {name: value for name, value in changes.items() if value is not None}
    whole = {**saved.to_json(), **given}
    # Of kept epochs, those beyond a shorter --epochs would be complained of first, and they were not asked for.
    keep = given.get("keep", tuple(e for e in saved.keep if e <= whole["epochs"]))
    return {name: value for name, value in whole.items() if name != "network"} | {"keep": keep}


def _show_training(run: Any, speaks: bool) -> None:
    """Let ``run`` go: live speed and time left, and one line for each epoch."""
    if not speaks:
        for _ in run:
            pass
        return
    epochs, losses = run.recipe.epochs, []
    with common.progress("{task.description}", "{task.fields[note]}") as progress:
        task = progress.add_task("epoch", total=epochs * run.trainer.steps, note="starting")
        for now in run:
            epoch, step, steps, new, ended = now.progress
            left = timedelta(seconds=round(now.seconds_left))
            note = f"loss {now.loss:.4f}  {now.images_per_second:,.0f} images/s  {left} left"
            progress.update(task, completed=(epoch - 1) * steps + step, description=f"epoch {epoch}/{epochs}", note=note)
            losses += new
            if ended:
                more = "".join(f", {name.replace('_', ' ')} {value:.4f}" for name, value in now.figures.items())
                mean = sum(losses) / len(losses)
                common.say(
                    f"epoch {epoch} of {epochs}: loss {mean:.4f}, {now.images_per_second:,.0f} images/s, {left} left{more}"
                )
                losses = []
