"""Part A of the page: what can be done with a pretrained text-to-image model, in the order of the course's project."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from phosphene.defaults import ADAPTED_USUAL, CASCADE, SEED, START, STARTS, TIMES, listed
from phosphene.drawing import Sampling, Task, run
from phosphene.frequency import REFERENCE_SIZE, low_pass
from phosphene.images import Sheet
from phosphene.models.cascade import usual_of
from phosphene.pyramid import blend, laplacian_pyramid
from phosphene.report.pictures import CALLED, SMALL, called, gain, likeness, masked, spread, strip, upper
from phosphene.report.sections import QUICK, SIDE, UPSCALE, Content, Desk, Figure, section
from phosphene.sampler import last
from phosphene.tasks import denoise as denoising
from phosphene.tasks import inpaint as inpainting
from phosphene.tasks.anagram import anagram
from phosphene.tasks.animate import turn_css
from phosphene.tasks.compose import shape
from phosphene.tasks.edit import edit
from phosphene.tasks.generate import enlarge, generate
from phosphene.tasks.hybrid import hybrid
from phosphene.views import VIEWS

A = "Part A: the power of diffusion models"
COURSE = ("an oil painting of a snowy mountain village", "a man wearing a hat", "a rocket ship")
"""The assignment's own prompts."""
NEUTRAL = "a high quality photo"
"""Its prompt that says next to nothing."""
BETWEEN = (400, 1000)
"""At which timesteps a small model is guided so strongly: in the last ones its pictures turn shrill."""
TOWER, HILL, LIGHTHOUSE = Path("clock-tower"), Path("castle-hill"), Path("lighthouse")
ANAGRAMS = (("a fox", "a pumpkin"), ("a tree", "a green apple"), ("a top hat", "a graduation cap"))
HYBRIDS = (("a house", "a dog face"), ("a tree", "a skull"), ("a strawberry", "an owl"))
SIGMA = 3.0
"""The blur that parts their prompts, in pixels of a 64-pixel picture."""
NEAR, WIDTH, ACUITY = 0.5, 0.068, math.radians(1 / 60)
"""How far a reader sits from the page, how wide 256 of its pixels are (both in metres), and the blur of a good eye."""
FAR = 1.5
"""How much more than what parts the bands is the blur of the furthest view."""


def _swept(desk: Desk, pictures: Sequence[Tensor], steps: Sequence[int], prompts: Sequence[str], side: int) -> Sheet:
    """A sheet of ``pictures`` of the same ``prompts``, a row for each number of ``steps`` that they were drawn in."""
    rows = [[desk.image(p, side) for p in row] for row in pictures]
    labels = ["1 step" if n == 1 else f"{n} steps" for n in steps]
    return Sheet(rows, row_labels=labels, captions=[[""] * len(prompts), prompts])


def _apart(one: Tensor, other: Tensor) -> str:
    """How far pictures are from others: the root of the mean square."""
    return f"{float((one - other).square().mean().sqrt()):.2f}"


@section(A, "0", "Setup: a few prompts, few steps and more", (9, 40))
def setup(desk: Desk, prompts: tuple[str, ...] = COURSE) -> Content:
    seeds = [SEED] * len(prompts)
    steps = (4, QUICK) if desk.quick else (5, 20)
    few, more = (desk.draw(generate(prompts), seeds, desk.sampling(steps=n)) for n in steps)
    size = "x".join(str(n) for n in desk.stage.image_shape[1:])
    whole = _swept(desk, (few, more), steps, prompts, SMALL)
    solver = ["--solver", "dpm" if desk.quick else "ancestral"]  # which of them is usual, the model says
    command = desk.line("generate", *prompts, "--steps-sweep", f"{steps[0]},{steps[1]}", *solver, sampled=False)
    figures = [desk.save(whole, "setup", f"The same prompts in {steps[0]} and in {steps[1]} steps", command)]
    side, apart, swept = None, None, (UPSCALE, 2 * UPSCALE) if desk.quick else (5, 20)
    if len(desk.stages) > 1:
        ways = [desk.sampling(upscale_steps=n) for n in swept]
        large = [last(run(enlarge(more, prompts), desk.stages[1:], seeds, sampling=way)).cpu() for way in ways]
        side, apart = large[0].shape[-1], _apart(*large)
        both = _swept(desk, large, swept, prompts, side)
        caption = f"The small pictures of {steps[1]} steps, enlarged to {side}x{side} in {swept[0]} and in {swept[1]}"
        figures.append(desk.save(both, "setup-large", caption))
    return Content(
        *figures,
        model=desk.cascade,
        size=size,
        seed=SEED,
        far=_apart(few, more),
        side=side,
        apart=apart,
        course=prompts == COURSE,
        small=desk.cascade == CASCADE,
    )


def _levels(desk: Desk, picture: Path, prompt: str, times: Sequence[int] = TIMES) -> tuple[Tensor, list[denoising.Level]]:
    """The picture, and what noise makes of it at ``times``."""
    clean = desk.sample(picture).to(desk.stage.device)
    make = partial(denoising.levels, desk.stage, clean, times, [SEED], prompt or None)
    return clean, desk.once(("levels", picture, prompt, *times), make)


@section(A, "1.1", "The forward process: a picture drowns in noise", (0.5, 0.5))
def forward(desk: Desk, picture: Path = HILL) -> Content:
    clean, found = _levels(desk, picture, "")
    labels = ["the picture", *(f"t = {level.t}: {likeness(level.noisy, clean)}" for level in found)]
    whole = strip(desk, [clean[0], *(x.noisy[0] for x in found)], labels)
    return Content(
        desk.save(whole, "forward", f"{upper(called(picture))}, noised more and more"),
        first=likeness(found[0].noisy, clean),
        final=likeness(found[-1].noisy, clean),
    )


def _undone(desk: Desk, attempts: Sequence[Tensor], clean: Tensor, found: Sequence[denoising.Level]) -> Sheet:
    """A sheet of the levels ``found``, and below each what an attempt made of it."""
    rows = [[desk.image(x[0], SMALL) for x in row] for row in ([level.noisy for level in found], attempts)]
    return Sheet(rows, captions=[[f"t = {level.t}" for level in found], [likeness(x, clean) for x in attempts]])


@section(A, "1.2", "Undoing it with a blur", (0.2, 0.5))
def blurred(desk: Desk, picture: Path = HILL) -> Content:
    clean, found = _levels(desk, picture, "")
    whole = _undone(desk, [level.blurred for level in found], clean, found)
    return Content(desk.save(whole, "blurred", "Noisy above, blurred below (sigma 2, 7 taps)"))


@section(A, "1.3", "Undoing it in one step", (0.2, 0.5))
def one_step(desk: Desk, picture: Path = HILL, prompt: str = "") -> Content:
    clean, found = _levels(desk, picture, prompt)
    whole = _undone(desk, [level.estimate for level in found], clean, found)
    gained = [gain(x.estimate, x.blurred, clean) for x in found]
    return Content(
        desk.save(whole, "one-step", "Noisy above, the one-step estimate below"),
        gains=", ".join(f"{g:.1f}" for g in gained),
        better=min(gained) > 0,
    )


@section(A, "1.4", "Undoing it step by step", (1.5, 2))
def iterative(desk: Desk, picture: Path = HILL, prompt: str = CALLED[str(HILL)]) -> Content:
    if picture != HILL and prompt == CALLED[str(HILL)]:
        prompt = ""  # what is said of the sample says nothing of another picture
    t = denoising.TIMESTEPS[START]
    clean, (level,) = _levels(desk, picture, prompt, [t])
    times = denoising.TIMESTEPS[:: 2 if desk.quick else 1]
    sampling = Sampling("ancestral", timesteps=times, guidance=1.0)  # as the one step is asked
    every = list(desk.run(edit(clean, [sampling.timesteps.index(t)], prompt or None), [SEED], sampling))
    states = [s for s in every[:-1] if s.index % (3 if desk.quick else 5) == 0]
    between = strip(desk, [s.xt[0] for s in states] + [every[-1].xt[0]], [f"t = {s.t}" for s in states] + ["clean"])
    ends = [("step by step", every[-1].xt), ("one step", level.estimate), ("blurred", level.blurred)]
    labels = ["the original", *(f"{what}: {likeness(x, clean)}" for what, x in ends)]
    return Content(
        desk.save(between, "iterative", "On the way from noise"),
        desk.save(
            strip(desk, [clean[0], *(x[0] for _, x in ends)], labels),
            "iterative-compared",
            f"What each way makes of the picture noised to t = {t}, with PSNR and SSIM",
        ),
        t=t,
        steps=len(every),
        times=f"{sampling.timesteps[0]}, {sampling.timesteps[1]}, ..., {sampling.timesteps[-1]}",
        prompt=prompt,
        nearer=gain(every[-1].xt, level.estimate, clean),
    )


@section(A, "1.5", "Sampling from nothing but noise", (5, 20))
def sampling(desk: Desk, prompt: str = NEUTRAL) -> Content:
    unguided = desk.sampling(guidance=1.0)
    made = last(desk.run(generate([prompt]), range(SEED, SEED + 5), unguided, large=True)).cpu()
    command = desk.line("generate", prompt, "--count", "5", "--guidance", "1", large=True)
    whole = strip(desk, made, [f"seed {SEED + k}" for k in range(5)], made.shape[-1])
    return Content(
        desk.save(whole, "sampling", f"Five seeds of {prompt}, unguided", command), prompt=prompt, neutral=prompt == NEUTRAL
    )


@section(A, "1.6", "Classifier-free guidance", (7, 73))
def guided(desk: Desk, prompt: str = "a dog face", neutral: str = NEUTRAL) -> Content:
    count = 2 if desk.quick else 5
    seeds = range(SEED, SEED + count)
    scales = (1.0, 7.0) if desk.quick else (1.0, 3.0, 5.0, 7.0, 10.0)
    rows = [desk.draw(generate([prompt]), seeds, desk.sampling(guidance=scale)) for scale in scales]
    whole = Sheet([[desk.image(p, SMALL) for p in row] for row in rows], row_labels=[f"gamma {s:g}" for s in scales])
    caption = f"{upper(prompt)} at rising guidance, a column for each seed"
    small = desk.cascade == CASCADE
    between, told = (BETWEEN, ("--guidance-interval", listed(BETWEEN))) if small else (None, ())
    course = desk.draw(generate([neutral]), seeds, desk.sampling(guidance=7.0, guidance_interval=between))
    return Content(
        desk.save(whole, "guided", caption),
        desk.save(
            strip(desk, course, [f"seed {seed}" for seed in seeds]),
            "guided-five",
            f"{'Two' if desk.quick else 'Five'} seeds of {neutral}, at gamma 7",
            desk.line("generate", neutral, "--count", str(count), "--guidance", "7", *told),
        ),
        neutral=neutral,
        first=spread(rows[0]),
        final=spread(rows[-1]),
        small=BETWEEN[0] if small else None,
        stronger=bool(rows[-1].std() > rows[0].std()),
    )


def _edited(desk: Desk, picture: Path, prompt: str, name: str, large: bool = False) -> Figure:
    """A picture noised to several starts of Part A's timesteps and denoised again, on a sheet; ``large``, by all stages."""
    # On a quick page every fifth of the 34.
    starts, times = ((1, 2, 4), denoising.TIMESTEPS[::5]) if desk.quick else (STARTS, denoising.TIMESTEPS)
    how = Sampling(timesteps=times, upscale_steps=UPSCALE if desk.quick else None)
    task = edit(desk.sample(picture), starts, prompt or None)
    made = last(desk.run(task, [SEED] * len(starts), how, large=large, unsaid=not prompt.strip())).cpu()
    labels = [f"start {s}, t = {times[s]}" for s in starts] + ["the original"]
    asked = ["--prompt", prompt] if prompt else []
    few = ["--timesteps", f"{times[0]},{times[1]},...,{times[-1]}", "--start", ",".join(map(str, starts))]
    command = desk.line("edit", str(picture), *asked, *few, sampled=False, large=large)
    caption = f"{upper(called(picture))}, {f'on its way to {prompt}' if prompt else 'unprompted'}, from several starts"
    cells = [*made, desk.sample(picture, made.shape[-2:])[0]]
    return desk.save(strip(desk, cells, labels, max(SMALL, made.shape[-1]), abreast=4), name, caption, command)


def _drawn_by(desk: Desk, prompt: str) -> dict[str, object]:
    """Who edits as ``prompt``, and how."""
    drawer = desk.drawer(not prompt.strip())
    return {"drawer": drawer, "model": desk.cascade, "straight": usual_of(drawer).begins == ADAPTED_USUAL.begins}


@section(A, "1.7", "Image-to-image translation", (6, 70))
def image_to_image(desk: Desk, pictures: tuple[Path, ...] = (TOWER, HILL, LIGHTHOUSE), prompt: str = "") -> Content:
    figures = [_edited(desk, picture, prompt, f"edited-{k}", large=True) for k, picture in enumerate(pictures, 1)]
    first, second, *_, end = denoising.TIMESTEPS[:: 5 if desk.quick else 1]
    return Content(*figures, times=f"{first}, {second}, ..., {end}", **_drawn_by(desk, prompt))


SKETCHES = (Path("sketch-house"), Path("sketch-fish"), Path("sketch-face"))


@section(A, "1.7.1", "Sketches", (4, 42))
def sketches(desk: Desk, pictures: tuple[Path, ...] = SKETCHES, prompt: str = "") -> Content:
    figures = [_edited(desk, picture, prompt, f"sketched-{k}") for k, picture in enumerate(pictures, 1)]
    return Content(*figures, **_drawn_by(desk, prompt))


MASKED = ((HILL, Path("castle-hill-mask"), "a house"), (HILL, Path("castle-hill-mask"), "a palm tree"))


BLENDED = ("as it came", "pasted", "blended")
"""What the results of inpainting.BLENDS are called."""


def _inpainting(desk: Desk) -> int:
    """Steps of an inpainting: ancestral ones on a quick page too, for what is put back after each is news to the others."""
    return 12 if desk.quick else 34


def _repainted(desk: Desk, picture: Path, white: Path, prompt: str, name: str, compare: bool = False) -> tuple[Figure, list[str]]:
    """A sheet of a picture, its mask, and what came where that is white; and how much of a seam there is.

    ``compare``: drawn by all stages, and shown, as are its seams, in each of the BLENDED ways of laying it over the original.
    """
    how = Sampling(steps=_inpainting(desk), upscale_steps=UPSCALE if desk.quick else None)
    task = inpainting.inpaint(*masked(desk, picture, white), prompt or None)
    made = last(desk.run(task, [SEED], how, large=compare)).cpu()
    image, mask = masked(desk, picture, white, made.shape[-2:])
    ways = [inpainting.blend(made, image, mask, way) for way in (inpainting.BLENDS if compare else ["none"])]
    seams = [inpainting.seam_text(way, mask) for way in ways]
    if compare:
        labels = [f"{way}, seam {seam}" for way, seam in zip(BLENDED, seams, strict=True)]
    else:
        labels = [f"as {prompt}" if prompt else "repainted"]
    cells = [image[0], (image * (1 - mask) + mask)[0], *(way[0] for way in ways)]
    whole = strip(desk, cells, ["the original", "to be repainted", *labels], max(SMALL, made.shape[-1]), abreast=3)
    asked = [*(["--prompt", prompt] if prompt else []), *(["--compare"] if compare else ["--blend", "none"])]
    line = ["inpaint", str(picture), str(white), *asked, "--steps", str(how.steps)]
    caption = f"{upper(called(picture))}, repainted {f'as {prompt} ' if prompt else ''}where the mask is white"
    return desk.save(whole, name, caption, desk.line(*line, sampled=False, large=compare)), seams


@section(A, "1.7.2", "Inpainting", (4, 12))
def inpainted(desk: Desk, pictures: tuple[tuple[Path, Path, str], ...] = MASKED) -> Content:
    made = [_repainted(desk, *asked, f"inpainted-{number}") for number, asked in enumerate(pictures, 1)]
    return Content(*(figure for figure, _ in made), seams=" and ".join(seam for _, (seam,) in made))


TOWARDS = ((TOWER, "a castle"), (Path("sketch-house"), "a house"), (Path("sketch-face"), "a smiling face"))


@section(A, "1.7.3", "Text-conditioned image-to-image", (7, 42))
def guided_edits(desk: Desk, pictures: tuple[tuple[Path, str], ...] = TOWARDS) -> Content:
    figures = [_edited(desk, picture, prompt, f"guided-{k}") for k, (picture, prompt) in enumerate(pictures, 1)]
    return Content(*figures, drawer=desk.cascade)


def best(
    desk: Desk, task: Task, seeds: Sequence[int], name: str, caption: str, words: Sequence[str], **more: object
) -> tuple[Figure, Tensor, float | None]:
    """The picture of ``task``, which ``words`` ask for, that reads best of ``seeds``: as a figure, as it is, and how surely.

    A single one is not judged.
    """
    (end,) = deque(desk.run(task, seeds, large=True, best_of=len(seeds)), maxlen=1)
    sure = None if end.verdict is None else float(end.verdict.concealment[seeds.index(end.seeds[0])])
    picture, line = end.xt[0].cpu(), desk.line(*words, "--best-of", str(len(seeds)), large=True)
    return desk.save(desk.image(picture, 256), name, caption, line, **more), picture, sure


def judged_by(seeds: Sequence[int], sure: Sequence[float | None]) -> dict[str, object]:
    """How the pictures of a section were chosen."""
    return {"seeds": len(seeds), "sure": None if None in sure else ", ".join(f"{c:.2f}" for c in sure)}


def anagram_figure(
    desk: Desk, prompts: tuple[str, str], view: str, seeds: Sequence[int], name: str
) -> tuple[Figure, float | None]:
    """An anagram, the best of ``seeds``, for the page to turn; and how surely it reads both ways."""
    task, caption = anagram(prompts, [view]), f"{upper(prompts[0])}, and {prompts[1]}"
    words, turn = ("anagram", *prompts, "--view", view), turn_css(VIEWS[view])
    figure, _, sure = best(desk, task, seeds, name, caption, words, turn=turn, readings=prompts)
    return figure, sure


@section(A, "1.8", "Visual anagrams", (10, 110))
def visual_anagrams(desk: Desk, prompts: tuple[tuple[str, str], ...] = ANAGRAMS) -> Content:
    seeds = range(SEED, SEED + (1 if desk.quick else 4))
    made = [anagram_figure(desk, pair, "flip", seeds, f"anagram-{k}") for k, pair in enumerate(prompts)]
    return Content(*(figure for figure, _ in made), **judged_by(seeds, [c for _, c in made]))


def distance(blur: float) -> float:
    """From how far, in metres, an eye blurs a picture as wide as on the page by ``blur``, in widths of the picture."""
    return max(NEAR, blur * WIDTH / ACUITY)


def _walked(desk: Desk, pictures: Sequence[Tensor], parted: float) -> Figure:
    """Each picture blurred as the eye blurs it from further and further away, to beyond where its bands part."""
    blurs = [FAR * parted * k / 3 for k in range(4)]
    rows = [[low_pass(p[None], blur * p.shape[-1])[0] if blur else p for blur in blurs] for p in pictures]
    cells = [[desk.image(p).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for p in row] for row in rows]
    labels = [f"from {distance(blur):.1f} m" for blur in blurs]
    return desk.save(Sheet(cells, labels), "hybrid-far", "Each from near, and as an eye sees it from further and further away")


@section(A, "1.10", "Hybrid pictures", (8, 80))
def hybrid_pictures(desk: Desk, prompts: tuple[tuple[str, str], ...] = HYBRIDS, sigma: float = SIGMA) -> Content:
    seeds, parted = range(SEED, SEED + (1 if desk.quick else 4)), sigma / REFERENCE_SIZE
    made = []
    for number, (far, near) in enumerate(prompts, 1):
        task, caption = hybrid((far, near), sigmas=[sigma]), f"From afar {far}, from near {near}"
        words = ("hybrid", far, near, "--sigma", f"{sigma:g}")
        made.append(best(desk, task, seeds, f"hybrid-{number}", caption, words, far=parted, readings=(near, far)))
    figures, pictures, sure = zip(*made, strict=True)
    size = pictures[0].shape[-1]
    told = {"parted": f"{parted * size:g}", "size": size, "metres": f"{distance(parted):.0f}"}
    return Content(*figures, _walked(desk, pictures, parted), **told, **judged_by(seeds, sure))


@section(A, "2", "An inpainting enlarged and blended", (6, 20))
def laplacian(
    desk: Desk,
    picture: Path = HILL,
    mask: Path = Path("castle-hill-mask"),
    prompt: str = "a house",
    halves: tuple[str, str] = ("a red apple", "a tangerine"),
) -> Content:
    figure, (came, pasted, blended) = _repainted(desk, picture, mask, prompt, "blended", compare=True)
    left, right = desk.draw(generate(halves), [SEED] * 2)
    size = left.shape[-1]
    west = shape("left", size, size)
    cut = west * left + (1 - west) * right
    made = blend(left[None], right[None], west, max(2, size.bit_length() - 2))
    rows = []
    for half in (left, right):
        *fine, coarse = laplacian_pyramid(half[None], 4)
        bands = [*(2 * band for band in fine), coarse]  # differences are faint
        square = (SMALL, SMALL)
        rows.append([desk.image(b[0].clamp(-1, 1)).resize(square, Image.Resampling.NEAREST) for b in bands])
    joined = strip(desk, [left, right, cut[0], made[0]], [*halves, "cut", "blended"])
    pyramids = Sheet(rows, ["fine", "", "", "coarse"], list(halves))
    return Content(
        figure,
        desk.save(joined, "laplacian", f"{upper(halves[0])}, {halves[1]}, and both in one"),
        desk.save(pyramids, "laplacian-bands", "Their Laplacian pyramids: what each halving of the size loses, and what is left"),
        came=came,
        pasted=pasted,
        blended=blended,
        cut=f"{float(inpainting.seam(cut, west)):.1f}",
        made=f"{float(inpainting.seam(made, west)):.1f}",
    )
