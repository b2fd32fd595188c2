"""``phosphene models``: which there are, where they lie, whether they are whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from phosphene.cli import common, options
from phosphene.cli.common import app
from phosphene.errors import UserError

models = typer.Typer(help="Which models are embedded, and are they whole?")
app.add_typer(models, name="models")


@models.callback(invoke_without_command=True)
def models_default(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        models_list()


def _folder(name: str) -> Path:
    """Of a cascade or any other model, embedded or not."""
    from phosphene.models import folders

    return folders.locate(name) if folders.is_cascade(name) else folders.folder(name, "NAME")


@models.command("list")
def models_list() -> None:
    """Name, kind, size and epoch of each embedded model."""
    from phosphene.models import catalogue, folders

    rows = []
    for name in folders.embedded():
        path = folders.folder(name)
        config = catalogue.read_config(path)
        rows.append([name, config["kind"], f"{common.size(path):,}", config.get("storage", "-"), str(config.get("epoch", "-"))])
    for name in folders.cascades():
        path = folders.locate(name)
        rows.append([name, "cascade", f"{common.size(path):,}", "int8" if folders.difference_of(path) else "float16", "-"])
    if rows:
        common.table(["model", "kind", "bytes", "storage", "epoch"], rows, left=2)
    else:
        common.say("no models are embedded in this installation; train one with: phosphene train class")


@models.command("info")
def models_info(name: Annotated[str, typer.Argument(help="A name, a model folder or a run.")]) -> None:
    """All that is known of a model, as JSON."""
    path = _folder(name)
    from phosphene.models import cascade, catalogue, folders

    known = cascade.describe(name) if folders.is_cascade(name) else catalogue.read_config(path)
    common.say(json.dumps({"name": name, "bytes": common.size(path), **known}, indent=2, ensure_ascii=False))


@models.command("fetch")
def models_fetch(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A cascade on the Hugging Face hub.")],
    device: options.Device = "auto",
    text_encoder: Annotated[str, options.chosen(("auto", "none"), "none leaves it out, most of DeepFloyd IF")] = "auto",
) -> None:
    """Fetch a cascade, both stages, into the hub's cache: what generate would fetch when it is first used.

    A GPU takes halved weights where there are any, a CPU whole ones.
    """
    from phosphene.models import folders

    if not folders.is_on_hub(Path(name)):
        raise UserError(f"OWNER/NAME {name}: is no name on the hub; write it like DeepFloyd/IF-I-XL-v1.0.")
    from phosphene.devices import usual_dtype
    from phosphene.models import hub

    for part in hub.fetch(name, usual_dtype(common.device(device)), text=text_encoder == "auto"):
        common.say(f"{part}: {common.size(part):,} bytes")


@models.command("verify")
def models_verify(
    name: Annotated[str | None, typer.Argument(help="A name, a model folder or a run; all embedded by default.")] = None,
) -> None:
    """Compare the files of a model, or of all, with their SHA-256; of a difference those of what it is one to."""
    from phosphene.models import folders

    if name is not None:
        if not folders.sums(_folder(name)):
            raise UserError(f"{_folder(name)}: holds no {folders.SUMS}, so there is nothing to compare with.")
        folders.verify_whole(_folder(name))
        return common.say(f"{name}: whole")
    broken = []
    for each in [*folders.embedded(), *folders.cascades()]:
        try:
            folders.verify_whole(_folder(each))
            common.say(f"{each}: whole")
        except UserError as error:
            broken.append(each)
            common.say(f"{each}: {error}")
    if broken:
        raise UserError(f"{common.several(len(broken), 'model')} not whole: {', '.join(broken)}; install phosphene again.")
