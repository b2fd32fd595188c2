"""The options that commands share. What can be refused by looking at one alone is, before anything heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from phosphene.defaults import DATASETS, MOST_PICTURES, MOST_STEPS, PAPERS, SKIP, SOLVERS, one_of
from phosphene.errors import UserError, require_finite, require_length, require_one_of, require_share, require_strength
from phosphene.files import exists, expanded, require_file


def path(text: str | Path) -> Path:
    """What ``--out`` names. An empty text would be the working folder, which a script with an unset variable did not mean."""
    if not str(text).strip():
        raise typer.BadParameter("is empty; name a file or a folder.")
    return expanded(text)


def called(option: Any) -> str:
    """What a reader calls an option or argument of typer's."""
    return option.human_readable_name if option.param_type_name == "argument" else max(option.opts, key=len)


def checked(check: Callable[[str, Any], object]) -> Callable[[typer.CallbackParam, Any], Any]:
    """What typer calls: ``check`` of an option's name and each value that it is given."""

    def callback(option: typer.CallbackParam, value: Any) -> Any:
        name = called(option)
        for each in value if isinstance(value, list) else [value]:
            if each is not None:
                check(name, each)
        return value

    return callback


def chosen(names: Collection[str], what: str = "", *called: str) -> Any:
    """An option whose value is one of ``names``; ``what`` is said of it. ``called``: where it is not as its parameter is."""
    check = checked(lambda option, value: require_one_of(option, value, names))
    return typer.Option(*called, help=f"{one_of(names)}{what and ': '}{what}.", callback=check)


@checked
def is_picture(option: str, value: Path) -> None:
    from phosphene.readers import picture_file

    picture_file(value, option)


@checked
def is_folder(option: str, value: Path) -> None:
    if not value.is_dir():
        raise UserError(f"{option} {value}: no such folder; name one that holds the four IDX files, or leave it out.")


@checked
def is_embeddings(option: str, value: Path) -> None:
    if not value.is_file():
        raise UserError(f"{option} {value}: no such file; name a .pth file of prompt embeddings.")


@checked
def is_model(option: str, value: str) -> None:
    from phosphene.models import folders

    folders.folder(value, option)


def model_for(what: str, role: str) -> Any:
    """An option that names ``what`` is done with, a model in the ``role``."""

    @checked
    def fits(option: str, value: str) -> None:
        from phosphene.models import folders
        from phosphene.readers import read_json_file

        kind = str(read_json_file(folders.folder(value, option) / folders.CONFIG, folders.AGAIN).get("kind"))
        folders.require_role(value, kind, folders.ROLES.get(kind, role), role, option)  # of others the catalogue knows it

    return typer.Option(help=f"{what}: a name, a model folder or a run.", callback=fits)


def steps_of(what: str) -> Any:
    return typer.Option(min=1, max=MOST_STEPS, help=f"Timesteps {what}.")


@checked
def is_cascade(option: str, value: str) -> None:
    from phosphene.models import folders

    folders.require_cascade(value)


@checked
def _is_weaker(option: str, value: str) -> None:
    """A cascade, or a block that is skipped: which there are is seen when the model is."""
    if not value.startswith(SKIP):
        from phosphene.models import folders

        folders.require_cascade(value, option)


@checked
def _device(option: str, value: str) -> None:
    """It is written as a device is; whether it is there is seen when torch is."""
    if not re.fullmatch(r"(auto|cpu|cuda|mps)(:\d{1,3})?", value, re.ASCII):
        raise UserError(f"{option} {value}: unknown; choose auto, cpu, cuda or mps.")


def there(otherwise: str) -> Callable[[typer.CallbackParam, Any], Any]:
    """A check that something lies where an option says; ``otherwise`` is what to do where nothing does."""

    def check(option: str, value: Path) -> None:
        if not exists(value):
            raise UserError(f"{option} {value}: does not exist; {otherwise}.")

    return checked(check)


@checked
def is_writable(option: str, value: Path) -> None:
    require_file(value, option)


def animation(what: str) -> Any:
    """An option that names a file which shows ``what``."""

    @checked
    def fits(option: str, value: Path) -> None:
        from phosphene.images import require_animation

        require_animation(value, option)

    return typer.Option(help=f"GIF or MP4: {what}.", callback=fits)


@checked
def is_page(option: str, value: Path) -> None:
    from phosphene.readers import PAGE, read_toml_file

    read_toml_file(value, option, PAGE)


finite, share = checked(require_finite), checked(require_share)
length, strength = checked(require_length), checked(require_strength)

Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the first picture; each next one has the next seed.")]
Count = Annotated[int, typer.Option(min=1, max=MOST_PICTURES)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.", callback=_device)]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the four IDX files; without it they are looked for, then fetched.", callback=is_folder, parser=path
    ),
]
Embeddings = Annotated[
    Path | None, typer.Option(help="A .pth file of prompt embeddings, instead of a text encoder.", callback=is_embeddings)
]
DatasetName = Annotated[str, chosen(DATASETS, "digits needs no files")]
Guidance = Annotated[
    float | None, typer.Option(help="Classifier-free guidance: 1 is conditional only, 0 unconditional.", callback=finite)
]
GuidanceInterval = Annotated[
    str | None, typer.Option(help="Guidance between these timesteps alone, such as 200,800; beyond, a step costs less.")
]
GuidanceParallel = Annotated[
    float | None,
    typer.Option(
        help="How much is kept of guidance's part along the picture, which glares: 1 (by default) to 0.", callback=finite
    ),
]
GuidanceNorm = Annotated[float | None, typer.Option(help="The most that guidance may move a pixel of the picture, on average.")]
Autoguidance = Annotated[
    str | None,
    typer.Option(
        help="A weaker model, away from whose picture of the prompt guidance leads; or skip:BLOCK, this one without that.",
        callback=_is_weaker,
    ),
]
SolverName = Annotated[str | None, chosen(SOLVERS)]
USUAL = ", ".join(f"{steps.digits} ({name})" for name, steps in SOLVERS.items())
Steps = Annotated[int | None, steps_of(f"to visit; by default {USUAL}")]
Eta = Annotated[float | None, typer.Option(help="Of ddim: the share of fresh noise, 0 (by default) to 1.", callback=share)]
Resample = Annotated[int | None, typer.Option(min=1, max=100, help="Take each step so many times, back to noise between.")]
Sheet = Annotated[bool, typer.Option("--sheet", help="Of a single picture too a sheet, and the picture beside it.")]
Print = Annotated[str | None, chosen(PAPERS, "a PDF to print lies beside it, with marks to turn, cut or look by", "--print")]
Figures = Annotated[Path | None, typer.Option("--json", help="Write the figures, with machine and date.", callback=is_writable)]
Out = Annotated[Path, typer.Option("--out", "-o", help="PNG, or a folder.", parser=path)]
CascadeName = Annotated[str, typer.Option(help="A cascade: its name, its folder, or OWNER/NAME on the hub.", callback=is_cascade)]
TextEncoder = Annotated[str, chosen(("auto", "none"), "none knows only prompts of --embeddings or encoded before")]
Judge = Annotated[str, model_for("Classifier that judges", "classifier")]
