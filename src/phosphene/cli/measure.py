"""Figures and the page: ``evaluate``, ``report``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common
from phosphene.cli.common import (
    Advance,
    Data,
    DatasetName,
    Device,
    Eta,
    Judge,
    Resample,
    Seed,
    SolverName,
    Steps,
    app,
)
from phosphene.errors import UserError

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Sampling
    from phosphene.evaluation.classifier import DigitClassifier
    from phosphene.evaluation.digits import Reference
    from phosphene.models.catalogue import Model
    from phosphene.models.digits import DigitDiffusion
    from phosphene.training.data import Dataset


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
    scales = common.numbers("--guidance", guidance, float, "0,1,2,3,5")
    if picture is not None:
        common.require_picture(picture, "--picture")
    if figures is not None:
        common.require_file(figures, "--json")
    from phosphene.drawing import Sampling
    from phosphene.evaluation.digits import refer
    from phosphene.images import save_png, sheet
    from phosphene.models import catalogue
    from phosphene.plots import loss_curves
    from phosphene.training.data import load_dataset

    place = common.device(device)
    sampling = Sampling(solver, steps, eta, resample or 1)
    sampling.table()
    loaded = [catalogue.load(name, place) for name in names]
    kinds = [catalogue.read_config(catalogue.folder(name))["kind"] for name in names]
    curves = _loss_curves(names) if picture is not None else {}
    if picture is not None and not curves and set(kinds) != {"diffusion"}:
        raise UserError(f"--picture {picture}: shows samples of diffusion models or losses of runs; name only such models.")
    reader = catalogue.load(classifier, place, kind="classifier") if "diffusion" in kinds else None
    real = load_dataset(dataset, data)
    reference = None if reader is None else refer(reader, real, samples)
    settings = {"samples": samples, "sampling": sampling, "seed": seed}

    results, panels = [], []
    with common.bar("measuring") as advance:
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
        common.say(
            f"Distances are between features of {classifier}, which reads {judge['accuracy']:.2%} of the test split, and compare "
            f"with no published FID. Between two sets of real digits: {judge['floor']:.3f}."
        )
    drawn = {"samples": samples, **common.sampled(sampling), "seed": seed, "guidance": scales}
    arguments = {**drawn, "classifier": classifier, "dataset": dataset, "device": str(place)}
    provenance = common.provenance("evaluate", names, arguments)
    if figures is not None:
        whole = {**provenance, "machine": common.machine(place), "date": common.now(), "classifier": judge, "results": results}
        common.write_text(figures, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")
        common.say(f"figures in {figures}")
    if picture is not None and curves:
        loss_curves(curves, picture, "training loss")
    elif picture is not None:
        test = [real.test.images[real.test.labels == c].float() / 255 for c in range(real.classes)]
        panels.append((f"{dataset}, the test split", _panel(test)))
        save_png(sheet([[panel for _, panel in panels]], captions=[[label for label, _ in panels]]), picture, provenance)
    if picture is not None:
        common.say(f"picture in {picture}")


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page.")] = Path("report"),
    model: Annotated[str, typer.Option(help="A cascade, for Part A: its name or its folder.")] = "glyph",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pictures in fewer steps: two minutes on a laptop.")] = False,
    sections: Annotated[str | None, typer.Option(help="Some alone, by name or number, such as 1.8,ambigrams.")] = None,
    device: Device = "auto",
) -> None:
    """Make the page with every experiment.

    What is there from before and would come out the same is kept, so a page that was stopped goes on.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"-o {out}: is a file; name a folder.")
    from phosphene.images import require_writable
    from phosphene.report.page import write

    require_writable(out / "index.html")
    place = str(common.device(device))
    names = None if sections is None else [name.strip() for name in sections.split(",")]
    with common.bar("report") as advance:

        def section(name: str, done: int, total: int, left: float) -> None:
            if done < total:
                common.say(f"section {done + 1} of {total}: {name} (some {max(1, round(left))} s left)")
            advance(done, total, name)

        page = write(out, place, section, model, quick, names)
    common.say(f"the page is {page}")


def _of_diffusion(
    model: DigitDiffusion,
    classifier: DigitClassifier,
    reference: Reference,
    scales: Sequence[float],
    device: torch.device,
    advance: Advance,
    samples: int,
    sampling: Sampling,
    seed: int,
) -> tuple[list[dict], list[tuple[str, Image.Image]]]:
    """Figures of samples at each guidance scale, and a panel of each."""
    from phosphene.evaluation.digits import measure

    sampling = sampling._replace(steps=len(sampling.visited(model)), max_rows=common.max_rows(device))
    rows, panels = [], []
    scales = scales if model.classes else [1.0]
    for index, scale in enumerate(scales):
        advance(index, len(scales), f"guidance {scale:g}")
        found = measure(model, classifier, reference, samples, seed, sampling=sampling._replace(guidance=scale))
        rows.append(
            {
                "guidance": scale if model.classes else None,
                "samples": found.samples,
                "steps": sampling.steps,
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
            common.table(["model", *(titles.get(key, key) for key, _ in shown)], rows)


def _panel(groups: Sequence[Tensor]) -> Image.Image:
    """Up to ten pictures (N, 1, 28, 28) of each group, a row for each, as one image."""
    import torch

    from phosphene.images import to_image

    paper = torch.zeros(1, 28 * len(groups), 280)
    for row, group in enumerate(groups):
        for column, picture in enumerate(group[:10]):
            paper[:, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28] = picture
    return to_image(paper, scale=2)
