"""The options that commands share. What can be refused by looking at one alone is, before anything heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any

import typer

from phosphene.defaults import DATASETS, MOST_PICTURES, MOST_STEPS, PAPERS, SKIP, SOLVERS, one_of
from phosphene.errors import UserError, require_finite, require_one_of, require_share
from phosphene.files import exists, expanded, require_file

Check = Callable[[str, Any], object]
"""What refuses a value of an option, whose name it is told first: UserError."""


def path(text: str | Path) -> Path:
    """What ``--out`` names. An empty text would be the working folder, which a script with an unset variable did not mean."""
    if not str(text).strip():
        raise typer.BadParameter("is empty; name a file or a folder.")
    return expanded(text)


def called(option: Any) -> str:
    """What a reader calls an option or argument of typer's."""
    return option.human_readable_name if option.param_type_name == "argument" else max(option.opts, key=len)


def each(check: Check) -> Callable[[typer.CallbackParam, Any], Any]:
    """What typer calls: ``check`` of an option's name and each value that it is given."""

    def callback(option: typer.CallbackParam, value: Any) -> Any:
        name = called(option)
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                check(name, one)
        return value

    return callback


def checked(help: str, check: Check, *called: str, **more: Any) -> Any:
    """An option whose values go through ``check``. ``called``: where it is not as its parameter is."""
    return typer.Option(*called, help=help, callback=each(check), **more)


def chosen(names: Collection[str], what: str = "", *called: str) -> Any:
    """An option whose value is one of ``names``; ``what`` is said of it."""
    return checked(f"{one_of(names)}{what and ': '}{what}.", lambda option, value: require_one_of(option, value, names), *called)


def is_picture(option: str, value: Path) -> None:
    from phosphene.readers import picture_file

    picture_file(value, option)


def is_model(option: str, value: str) -> None:
    from phosphene.models import folders

    folders.folder(value, option)


def model_for(what: str, role: str) -> Any:
    """An option that names ``what`` is done with, a model in the ``role``."""

    def fits(option: str, value: str) -> None:
        from phosphene.models import folders
        from phosphene.readers import read_json_file

        kind = str(read_json_file(folders.folder(value, option) / folders.CONFIG, folders.AGAIN).get("kind"))
        folders.require_role(value, kind, folders.ROLES.get(kind, role), role, option)  # of others the catalogue knows it

    return checked(f"{what}: a name, a model folder or a run.", fits)


def steps_of(what: str) -> Any:
    return typer.Option(min=1, max=MOST_STEPS, help=f"Timesteps {what}.")


def is_cascade(option: str, value: str) -> None:
    from phosphene.models import folders

    folders.require_cascade(value, option)


def is_sampled_freely(option: str, value: str) -> None:
    """A cascade that is none of the distilled: for what says how it is sampled."""
    from phosphene.models import folders

    is_cascade(option, value)
    file, teacher = folders.difference_of(folders.cascade_folder(value)) or ("", "")
    if file == folders.DISTILLED:
        raise UserError(f"{option} {value}: is distilled, and what it is asked for here it cannot do; take {teacher}.")


def _is_weaker(option: str, value: str) -> None:
    """A cascade, or a block that is skipped: which there are is seen when the model is."""
    if not value.startswith(SKIP):
        is_sampled_freely(option, value)


def _device(option: str, value: str) -> None:
    """It is written as a device is; whether it is there is seen when torch is."""
    if not re.fullmatch(r"(auto|cpu|cuda|mps)(:\d{1,3})?", value, re.ASCII):
        raise UserError(f"{option} {value}: unknown; choose auto, cpu, cuda or mps.")


def there(otherwise: str, what: str = "does not exist", lies: Callable[[Path], bool] = exists) -> Check:
    """That something ``lies`` where an option says; ``what`` is wrong where nothing does, and ``otherwise`` what to do."""

    def check(option: str, value: Path) -> None:
        if not lies(value):
            raise UserError(f"{option} {value}: {what}; {otherwise}.")

    return check


def is_writable(option: str, value: Path) -> None:
    require_file(value, option)


def animation(what: str) -> Any:
    """An option that names a file which shows ``what``."""

    def fits(option: str, value: Path) -> None:
        from phosphene.images import require_animation

        require_animation(value, option)

    return checked(f"GIF or MP4: {what}.", fits)


Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the first picture; each next one has the next seed.")]
Count = Annotated[int, typer.Option(min=1, max=MOST_PICTURES)]
Device = Annotated[str, checked("auto, cpu, cuda or mps.", _device)]
_has_digits = there("name one that holds the four IDX files, or leave it out", "no such folder", Path.is_dir)
DATA = "Folder with the four IDX files; without it they are looked for, then fetched."
Data = Annotated[Path | None, checked(DATA, _has_digits, parser=path)]
_is_embeddings = there("name a .pth file of prompt embeddings", "no such file", Path.is_file)
Embeddings = Annotated[Path | None, checked("A .pth file of prompt embeddings, instead of a text encoder.", _is_embeddings)]
DatasetName = Annotated[str, chosen(DATASETS, "digits needs no files")]
Guidance = Annotated[float | None, checked("Classifier-free guidance: 1 is conditional only, 0 unconditional.", require_finite)]
GuidanceInterval = Annotated[
    str | None, typer.Option(help="Guidance between these timesteps alone, such as 200,800; beyond, a step costs less.")
]
GuidanceParallel = Annotated[
    float | None,
    checked("How much is kept of guidance's part along the picture, which glares: 1 (by default) all, 0 none.", require_finite),
]
GuidanceNorm = Annotated[float | None, typer.Option(help="The most that guidance may move a pixel of the picture, on average.")]
GuidanceEvery = Annotated[
    int | None,
    typer.Option(
        min=2, max=MOST_STEPS, help="Guidance asks at every so many-th call alone where to lead away from: quicker, a little off."
    ),
]
Autoguidance = Annotated[
    str | None,
    checked(
        "A weaker model, away from whose picture of the prompt guidance leads; or skip:BLOCK, this one without that.", _is_weaker
    ),
]
SolverName = Annotated[str | None, chosen(SOLVERS)]
USUAL = ", ".join(f"{steps.digits} ({name})" for name, steps in SOLVERS.items())
Steps = Annotated[int | None, steps_of(f"to visit; by default {USUAL}")]
Eta = Annotated[float | None, checked("Of ddim: the share of fresh noise, 0 (by default) to 1.", require_share)]
Resample = Annotated[int | None, typer.Option(min=1, max=100, help="Take each step so many times, back to noise between.")]
Sheet = Annotated[bool, typer.Option("--sheet", help="Of a single picture too a sheet, and the picture beside it.")]
Print = Annotated[str | None, chosen(PAPERS, "a PDF to print lies beside it, with marks to turn, cut or look by", "--print")]
Figures = Annotated[Path | None, checked("Write the figures, with machine and date.", is_writable, "--json")]
Out = Annotated[Path, typer.Option("--out", "-o", help="PNG, or a folder.", parser=path)]
CascadeName = Annotated[str, checked("A cascade: its name, its folder, or OWNER/NAME on the hub.", is_cascade)]
FreeCascade = Annotated[str, checked("A cascade: its name, its folder, or OWNER/NAME on the hub.", is_sampled_freely)]
TextEncoder = Annotated[str, chosen(("auto", "none"), "none knows only prompts of --embeddings or encoded before")]
Judge = Annotated[str, model_for("Classifier that judges", "classifier")]
