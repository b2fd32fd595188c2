"""Part A of the page: what can be done with a pretrained text-to-image model, in the order of the course's project."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from phosphene.defaults import SEED
from phosphene.drawing import Sampling, Task
from phosphene.evaluation.likeness import psnr, ssim
from phosphene.expression import cond
from phosphene.images import sheet
from phosphene.pyramid import blend, laplacian_pyramid
from phosphene.report.sections import Content, Desk, Figure, section
from phosphene.sampler import generators
from phosphene.schedule import CLEAN
from phosphene.tasks import denoise as denoising
from phosphene.tasks import inpaint as inpainting
from phosphene.tasks.anagram import anagram
from phosphene.tasks.animate import turn_css
from phosphene.tasks.compose import shape
from phosphene.tasks.edit import STARTS, edit
from phosphene.tasks.generate import generate
from phosphene.tasks.hybrid import hybrid
from phosphene.views import VIEWS

A = "Part A: the power of diffusion models"
TOWER = "clock-tower"
HYBRIDS = (("a red heart", "a smiling face"), ("a tangerine", "a smiling face"))
SIGMA = 2.5
"""The blur that parts their prompts, in pixels of a 64-pixel picture."""
SMALL = 128
"""Pixels of a picture on sheets with many."""


def likeness(x: Tensor, clean: Tensor) -> str:
    return f"{float(psnr(x, clean)):.1f} dB, {float(ssim(x, clean)):.2f}"


def spread(pictures: Tensor) -> str:
    """How much of the range the pixels of ``pictures`` use: their standard deviation."""
    return f"{float(pictures.std()):.2f}"


def strip(desk: Desk, pictures: Tensor | list[Tensor], labels: list[str], side: int = SMALL) -> Image.Image:
    """Pictures (C, H, W) side by side, with what they are below."""
    return sheet([[desk.image(p, side) for p in pictures]], captions=[labels])


@section(A, "0", "Setup: a few prompts, few steps and more", (6, 12))
def setup(desk: Desk) -> Content:
    prompts = ["a rocket", "a dog face", "a castle"]
    few = desk.draw(generate(prompts), [SEED] * 3, desk.sampling(5, quick=4))
    run = desk.run(generate(prompts), [SEED] * 3, desk.sampling(20), large=True)
    more, *large = [step.xt.cpu() for step in run if step.t == CLEAN]
    rows = [[desk.image(p, SMALL) for p in row] for row in (few, more)]
    steps = (4, 10) if desk.quick else (5, 20)
    size = "x".join(str(n) for n in desk.stage.image_shape[1:])
    far = float((few - more).square().mean().sqrt())
    whole = sheet(rows, row_labels=[f"{n} steps" for n in steps], captions=[[""] * 3, prompts])
    sampler = " --solver dpm" if desk.quick else ""
    figures = [
        desk.save(
            whole,
            "setup",
            f"Three prompts in {steps[0]} and in {steps[1]} steps",
            f'phosphene generate "a rocket" "a dog face" "a castle" --steps-sweep {steps[0]},{steps[1]} --no-upscale{sampler}',
        )
    ]
    side = large[0].shape[-1] if large else None
    if large:
        both = sheet([[desk.image(p, side) for p in row] for row in (more, *large)], row_labels=[size, f"{side}x{side}"])
        few = " --upscale-steps 4" if desk.quick else ""
        command = f'phosphene generate "a rocket" "a dog face" "a castle" --steps {steps[1]}{sampler}{few}'
        figures.append(desk.save(both, "setup-large", f"As the first stage draws them, and the second (seed {SEED})", command))
    return Content(*figures, model=desk.cascade, size=size, seed=SEED, far=f"{far:.2f}", side=side)


def _levels(desk: Desk) -> tuple[Tensor, list[denoising.Level]]:
    clean = desk.sample(TOWER).to(desk.stage.device)
    found = denoising.levels(desk.stage, cond(None), clean, denoising.TIMES, generators([SEED]))
    return clean, found


_DENOISE = f"phosphene denoise {TOWER} --t 250,500,750"


@section(A, "1.1", "The forward process: a picture drowns in noise", (0.5, 0.5))
def forward(desk: Desk) -> Content:
    clean, found = _levels(desk)
    labels = ["the picture", *(f"t = {level.t}: {likeness(level.noisy, clean)}" for level in found)]
    return Content(
        desk.save(
            strip(desk, [clean[0], *(x.noisy[0] for x in found)], labels),
            "forward",
            "A clock tower, noised more and more",
            _DENOISE,
        ),
        first=likeness(found[0].noisy, clean),
        final=likeness(found[-1].noisy, clean),
    )


def _undone(desk: Desk, attempts: Sequence[Tensor], clean: Tensor, found: Sequence[denoising.Level]) -> Image.Image:
    """A sheet of the levels ``found``, and below each what an attempt made of it."""
    rows = [[desk.image(x[0], SMALL) for x in row] for row in ([level.noisy for level in found], attempts)]
    return sheet(rows, captions=[[f"t = {level.t}" for level in found], [likeness(x, clean) for x in attempts]])


@section(A, "1.2", "Undoing it with a blur", (0.5, 0.5))
def blurred(desk: Desk) -> Content:
    clean, found = _levels(desk)
    whole = _undone(desk, [level.blurred for level in found], clean, found)
    return Content(desk.save(whole, "blurred", "Noisy above, blurred below (sigma 2, 7 taps)", _DENOISE))


@section(A, "1.3", "Undoing it in one step", (0.5, 0.5))
def one_step(desk: Desk) -> Content:
    clean, found = _levels(desk)
    whole = _undone(desk, [level.estimate for level in found], clean, found)
    gained = [float(psnr(x.estimate, clean)) - float(psnr(x.blurred, clean)) for x in found]
    return Content(
        desk.save(whole, "one-step", "Noisy above, the one-step estimate below", _DENOISE),
        gains=", ".join(f"{g:.1f}" for g in gained),
    )


@section(A, "1.4", "Undoing it step by step", (1.5, 2))
def iterative(desk: Desk) -> Content:
    clean, found = _levels(desk)
    sampling = Sampling(timesteps=denoising.TIMESTEPS[:: 2 if desk.quick else 1])
    start = 5 if desk.quick else denoising.START
    every = list(desk.run(edit(clean, [start]), [SEED], sampling))
    states = [s for s in every[:-1] if s.index % (3 if desk.quick else 5) == 0]
    between = strip(desk, [s.xt[0] for s in states] + [every[-1].xt[0]], [f"t = {s.t}" for s in states] + ["clean"])
    result, level = every[-1].xt, min(found, key=lambda x: abs(x.t - 690))
    ends = [("the original", clean), ("step by step", result), ("one step", level.estimate), ("blurred", level.blurred)]
    compared = strip(
        desk, [x[0] for _, x in ends], [what if x is clean else f"{what}: {likeness(x, clean)}" for what, x in ends], SMALL
    )
    return Content(
        desk.save(between, "iterative", "On the way from noise", _DENOISE),
        desk.save(compared, "iterative-compared", "What each way makes of the noisy tower, with PSNR and SSIM", _DENOISE),
        t=denoising.TIMESTEPS[denoising.START],
        steps=len(every),
    )


@section(A, "1.5", "Sampling from nothing but noise", (9, 26))
def sampling(desk: Desk) -> Content:
    seeds = range(SEED, SEED + 5)
    unguided = desk.sampling()._replace(guidance=1.0)
    nothing, dogs = (desk.draw(generate([prompt]), seeds, unguided) for prompt in (None, "a dog face"))
    whole = sheet([[desk.image(p, SMALL) for p in row] for row in (nothing, dogs)], row_labels=["no prompt", "a dog face"])
    return Content(
        desk.save(
            whole, "sampling", "Five seeds, unguided", f'phosphene generate "a dog face" --count 5 --guidance 1{desk.steps()}'
        )
    )


@section(A, "1.6", "Classifier-free guidance", (8, 60))
def guided(desk: Desk) -> Content:
    seeds = range(SEED, SEED + (2 if desk.quick else 5))
    scales = (1.0, 3.0, 7.0) if desk.quick else (1.0, 3.0, 5.0, 7.0, 10.0)
    rows = [desk.draw(generate(["a dog face"]), seeds, desk.sampling()._replace(guidance=scale)) for scale in scales]
    whole = sheet([[desk.image(p, SMALL) for p in row] for row in rows], row_labels=[f"gamma {s:g}" for s in scales])
    listed = ",".join(f"{s:g}" for s in scales)
    return Content(
        desk.save(
            whole,
            "guided",
            "A dog face at rising guidance, a column for each seed",
            f'phosphene generate "a dog face" --guidance-sweep {listed}{desk.steps()}',
        ),
        first=spread(rows[0]),
        final=spread(rows[-1]),
    )


def _edited(desk: Desk, picture: str, prompt: str | None, name: str, caption: str) -> Figure:
    """A picture noised to several starts and denoised again, on a sheet."""
    # On a quick page every third step of the 34, so that the starts mean the same noise.
    starts, steps = ((1, 3, 6), 11) if desk.quick else (STARTS, 34)
    image = desk.sample(picture)
    made = desk.draw(edit(image, starts, prompt), [SEED] * len(starts), Sampling(steps=steps))
    labels = [f"start {s}" for s in starts] + ["the original"]
    asked = f' --prompt "{prompt}"' if prompt else ""
    few = " --steps 11" if desk.quick else ""
    command = f"phosphene edit {picture}{asked} --start {','.join(map(str, starts))}{few}"
    return desk.save(strip(desk, [*made, image[0]], labels), name, caption, command)


@section(A, "1.7", "Image-to-image translation", (2, 14))
def image_to_image(desk: Desk) -> Content:
    return Content(_edited(desk, TOWER, None, "edited", "A clock tower, unprompted, from several starts"))


@section(A, "1.7.1", "Scenes and sketches", (6, 42))
def sketches(desk: Desk) -> Content:
    return Content(
        _edited(desk, "castle-hill", None, "edited-hill", "A castle on a hill"),
        _edited(desk, "sketch-house", None, "edited-house", "A house in a few strokes"),
        _edited(desk, "sketch-fish", None, "edited-fish", "A fish in a few strokes"),
    )


@section(A, "1.7.2", "Inpainting", (3, 12))
def inpainted(desk: Desk) -> Content:
    figures, seams = [], []
    image = desk.sample("castle-hill")
    mask = (desk.sample("castle-hill-mask").mean(1, keepdim=True) + 1) / 2
    for prompt in ("a house", "a palm tree"):
        made = desk.draw(inpainting.inpaint(image, mask, prompt), [SEED], Sampling(steps=17 if desk.quick else 34))
        seams.append(float(inpainting.seam(made, mask)))
        pictures = [image[0], (image * (1 - mask) + mask)[0], made[0]]
        cells = strip(desk, pictures, ["the original", "to be repainted", f"as {prompt}"], 160)
        command = f'phosphene inpaint castle-hill castle-hill-mask --prompt "{prompt}"' + (" --steps 17" if desk.quick else "")
        figures.append(
            desk.save(cells, f"inpainted-{prompt.split()[-1]}", f"{prompt.capitalize()} in place of the castle", command)
        )
    return Content(*figures, seams=" and ".join(f"{s:.2f}" for s in seams))


@section(A, "1.7.3", "Text-conditioned image-to-image", (6, 42))
def guided_edits(desk: Desk) -> Content:
    return Content(
        _edited(desk, TOWER, "a castle", "edited-castle", "A clock tower on its way to a castle"),
        _edited(desk, "sketch-house", "a house", "edited-home", "A sketched house on its way to a house"),
        _edited(desk, "sketch-face", "a smiling face", "edited-face", "A sketched face on its way to a smiling one"),
    )


def chosen(desk: Desk, task: Task, seeds: Sequence[int]) -> tuple[Image.Image, float | None]:
    """The picture of ``task`` that reads best, of ``seeds``, and how surely; a single one is not judged."""
    *_, end = desk.run(task, seeds, large=True, best_of=len(seeds))
    sure = None if end.verdict is None else float(end.verdict.concealment[seeds.index(end.seeds[0])])
    return desk.image(end.xt[0], 256), sure


def judged_by(seeds: Sequence[int], sure: Sequence[float | None]) -> dict[str, object]:
    """How the pictures of a section were chosen."""
    return {"seeds": len(seeds), "sure": None if None in sure else ", ".join(f"{c:.2f}" for c in sure)}


def anagram_figure(
    desk: Desk, prompts: tuple[str, str], view: str, seeds: Sequence[int], name: str
) -> tuple[Figure, float | None]:
    """An anagram, the best of ``seeds``, for the page to turn; and how surely it reads both ways."""
    picture, sure = chosen(desk, anagram(prompts, [view]), seeds)
    figure = desk.save(
        picture,
        name,
        f"{prompts[0].capitalize()}, and {prompts[1]}",
        f'phosphene anagram "{prompts[0]}" "{prompts[1]}" --view {view} --best-of {len(seeds)}{desk.steps(large=True)}',
        turn=turn_css(VIEWS[view]),
        readings=prompts,
    )
    return figure, sure


@section(A, "1.8", "Visual anagrams", (9, 110))
def visual_anagrams(desk: Desk) -> Content:
    pairs = [("a tulip", "a bell"), ("a black heart", "a spade suit"), ("a drop of blood", "a red balloon")]
    seeds = range(SEED, SEED + (1 if desk.quick else 4))
    made = [anagram_figure(desk, pair, "flip", seeds, f"anagram-{k}") for k, pair in enumerate(pairs)]
    return Content(*[figure for figure, _ in made], **judged_by(seeds, [c for _, c in made]))


@section(A, "1.10", "Hybrid pictures", (4, 55))
def hybrid_pictures(desk: Desk) -> Content:
    figures, found = [], []
    seeds = range(SEED, SEED + (1 if desk.quick else 4))
    for far, near in HYBRIDS:
        picture, sure = chosen(desk, hybrid((far, near), sigmas=[SIGMA]), seeds)
        found.append(sure)
        figures.append(
            desk.save(
                picture,
                f"hybrid-{far.split()[-1]}",
                f"From afar {far}, from near {near}",
                f'phosphene hybrid "{far}" "{near}" --sigma {SIGMA} --best-of {len(seeds)}{desk.steps(large=True)}',
                far=True,
                readings=(near, far),
            )
        )
    return Content(*figures, **judged_by(seeds, found))


@section(A, "2", "Laplacian blending", (3, 8))
def laplacian(desk: Desk) -> Content:
    apple, tangerine = desk.draw(generate(["a red apple", "a tangerine"]), [SEED] * 2)
    size = apple.shape[-1]
    mask = shape("left", size, size)
    levels = max(2, size.bit_length() - 2)
    cut = mask * apple + (1 - mask) * tangerine
    made = blend(apple[None], tangerine[None], mask, levels)
    seams = [float(inpainting.seam(x, mask)) for x in (cut, made)]
    rows = []
    for fruit in (apple, tangerine):
        *fine, coarse = laplacian_pyramid(fruit[None], 4)
        bands = [*(2 * band for band in fine), coarse]  # differences are faint
        square = (SMALL, SMALL)
        rows.append([desk.image(b[0].clamp(-1, 1)).resize(square, Image.Resampling.NEAREST) for b in bands])
    return Content(
        desk.save(
            strip(desk, [apple, tangerine, cut[0], made[0]], ["a red apple", "a tangerine", "cut", "blended"], SMALL),
            "laplacian",
            "An apple, a tangerine, and both in one",
            f'phosphene generate "a red apple" "a tangerine"{desk.steps()}',
        ),
        desk.save(
            sheet(rows, ["fine", "", "", "coarse"], ["apple", "tangerine"]),
            "laplacian-bands",
            "Their Laplacian pyramids: what each halving of the size loses, and what is left",
            f'phosphene generate "a red apple" "a tangerine"{desk.steps()}',
        ),
        cut=f"{seams[0]:.1f}",
        made=f"{seams[1]:.1f}",
    )
