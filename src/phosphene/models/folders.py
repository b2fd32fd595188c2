"""Where models lie, and whether their files are whole. No torch here: a name that is none is refused at once."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from phosphene.defaults import one_of
from phosphene.errors import UserError
from phosphene.files import exists, expanded, is_file, is_special, sha256
from phosphene.readers import read_json_file, read_lines

EMBEDDED = Path(__file__).parent.parent / "assets" / "models"
CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"
INDEX = "model_index.json"
"""What says that a folder is a stage, in the layout of diffusers."""
DISTILLED, ADAPTED = "distilled.json", "adapted.json"
"""What says that a folder holds but the difference to another model: to its teacher, or to its base, which it is adapted from."""
_OTHER = {DISTILLED: "teacher", ADAPTED: "base"}
ROLES = {"diffusion": "diffusion", "denoiser": "denoiser", "classifier": "classifier"}
"""What commands use a model as, by the kinds that ship (``catalogue.KINDS``)."""
AGAIN = "fetch or train the model again"
ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")
"""Names of the Hugging Face hub."""


def embedded() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob(f"*/{CONFIG}"))


def require_name(name: str | Path, known: Collection[str]) -> str | Path:
    """``name``; UserError where it is empty, which would mean the working folder, or a default; ``known`` would be some."""
    if not str(name).strip():
        raise UserError(f'--model "{name}": is empty; leave it out, name a folder, or one of {", ".join(known)}.')
    return name


def folder(name: str | Path, option: str = "--model") -> Path:
    """Where the model called ``name`` lies: an embedded one, a model folder, or a training run (its last model).

    UserError, naming ``option``, where there is none.
    """
    if str(require_name(name, embedded())) in embedded():
        return EMBEDDED / str(name)
    if str(name) in cascades():
        raise UserError(f"{option} {name}: draws from text; this needs a model of digits, such as {embedded()[0]}.")
    path = expanded(name)
    if (path / CONFIG).is_file():
        return path
    epochs = [int(p.parent.name[6:]) for p in path.glob(f"model-*/{CONFIG}") if p.parent.name[6:].isdecimal()]
    if epochs:
        return path / f"model-{max(epochs):02d}"
    if path.is_dir():
        raise UserError(f"{option} {name}: the folder holds no {CONFIG}; name a finished run or one of {', '.join(embedded())}.")
    known = embedded() if option.startswith("-") else [*embedded(), *cascades()]  # an argument takes models of any kind
    raise UserError(f"{option} {name}: neither a folder nor an embedded model; choose one of {', '.join(known)}.")


def require_role(name: str | Path, kind: str, own: str, role: str, option: str = "--model") -> None:
    """UserError where the model called ``name``, of this ``kind``, is used in its ``own`` role and another one is wanted."""
    if own != role:
        raise UserError(f"{option} {name}: is a {kind}; this command needs a {role} model.")


def cascades() -> list[str]:
    """Names of the cascades that ship with the package."""
    return sorted(path.parent.name for each in ("stage-1", *_OTHER) for path in EMBEDDED.glob(f"*/{each}"))


def cascade_folder(name: str | Path) -> Path:
    """Where the cascade called ``name`` lies, embedded or not, if it is no repository's name."""
    name = require_name(name, cascades())
    return EMBEDDED / str(name) if str(name) in cascades() else expanded(name)


def is_on_hub(folder: Path) -> bool:
    """Whether what looks like a folder is a repository's name."""
    return not folder.exists() and ON_HUB.fullmatch(str(folder)) is not None


def is_cascade(name: str | Path) -> bool:
    """Whether ``name`` is a cascade's, and no single network of the MNIST chapter."""
    folder = cascade_folder(name)
    return is_on_hub(folder) or (folder / "stage-1").is_dir() or any((folder / told).is_file() for told in (INDEX, *_OTHER))


def locate(name: str | Path) -> Path:
    """The folder of a cascade that is on this machine; UserError where it is yet to be fetched."""
    folder = cascade_folder(name)
    if is_on_hub(folder):
        raise UserError(f"{name}: is no folder here; fetch it first: phosphene models fetch {name}.")
    return folder


def difference_of(folder: Path) -> tuple[str, str] | None:
    """Which of DISTILLED and ADAPTED the model in ``folder`` has, and what model that says it is a difference to."""
    for file, called in _OTHER.items():
        if (path := folder / file).is_file():
            other = read_json_file(path, AGAIN).get(called)
            if not isinstance(other, str) or not other.strip():
                raise UserError(f"{path}: names no {called}; {AGAIN}.")
            return file, other
    return None


def whole_folder(folder: Path) -> Path:
    """Where the stages of the model in ``folder`` lie: with what it is a difference to, where it is one, else there."""
    found = difference_of(folder)
    if found is None:
        return folder
    file, other = found
    place = EMBEDDED / other if other in cascades() else folder / other
    if not exists(place) or not is_cascade(place) or any((place / told).is_file() for told in _OTHER):
        told = f"its {_OTHER[file]} {other} is no cascade that lies here"
        raise UserError(f"{folder / file}: {told}; name one, from here or embedded.")
    return place


def stage_folders(folder: Path, option: str = "--model") -> list[Path]:
    """The stage folders of ``folder``, which ``option`` names; UserError where it has none."""
    folder = whole_folder(folder)
    parts = [folder] if (folder / INDEX).is_file() else [p for p in (folder / "stage-1", folder / "stage-2") if p.is_dir()]
    if not parts:
        missing = f"holds neither {INDEX} nor stage-1" if folder.is_dir() else "no such folder"
        known = ", ".join(cascades())
        raise UserError(f"{option} {folder}: {missing}; name {known}, OWNER/NAME, or a folder in the layout of diffusers.")
    for part in parts:
        read_json_file(part / INDEX, AGAIN)
    return parts


def require_cascade(name: str, option: str = "--model") -> None:
    """UserError where no cascade is called ``name``, as ``option`` says, here or (as far as a name tells) on the hub."""
    if name in embedded():
        raise UserError(f"{option} {name}: is a model of digits; this needs one that draws from text: {one_of(cascades())}.")
    if not is_on_hub(folder := cascade_folder(name)):
        stage_folders(folder, option)


MOST_NUMBER, MOST_LAYERS = 2**20, 1000
"""Of a config.json: no network here has more of anything, nor as many layers, which are built one by one."""


def require_small(config: object, path: Path, name: str = "") -> None:
    """UserError where a number anywhere in ``config``, read from ``path``, is larger than any network's."""
    if isinstance(config, dict):
        for key, value in config.items():
            require_small(value, path, key)
    elif isinstance(config, list):
        for value in config:
            require_small(value, path, name)
    elif isinstance(config, int | float) and abs(config) > (most := MOST_LAYERS if "layers" in name else MOST_NUMBER):
        raise UserError(f"{path}: {name} {str(config)[:40]} is more than {most}, as no network here has; {AGAIN}.")


def sums(path: Path) -> set[tuple[Path, str]]:
    """The files of the model folder ``path`` whose SHA-256 is told, each with what it should be.

    Those of a stage may stand in its own SHA256SUMS, and in that of the cascade that it is a part of.
    """
    told, stage = set(), path.resolve()
    for folder, within in ((path, ""), (stage.parent, f"{stage.name}/")):
        if is_special(folder / SUMS):  # which would say nothing to compare with
            raise UserError(f"{folder / SUMS}: is no file; {AGAIN}.")
        if is_file(folder / SUMS):
            for line in read_lines(folder / SUMS, str(folder / SUMS), AGAIN):
                wanted, _, name = line.partition(" ")
                if (name := name[1:]).startswith(within):  # after a space, or the star of binary files
                    told.add((path / name.removeprefix(within), wanted))
    return told


def verify(*paths: Path) -> None:
    """Compare the model folders ``paths`` with their SHA256SUMS. Folders without one (hand-made) are taken as they are."""
    told = {each for path in paths for each in sums(path)}
    for file, wanted in sorted(told):
        if not is_file(file):
            raise UserError(f"{file}: is missing; {AGAIN}.")
        if sha256(file) != wanted:
            raise UserError(f"{file}: differs from its SHA-256 in {SUMS}; {AGAIN}.")
    weights = {file for path in paths if (path / SUMS).is_file() for file in path.rglob(f"*{Path(WEIGHTS).suffix}")}
    for file in sorted(weights - {file for file, _ in told}):
        raise UserError(f"{file}: is not in {SUMS}, so there is nothing to compare it with; {AGAIN}.")


def verify_whole(folder: Path) -> None:
    """As :func:`verify`, of all that the model in ``folder`` is made of: a difference also of what it is one to."""
    verify(folder, *(stage_folders(folder) if difference_of(folder) else ()))
