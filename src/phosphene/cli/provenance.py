"""``inspect`` and ``rerun``: pictures tell how they were made, and what they tell is never more than that.

Whoever made a picture chose its words. So a command takes again what it writes itself and nothing else, results go where
the reader says, and what would be opened for it is asked for by name, unless it ships with the package.
"""

from __future__ import annotations

import filecmp
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from phosphene.cli import common, options
from phosphene.cli.common import app
from phosphene.cli.drawing import ELSEWHERE, REMADE
from phosphene.defaults import MOST_PICTURES, SHAPES, SKIP
from phosphene.errors import UserError

if TYPE_CHECKING:
    from typer.core import TyperArgument, TyperOption

TOLD = {"command": str, "version": str, "arguments": dict, "model": str, "torch": str, "number": list, "inputs": dict}
"""What the provenance of a drawn picture says, beside the arguments that its command has."""
KINDS = {"int": int, "float": int | float, "boolean": bool}
"""Types of options by their names in typer, in JSON; all others are texts."""
MODELS = ("model", "classifier", "autoguidance")
"""Options that name models."""


@app.command()
def inspect(path: Annotated[Path, typer.Argument(metavar="PNG")]) -> None:
    """Print how a picture was made, as JSON."""
    from phosphene.readers import read_provenance

    common.say(json.dumps(read_provenance(path), indent=2, ensure_ascii=False))


@app.command()
def rerun(
    path: Annotated[Path, typer.Argument(metavar="PNG")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="NAME-again.png by default.", parser=options.path)] = None,
    allow_model: Annotated[list[str] | None, typer.Option(help="A model it may use that does not ship with phosphene.")] = None,
    allow_file: Annotated[list[str] | None, typer.Option(help="A file of yours that it may read.")] = None,
) -> None:
    """Make a picture again, from what it says of itself.

    On the machine it was made on the new file is the same, byte for byte.
    """
    from phosphene.readers import read_provenance

    story = _checked(read_provenance(path), path)
    out = path.with_name(f"{path.stem}-again.png") if out is None else common.destination(out, story["command"])
    if out.resolve() == path.resolve():
        raise UserError(f"-o {out}: is the picture to be made again; choose another name.")
    story = _granted(story, path, {"--allow-model": allow_model or (), "--allow-file": allow_file or ()})
    argv, number = _argv(story, out), story.get("number")
    common.say(shlex.join(["phosphene", *argv]) + (f"  # picture {number[0]} of {number[1]}" if number else ""))
    if number is None:
        _again(argv, path)
    else:
        _one_of_many(story, number, out, path)
    same = filecmp.cmp(path, out, shallow=False)
    common.say(
        f"{out} is {path}, byte for byte" if same else f"{out} differs from {path}: another machine, version or model made it"
    )


def _again(argv: Sequence[str], path: Path) -> None:
    """Run the command line that ``path`` tells of; what it came to nothing by is Failed, which is said once, by the outer one.

    UserError where one of its options is refused: nobody typed them, and what was taken once need not be now.
    """
    from phosphene.cli import Failed, perform

    try:
        perform(argv)
    except Failed as failure:
        told = {options.called(option) for option in _options(argv[0]).values()}
        if failure.code != 2 or failure.sentence.partition(" ")[0].rstrip(":") not in told:
            raise
        why = f"cannot be made again as it says ({failure.sentence.rstrip('.')})"
        raise UserError(f"{path}: {why}; type the line above, with that mended.") from failure


def _one_of_many(story: Mapping[str, Any], number: Sequence[int], out: Path, path: Path) -> None:
    """Draw all, for a picture's last bits may depend on those beside it, and keep the one as ``out``."""
    from phosphene.files import replacing

    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        whole = Path(folder) / "all.png"
        _again(_argv(story, whole), path)
        alone = common.numbered(whole, *number)
        if not alone.is_file():
            raise UserError(f"number {number}: there is no such picture among those that are made.")
        made = alone.read_bytes()
    with replacing(out) as temporary:
        temporary.write_bytes(made)


@cache
def _options(command: str) -> dict[str, TyperArgument | TyperOption]:
    """What the provenance of a command tells of it, by name: all of its options but those that say where something lies."""
    declared = typer.main.get_command(app).commands[command].params
    return {option.name.rstrip("_"): option for option in declared if option.name not in (*ELSEWHERE, "help")}


def _checked(story: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """``story`` if it is one that a command of REMADE tells; else UserError."""
    again = "make the picture again by hand"
    if str(line := story.get("command")).startswith("phosphene "):  # a figure of a page or of the documents
        raise UserError(
            f"{path}: is no picture of one command's; what it is made by is {line[:200]!r}, to be typed as it stands."
        )
    for name, value in story.items():
        if name not in TOLD or not isinstance(value, TOLD[name]):
            raise UserError(f"{path}: says {name} {json.dumps(value)[:80]}, which no command of phosphene writes; {again}.")
    if story.get("command") not in REMADE or not {"arguments", "model"} <= set(story):
        raise UserError(f"{path}: was made by {story.get('command')!r}; pictures of {', '.join(REMADE)} can be made again.")
    options = _options(story["command"])
    for name, value in story["arguments"].items():
        if name == "model" or name not in options or not _fits(value, options[name]):
            what = f"{name} {json.dumps(value)[:80]}, which {story['command']} never writes"
            raise UserError(f"{path}: says {what}; {again}.")
    for name, value in story.get("inputs", {}).items():
        told = name in options and (options[name].type.name == "path" or name == "mask") and story["arguments"].get(name)
        if not isinstance(told, str) or not isinstance(value, str) or not re.fullmatch("[0-9a-f]{64}", value):
            raise UserError(f"{path}: says it was made of {json.dumps({name: value})[:80]}, which cannot be; {again}.")
    number = story.get("number", [1, 1])
    if [type(k) for k in number] != [int, int] or not 1 <= number[0] <= number[1] <= MOST_PICTURES:
        raise UserError(f"{path}: says it is picture {json.dumps(number)[:80]}, which cannot be; {again}.")
    return story


def _fits(value: object, option: TyperArgument | TyperOption) -> bool:
    """Whether ``value`` is of the option's type, or nothing."""
    kind = KINDS.get(option.type.name.removesuffix(" range"), str)
    if value is None or not _several(option):
        return value is None or (isinstance(value, kind) and isinstance(value, bool) == (kind is bool))
    return isinstance(value, list) and all(isinstance(each, kind) for each in value)


def _several(option: TyperArgument | TyperOption) -> bool:
    return option.nargs == -1 or getattr(option, "multiple", False)


def _granted(story: Mapping[str, Any], path: Path, allowed: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """``story``, with files named as they are in ``allowed``, where each may lie elsewhere than it did.

    UserError where a model or a file would be opened that neither ships with the package nor is allowed, or is another
    than the picture was made of.
    """
    from phosphene.files import sha256
    from phosphene.models import folders
    from phosphene.readers import sample

    ours: dict[str, Callable[[str], bool]] = {
        "--allow-model": lambda name: name in (*folders.embedded(), *folders.cascades()) or name.startswith(SKIP),
        "--allow-file": lambda name: name in SHAPES or sample(Path(name)) is not None,
    }
    arguments = dict(story["arguments"])
    for name, option in _options(story["command"]).items():
        how = "--allow-model" if name in MODELS else "--allow-file"
        value, digest = story["model"] if name == "model" else arguments.get(name), story.get("inputs", {}).get(name)
        if value is None or not (name in (*MODELS, "mask") or option.type.name == "path") or (ours[how](value) and not digest):
            continue
        named = [each for each in allowed[how] if each == value or (digest and Path(each).name == Path(value).name)]
        if not named and not _agreed(f"{path} wants to open {common.visible(value)} ({name})"):
            where = "" if not digest or Path(value).exists() else ", with the folder that it is in"
            raise UserError(f"{path}: wants to open {value} ({name}); if that is to be, add {how} {shlex.quote(value)}{where}.")
        file = (named or [value])[0]
        if digest and not Path(file).exists():
            raise UserError(f"{how} {file}: there is no such file; name it with the folder that it is in.")
        if digest and (not Path(file).is_file() or sha256(Path(file)) != digest):
            raise UserError(f"{file}: is not the file that {path} was made of ({name}, SHA-256 {digest[:12]}...); name that one.")
        if name != "model":
            arguments[name] = file
    return {**story, "arguments": arguments}


def _agreed(what: str) -> bool:
    """Whether somebody at a terminal agrees."""
    asked = sys.stdin.isatty() and sys.stderr.isatty() and common.audience.get() is None
    return asked and typer.confirm(f"{what}. Shall it?", err=True)


def _argv(story: Mapping[str, Any], out: Path) -> list[str]:
    """The command line that the provenance ``story`` tells of, writing to ``out``."""
    argv, plain = [story["command"], f"--out={out}"], []
    for name, option in _options(story["command"]).items():
        value = story["model"] if name == "model" else story["arguments"].get(name)
        values = [] if value is None else value if _several(option) else [value]
        if option.param_type_name == "argument":
            plain += values
        elif isinstance(value, bool):
            argv += (option.opts if value else option.secondary_opts)[:1]
        else:
            argv += [f"{max(option.opts, key=len)}={each}" for each in values]
    return [*argv, "--", *plain] if plain else argv
