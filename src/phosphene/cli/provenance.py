"""``inspect`` and ``rerun``: pictures tell how they were made."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from phosphene.cli import common
from phosphene.cli.common import app
from phosphene.errors import UserError


@app.command()
def inspect(path: Annotated[Path, typer.Argument(metavar="PNG")]) -> None:
    """Print how a picture was made, as JSON."""
    from phosphene.readers import read_provenance

    common.say(json.dumps(read_provenance(path), indent=2, ensure_ascii=False))


@app.command()
def rerun(
    path: Annotated[Path, typer.Argument(metavar="PNG")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="NAME-again.png by default.")] = None,
) -> None:
    """Make a picture again, from what it says of itself.

    On the machine it was made on the new file is the same, byte for byte.
    """
    from phosphene.cli import main
    from phosphene.readers import read_provenance

    story = read_provenance(path)
    if story.get("command") not in RERUN or not isinstance(story.get("arguments"), dict):
        raise UserError(f"{path}: was made by {story.get('command')!r}; pictures of {', '.join(RERUN)} can be made again.")
    out = path.with_name(f"{path.stem}-again.png") if out is None else common.place(out, story["command"])
    if out.absolute() == path.absolute():
        raise UserError(f"-o {out}: is the picture to be made again; choose another name.")
    argv, number = _argv(story, out), story.get("number")
    common.say(shlex.join(["phosphene", *argv]) + (f"  # picture {number[0]} of {number[1]}" if number else ""))
    if code := main(argv) if number is None else _one_of_many(story, number, out):
        raise typer.Exit(code)
    same = path.read_bytes() == out.read_bytes()
    common.say(
        f"{out} is {path}, byte for byte" if same else f"{out} differs from {path}: another machine, version or model made it"
    )


def _one_of_many(story: Mapping[str, Any], number: Sequence[int], out: Path) -> int:
    """Draw all, for a picture's last bits may depend on those beside it, and keep the one as ``out``; the exit code."""
    from phosphene.cli import main
    from phosphene.files import replacing

    with TemporaryDirectory() as folder, redirect_stdout(io.StringIO()):
        whole = Path(folder) / "all.png"
        if code := main(_argv(story, whole)):
            return code
        made = common.numbered(whole, *number).read_bytes()
    with replacing(out) as temporary:
        temporary.write_bytes(made)
    return 0


RERUN = {
    "digits": ("digits",),
    "ambigram": ("digits",),
    "denoise-digits": (),
    "generate": ("prompts",),
    "denoise": ("image",),
    "edit": ("image",),
    "inpaint": ("image", "mask"),
    "anagram": ("prompts",),
    "hybrid": ("prompts",),
    "compose": ("prompts",),
    "morph": ("prompts",),
}
"""Commands whose pictures can be made again, and which of their arguments are given without a name."""


def _argv(story: Mapping[str, Any], out: Path) -> list[str]:
    """The command line that the provenance ``story`` tells of, writing to ``out``."""
    argv, named = [story["command"], f"--out={out}"], {"model": story["model"], **story["arguments"]}
    plain: list[str] = []
    for name in RERUN[story["command"]]:
        value = named.pop(name, None)
        plain += value if isinstance(value, list) else [] if value is None else [value]
    for name, value in named.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            negated = [f"--no-{option}"] if name in ("upscale", "threshold") else []
            argv += [f"--{option}"] if value else negated
        elif name == "view":  # may be given several times
            argv += [f"--view={v}" for v in value]
        elif value is not None:
            text = ",".join(f"{v}" for v in value) if isinstance(value, list) else str(value)
            argv.append(f"--{option}={text}")
    return [*argv, "--", *plain] if plain else argv
