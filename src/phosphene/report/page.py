"""Puts the sections on one page: a folder that opens from disk, with no script from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from phosphene import __version__
from phosphene.defaults import CASCADE, SEED
from phosphene.devices import choose_device
from phosphene.files import require_writable, write_text
from phosphene.report import part_c  # noqa: F401  (declares its sections after those of Parts A and B, which it imports)
from phosphene.report.formulas import mathml
from phosphene.report.sections import Content, Desk, Progress, Section, chosen, made_sections


def write(
    out: Path, device: str, progress: Progress, cascade: str = CASCADE, quick: bool = False, sections: Sequence[str] | None = None
) -> Path:
    """Make the page in the folder ``out`` and return its index.html.

    ``sections`` are names or numbers; all for None. ``quick`` draws fewer pictures in fewer steps. What is there from
    before and would come out the same is kept. UserError where a section or a model is unknown, or ``out`` not writable.
    """
    import jinja2
    import markupsafe

    out = Path(out)
    require_writable(out / "index.html")
    made = list(made_sections(Desk(out, str(choose_device(device)), cascade, quick), chosen(sections), progress))
    parts = [(part, list(group)) for part, group in groupby(made, key=lambda pair: pair[0].part)]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("phosphene.report", "."),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,  # a value that a section forgot is no gap in a sentence
    )
    environment.globals["formula"] = lambda name: markupsafe.Markup(mathml(name))

    def prose(section: Section, content: Content) -> str:
        texts = environment.get_template(f"text/{section.text}").module
        return getattr(texts, section.name.replace("-", "_"))(**content.values)

    variables = {"parts": parts, "prose": prose, "version": __version__, "model": cascade, "seed": SEED, "quick": quick}
    text = environment.get_template("page.html").render(**variables)
    write_text(out / "index.html", text)
    return out / "index.html"
