"""``phosphene serve``: the studio."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import suppress
from typing import Annotated

import typer

from phosphene.cli import common, options
from phosphene.cli.common import app
from phosphene.defaults import CASCADE
from phosphene.errors import UserError
from phosphene.launch import ignore


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; 127.0.0.1 is this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    model: options.FreeCascade = CASCADE,
    embeddings: options.Embeddings = None,
    device: options.Device = "auto",
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", envvar="PHOSPHENE_AUTH", help="Asked of visitors.")] = None,
    open_to_all: Annotated[bool, typer.Option("--open-to-all", help="Whoever reaches --host may use it, unasked.")] = False,
) -> None:
    """Open the studio: paint, prompt, and watch noise become a picture, in a browser.

    Nothing leaves this machine. At an address that others reach it takes --auth or --open-to-all.
    """
    from importlib.util import find_spec

    who = _user(auth)
    if find_spec("gradio") is None:
        raise UserError("serve: the studio takes gradio; pip install 'phosphene[web]'.")
    from phosphene.web.guard import is_loopback

    if not host.strip():
        raise UserError('--host "": is empty; leave it out, or name an address of this machine.')
    if not is_loopback(host) and who is None and not open_to_all:
        raise UserError(f"--host {host}: others reach that address; add --auth USER:PASSWORD, or --open-to-all if they may.")
    _require_free(host, port)
    _share_memory()
    place = str(common.device(device))
    from phosphene.web.studio import open_studio

    with open_studio(model, place, host, port, who, embeddings) as (_, url):
        common.say(f"the studio is at {url} (Ctrl-C ends it)")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
        ignore()


def _require_free(host: str, port: int) -> None:
    """UserError where nothing can listen at ``port`` of ``host``, before a model is loaded for it."""
    try:
        places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host {host}: is no address; take 127.0.0.1, or one that this machine has.") from error
    refusals = []
    for family, kind, protocol, _, address in places:  # a name may have several, and one of them will do
        try:
            with socket.socket(family, kind, protocol) as trial:
                if os.name != "nt":  # as servers do: what has just ended is no hindrance
                    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                return trial.bind(address)
        except OSError as error:
            refusals.append(error)
    if all(error.errno == errno.EADDRNOTAVAIL for error in refusals):
        raise UserError(f"--host {host}: is not this machine's; take 127.0.0.1, or an address that it has.")
    raise UserError(f"--port {port}: cannot be listened at on {host} ({refusals[-1].strerror}); choose another.")


def _user(auth: str | None) -> tuple[str, str] | None:
    """Name and password; UserError, which does not show them, where one is missing."""
    if auth is None:
        return None
    name, _, password = auth.partition(":")
    if not name or not password:
        raise UserError("--auth: is no USER:PASSWORD; write a name, a colon and a password.")
    return name, password


def _share_memory() -> None:
    """Let threads take their memory from two pools (glibc): else each that computed keeps some of its own for good."""
    import ctypes

    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(-8, 2)  # M_ARENA_MAX
