"""``phosphene serve``: the studio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from phosphene.cli import common
from phosphene.cli.common import Device, app
from phosphene.defaults import CASCADE
from phosphene.errors import UserError


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; 127.0.0.1 is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    model: Annotated[str, typer.Option(help="A cascade: its name, its folder, or OWNER/NAME on the hub.")] = CASCADE,
    embeddings: Annotated[Path | None, typer.Option(help="A .pth file of prompt embeddings, instead of a text encoder.")] = None,
    device: Device = "auto",
) -> None:
    """Open the studio: paint, prompt, and watch noise become a picture, in a browser.

    Nothing leaves this machine. Whoever can reach --host and --port can use it.
    """
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        raise UserError("serve: the studio takes gradio; pip install 'phosphene[web]'.")
    place = str(common.device(device))
    from phosphene.web.studio import open_studio

    page, url = open_studio(model, place, host, port, embeddings)
    common.say(f"the studio is at {url} (Ctrl-C ends it)")
    page.block_thread()
