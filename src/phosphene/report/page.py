"""Puts the sections on one page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from phosphene import __version__
from phosphene.images import require_writable
from phosphene.models.weights import replacing
from phosphene.report.sections import Studio, build
from phosphene.training.distributed import choose_device


def write(out: Path, device: str, progress: Callable[[str, int, int], None]) -> Path:
    """Make the page in the folder ``out`` and return its index.html. ``progress`` is told each section as it begins."""
    import jinja2

    out = Path(out)
    require_writable(out / "index.html")
    studio = Studio(out, str(choose_device(device)))
    sections = list(build(studio, progress))
    environment = jinja2.Environment(loader=jinja2.PackageLoader("phosphene.report", "."), autoescape=True)
    text = environment.get_template("page.html").render(sections=sections, version=__version__)
    with replacing(out / "index.html") as temporary:
        temporary.write_text(text)
    return out / "index.html"
