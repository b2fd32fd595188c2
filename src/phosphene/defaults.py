"""Names and numbers that the command line, the studio and what computes share. No torch here: --help does not wait for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SEED = 180
UPSCALE_GUIDANCE = 4.0
"""Of the second stage of text to image: the default of diffusers."""
DIGIT_GUIDANCE, AMBIGRAM_GUIDANCE = 5.0, 8.0
CASCADE, FAST, UNPROMPTED = "glyph", "glyph-fast", "glyph-unprompted"
"""The cascade that ships with the package, the same distilled to four steps, and adapted to pictures of which nothing is said."""

CONCEPTS = Path(__file__).parent / "assets" / "concepts" / "glyph.png"
"""The sheet of sketches that ``phosphene pairs`` looks among."""

NOISE_LEVEL = 250
"""How noisy a super-resolution stage is shown the small picture, where nobody says: the default of diffusers."""
OWN_NOISE_LEVEL = 100
"""The same of our upscalers: enough to hide what the first stage got wrong, little enough to keep what it drew."""


class Steps(NamedTuple):
    """How many timesteps a solver visits where nobody says: of a cascade's 1000, and of an MNIST model's."""

    cascade: int
    digits: int


class Usual(NamedTuple):
    """How a model is sampled where nobody says."""

    solver: str
    steps: int | None  # None: as SOLVERS says
    guidance: float
    timesteps: tuple[int, ...] | None = None  # of a distilled model, which knows no others,
    teacher: str = ""  # and what it was distilled from
    begins: str = "ancestral"  # the solver where it begins with an image
    guidance_interval: tuple[int, int] | None = None  # the timesteps at which there is guidance; None: all

    @property
    def instead(self) -> str:
        """What to do where a distilled model cannot do what is asked of it."""
        return f"take the model that it was distilled from, {self.teacher}"


IF_USUAL = Usual("ancestral", None, 7.0)
"""As Part A samples DeepFloyd IF, with the guidance of diffusers."""
OWN_USUAL = Usual("dpm", 16, 3.0)
"""Cascades of our own: as few steps as a stranger, and a judge, find as good as more (docs/embedded-model.md)."""
ADAPTED_USUAL = OWN_USUAL._replace(begins="ddim")
"""One adapted to pictures of which nothing is said goes straight on from them: fresh noise hides anew what is left of an image.
Of what is said it makes more, so that others are ancestral there."""

OWN_ENLARGING = Usual("dpm", 8, 1.0)
"""Of a second stage that goes by the small picture alone: with no prompt, there is no guidance to follow with care."""

SOLVERS = {"ancestral": Steps(34, 300), "ddim": Steps(34, 50), "dpm": Steps(20, 8), "heun": Steps(20, 8)}
"""Of each solver in ``sampler.SOLVERS``. 34, Part A's number, are every 29th timestep of the 1000."""

MOST_PICTURES = 10_000
"""Of one sheet: beyond, it would not fit into memory, nor be looked at."""
MOST_PICTURE_WIDTH = 2**10
"""Channels of a judge's picture tower where pictures are largest: checked before there is a tower, of a gigabyte at that."""
MOST_ROWS = 1000
"""Of one sheet: so many numbers a list on the command line may have, but for one of timesteps."""
MOST_STEPS = 100_000
"""Timesteps of a schedule at most: checked before there is a table, for the number may come from a file."""
LEAST_BLUR, MOST_BLUR = 0.001, 4096
"""Pixels of a sigma, or a length: what is blurred less is as it was, and what is blurred further of one colour."""
MOST_SIGMA = 1000
"""Of noise on a picture in 0..1: nothing is left of it by then, and the square of the error is a number still."""
MOST_WEIGHT = 10**6
"""Of an average: beside one that heavy the others are not seen."""
OBJECTIVES = ("noise", "velocity", "flow")
"""What an MNIST network may predict."""
SCHEDULES = ("linear", "rescaled-linear", "squared-cosine", "straight")
"""Of ``schedule.KINDS``."""
DATASETS = ("mnist", "fashion", "digits", "idx")
NETWORKS = ("denoiser", "time", "class", "classifier")
"""Of the MNIST chapter."""
VIEWS = ["identity", "flip", "mirror", "rotate-90", "rotate-180", "rotate-270", "negate", "skew", "patches", "pixels", "jigsaw"]
VIEWS += ["inner-circle", "square-hinge", "rubik"]
"""Of ``views.VIEWS``."""
PIECES = {"patches": 1, "jigsaw": 2, "square-hinge": 1, "rubik": 1}
"""Of these views, those that may be told how many pieces they have along a side (``patches:8``), and what divides it."""
LAID = ("patches", "pixels", "jigsaw", "rubik")
"""Those whose pieces are laid by chance, and may be told a seed (``jigsaw@3``)."""
WARPS = {"rotate": 359, "cylinder": 0, "cone": 0, "lens": 4}
"""Of ``warps.WARPS``, each with the largest number that may stand after its colon; 0: none may."""
FOUR_WAY = ("identity", "rotate-90", "rotate-180", "rotate-270")
"""The views that ``four-way`` stands for."""
REDUCTIONS = ("mean", "alternate")
"""How the readings of an anagram share a step: all are heard and averaged, or each has every n-th step for itself."""
TIMES, START = (250, 500, 750), 10
"""Part A's: the timesteps that a photo is noised to, and how many of its steps are left out where it is denoised in many."""
STARTS = (1, 3, 5, 7, 10, 20)
"""Part A's too: how many steps an edit leaves out."""
NOISE_LEVELS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Part B's: the sigmas that digits are noised by."""
SIGMAS = {2: (2.0,), 3: (3.0, 1.2)}
"""Blurs that part two or three prompts of a hybrid, in pixels of a 64-pixel picture; 2 is Part A's."""
SWEEP, SWEPT_AT = 15.0, 0.0
"""How far a picture sweeps by in a hybrid of motion, in pixels of 64, and at which angle: sideways."""
HYBRIDS = ("frequency", "color", "motion", "scale")
"""Into which parts a hybrid parts a picture."""
BANDS = ("low", "high")
"""What is kept of a photo: what the first prompt would rule, whatever the kind of hybrid, or the rest."""
PAPERS = {"a4": (210.0, 297.0), "letter": (215.9, 279.4)}
"""Width and height of printed sheets, in millimetres."""
PRINTED = 150.0
"""The side of the picture on them."""
BLENDS = ("none", "paste", "laplacian")
"""How an inpainted picture goes over the original: alone, cut out by the mask, or with seams as wide as each band."""
SKIP = "skip:"
"""Instead of a weaker model's name, before the number of the block that the model itself is to do without."""
SHAPES = ("left", "top", "circle")
"""Masks that have a name."""
JUDGES = ("denoiser", "retrieval", "clip")
"""Who says how well an anagram reads: the network that drew it, our retrieval model, CLIP."""
PAPER_VIEWS = ("flip", "rotate-90", "rotate-180", "negate", "inner-circle", "jigsaw")
"""In which anagrams are measured where nobody says."""
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The classes of CIFAR-10 (Krizhevsky 2009), of whose 45 pairs papers draw anagrams."""
INSIDE_OUTSIDE = "compose", "for inside and outside of the mask"
FROM_TO = "morph", "where it begins and where it ends"
"""Commands that take two prompts, and which."""
PART_B = ("ddpm", "flow", "both")
"""Which edition of the course's Part B a page shows."""
SECTIONS = {
    "setup": "0",
    "forward": "1.1",
    "blurred": "1.2",
    "one-step": "1.3",
    "iterative": "1.4",
    "sampling": "1.5",
    "guided": "1.6",
    "image-to-image": "1.7",
    "sketches": "1.7.1",
    "inpainted": "1.7.2",
    "guided-edits": "1.7.3",
    "visual-anagrams": "1.8",
    "hybrid-pictures": "1.10",
    "laplacian": "2",
    "noisy-digits": "B 1.1",
    "one-step-denoiser": "B 1.2",
    "out-of-distribution": "B 1.2.2",
    "time-conditioned": "B 2.1",
    "class-conditioned": "B 2.4",
    "pure-noise": "F 1.2.3",
    "time-flow": "F 2.1",
    "class-flow": "F 2.4",
    "out-of-noise": "C 1",
    "ambigrams": "C 2",
    "more-views": "C 3",
    "factors": "C 4",
    "regions": "C 5",
    "flow-matching": "C 6",
    "worth": "C 7",
}
"""Of the page (``report/sections.py``), each with its number."""
FITS = ("crop", "pad")
"""How a picture is given the shape of a model's: its middle, or all of it with white beside."""
OFFLOADS = ("none", "stages", "layers")
"""What may wait in main memory until it is needed: nothing, the stage that is not at work, all layers but the one at work."""
QUANTIZED = ("none", "int8")
"""How the weights of large networks are kept: as they are, or rounded."""


def listed(numbers: Iterable[float]) -> str:
    """``3,1.2``, as options take it."""
    return ",".join(f"{number:g}" for number in numbers)


def one_of(names: Iterable[str], word: str = "or") -> str:
    """``a, b or c``."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
