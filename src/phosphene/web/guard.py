"""Who may ask the studio for something, and how much: a door in front of gradio's application.

A page of another site, open in the same browser, can send requests to this machine too: by its address, where only the
browser's word (``Origin``, ``Sec-Fetch-Site``) tells them from the studio's own, or by a name of its own that it lets
point here (DNS rebinding), where only ``Host`` does.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 21 * 2**20
"""Bytes of a request: a file of 20 MB, and what is around it."""
MOST_UPLOADS = 500 * 2**20
"""Bytes of all files of visitors together."""
BLOCK = 4096
"""Bytes that the smallest file takes on a disk, at least."""

HEADERS = {
    # Gradio's page has a script and styles in it, and makes functions of the scripts it is given.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "media-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
}


API = "/gradio_api/"
"""In the path of all answers that are no part of the page: events, results, and what visitors uploaded, by whatever route."""
SHOWN = ("image/png", "image/jpeg", "image/webp", "image/gif", "application/json", "text/event-stream", "text/plain")
"""What such an answer may be in a browser; all else, such as HTML and SVG, which can hold scripts, is only downloaded."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens at ``host``."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Uploads:
    """The folder of visitors' files, which never holds more than ``most`` bytes: the oldest make room for new ones."""

    def __init__(self, folder: Path, most: int = MOST_UPLOADS) -> None:
        self.folder, self.most, self._coming = folder, most, 0
        folder.mkdir()

    @contextmanager
    def room(self, size: int) -> Iterator[bool]:
        """Whether there is room for ``size`` bytes that come while the block lasts."""
        fits = self._coming + size <= self.most
        if fits and size:
            self._coming += size
            self._let_go(self.most - self._coming)
        try:
            yield fits
        finally:
            self._coming -= size if fits else 0

    def _let_go(self, most: int) -> None:
        """Remove the oldest files until the rest take no more than ``most`` bytes."""
        found = []
        for file in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # gradio removes old ones too
                if not file.is_dir():
                    said = file.stat()
                    found.append((said.st_mtime, max(BLOCK, said.st_size), file))
        held = sum(size for _, size, _ in found)
        for _, size, file in sorted(found):
            if held <= most:
                break
            file.unlink(missing_ok=True)
            held -= size


class Guard:
    """ASGI middleware: refuses what other sites send and what is too large, and notes in ``listening`` who listens."""

    def __init__(self, app: ASGIApp, uploads: Uploads, listening: Counter[str]) -> None:
        self.app, self.uploads, self.listening = app, uploads, listening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        headers = Headers(scope=scope)
        if (refusal := foreign(headers) or oversized(headers)) is not None:
            return await refusal(scope, receive, send)
        with self._heard(scope), self.uploads.room(_uploaded(scope, headers)) as fits:
            if not fits:
                full = PlainTextResponse("Others are uploading too much at the moment; try again in a minute.", 507)
                return await full(scope, receive, send)
            begun: list[Message] = []
            try:
                await self.app(scope, receive, with_headers(send, begun, API in scope["path"]))
            except LookupError:  # what gradio raises at a button that there is not, before it has answered
                if begun or not scope["path"].endswith("/queue/join"):
                    raise
                await PlainTextResponse("The page has no such button; load it again.", 400)(scope, receive, send)

    @contextmanager
    def _heard(self, scope: Scope) -> Iterator[None]:
        """While the block lasts, the visitor who is sent how a job is doing counts as listening."""
        if not scope["path"].endswith("/queue/data"):
            yield
            return
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        self.listening[session] += 1
        try:
            yield
        finally:
            self.listening[session] -= 1
            if not self.listening[session]:
                del self.listening[session]


def _uploaded(scope: Scope, headers: Headers) -> int:
    """Bytes of files that a request brings."""
    return int(headers.get("content-length", 0)) if scope["path"].rstrip("/").endswith("/upload") else 0


def foreign(headers: Headers) -> PlainTextResponse | None:
    """The answer to what another site's page asks for; None to what the studio's own page, or no page, does."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    here = origin is None or _host_of(origin) == headers.get("host", "").lower()
    follows = headers.get("sec-fetch-mode") == "navigate" and origin is None  # somebody clicked on a link to the studio
    if here and (site in ("same-origin", "none") or follows):
        return None
    return PlainTextResponse("This studio answers its own page alone.", 403)


def _host_of(origin: str) -> str | None:
    """Host and port of a browser's ``Origin``; None where it is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def oversized(headers: Headers) -> PlainTextResponse | None:
    """The answer to a request that is too large, or does not say how large it is."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
        return PlainTextResponse("Say how long the request is (Content-Length).", 411)
    if int(length) > MOST_BODY:
        return PlainTextResponse(f"More than {MOST_BODY / 2**20:.0f} MB; make the picture smaller.", 413)
    return None


def with_headers(send: Send, begun: list[Message], api: bool) -> Send:
    """``send``, with HEADERS on every answer; what was ``begun`` is in the list. Of the ``api`` nothing runs a script."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            if api:
                headers["content-security-policy"] = "default-src 'none'; sandbox"
                if headers.get("content-type", "").partition(";")[0] not in SHOWN:
                    headers["content-disposition"] = "attachment"
            begun.append(message)
        await send(message)

    return sending


def door(host: str, uploads: Uploads, listening: Counter[str]) -> list[Middleware]:
    """What stands in front of a studio that listens at ``host``.

    One that others reach has names that it does not know, so there ``Host`` only has to be the one that the page is of.
    """
    names = ["localhost", "127.0.0.1", "[::1]", host] if is_loopback(host) else ["*"]
    hosts = Middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
    return [hosts, Middleware(Guard, uploads=uploads, listening=listening)]
