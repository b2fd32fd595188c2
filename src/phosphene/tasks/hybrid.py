"""Hybrid pictures: one thing from afar and another from near; in grey and in colour; at rest and in motion.

Different prompts rule different components of one picture (Oliva et al. 2006; Geng et al. 2024, "Factorized Diffusion").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from phosphene.defaults import BANDS, HYBRIDS, SIGMAS, listed
from phosphene.drawing import Reading, Task
from phosphene.errors import UserError, require_one_of
from phosphene.expression import Expression, bands, factorized, mean
from phosphene.frequency import REFERENCE_SIZE, Component, Grayscale, LowPass, MotionBlur
from phosphene.models.protocol import Denoiser
from phosphene.notation import require_hybrid
from phosphene.tasks.generate import asked, asking
from phosphene.tasks.score import READS, Score, score

GAPS = {2: ((4.0,), (3.0,), (2.0,), (1.5,), (1.0,)), 3: ((4.5, 1.8), (3.0, 1.2), (2.25, 0.9), (1.5, 0.6))}
"""What :func:`widest` chooses of for two or three prompts, the widest gap between near and far first."""
PARTS = {
    "frequency": ("low frequencies", "high frequencies"),
    "color": ("the light", "the colours"),
    "motion": ("what sweeping by leaves", "what sweeping by takes"),
    "scale": ("half", "half"),
}
"""What either prompt rules is called."""
COARSE, MOTION = LowPass(SIGMAS[2][0]), MotionBlur()
SEEN = {"color": ("in colour", "in grey"), "motion": ("at rest", "in motion"), "scale": ("whole", "half")}
"""What a sheet calls the picture as it is and what the first prompt rules of it."""


def part_of(kind: str, sigma: float = COARSE.sigma, motion: MotionBlur = MOTION) -> Component:
    """The component of a picture that the first prompt of a hybrid rules."""
    require_one_of("--kind", kind, HYBRIDS)
    return {"frequency": LowPass(sigma), "color": Grayscale(), "motion": motion, "scale": _half}[kind]


@dataclass(frozen=True)
class FromAfar:
    """A picture as it is seen from where the eye blurs it by ``sigma``, in pixels of a 64-pixel picture.

    Blurred, shrunk to one pixel a sigma, which is all that is left of it, and enlarged again, for who judges wants it large.
    """

    sigma: float = COARSE.sigma

    def __call__(self, x: Tensor) -> Tensor:
        """(B, C, H, W), of the same shape."""
        size = [max(2, round(side / max(1.0, self.sigma * side / REFERENCE_SIZE))) for side in x.shape[-2:]]
        small = F.interpolate(LowPass(self.sigma)(x), size, mode="bilinear", align_corners=False, antialias=True)
        return F.interpolate(small, x.shape[-2:], mode="bicubic", align_corners=False)


def seen(stage: Denoiser, pictures: Tensor, prompts: Sequence[str], sigmas: Sequence[float]) -> Score:
    """How well frequency hybrids ``pictures`` (N, C, H, W) show each of ``prompts`` from where people see it.

    The last is read from near, each other from where the eye blurs as much as the sigma that parts it from the next.
    """
    return score(stage, pictures, prompts, [*map(FromAfar, sigmas), Reading().look])


class Gap(NamedTuple):
    """The ``sigmas`` that were chosen, whether the picture reads with them, and of each choice how surely its weakest reading."""

    sigmas: tuple[float, ...]
    reads: bool
    sure: tuple[float, ...]


def widest(stage: Denoiser, pictures: Sequence[Tensor], prompts: Sequence[str]) -> Gap:
    """Of hybrids ``pictures`` ((1, C, H, W) each), drawn with each of GAPS, that with the widest gap that reads near and far.

    The wider, the less of the near reading is left from afar, and the clearer it is from near; but the less is left to say what
    is seen from afar. Where none reads, it is the one whose weakest reading is the surest.
    """
    gaps = GAPS[len(prompts)]
    sure = [float(seen(stage, picture, prompts, sigmas).worst) for picture, sigmas in zip(pictures, gaps, strict=True)]
    read = [k for k, each in enumerate(sure) if each > READS]
    return Gap(gaps[read[0] if read else sure.index(max(sure))], bool(read), tuple(sure))


def _half(x: Tensor) -> Tensor:
    return x / 2


def _readings(kind: str, part: Component, sigmas: Sequence[float], prompts: Sequence[str] = ()) -> list[Reading]:
    """How a sheet shows a hybrid: from near, from farther away, and from where its first prompt is read."""
    if kind == "frequency":
        *between, last = sorted(sigmas)
        middle = between[-1] if between else last / 2
        names = (prompts[-1], prompts[1] if len(prompts) > 2 else "", prompts[0]) if prompts else ("",) * 3
        seen_from = zip(
            ("near", "farther away", "from afar"), names, (Reading().look, FromAfar(middle), FromAfar(last)), strict=True
        )
        return [Reading(f"{where}: {name}" if name else where, look) for where, name, look in seen_from]
    whole, ruled = SEEN[kind]
    if prompts and kind != "scale":  # there both are in either
        whole, ruled = f"{whole}: {prompts[-1]}", f"{ruled}: {prompts[0]}"
    return [Reading(whole), Reading(ruled, part)]


def hybrid(
    prompts: Sequence[str],
    *,
    kind: str = "frequency",
    sigmas: Sequence[float] | None = None,
    motion: MotionBlur = MOTION,
    negative: str | None = None,
) -> Task:
    """Of ``frequency``, two or three prompts from the coarsest band to the finest.

    ``color``: the first rules the grey picture, the second its colours; ``motion``: the first what is seen when the
    picture sweeps by as ``motion`` says, the second the rest; ``scale``: both rule all of it, by halves. The best of
    several is the one in which the first prompt is read in what it rules, and the others in the whole; of frequencies, in which
    each is read from where people see it: see :func:`seen`. UserError where prompts or sigmas do not fit the kind.
    """
    blurs = SIGMAS.get(len(prompts), SIGMAS[2]) if sigmas is None else sigmas
    part = part_of(kind, max(blurs, default=SIGMAS[2][0]), motion)
    require_hybrid(kind, len(prompts), sigmas if kind == "frequency" else None)
    if sigmas is not None and kind != "frequency":
        raise UserError(f"--sigma {listed(sigmas)}: is of --kind frequency; leave it out.")
    ruled = Reading().look if kind == "scale" else part
    looks = [ruled, *[Reading().look] * (len(prompts) - 1)]

    def asks(stage: Denoiser, scale: float) -> Expression:
        parts = [asked(stage, [prompt], negative, scale) for prompt in prompts]
        if kind == "frequency":
            return bands(*parts, sigmas=blurs)
        return mean(*parts) if kind == "scale" else factorized(*parts, part)

    def judge(stage: Denoiser, pictures: Tensor, _: Sequence[int]) -> Score:
        return seen(stage, pictures, prompts, blurs) if kind == "frequency" else score(stage, pictures, prompts, looks)

    return Task(asks, judge=judge, readings=_readings(kind, ruled, blurs, tuple(prompts)))


def completed(
    image: Tensor,
    prompt: str,
    *,
    kind: str = "frequency",
    band: str = "low",
    component: Component = COARSE,
    large: Tensor | None = None,
    negative: str | None = None,
) -> Task:
    """An inverse hybrid: ``component`` of ``image`` (1, C, H, W; in [-1, 1]) stays, or all but that, the rest is ``prompt``'s.

    ``band`` is one of BANDS. A second stage keeps it too where ``large`` is the image at its size; else it draws its own.
    """
    require_one_of("--band", band, BANDS)

    def restored(drawn: Tensor, original: Tensor) -> Tensor:
        first, rest = (original, drawn) if band == "low" else (drawn, original)
        return rest + component(first - rest)

    parted = component.sigma if isinstance(component, LowPass) else COARSE.sigma
    readings = _readings(kind, component, [parted])
    return Task(asking([prompt], negative), image=image, edit=restored, large=large, readings=readings)
