"""What goes beyond the course's project: digits and pictures that the same algebra makes, and what the models are worth."""

from __future__ import annotations

import math

from PIL import Image, ImageOps

from phosphene.defaults import AMBIGRAM_GUIDANCE, SEED
from phosphene.drawing import Sampling, run
from phosphene.evaluation.classifier import accuracy
from phosphene.images import Sheet, rescaled, to_images
from phosphene.plots import lines
from phosphene.report.part_a import anagram_figure, judged_by
from phosphene.report.part_b import FEW, STEPS, drawn
from phosphene.report.pictures import SMALL, strip, upper
from phosphene.report.sections import Content, Desk, section
from phosphene.sampler import last
from phosphene.tasks import ambigram
from phosphene.tasks.anagram import anagram
from phosphene.tasks.compose import compose, shape
from phosphene.tasks.digits import digits
from phosphene.tasks.hybrid import hybrid
from phosphene.tasks.morph import morph

BEYOND = "Beyond the project"


@section(BEYOND, "C 1", "Digits out of noise", (2, 3))
def out_of_noise(desk: Desk) -> Content:
    ten, seeds = digits(range(10)), range(SEED, SEED + 10)
    steps = run(ten, desk.model("class-20"), seeds, sampling=FEW._replace(guidance=5.0))
    shown = [step for step in steps if step.index in (0, 2, 5, 8, 11, 13, 15)]
    states = [to_images(rescaled(step.xt), 2) for step in shown]
    guesses = [to_images(rescaled(step.x0), 2) for step in shown]
    labels = ["clean" if step.t < 0 else f"t = {step.t}" for step in shown]
    names = [str(d) for d in range(10)]
    return Content(
        desk.save(Sheet(states, names, labels), "noise-to-digits", "Noise becoming digits, top to bottom"),
        desk.save(Sheet(guesses, names, labels), "estimates", "The clean estimates behind them"),
        steps=STEPS,
    )


@section(BEYOND, "C 2", "Ten digits, upside down another", (7, 30))
def ambigrams(desk: Desk) -> Content:
    """The table of all pairs. A pair turned is the other pair, so half of the table is drawn and the rest is turned."""
    classifier = desk.model("classifier")
    each, steps = (1, 6) if desk.quick else (2, 12)
    halves = [(a, b) for a in range(10) for b in range(a, 10)]
    task = ambigram.ambigram([pair for pair in halves for _ in range(each)], classifier)
    seeds = range(SEED, SEED + len(halves) * each)
    sampling = Sampling("dpm", steps, guidance=AMBIGRAM_GUIDANCE, max_rows=220)
    pictures = last(run(task, desk.model("class-20"), seeds, sampling=sampling, best_of=each))
    reads = ambigram.judge(classifier, pictures, halves).read.tolist()
    cells: list[list[Image.Image | None]] = [[None] * 10 for _ in range(10)]
    read = 0
    for (a, b), picture, good in zip(halves, pictures, reads, strict=True):
        for upright, turned, viewed in ((a, b, picture), (b, a, ambigram.UPSIDE_DOWN.apply(picture))):
            image = to_images(rescaled(viewed[None]), 2)[0].convert("RGB")
            cells[upright][turned] = framed(image) if good else image
        read += good * (1 if a == b else 2)
    labels = [str(d) for d in range(10)]
    return Content(
        desk.save(
            Sheet(cells, labels, labels),
            "ambigrams",
            "Rows: as it stands. Columns: upside down. Framed: the classifier reads both",
            turn="rotate(180deg)",
            readings=("the row's digit", "the column's digit"),
        ),
        read=read,
        each=each,
        steps=steps,
    )


def framed(image: Image.Image, colour: tuple[int, int, int] = (46, 160, 90), width: int = 2) -> Image.Image:
    """``image`` with a frame drawn inside it."""
    return ImageOps.expand(image.crop((width, width, image.width - width, image.height - width)), width, colour)


@section(BEYOND, "C 3", "More ways to look: negatives, quarter turns, pieces", (9, 60))
def more_views(
    desk: Desk,
    negative: tuple[str, str] = ("a water drop", "a campfire"),
    quarter: tuple[str, str] = ("sunglasses", "a chess pawn"),
    pieces: tuple[str, str] = ("a cat face", "a dog face"),
) -> Content:
    seeds = range(SEED, SEED + (1 if desk.quick else 4))
    turned = [
        anagram_figure(desk, negative, "negate", seeds, "view-negate"),
        anagram_figure(desk, quarter, "rotate-90", seeds, "view-quarter"),
    ]
    figures = [figure for figure, _ in turned]
    cells, labels = [], []
    for name in ("inner-circle",) if desk.quick else ("inner-circle", "jigsaw", "square-hinge"):
        task = anagram(pieces, [name])
        made = desk.draw(task, [SEED])
        cells += [desk.image(reading.look(made)[0], SMALL) for reading in task.readings]
        labels += [pieces[0], f"{name}: {pieces[1]}"]
    caption = f"{upper(pieces[0])}, and through views of pieces {pieces[1]}"
    figures.append(desk.save(Sheet([cells], captions=[labels], flows=True), "view-pieces", caption))
    return Content(*figures, **judged_by(seeds, [sure for _, sure in turned]))


@section(BEYOND, "C 4", "Three bands, and colour apart from grey", (5, 40))
def factors(
    desk: Desk,
    bands: tuple[str, str, str] = ("a red heart", "a cat face", "a clock"),
    colours: tuple[str, str] = ("a tiger face", "a green apple"),
) -> Content:
    seeds = [SEED] if desk.quick else range(SEED, SEED + 4)
    three = desk.draw(hybrid(bands), seeds)
    colour = desk.draw(hybrid(colours, kind="color"), seeds)
    grey = colour.mean(1, keepdim=True).expand_as(colour)
    return Content(
        desk.save(
            strip(desk, three, [f"seed {s}" for s in seeds]),
            "three-bands",
            f"From afar {bands[0]}, nearer by {bands[1]}, in the finest lines {bands[2]}",
        ),
        desk.save(
            Sheet([[desk.image(p, SMALL) for p in row] for row in (colour, grey)], row_labels=["in colour", "in grey"]),
            "colours",
            f"In grey {colours[0]}, in the colours of {colours[1]}",
        ),
    )


@section(BEYOND, "C 5", "Regions, and the way between two pictures", (9, 40))
def regions(
    desk: Desk, prompts: tuple[str, str] = ("a smiling face", "a sunflower"), way: tuple[str, str] = ("a dog face", "a cat face")
) -> Content:
    inside = shape("circle", 256, 256)
    made = desk.draw(compose(prompts, inside), [SEED])
    mask = (inside * 2 - 1)[0, :, ::4, ::4].expand(3, -1, -1)
    frames = 3 if desk.quick else 8
    between = desk.draw(morph(way, frames), [SEED])
    return Content(
        desk.save(
            strip(desk, [mask, made[0]], ["the mask", f"{prompts[0]} in, {prompts[1]} out"], 160),
            "regions",
            f"{upper(prompts[0])} in a disc, {prompts[1]} around it",
        ),
        desk.save(
            strip(desk, between, [f"{k / (frames - 1):.0%}" for k in range(frames)], 96),
            "morph",
            f"From {way[0]} to {way[1]}",
            desk.line("morph", *way, "--frames", str(frames)),
        ),
    )


@section(BEYOND, "C 6", "Flow matching against noise prediction", (4, 30))
def flow_matching(desk: Desk) -> Content:
    """Digits and accuracy at few steps of both recipes, by the classifier."""
    each, counts = (3, (2, 4, 8)) if desk.quick else (20, (2, 3, 4, 6, 8, 16))
    asked_for = [d for d in range(10) for _ in range(each)]
    curves: dict[str, list[tuple[float, float]]] = {"flow matching": [], "noise prediction": []}
    rows, labels = [], []
    for steps in counts:
        for name, recipe in zip(("class-20", "class-20-ddpm"), curves, strict=True):
            made = drawn(desk, name, asked_for, 1.0, Sampling("ddim", steps))
            curves[recipe].append((steps, accuracy(desk.model("classifier"), made, asked_for)))
            if steps in (2, 4, 8):
                rows.append(to_images(rescaled(made[::each]), 2))
                labels.append(f"{steps} steps, {recipe}")
    plot = lines(curves, "steps", "share")
    shares = [(n, flow, noise) for (n, flow), (_, noise) in zip(*curves.values(), strict=True)]
    return Content(
        desk.save(Sheet(rows, row_labels=labels), "flow", "The same noise, few steps, both recipes"),
        desk.save(plot, "flow-steps", "Share of digits that are read as asked, by number of steps", plot=True),
        shares=[(n, f"{flow:.0%}", f"{noise:.0%}") for n, flow, noise in shares],
        ahead=[n for n, flow, noise in shares if differs(flow, noise, len(asked_for))],
        behind=[n for n, flow, noise in shares if differs(noise, flow, len(asked_for))],
        count=len(asked_for),
    )


def differs(more: float, less: float, count: int) -> bool:
    """Whether one share of ``count`` is above another by more than twice what chance makes of their difference."""
    share = (more + less) / 2
    return more - less > 2 * math.sqrt(2 * share * (1 - share) / count)


@section(BEYOND, "C 7", "What the models are worth", (4, 20))
def worth(desk: Desk) -> Content:
    """Accuracy at rising guidance, measured here; what was measured on more pictures stands in the models' cards."""
    each = 2 if desk.quick else 20
    scales, rows, labels = (0.0, 1.0, 2.0, 5.0), [], []
    asked_for = [d for d in range(10) for _ in range(each)]
    for scale in scales:
        made = drawn(desk, "class-20", asked_for, scale, Sampling("dpm", 8))
        right = round(len(asked_for) * accuracy(desk.model("classifier"), made, asked_for))
        rows.append(to_images(rescaled(made[::each]), 2))
        labels.append(f"gamma {scale:g}: {right} of {len(asked_for)}")
    return Content(desk.save(Sheet(rows, row_labels=labels), "guidance", "The same noise at guidance 0, 1, 2 and 5"))
