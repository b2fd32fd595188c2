"""Figures and the page: ``evaluate``, ``report``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from phosphene.cli import common, options
from phosphene.cli.common import Advance, app
from phosphene.defaults import CASCADE, NOISE_LEVELS, PART_B, SEED
from phosphene.errors import UserError, require_eta
from phosphene.files import require_picture, require_writable, write_text
from phosphene.notation import require_sections

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from phosphene.drawing import Sampling
    from phosphene.evaluation.digits import Reference
    from phosphene.models.catalogue import Model
    from phosphene.models.classifier import DigitClassifier
    from phosphene.models.digits import DigitDiffusion
    from phosphene.processes import Place
    from phosphene.training.mnist.data import Dataset

JUDGED = (
    "Distances are between features of {model}, which reads {accuracy:.2%} of the test split, and compare with no published "
    "FID. Between two sets of real digits: {floor:.3f}."
)

HEARD = {
    "diffusion": ("samples", "guidance", "solver", "steps", "eta", "resample", "seed", "classifier"),
    "denoiser": ("seed",),
    "classifier": (),
}
"""Options of ``evaluate models`` that change figures of a model, by its role; all others change something of every one."""


class _Evaluate(TyperGroup):
    """What is not the name of a command is the name of a model: ``evaluate class-20`` is ``evaluate models class-20``."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] == "--help")
        return super().parse_args(context, args if named else ["models", *args])


evaluate = typer.Typer(
    cls=_Evaluate, subcommand_metavar="[models] MODEL... | anagrams", help="Figures of models, or of anagrams that one draws."
)
app.add_typer(evaluate, name="evaluate")


@evaluate.command("models")
def evaluate_models(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Names, model folders or runs.", callback=options.each(options.is_model)),
    ],
    samples: Annotated[int, typer.Option(min=1, max=100_000, help="Pictures to draw for each figure.")] = 5000,
    guidance: Annotated[str, typer.Option(help="Scales, separated by commas.")] = "0,1,2,3,5",
    solver: options.SolverName = "ancestral",
    steps: options.Steps = None,
    eta: options.Eta = None,
    resample: options.Resample = None,
    seed: options.Seed = SEED,
    classifier: options.Judge = "classifier",
    dataset: options.DatasetName = "mnist",
    data: options.Data = None,
    device: options.Device = "auto",
    figures: options.Figures = None,
    picture: Annotated[Path | None, typer.Option(help="PNG: samples beside real digits; of runs, their loss curves.")] = None,
) -> None:
    """Measure models, with figures.

    Of diffusion models the accuracy and the Fréchet distance of samples, of denoisers the error, of classifiers the accuracy.
    The word "models" may be left out.
    """
    scales = common.numbers("--guidance", guidance, float, "0,1,2,3,5")
    require_eta(eta, solver)
    _require_places(picture, figures)
    from phosphene.drawing import Sampling
    from phosphene.models import catalogue
    from phosphene.training.mnist.data import load_dataset

    place = common.place(device)
    sampling = Sampling(solver, steps, eta, resample or 1, max_rows=common.max_rows(place.device))
    loaded, roles = [catalogue.load(name, place.device) for name in names], [catalogue.role(name) for name in names]
    curves = _loss_curves(names) if picture is not None else {}
    if picture is not None and not curves and set(roles) != {"diffusion"}:
        raise UserError(f"--picture {picture}: shows samples of diffusion models or losses of runs; name only such models.")
    _require_heard(context, loaded, roles)
    reader = catalogue.load(classifier, place.device, role="classifier") if "diffusion" in roles else None
    with place.leader_first():
        ruler = _Ruler(load_dataset(dataset, data), reader, samples, scales, sampling, seed, place)
    results, panels = ruler.measured(list(zip(names, roles, loaded, strict=True)))
    _show_figures(results)
    judge = ruler.judge(classifier)
    told = {"samples": samples, "solver": solver, "steps": steps, "eta": eta, "resample": resample or 1, "seed": seed}
    told |= {"guidance": scales, "classifier": classifier, "dataset": dataset, "device": common.named(place.device)}
    provenance = common.provenance("evaluate", names, told)
    if figures is not None and place.leads:
        measured = {"machine": common.machine(place.device), "date": common.now(), "classifier": judge, "results": results}
        write_text(figures, json.dumps({**provenance, **measured}, indent=2, ensure_ascii=False) + "\n")
        common.say(f"figures in {figures}")
    if picture is not None and place.leads:
        _draw(picture, curves, panels, ruler.real, provenance)
        common.say(f"picture in {picture}")


def _require_heard(context: typer.Context, models: Sequence[Any], roles: Sequence[str]) -> None:
    """UserError where an option was given that changes no figure of any of the ``models``."""
    heard = {name for role in roles for name in HEARD[role]}
    if not any(role == "diffusion" and model.classes for model, role in zip(models, roles, strict=True)):
        heard.discard("guidance")  # the others are not asked for a class
    for option in context.command.params:
        value = context.params[option.name]
        if option.name in HEARD["diffusion"] and option.name not in heard and value != option.default:
            named = ", ".join(context.params["names"])
            raise UserError(f"{options.called(option)} {value}: changes no figure of {named}; leave it out.")


def _require_places(picture: Path | None, figures: Path | None) -> None:
    """UserError where ``picture`` cannot be written, or would take the place of the ``figures``."""
    if picture is None:
        return
    require_picture(picture, "--picture")
    if figures is not None and figures.resolve() == picture.resolve():
        raise UserError(f"--picture {picture}: is what --json names too, so one would take the other's place; name another.")


def _named(sections: str) -> list[str]:
    return [name.strip() for name in sections.split(",")]


def _are_sections(option: str, value: str) -> None:
    require_sections(_named(value))


def _is_page(option: str, value: Path) -> None:
    from phosphene.readers import PAGE, read_toml_file

    read_toml_file(value, option, PAGE)


@app.command()
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the page.", parser=options.path)] = Path("report"),
    model: Annotated[str, options.checked("A cascade, for Part A: its name or its folder.", options.is_sampled_freely)] = CASCADE,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer pictures in fewer steps: three minutes on a laptop.")] = False,
    sections: Annotated[
        str | None,
        options.checked("These alone, by name or number, such as 1.8,ambigrams; they join what the page has.", _are_sections),
    ] = None,
    part_b: Annotated[str, options.chosen(PART_B, "which edition of Part B")] = "both",
    config: Annotated[Path | None, options.checked("A page of your own: a TOML file, see examples/page.toml.", _is_page)] = None,
    embeddings: options.Embeddings = None,
    device: options.Device = "auto",
) -> None:
    """Make the page with every experiment.

    What is there from before and would come out the same is kept, so a page that was stopped goes on.
    """
    if out.exists() and not out.is_dir():
        raise UserError(f"-o {out}: is a file; name a folder.")
    from phosphene.report.page import write

    require_writable(out / "index.html")
    place = str(common.device(device))
    names = None if sections is None else _named(sections)
    with common.bar("report") as advance:

        def section(name: str, done: int, total: int, left: float) -> None:
            if done < total:
                common.say(f"section {done + 1} of {total}: {name} (some {max(1, round(left))} s left)")
            advance(done, total, name)

        page = write(out, place, section, model, quick, names, config, embeddings, common.say, part_b)
    common.say(f"the page is {page}")


@dataclass
class _Ruler:
    """What models are measured by: real digits, the classifier that reads them (for diffusion models), and how to sample."""

    real: Dataset
    reader: DigitClassifier | None
    samples: int
    scales: Sequence[float]
    sampling: Sampling
    seed: int
    place: Place
    reference: Reference | None = None

    def __post_init__(self) -> None:
        from phosphene.evaluation.digits import refer

        if self.reader is not None:
            self.reference = refer(self.reader, self.real.train, self.real.test, self.samples)

    def judge(self, name: str) -> dict | None:
        """What is told of the classifier called ``name``, which is also said; None where there is none."""
        if self.reference is None:
            return None
        figures = {"model": name, "accuracy": self.reference.accuracy, "floor": self.reference.floor}
        common.say(JUDGED.format(**figures))
        return figures

    def measured(self, models: Sequence[tuple[str, str, Any]]) -> tuple[list[dict], list[tuple[str, Image.Image]]]:
        """The figures of each of ``models`` (name, role, model), and a panel of samples of each of diffusion."""
        results, panels = [], []
        with common.bar("measuring") as advance:
            for name, role, model in models:
                if role == "diffusion":
                    rows, more = self.diffusion(model, advance)
                    panels += [(f"{name}, {label}", panel) for label, panel in more]
                elif role == "denoiser":
                    rows = self.denoiser(model, advance)
                else:
                    rows = self.classifier(model)
                results.append({"model": name, "kind": role, "figures": rows})
        return results, panels

    def diffusion(self, model: DigitDiffusion, advance: Advance) -> tuple[list[dict], list[tuple[str, Image.Image]]]:
        """Figures of samples at each guidance scale, and a panel of each."""
        from phosphene.evaluation.digits import measure

        steps = len(self.sampling.visited(model))
        rows, panels = [], []
        scales = self.scales if model.classes else [1.0]
        for index, scale in enumerate(scales):
            advance(index, len(scales), f"guidance {scale:g}")
            how = self.sampling._replace(guidance=scale, steps=steps)
            found = measure(model, self.reader, self.reference, self.samples, self.seed, sampling=how, place=self.place)
            row = {"guidance": scale if model.classes else None, "samples": found.samples, "steps": steps}
            row |= {"accuracy": found.accuracy, "accuracy_by_class": found.accuracy_by_class, "frechet": found.frechet}
            rows.append(row)
            groups = model.classes or 10
            label = f"guidance {scale:g}" if model.classes else "unconditional"
            panels.append((label, _panel([found.pictures[c::groups] for c in range(groups)])))
        return rows, panels

    def denoiser(self, network: Model, advance: Advance) -> list[dict]:
        """The error at each level of noise, over the whole test split."""
        from phosphene.tasks.denoise_digits import denoise_at

        clean, rows = self.real.test.images.float() / 255, []
        for index, sigma in enumerate(NOISE_LEVELS):
            advance(index, len(NOISE_LEVELS), f"sigma {sigma:g}")
            result = denoise_at(network, clean, self.seed, [sigma])
            noisy, error = result.noisy_error.item(), result.error.item()
            psnr = -10 * math.log10(error) if error > 0 else None
            rows.append({"sigma": sigma, "pictures": len(clean), "noisy_mse": noisy, "mse": error, "psnr": psnr})
        return rows

    def classifier(self, model: DigitClassifier) -> list[dict]:
        from phosphene.evaluation.digits import refer

        count = len(self.real.test)
        return [{"pictures": count, "accuracy": refer(model, self.real.train, self.real.test, count).accuracy}]


def _draw(path: Path, curves: Mapping, panels: Sequence[tuple], real: Dataset, provenance: dict) -> None:
    """Loss curves where there are some, else samples beside real digits."""
    from phosphene.images import save_png, sheet
    from phosphene.plots import loss_curves

    if curves:
        return save_png(loss_curves(curves, "training loss"), path, provenance)
    test = _panel([real.test.images[real.test.labels == c].float() / 255 for c in range(real.classes)])
    panels = [*panels, (f"{real.name}, the test split", test)]
    save_png(sheet([[panel for _, panel in panels]], captions=[[label for label, _ in panels]]), path, provenance)


def _loss_curves(names: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Losses over epochs of each run; nothing unless all of ``names`` are runs."""
    from phosphene.training.log import NAME, curve, read_log

    curves = {name: curve(read_log(Path(name) / NAME)) for name in names}
    return curves if all(curves.values()) else {}


def _show_figures(results: Sequence[dict]) -> None:
    """One table for each kind of model."""
    columns = {
        "diffusion": (("guidance", "g"), ("samples", "d"), ("accuracy", ".2%"), ("frechet", ".3f")),
        "denoiser": (("sigma", "g"), ("noisy_mse", ".5f"), ("mse", ".5f"), ("psnr", ".2f")),
        "classifier": (("pictures", "d"), ("accuracy", ".2%")),
    }
    titles = {"frechet": "Fréchet distance", "noisy_mse": "noisy mse", "psnr": "PSNR"}
    for kind, formats in columns.items():
        rows = []
        for result in (r for r in results if r["kind"] == kind):
            for figures in result["figures"]:
                rows.append([result["model"], *("-" if figures[k] is None else format(figures[k], form) for k, form in formats)])
        if rows:
            common.table(["model", *(titles.get(key, key) for key, _ in formats)], rows)


def _panel(groups: Sequence[Tensor]) -> Image.Image:
    """Up to ten pictures (N, 1, 28, 28) of each group, a row for each, as one image."""
    import torch

    from phosphene.images import rescaled, to_images

    paper = torch.zeros(1, 28 * len(groups), 280)
    for row, group in enumerate(groups):
        for column, picture in enumerate(group[:10]):
            paper[:, 28 * row : 28 * row + 28, 28 * column : 28 * column + 28] = picture
    return to_images(rescaled(paper[None]), 2)[0]
