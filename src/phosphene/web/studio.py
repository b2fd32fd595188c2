"""The studio's page: tabs that turn what a visitor sets into command lines, and show them at work.

One job runs at a time, the others wait in a queue whose place they see. Nothing is asked of any other machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from phosphene.cli import Failed
from phosphene.errors import UserError
from phosphene.models.text import read_embeddings
from phosphene.web.guard import door
from phosphene.web.jobs import Job, Studio
from phosphene.web.tabs import TABS

MOST_BYTES = "20mb"
MOST_SESSIONS = 64
"""Visitors of whom gradio keeps what their page shows, a third of a megabyte each: twice as many as can wait."""
STATIC = Path(__file__).with_name("static")

LOOKS = {
    "button_primary_background_fill": "#9a3412",
    "button_primary_background_fill_hover": "#7c2d12",
    "button_cancel_background_fill": "#b91c1c",
    "button_cancel_background_fill_hover": "#991b1b",
    **{
        f"{name}{mode}": colour
        for name in ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color")
        for mode, colour in (("", "#57534e"), ("_dark", "#d6d3d1"))
    },
}
"""Colours with the contrast that the default ones lack; those of buttons serve both modes."""


def built_page(studio: Studio) -> gr.Blocks:
    """The page."""
    with gr.Blocks(title="phosphene: the studio", analytics_enabled=False, delete_cache=(1800, 3600)) as page:
        gr.HTML(
            "<h1>phosphene</h1><p>Watch noise become a picture. What you see is the model's clean guess while it is still at "
            "work.</p>"
        )
        with gr.Tabs(overflow_behavior="wrap"):
            for name, tab in TABS.items():
                with gr.Tab(name, id=name.lower()) as opened:
                    tab(studio, opened)
    return page


@contextmanager
def open_studio(
    model: str,
    device: str,
    host: str,
    port: int,
    auth: tuple[str, str] | None = None,
    embeddings: Path | None = None,
) -> Iterator[tuple[Studio, str]]:
    """A studio that serves while the block lasts, and where it is. UserError where the model or the port cannot be had.

    ``embeddings`` is a file of prompt embeddings: with it no text encoder is needed, and its prompts are those there are.
    Where ``auth`` (a name and a password) is given, it asks for them. At the end all of its files go; what still computes
    after :data:`~phosphene.web.jobs.ENDING` seconds takes the process with it.
    """
    studio, page = Studio(model, device, embeddings), None
    try:
        prompt = "a heart" if embeddings is None else next(filter(str.strip, read_embeddings(embeddings)), "")
        _try(studio, prompt)
        os.environ["GRADIO_TEMP_DIR"] = str(studio.uploads.folder)  # read when the page is built
        gr.routes.DEFAULT_TEMP_DIR = str(studio.folder)  # what the same said when gradio was imported: a folder is made there
        page = built_page(studio).queue(default_concurrency_limit=1, max_size=32, api_open=False)
        yield studio, _launch(page, studio, host, port, auth)
    finally:
        if page is not None and page.is_running:
            page.server.force_exit = True  # or it would wait for browsers to leave
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # which it regrets at length
            page.close(verbose=False)
        ended = studio.close()
    if not ended:
        os._exit(0)


def _try(studio: Studio, prompt: str) -> None:
    """Load the model, and say at once what is wrong with it."""
    first = ["generate", "-o", str(studio.place("first")), *studio.model, "--device", studio.device]
    try:
        for _ in Job([*first, "--steps", "1", prompt], studio.shelf):
            pass
    except Failed as failure:
        raise UserError(failure.sentence) from failure


def _launch(page: gr.Blocks, studio: Studio, host: str, port: int, auth: tuple[str, str] | None) -> str:
    """Start serving in the background; where."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    try:
        _, url, _ = page.launch(
            server_name=host,
            server_port=port,
            auth=auth,
            prevent_thread_lock=True,
            quiet=True,
            show_error=False,  # what is not ours to say stays in the log
            share=False,
            ssr_mode=False,
            max_file_size=MOST_BYTES,
            state_session_capacity=MOST_SESSIONS,
            allowed_paths=[str(studio.folder)],
            theme=gr.themes.Default(primary_hue="orange", **fonts).set(**LOOKS),
            css=(STATIC / "studio.css").read_text(),
            js=(STATIC / "studio.js").read_text(),
            footer_links=[],
            app_kwargs={"middleware": door(host, studio.uploads, studio.listening)},
        )
    except OSError as error:
        raise UserError(f"--port {port}: cannot be listened at on {host}; it is taken, choose another.") from error
    return url
