"""The command line. It parses, checks where the results will go, calls what computes, and shows what came out.

Nothing heavy is imported before a command runs: ``phosphene --help`` must not wait for torch.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import TyperException

from phosphene import __version__
from phosphene.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from phosphene.evaluation.classifier import DigitClassifier
    from phosphene.evaluation.digits import Reference
    from phosphene.models.catalogue import Model
    from phosphene.models.digits import DigitDiffusion
    from phosphene.sampler import Route, Step
    from phosphene.training.data import Dataset

MOST_PICTURES = 10_000
"""Of one sheet: beyond, it would not fit into memory, nor be looked at."""
SCALE = 4
GREEN = (34, 139, 84)

app = typer.Typer(
    help="See what diffusion models do: train them, sample them, measure them.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="Which models are embedded, and are they whole?")
app.add_typer(models, name="models")

Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the first picture; each next one has the next seed.")]
Count = Annotated[int, typer.Option(min=1, max=MOST_PICTURES)]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Data = Annotated[Path | None, typer.Option(help="Folder with the four IDX files; without it they are looked for, then fetched.")]
DatasetName = Annotated[str, typer.Option(help="mnist, fashion, digits (needs no files) or idx.")]
Guidance = Annotated[float, typer.Option(help="Classifier-free guidance: 1 is conditional only, 0 unconditional.")]
SolverName = Annotated[str, typer.Option(help="ancestral, ddim, dpm or heun.")]
Steps = Annotated[int | None, typer.Option(help="Timesteps to visit; by default 300 (ancestral), 50 (ddim) or 8 (dpm, heun).")]
Eta = Annotated[float | None, typer.Option(help="Of ddim: the share of fresh noise, 0 (by default) to 1.")]
Resample = Annotated[int | None, typer.Option(min=1, max=100, help="Take each step so many times, back to noise between.")]
Judge = Annotated[str, typer.Option(help="Classifier that judges: a name, a model folder or a run.")]


NETWORKS = "denoiser, time, class, classifier, cascade, upscaler or retrieval."

# The commands


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
    cooldown: Annotated[float | None, typer.Option(help="cascade, upscaler: last share, in which the rate falls.")] = None,
    target: Annotated[str | None, typer.Option(help="cascade, upscaler: predict sample, epsilon or v_prediction.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="cascade, upscaler: adamw, or muon for the blocks' matrices.")] = None,
    patch: Annotated[int | None, typer.Option(help="cascade, upscaler: side of the patches, in pixels.")] = None,
    hidden: Annotated[int | None, typer.Option(help="cascade, upscaler: width of the transformer.")] = None,
    layers: Annotated[int | None, typer.Option(help="cascade, upscaler: blocks of the transformer.")] = None,
    heads: Annotated[int | None, typer.Option(help="cascade, upscaler: attention heads.")] = None,
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
    stage |= {"hidden": hidden, "layers": layers, "heads": heads}
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
        "keep": None if keep is None else tuple(_numbers("--keep", keep, int, "5,20")),
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
        _print(f"training {network} on {run.recipe.dataset}: {size:,} parameters, on {trainer.place.device}, into {out}{done}")
    interrupted = False
    try:
        _show_training(run, speaks)
    except KeyboardInterrupt:
        interrupted = True
    if interrupted or not trainer.finished:
        again = ["phosphene", "train", network, "--out", str(out), "--resume", *(["--data", str(data)] if data else [])]
        said = f"stopped, and the checkpoint in {out} is kept; `{shlex.join(again)}` goes on from there."
        raise _Stopped(said if speaks else "")
    if speaks:
        _print(f"done: the model is in {out / f'model-{run.recipe.epochs:02d}'}, the loss curve in {out / 'loss.png'}")


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
    run = CascadeRun(recipe, out, data, resume, _device(device), wordnet, workers, limit, teacher)
    size = sum(p.numel() for p in run.trainer.painter.parameters())
    _print(f"training {network} on {len(run.trainer.gallery)} pictures: {size:,} parameters, on {run.trainer.device}, into {out}")
    try:
        for report in run:
            done = report.step * recipe.batch_size
            checks = "".join(f"; {name} {value:.4f}" for name, value in report.checks.items())
            _print(f"{done:,} images: loss {report.loss:.4f}, {report.images_per_second:,.0f} images/s{checks}")
    except KeyboardInterrupt:
        raise _Stopped(f"stopped; the model in {out} is kept, and --resume goes on from there.") from None
    whole = run.trainer.step >= recipe.steps
    ended = "done" if whole else f"stopped after {minutes:g} minutes, and --resume goes on from there"
    _print(f"{ended}: the model is in {out / 'model'}, the losses in {out / 'loss.png'}")


@app.command()
def digits(
    wanted: Annotated[str | None, typer.Argument(metavar="DIGITS", help="Such as 0123456789: a column for each.")] = None,
    guidance: Guidance = 5.0,
    seed: Seed = 180,
    model: Annotated[str | None, typer.Option(help="A name, a model folder or a run; class-20 or time-20.")] = None,
    count: Count = 1,
    steps: Steps = None,
    solver: SolverName = "ancestral",
    eta: Eta = None,
    resample: Resample = None,
    unconditional: Annotated[bool, typer.Option("--unconditional", help="Ten a row, of whatever class comes.")] = False,
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("digits.png"),
) -> None:
    """Draw digits on demand.

    Each of --count rows holds the digits of DIGITS, each picture from its own seed.
    """
    if unconditional and wanted is not None:
        raise UserError(f"DIGITS {wanted}: --unconditional draws without a class; leave one of the two out.")
    classes = None if unconditional else _digits(wanted, "0123456789", "--unconditional")
    columns = 10 if classes is None else len(classes)
    if columns * count > MOST_PICTURES:
        raise UserError(f"--count {count}: makes {columns * count} pictures; choose at most {MOST_PICTURES // columns}.")
    _require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.sampler import Route, last
    from phosphene.tasks import digits as task

    place, name = _device(device), model or ("time-20" if unconditional else "class-20")
    diffusion = catalogue.load(name, place, kind="diffusion")
    expression = task.wanted(diffusion, None if classes is None else classes * count, guidance)
    seeds = range(seed, seed + columns * count)
    route = Route(solver, steps, eta, resample or 1)
    run = task.sample(diffusion, expression, seeds, route=route, max_rows=_max_rows(place))
    pictures = [to_image(p, diffusion.value_range, SCALE) for p in last(_shown(run, "drawing"))]
    arguments = {
        "digits": wanted,
        "guidance": None if unconditional else guidance,
        "seed": seed,
        "count": count,
        **route._asdict(),
        "unconditional": unconditional,
        "device": str(place),
    }
    picture = sheet(_rows(pictures, columns), column_labels=wanted or ())
    save_png(picture, out, _provenance("digits", name, arguments))
    _print(f"{_several(columns * count, 'picture')} in {out}")


@app.command("denoise-digits")
def denoise_digits(
    model: Annotated[str, typer.Option(help="A denoiser: a name, a model folder or a run.")] = "denoiser-5",
    dataset: DatasetName = "mnist",
    data: Data = None,
    count: Count = 10,
    seed: Seed = 180,
    sigma: Annotated[str, typer.Option(help="Levels of noise, separated by commas.")] = "0,.2,.4,.5,.6,.8,1",
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("denoise-digits.png"),
) -> None:
    """Denoise test digits in one step.

    For each level of noise: before, after, and the mean squared error of both.
    """
    sigmas = _numbers("--sigma", sigma, float, "0,.2,.5,1")
    _require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.tasks.denoise_digits import denoise_at
    from phosphene.training.data import load_dataset

    place = _device(device)
    network = catalogue.load(model, place, kind="denoiser")
    clean = load_dataset(dataset, data).test.images[:count].float() / 255
    if len(clean) < count:
        raise UserError(f"--count {count}: the test split of {dataset} has {len(clean)} pictures; choose at most as many.")
    result = denoise_at(network, clean, seed, sigmas)
    rows, labels, table = [], [], []
    both = zip(sigmas, result.noisy, result.estimates, result.noisy_error.tolist(), result.error.tolist(), strict=True)
    for level, noisy, estimates, noisy_error, error in both:
        rows += [[to_image(p, scale=SCALE) for p in noisy], [to_image(p, scale=SCALE) for p in estimates]]
        labels += [f"sigma {level:g}: noisy, mse {noisy_error:.4f}", f"estimate, mse {error:.4f}"]
        table.append([f"{level:g}", f"{noisy_error:.5f}", f"{error:.5f}"])
    arguments = {"dataset": dataset, "count": count, "seed": seed, "sigma": sigmas, "device": str(place)}
    save_png(sheet(rows, row_labels=labels), out, _provenance("denoise-digits", model, arguments))
    _print(f"mean squared error of {_several(count, 'picture')} from the test split of {dataset}:")
    _table(["sigma", "noisy", "estimate"], table)
    _print(f"pictures in {out}")


@app.command()
def ambigram(
    wanted: Annotated[str | None, typer.Argument(metavar="DIGITS", help="Two digits: upright and turned, such as 69.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All pairs of digits, the best of --count for each.")] = False,
    count: Annotated[int, typer.Option(min=1, max=MOST_PICTURES, help="Pictures to draw for each pair.")] = 16,
    seed: Seed = 180,
    guidance: Guidance = 8.0,
    solver: Annotated[str | None, typer.Option(help="ancestral, ddim, dpm or heun; the best for ambigrams by default.")] = None,
    steps: Annotated[int | None, typer.Option(help="Timesteps to visit; the best for ambigrams by default.")] = None,
    eta: Eta = None,
    resample: Resample = None,
    model: Annotated[str, typer.Option(help="A class-conditioned model: a name, a model folder or a run.")] = "class-20",
    classifier: Judge = "classifier",
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("ambigram.png"),
) -> None:
    """Draw a digit that is another upside down.

    Of --count pictures of each pair, the one that the classifier reads best both ways is shown.
    """
    if every and wanted is not None:
        raise UserError(f"DIGITS {wanted}: --all draws every pair; leave one of the two out.")
    asked = None if every else _digits(wanted, "69", "--all")
    if asked is not None and len(asked) != 2:
        raise UserError(f"DIGITS {wanted}: give two digits, upright and turned, such as 69.")
    _require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models import catalogue
    from phosphene.sampler import Route, last
    from phosphene.tasks.ambigram import ROUTE, UPSIDE_DOWN, best, draw_ambigrams, judge

    place = _device(device)
    diffusion = catalogue.load(model, place, kind="diffusion")
    reader = catalogue.load(classifier, place, kind="classifier")
    known = range(diffusion.classes)
    if every and not known:
        raise UserError(f"--model {model}: knows no classes; take one that does, such as class-20.")
    pairs = [(a, b) for a in known for b in known] if asked is None else [(asked[0], asked[1])]
    if len(pairs) * count > MOST_PICTURES:
        raise UserError(f"--count {count}: makes {len(pairs) * count} pictures; choose at most {MOST_PICTURES // len(pairs)}.")
    if max(max(pair) for pair in pairs) >= reader.config["classes"]:
        raise UserError(f"--classifier {classifier}: knows {reader.config['classes']} classes; take one that knows all digits.")
    drawn = [pair for pair in pairs for _ in range(count)]
    if solver is None:
        usual = ROUTE._replace(steps=min(ROUTE.steps, diffusion.schedule.steps))
        named = {"steps": steps, "eta": eta, "resample": resample}
        route = usual._replace(**{option: value for option, value in named.items() if value is not None})
    else:
        route = Route(solver, steps, eta, resample or 1)
    run = draw_ambigrams(diffusion, drawn, range(seed, seed + len(drawn)), guidance, route, _max_rows(place))
    pictures = last(_shown(run, "drawing"))
    judged = judge(reader, pictures, drawn)
    chosen = best(judged.score, count)
    arguments = {
        "digits": wanted,
        "all": every,
        "count": count,
        "seed": seed,
        "guidance": guidance,
        **route._asdict(),
        "classifier": classifier,
        "device": str(place),
    }
    if every:
        cells = [_framed(to_image(pictures[k], diffusion.value_range, 3), bool(judged.read[k])) for k in chosen.tolist()]
        labels = [str(k) for k in known]
        picture = sheet(_rows(cells, len(known)), labels, labels, title="rows: upright, columns: turned, green: reads both ways")
        rates = judged.read.view(len(pairs), count).float().mean(1).tolist()
        _print(f"of {count} single pictures, those that read both ways, in % (rows: upright, columns: turned)")
        _table(["", *labels], [[labels[r], *(f"{100 * x:.0f}" for x in row)] for r, row in enumerate(_rows(rates, len(known)))])
        _print(f"single: {sum(rates) / len(rates):.1%}; pairs read: {int(judged.read[chosen].sum())} of {len(pairs)}")
    else:
        index = int(chosen[0])
        both = [to_image(p, diffusion.value_range, 2 * SCALE) for p in (pictures[index], UPSIDE_DOWN.apply(pictures[index]))]
        picture = sheet([both], [f"{drawn[0][0]}", f"turned: {drawn[0][1]}"])
        reads, score = "reads" if judged.read[index] else "does not read", float(judged.score[index])
        _print(f"{wanted}: the best {reads} both ways, score {score:.4f}; {int(judged.read.sum())} of {count} read both ways")
    save_png(picture, out, _provenance("ambigram", model, arguments))
    _print(f"picture in {out}")


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw: a picture (or --count) of each.")],
    model: Annotated[str, typer.Option(help="A cascade: its name, its folder, or OWNER/NAME on the hub.")] = "glyph",
    steps: Annotated[int | None, typer.Option(help="Timesteps to visit; by default 34 (20 of dpm and heun).")] = None,
    timesteps: Annotated[str | None, typer.Option(help="The timesteps themselves, such as 990,960,930,...,0.")] = None,
    solver: SolverName = "ancestral",
    eta: Eta = None,
    guidance: Guidance = 7.0,
    negative: Annotated[str, typer.Option(help="What to stay away from.")] = "",
    seed: Seed = 180,
    count: Count = 1,
    upscale: Annotated[bool, typer.Option(help="Go on to the second stage, where the model has one.")] = True,
    threshold: Annotated[bool, typer.Option(help="Keep clean estimates in range, as the model's scheduler says.")] = True,
    embeddings: Annotated[Path | None, typer.Option(help="A .pth file of prompt embeddings, instead of a text encoder.")] = None,
    text_encoder: Annotated[str, typer.Option(help="auto, or none: only prompts of --embeddings or encoded before.")] = "auto",
    offload: Annotated[str, typer.Option(help="none, stages or layers: what waits in main memory until it is needed.")] = "none",
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("generated.png"),
) -> None:
    """Draw pictures of what PROMPTS say.

    A column for each prompt, a row for each seed; a single picture is written as it is.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise UserError('PROMPT "": is empty; say what to draw.')
    if len(prompts) * count > MOST_PICTURES:
        raise UserError(
            f"--count {count}: makes {len(prompts) * count} pictures; choose at most {MOST_PICTURES // len(prompts)}."
        )
    if timesteps is not None and steps is not None:
        raise UserError(f"--steps {steps}: --timesteps says which already; leave one of the two out.")
    if text_encoder not in ("auto", "none"):
        raise UserError(f"--text-encoder {text_encoder}: choose auto or none.")
    visited = None if timesteps is None else _numbers("--timesteps", timesteps, int, "990,960,930")
    _require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models.cascade import open_cascade
    from phosphene.models.weights import cache_folder
    from phosphene.sampler import Route
    from phosphene.tasks.generate import GUIDANCE, Settings
    from phosphene.tasks.generate import generate as draw_pictures

    route = Route(solver, steps, eta)
    route.table()
    place = _device(device)
    reads, cache = text_encoder == "auto", cache_folder() / "prompts"
    said = {"embeddings": embeddings, "text": reads, "cache": cache}
    cascade = open_cascade(model, place, stages=2 if upscale else 1, offload=offload, **said)
    stages = cascade.stages
    cascade.encode([*prompts, negative])
    cascade.free_text()
    settings = tuple(Settings(route, visited, threshold, max_rows=64) for _ in stages)
    seeds = [seed + row for row in range(count) for _ in prompts]
    run = draw_pictures(stages, list(prompts) * count, seeds, negative, (guidance, GUIDANCE[1]), settings)
    for step in _shown(run, "drawing"):
        if step.t < 0:
            pictures = step.xt
    cells = [to_image(p, stages[-1].value_range) for p in pictures]
    arguments = {
        "prompts": list(prompts),
        "timesteps": visited,
        "solver": solver,
        "steps": steps,
        "eta": eta,
        "guidance": guidance,
        "negative": negative or None,
        "seed": seed,
        "count": count,
        "upscale": upscale,
        "threshold": threshold,
        "embeddings": None if embeddings is None else str(embeddings),
        "text_encoder": text_encoder,
        "offload": offload,
        "device": str(place),
    }
    labels = [list(prompts) if row == count - 1 else [""] * len(prompts) for row in range(count)]
    picture = cells[0] if len(cells) == 1 else sheet(_rows(cells, len(prompts)), captions=labels)
    save_png(picture, out, _provenance("generate", model, arguments))
    _print(f"{_several(len(cells), 'picture')} in {out}")


@app.command()
def evaluate(
    names: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Names, model folders or runs.")],
    samples: Annotated[int, typer.Option(max=100_000, help="Pictures to draw for each figure.")] = 5000,
    guidance: Annotated[str, typer.Option(help="Scales, separated by commas.")] = "0,1,2,3,5",
    solver: SolverName = "ancestral",
    steps: Steps = None,
    eta: Eta = None,
    resample: Resample = None,
    seed: Seed = 180,
    classifier: Judge = "classifier",
    dataset: DatasetName = "mnist",
    data: Data = None,
    device: Device = "auto",
    figures: Annotated[Path | None, typer.Option("--json", help="Write the figures, with machine and date.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG: samples beside real digits; of runs, their loss curves.")] = None,
) -> None:
    """Measure models, with figures.

    Of diffusion models the accuracy and the Fréchet distance of samples, of denoisers the error, of classifiers the accuracy.
    """
    scales = _numbers("--guidance", guidance, float, "0,1,2,3,5")
    if picture is not None:
        _require_picture(picture, "--picture")
    if figures is not None:
        _require_file(figures, "--json")
    from phosphene.evaluation.digits import refer
    from phosphene.images import save_png, sheet
    from phosphene.models import catalogue
    from phosphene.plots import loss_curves
    from phosphene.sampler import Route
    from phosphene.training.data import load_dataset

    place = _device(device)
    route = Route(solver, steps, eta, resample or 1)
    route.table()
    loaded = [catalogue.load(name, place) for name in names]
    kinds = [catalogue.read_config(catalogue.folder(name))["kind"] for name in names]
    curves = _loss_curves(names) if picture is not None else {}
    if picture is not None and not curves and set(kinds) != {"diffusion"}:
        raise UserError(f"--picture {picture}: shows samples of diffusion models or losses of runs; name only such models.")
    reader = catalogue.load(classifier, place, kind="classifier") if "diffusion" in kinds else None
    real = load_dataset(dataset, data)
    reference = None if reader is None else refer(reader, real, samples)
    settings = {"samples": samples, "route": route, "seed": seed}

    results, panels = [], []
    with _bar("measuring") as advance:
        for name, kind, model in zip(names, kinds, loaded, strict=True):
            if kind == "diffusion":
                rows, more = _of_diffusion(model, reader, reference, scales, place, advance, **settings)
                panels += [(f"{name}, {label}", panel) for label, panel in more]
            elif kind == "denoiser":
                rows = _of_denoiser(model, real, seed, advance)
            else:
                rows = [{"pictures": len(real.test), "accuracy": refer(model, real, len(real.test)).accuracy}]
            results.append({"model": name, "kind": kind, "figures": rows})

    _show_figures(results)
    judge = None if reference is None else {"model": classifier, "accuracy": reference.accuracy, "floor": reference.floor}
    if judge is not None:
        _print(
            f"Distances are between features of {classifier}, which reads {judge['accuracy']:.2%} of the test split, and compare "
            f"with no published FID. Between two sets of real digits: {judge['floor']:.3f}."
        )
    drawn = {"samples": samples, **route._asdict(), "seed": seed, "guidance": scales}
    arguments = {**drawn, "classifier": classifier, "dataset": dataset, "device": str(place)}
    provenance = _provenance("evaluate", names, arguments)
    if figures is not None:
        whole = {**provenance, "machine": _machine(place), "date": _now(), "classifier": judge, "results": results}
        _write_text(figures, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        _print(f"figures in {figures}")
    if picture is not None and curves:
        loss_curves(curves, picture, "training loss")
    elif picture is not None:
        test = [real.test.images[real.test.labels == c].float() / 255 for c in range(real.classes)]
        panels.append((f"{dataset}, the test split", _panel(test)))
        save_png(sheet([[panel for _, panel in panels]], captions=[[label for label, _ in panels]]), picture, provenance)
    if picture is not None:
        _print(f"picture in {picture}")


@models.callback(invoke_without_command=True)
def models_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        models_list()


@models.command("list")
def models_list() -> None:
    """Name, kind, size and epoch of each embedded model."""
    from phosphene.models import cascade, catalogue

    rows = []
    for name in catalogue.embedded():
        path = catalogue.folder(name)
        config = catalogue.read_config(path)
        rows.append([name, config["kind"], f"{_bytes(path):,}", config.get("storage", "-"), str(config.get("epoch", "-"))])
    for name in cascade.embedded():
        rows.append([name, "cascade", f"{_bytes(cascade.locate(name)):,}", "float16", "-"])
    if rows:
        _table(["model", "kind", "bytes", "storage", "epoch"], rows, left=2)
    else:
        _print("no models are embedded in this installation; train one with: phosphene train class")


@models.command("info")
def models_info(name: Annotated[str, typer.Argument(help="A name, a model folder or a run.")]) -> None:
    """All that is known of a model, as JSON."""
    from phosphene.models import cascade, catalogue

    path = _model_folder(name)
    known = cascade.describe(name) if cascade.is_cascade(name) else catalogue.read_config(path)
    _print(json.dumps({"name": name, "bytes": _bytes(path), **known}, indent=2, ensure_ascii=False))


@models.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A cascade on the Hugging Face hub.")],
    device: Device = "auto",
    text_encoder: Annotated[str, typer.Option(help="auto, or none to leave it out: most of DeepFloyd IF.")] = "auto",
) -> None:
    """Fetch a cascade, both stages, into the hub's cache: what generate would fetch when it is first used.

    A GPU takes halved weights where there are any, a CPU whole ones.
    """
    if text_encoder not in ("auto", "none"):
        raise UserError(f"--text-encoder {text_encoder}: choose auto or none.")
    from phosphene.models import hub

    if not hub.NAME.fullmatch(name) or Path(name).exists():
        raise UserError(f"OWNER/NAME {name}: is no name on the hub; write it like DeepFloyd/IF-I-XL-v1.0.")
    import torch

    dtype = torch.float32 if _device(device).type == "cpu" else torch.float16
    for part in hub.fetch(name, dtype, text=text_encoder == "auto"):
        _print(f"{part}: {_bytes(part):,} bytes")


@models.command("verify")
def models_verify(
    name: Annotated[str | None, typer.Argument(help="A name, a model folder or a run; all embedded by default.")] = None,
) -> None:
    """Compare the files of a model, or of all, with their SHA-256."""
    from phosphene.models import cascade, catalogue

    if name is not None:
        if not (_model_folder(name) / catalogue.SUMS).is_file():
            raise UserError(f"{_model_folder(name)}: holds no {catalogue.SUMS}, so there is nothing to compare with.")
        catalogue.verify(_model_folder(name))
        return _print(f"{name}: whole")
    broken = []
    for each in [*catalogue.embedded(), *cascade.embedded()]:
        try:
            catalogue.verify(_model_folder(each))
            _print(f"{each}: whole")
        except UserError as error:
            broken.append(each)
            _print(f"{each}: {error}")
    if broken:
        raise UserError(f"{_several(len(broken), 'model')} not whole: {', '.join(broken)}; install phosphene again.")


@app.command()
def inspect(path: Annotated[Path, typer.Argument(metavar="PNG")]) -> None:
    """Print how a picture was made, as JSON."""
    from phosphene.images import read_provenance

    _print(json.dumps(read_provenance(path), indent=2, ensure_ascii=False))


@app.command()
def rerun(
    path: Annotated[Path, typer.Argument(metavar="PNG")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="NAME-again.png by default.")] = None,
) -> None:
    """Make a picture again, from what it says of itself.

    On the machine it was made on the new file is the same, byte for byte.
    """
    from phosphene.images import read_provenance

    story = read_provenance(path)
    if story.get("command") not in RERUN or not isinstance(story.get("arguments"), dict):
        raise UserError(f"{path}: was made by {story.get('command')!r}; pictures of {', '.join(RERUN)} can be made again.")
    out = out or path.with_name(f"{path.stem}-again.png")
    if out.absolute() == path.absolute():
        raise UserError(f"-o {out}: is the picture to be made again; choose another name.")
    argv = _argv(story, out)
    _print(shlex.join(["phosphene", *argv]))
    if code := main(argv):
        raise typer.Exit(code)
    same = path.read_bytes() == out.read_bytes()
    _print(f"{out} is {path}, byte for byte" if same else f"{out} differs from {path}: another machine, version or model made it")


RERUN = {"digits": "digits", "ambigram": "digits", "denoise-digits": None, "generate": "prompts"}
"""Commands whose pictures can be made again, and which of their arguments is given without a name."""


def _argv(story: Mapping[str, Any], out: Path) -> list[str]:
    """The command line that the provenance ``story`` tells of, writing to ``out``."""
    argv, named = [story["command"], f"--out={out}"], {"model": story["model"], **story["arguments"]}
    plain = named.pop(RERUN[story["command"]] or "", None)
    for name, value in named.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            negated = [f"--no-{option}"] if name in ("upscale", "threshold") else []
            argv += [f"--{option}"] if value else negated
        elif value is not None:
            text = ",".join(f"{v}" for v in value) if isinstance(value, list) else str(value)
            argv.append(f"--{option}={text}")
    return argv + (["--", *(plain if isinstance(plain, list) else [plain])] if plain is not None else [])


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page.")] = Path("report"),
    device: Device = "auto",
) -> None:
    """Make the page with every experiment."""
    if out.exists() and not out.is_dir():
        raise UserError(f"-o {out}: is a file; name a folder.")
    from phosphene.images import require_writable
    from phosphene.report.page import write

    require_writable(out / "index.html")
    place = str(_device(device))
    with _bar("report") as advance:

        def section(name: str, done: int, total: int) -> None:
            if done < total:
                _print(f"section {done + 1} of {total}: {name}")
            advance(done, total, name)

        page = write(out, place, section)
    _print(f"the page is {page}")


# What the commands read


def _numbers(option: str, text: str, kind: type, example: str) -> list:
    """The numbers of a list such as ``0,.2,1``."""
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(math.isfinite(number) for number in numbers):
        raise UserError(f"{option} {text}: give numbers separated by commas, such as {example}.")
    return numbers


def _digits(text: str | None, example: str, instead: str) -> list[int]:
    """The digits of DIGITS."""
    if text is None:
        raise UserError(f"DIGITS: is missing; give digits such as {example}, or {instead}.")
    if not text or not set(text) <= set("0123456789"):
        raise UserError(f"DIGITS {text!r}: must be digits, such as {example}.")
    return [int(character) for character in text]


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


def _device(name: str) -> torch.device:
    from phosphene.training.distributed import choose_device

    return choose_device(name)


def _max_rows(device: torch.device) -> int:
    """Rows of a forward pass that any machine has the memory for."""
    return 250 if device.type == "cpu" else 2500


def _require_file(path: Path, option: str) -> None:
    from phosphene.images import require_writable

    if path.is_dir():
        raise UserError(f"{option} {path}: is a folder; name a file in it.")
    require_writable(path, option)


def _require_picture(path: Path, option: str = "-o") -> None:
    _require_file(path, option)
    if path.suffix.lower() != ".png":
        raise UserError(f"{option} {path}: pictures are written as PNG; choose a name that ends in .png.")


# What the commands call in one place each


Advance = Callable[[int, int, str], None]


def _of_diffusion(
    model: DigitDiffusion,
    classifier: DigitClassifier,
    reference: Reference,
    scales: Sequence[float],
    device: torch.device,
    advance: Advance,
    samples: int,
    route: Route,
    seed: int,
) -> tuple[list[dict], list[tuple[str, Image.Image]]]:
    """Figures of samples at each guidance scale, and a panel of each."""
    from phosphene.evaluation.digits import measure
    from phosphene.tasks.digits import timesteps

    route = route._replace(steps=len(timesteps(model, route)))
    rows, panels = [], []
    scales = scales if model.classes else [1.0]
    for index, scale in enumerate(scales):
        advance(index, len(scales), f"guidance {scale:g}")
        found = measure(model, classifier, reference, samples, scale, route, seed, _max_rows(device))
        rows.append(
            {
                "guidance": scale if model.classes else None,
                "samples": found.samples,
                "steps": route.steps,
                "accuracy": found.accuracy,
                "accuracy_by_class": found.accuracy_by_class,
                "frechet": found.frechet,
            }
        )
        label = f"guidance {scale:g}" if model.classes else "unconditional"
        groups = model.classes or 10
        panels.append((label, _panel([found.pictures[c::groups] for c in range(groups)])))
    return rows, panels


def _of_denoiser(network: Model, real: Dataset, seed: int, advance: Advance) -> list[dict]:
    """The error at each level of noise, over the whole test split."""
    from phosphene.tasks.denoise_digits import SIGMAS, denoise_at

    clean = real.test.images.float() / 255
    rows = []
    for index, sigma in enumerate(SIGMAS):
        advance(index, len(SIGMAS), f"sigma {sigma:g}")
        result = denoise_at(network, clean, seed, [sigma])
        error = result.error.item()
        psnr = -10 * math.log10(error) if error > 0 else None
        rows.append({"sigma": sigma, "pictures": len(clean), "noisy_mse": result.noisy_error.item(), "mse": error, "psnr": psnr})
    return rows


def _loss_curves(names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Losses over epochs of each run; nothing unless all of ``names`` are runs."""
    from phosphene.training.run import read_log

    logs = {name: read_log(Path(name) / "log.jsonl") for name in names}
    if not all(logs.values()):
        return {}
    return {name: [(line["epoch"], line["loss"]) for line in lines] for name, lines in logs.items()}


# What the commands say and show


class _Stopped(Exception):
    """Ctrl-C, and what to say of it (nothing, where another process speaks)."""


def _print(text: str) -> None:
    print(text, flush=True)


def _several(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> None:
    """A table on the terminal, or its plain columns elsewhere. The first ``left`` columns are words, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    terminal = Console().is_terminal
    console = Console(markup=False, emoji=False, highlight=False, width=None if terminal else 1000)
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)


@contextmanager
def _progress(*columns: Any) -> Iterator[Any]:
    """A rich progress display on stderr, with lines printed meanwhile above it; silent where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = tuple(TextColumn(c, markup=False) if isinstance(c, str) else c for c in columns)
    columns = (columns[0], BarColumn(), *columns[1:])
    live = sys.stdout.isatty()  # else lines go to a file, and past the display
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal, redirect_stdout=live) as progress:
        yield progress


@contextmanager
def _bar(what: str) -> Iterator[Advance]:
    """A bar that is told (done, total, of what)."""
    with _progress("{task.description}", "{task.completed:.0f}/{task.total:.0f}") as progress:
        task = progress.add_task(what, total=1)
        yield lambda done, total, name: progress.update(task, completed=done, total=total, description=f"{what}: {name}")


def _shown(steps: Iterator[Step], what: str) -> Iterator[Step]:
    """``steps``, with a bar and the time left."""
    from rich.progress import TimeRemainingColumn

    with _progress("{task.description}", "{task.completed:.0f}/{task.total:.0f} steps", TimeRemainingColumn()) as progress:
        task = progress.add_task(what, total=1)
        for step in steps:
            progress.update(task, completed=step.index + 1, total=step.total)
            yield step


def _show_training(run: Any, speaks: bool) -> None:
    """Let ``run`` go: live speed and time left, and one line for each epoch."""
    if not speaks:
        for _ in run:
            pass
        return
    epochs, losses = run.recipe.epochs, []
    with _progress("{task.description}", "{task.fields[note]}") as progress:
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
                _print(f"epoch {epoch} of {epochs}: loss {mean:.4f}, {now.images_per_second:,.0f} images/s, {left} left{more}")
                losses = []


def _show_figures(results: Sequence[dict]) -> None:
    """One table for each kind of model."""
    columns = {
        "diffusion": (("guidance", "g"), ("samples", "d"), ("accuracy", ".2%"), ("frechet", ".3f")),
        "denoiser": (("sigma", "g"), ("noisy_mse", ".5f"), ("mse", ".5f"), ("psnr", ".2f")),
        "classifier": (("pictures", "d"), ("accuracy", ".2%")),
    }
    titles = {"frechet": "Fréchet distance", "noisy_mse": "noisy mse", "psnr": "PSNR"}
    for kind, shown in columns.items():
        rows = []
        for result in (r for r in results if r["kind"] == kind):
            for figures in result["figures"]:
                rows.append([result["model"], *("-" if figures[k] is None else format(figures[k], form) for k, form in shown)])
        if rows:
            _table(["model", *(titles.get(key, key) for key, _ in shown)], rows)


def _rows(items: Sequence, columns: int) -> list[Sequence]:
    return [items[start : start + columns] for start in range(0, len(items), columns)]


def _panel(groups: Sequence[Tensor]) -> Image.Image:
    """Up to ten pictures (N, 1, 28, 28) of each group, a row for each, as one image."""
    import torch

    from phosphene.images import to_image

    paper = torch.zeros(1, 28 * len(groups), 280)
    for row, group in enumerate(groups):
        for column, picture in enumerate(group[:10]):
            paper[:, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28] = picture
    return to_image(paper, scale=2)


def _framed(image: Image.Image, good: bool) -> Image.Image:
    """``image`` in a frame: green, or of the paper's colour."""
    from PIL import ImageOps

    from phosphene.images import PAPER

    return ImageOps.expand(image.convert("RGB"), border=4, fill=GREEN if good else PAPER)


def _provenance(command: str, model: str | Sequence[str], arguments: Mapping[str, Any]) -> dict:
    """How a result was made. Where it was written is no part of it: the same picture is the same file anywhere."""
    import torch

    return {"command": command, "version": __version__, "arguments": dict(arguments), "model": model, "torch": torch.__version__}


def _machine(device: torch.device) -> dict:
    """The machine that figures were measured on."""
    import os
    import platform

    import torch

    processor = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": processor,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _model_folder(name: str) -> Path:
    """Of a cascade or any other model, embedded or not."""
    from phosphene.models import cascade, catalogue

    return cascade.locate(name) if cascade.is_cascade(name) else catalogue.folder(name)


def _write_text(path: Path, text: str) -> None:
    from phosphene.models.weights import replacing

    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


# The way in


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (``sys.argv`` by default) and return its exit code.

    Whatever is the user's to mend is one line on stderr and exit code 2; Ctrl-C is one line and 130.
    """
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    app.rich_markup_mode = "rich" if sys.stdout.isatty() else None  # boxes and colours are for terminals
    try:
        code = typer.main.get_command(app).main(arguments, "phosphene", standalone_mode=False)
    except _Stopped as stop:
        return _complain(stop, 130) if str(stop) else 130
    except (UserError, FloatingPointError) as error:
        return _complain(error, 2)
    except TyperException as error:
        return _complain(_usage(error), 2)
    except (RuntimeError, MemoryError) as error:
        if (full := _full(error)) is None:
            raise
        return _complain(full, 2)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}." if error.filename else error, 2)
    return _complain("interrupted.", 130) if code == 130 else code or 0


def _full(error: Exception) -> str | None:
    """What to say where ``error`` means that memory did not suffice; None where it means something else."""
    fewer = "ask for fewer pictures at once (--count), a smaller --batch-size or a smaller model"
    if type(error).__name__ == "OutOfMemoryError":  # torch's, of a GPU; torch need not be loaded to get here
        return f"--device cuda: the GPU's memory does not suffice; {fewer}, or take --device cpu."
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"--device cpu: memory does not suffice; {fewer}."
    return None


def _usage(error: TyperException) -> str:
    """What is wrong with the command line, with the option and the value in front as everywhere else."""
    option, said = getattr(error, "param", None), error.format_message()
    wrong = re.search(r"'?([^':]*)'? (is not .*)", said)
    if option is None or wrong is None:
        return said
    name = option.human_readable_name if option.param_type_name == "argument" else max(option.opts, key=len)
    why = re.sub(r"valid int( range)?", "whole number", re.sub(r"valid float( range)?", "number", wrong[2]))
    return f"{name} {wrong[1].strip()}: {why.replace('<=x<=', ' to ')}"


def _complain(what: object, code: int) -> int:
    sentence = " ".join(str(what).split())
    print(f"phosphene: {sentence}{'' if sentence.endswith(('.', '?')) else '.'}", file=sys.stderr)
    return code
