"""Pictures from text: ``generate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phosphene.cli import common
from phosphene.cli.common import (
    MOST_PICTURES,
    Count,
    Device,
    Eta,
    Guidance,
    Seed,
    SolverName,
    app,
)
from phosphene.errors import UserError

if TYPE_CHECKING:
    pass


@app.command()
def generate(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="What to draw: a picture (or --count) of each.")],
    model: Annotated[str, typer.Option(help="A cascade: its name, its folder, or OWNER/NAME on the hub.")] = "glyph",
    steps: Annotated[int | None, typer.Option(help="Timesteps to visit; by default 34 (20 of dpm and heun).")] = None,
    timesteps: Annotated[str | None, typer.Option(help="The timesteps themselves, such as 990,960,930,...,0.")] = None,
    solver: SolverName = "ancestral",
    eta: Eta = None,
    guidance: Guidance = 7.0,
    negative: Annotated[str, typer.Option(help="What to stay away from.")] = "",
    seed: Seed = 180,
    count: Count = 1,
    upscale: Annotated[bool, typer.Option(help="Go on to the second stage, where the model has one.")] = True,
    threshold: Annotated[bool, typer.Option(help="Keep clean estimates in range, as the model's scheduler says.")] = True,
    embeddings: Annotated[Path | None, typer.Option(help="A .pth file of prompt embeddings, instead of a text encoder.")] = None,
    text_encoder: Annotated[str, typer.Option(help="auto, or none: only prompts of --embeddings or encoded before.")] = "auto",
    offload: Annotated[str, typer.Option(help="none, stages or layers: what waits in main memory until it is needed.")] = "none",
    device: Device = "auto",
    out: Annotated[Path, typer.Option("--out", "-o")] = Path("generated.png"),
) -> None:
    """Draw pictures of what PROMPTS say.

    A column for each prompt, a row for each seed; a single picture is written as it is.
    """
    if any(not prompt.strip() for prompt in prompts):
        raise UserError('PROMPT "": is empty; say what to draw.')
    if len(prompts) * count > MOST_PICTURES:
        raise UserError(
            f"--count {count}: makes {len(prompts) * count} pictures; choose at most {MOST_PICTURES // len(prompts)}."
        )
    if timesteps is not None and steps is not None:
        raise UserError(f"--steps {steps}: --timesteps says which already; leave one of the two out.")
    if text_encoder not in ("auto", "none"):
        raise UserError(f"--text-encoder {text_encoder}: choose auto or none.")
    visited = None if timesteps is None else common.numbers("--timesteps", timesteps, int, "990,960,930")
    common.require_picture(out)
    from phosphene.images import save_png, sheet, to_image
    from phosphene.models.cascade import open_cascade
    from phosphene.models.weights import cache_folder
    from phosphene.sampler import Route
    from phosphene.tasks.generate import GUIDANCE, Settings
    from phosphene.tasks.generate import generate as draw_pictures

    route = Route(solver, steps, eta)
    route.table()
    place = common.device(device)
    reads, cache = text_encoder == "auto", cache_folder() / "prompts"
    said = {"embeddings": embeddings, "text": reads, "cache": cache}
    cascade = open_cascade(model, place, stages=2 if upscale else 1, offload=offload, **said)
    stages = cascade.stages
    cascade.encode([*prompts, negative])
    cascade.free_text()
    settings = tuple(Settings(route, visited, threshold, max_rows=64) for _ in stages)
    seeds = [seed + row for row in range(count) for _ in prompts]
    run = draw_pictures(stages, list(prompts) * count, seeds, negative, (guidance, GUIDANCE[1]), settings)
    for step in common.shown(run, "drawing"):
        if step.t < 0:
            pictures = step.xt
    cells = [to_image(p, stages[-1].value_range) for p in pictures]
    arguments = {
        "prompts": list(prompts),
        "timesteps": visited,
        "solver": solver,
        "steps": steps,
        "eta": eta,
        "guidance": guidance,
        "negative": negative or None,
        "seed": seed,
        "count": count,
        "upscale": upscale,
        "threshold": threshold,
        "embeddings": None if embeddings is None else str(embeddings),
        "text_encoder": text_encoder,
        "offload": offload,
        "device": str(place),
    }
    labels = [list(prompts) if row == count - 1 else [""] * len(prompts) for row in range(count)]
    picture = cells[0] if len(cells) == 1 else sheet(common.rows(cells, len(prompts)), captions=labels)
    save_png(picture, out, common.provenance("generate", model, arguments))
    common.say(f"{common.several(len(cells), 'picture')} in {out}")
