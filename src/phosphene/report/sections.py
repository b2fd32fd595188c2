"""What the page is made of: sections, their figures, and the desk where they are made.

A section is a small function of a :class:`Desk`, declared by :func:`section` in the order of the page. Its other parameters are
what a page of one's own may ask of it (``report/config.py``). ``report/kept.py`` keeps what it made.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from PIL import Image
from torch import Tensor

from phosphene.defaults import CASCADE, UNPROMPTED
from phosphene.drawing import Sampling, Step, Task, run
from phosphene.images import Sheet, fitted, save_png, to_images, to_tensor
from phosphene.models import catalogue
from phosphene.models.cascade import Cascade, open_cascade
from phosphene.notation import require_sections
from phosphene.readers import read_picture
from phosphene.sampler import last

if TYPE_CHECKING:
    from phosphene.models.stage import Stage

T = TypeVar("T")
SIDE = 192
"""Pixels of a picture on the page, at least: pictures are enlarged by whole numbers, without smoothing."""
QUICK, UPSCALE = 10, 1
"""Steps of the first stage and of the second on a quick page."""


@dataclass
class Figure:
    """A picture of the page: its file, what it shows (also its alternative text), and the command that makes it, if one does.

    ``dark`` is its file for a dark page, where it has one; a ``plot`` is turned dark by the page itself. ``grid`` says of a sheet
    where on it its images lie, and what is written beside them: the page sets that as text. ``turn`` is the CSS by
    which a reader turns it into its other reading, ``readings`` what it shows before and after. ``far`` lets the reader walk
    away from it: it is the blur that parts its bands, in widths of the picture.
    """

    file: str
    caption: str
    command: str
    width: int
    height: int
    dark: str = ""
    plot: bool = False
    grid: Mapping[str, Any] | None = None
    turn: str = ""
    readings: Sequence[str] = ("", "")
    far: float = 0.0


class Content:
    """What a section shows, and the values that its text tells."""

    def __init__(self, *figures: Figure, **values: object) -> None:
        self.figures, self.values = figures, values


@dataclass(frozen=True)
class Section:
    """A declared section. ``cost`` is in seconds on two CPU cores, in a quick and in a full page: it tells how long is left.

    What it says stands in the file ``text`` of report/text, as the macro of the function's name.
    """

    name: str
    text: str
    number: str
    title: str
    part: str
    cost: tuple[float, float]
    make: Callable[..., Content]

    @property
    def asks(self) -> dict[str, Any]:
        """What a page of one's own may ask of it, by name, as the section asks where the page does not."""
        _, *own = inspect.signature(self.make).parameters.values()
        return {each.name: each.default for each in own}

    @property
    def kinds(self) -> dict[str, Any]:
        """Of which type each of :attr:`asks` is."""
        hints = get_type_hints(self.make)
        return {name: hints[name] for name in self.asks}


SECTIONS: list[Section] = []


def section(part: str, number: str, title: str, cost: tuple[float, float]) -> Callable:
    """Declare the function below as the next section of the page."""

    def declare(make: Callable[..., Content]) -> Callable[..., Content]:
        text = f"{make.__module__.rpartition('.')[2]}.html"
        SECTIONS.append(Section(make.__name__.replace("_", "-"), text, number, title, part, cost, make))
        return make

    return declare


@dataclass
class Desk:
    """Where figures are made: the folder of the page, the models that sections share, and how much work is wanted."""

    out: Path
    device: str
    cascade: str = CASCADE
    quick: bool = False
    embeddings: Path | None = None
    config: Path | None = None

    def __post_init__(self) -> None:
        self._held: dict[Hashable, Any] = {}
        self.again, self.opened = self.page_line, []

    def begin(self, section: Section) -> None:
        """What is kept from now on is of ``section``: each picture says how it is made again."""
        self.again, self.opened = f"{self.page_line} --sections {section.name}", []

    @property
    def page_line(self) -> str:
        """The command that makes the page."""
        typed = ["phosphene", "report", *(["--quick"] if self.quick else []), *self._model()]
        return command_line(typed if self.config is None else [*typed, "--config", str(self.config)])

    def _model(self) -> list[str]:
        """The options that name the text-to-image model."""
        typed = [] if self.cascade == CASCADE else ["--model", self.cascade]
        return typed if self.embeddings is None else [*typed, "--embeddings", str(self.embeddings)]

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` makes for the first section that asks for ``what``, and for those after it."""
        if what not in self._held:
            self._held[what] = make()
        return self._held[what]

    def model(self, name: str):
        """A model of the MNIST chapter, loaded once."""
        return self.once(name, lambda: catalogue.load(name, self.device))

    def open(self, stages: int, unsaid: bool = False) -> Cascade:
        """The text-to-image model with its first ``stages``, or more where they are at hand; loaded once.

        ``unsaid``: with the first stage that edits a picture of which nothing is said.
        """
        name = self.drawer(unsaid)
        self.opened += [] if name in self.opened else [name]
        if name != self.cascade:
            first = self.once(name, partial(open_cascade, name, self.device, stages=1))
            others = self.once(("stages", 2), partial(self._open, 2)).stages[1:] if stages > 1 else ()
            return replace(first, stages=(*first.stages, *others))
        count = 2 if ("stages", 2) in self._held else stages
        return self.once(("stages", count), partial(self._open, count))

    def _open(self, stages: int) -> Cascade:
        return open_cascade(self.cascade, self.device, embeddings=self.embeddings, stages=stages)

    def drawer(self, unsaid: bool) -> str:
        """The name of the model that draws; ``unsaid``: that edits a picture of which nothing is said."""
        return UNPROMPTED if unsaid and self.cascade == CASCADE else self.cascade

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages of the text-to-image model."""
        return self.open(2).stages

    @property
    def stage(self) -> Stage:
        """The first of them, which is all that most sections need."""
        return self.open(1).stages[0]

    def sampling(self, **otherwise: object) -> Sampling:
        """How pictures are sampled: 34 ancestral steps, or QUICK of DPM-Solver++ on a quick page; and what is ``otherwise``."""
        usual = Sampling("dpm", QUICK, upscale_steps=UPSCALE) if self.quick else Sampling("ancestral", 34)
        return usual._replace(max_rows=64, **otherwise)

    def line(self, command: str, *words: str, sampled: bool = True, large: bool = False) -> str:
        """The command line that draws as :meth:`sampling` has it (unless not ``sampled``) by the stages of this desk."""
        typed = ["phosphene", command, *words]
        if sampled:
            typed += ["--solver", "dpm", "--steps", str(QUICK)] if self.quick else ["--solver", "ancestral"]
        if not large:
            typed += ["--no-upscale"]
        elif self.quick:
            typed += ["--upscale-steps", str(UPSCALE)]
        return command_line([*typed, *self._model()])

    def run(
        self,
        task: Task,
        seeds: Sequence[int],
        sampling: Sampling | None = None,
        *,
        large: bool = False,
        best_of: int = 1,
        unsaid: bool = False,
    ) -> Iterator[Step]:
        """``task`` drawn by the first stage, or, ``large``, by all that there are; as :meth:`sampling` has it by default.

        ``unsaid``: see :meth:`open`.
        """
        model = self.open(2 if large else 1, unsaid).stages[: None if large else 1]
        return run(task, model, seeds, sampling=sampling or self.sampling(), best_of=best_of)

    def draw(self, task: Task, seeds: Sequence[int], sampling: Sampling | None = None) -> Tensor:
        """The finished pictures of the first stage, (N, C, H, W) in [-1, 1]."""
        return last(self.run(task, seeds, sampling)).cpu()

    def image(self, picture: Tensor, side: int = SIDE) -> Image.Image:
        """(C, H, W) in [-1, 1], enlarged to about ``side`` pixels."""
        return to_images(picture[None], max(1, round(side / picture.shape[-1])))[0]

    def sample(self, path: Path, size: tuple[int, int] | None = None) -> Tensor:
        """A picture, of one's own or a sample's, (1, 3, H, W), of ``size`` or as the first stage sees it."""
        return to_tensor(fitted(read_picture(path), size or self.stage.image_shape[1:]))

    def save(self, image: Image.Image | Sheet, name: str, caption: str, command: str = "", **more: object) -> Figure:
        """Write ``image`` beside the page; a sheet for a light page and for a dark one."""
        story, dark = {"command": self.again}, ""
        if isinstance(image, Sheet):
            dark = f"{name}-dark.png"
            save_png(image.draw(dark=True), self.out / dark, story)
            if image.captions or image.row_labels or image.column_labels:
                more["grid"] = {"heads": image.column_labels, "flows": image.flows, "gap": image.gap, "rows": image.parts()}
            image = image.draw()
        save_png(image, self.out / f"{name}.png", story)
        return Figure(f"{name}.png", caption, command, *image.size, dark=dark, **more)


def command_line(words: Sequence[str]) -> str:
    """A command line as one types it: what needs quotes in double ones, where that does."""
    plain = {word: not set(word) & set('"$`\\!') for word in words}
    return " ".join(f'"{w}"' if shlex.quote(w) != w and plain[w] else shlex.quote(w) for w in words)


def chosen(names: Sequence[str] | None, left_out: Sequence[str] = ()) -> list[Section]:
    """The sections called ``names``, by name or number, in the order of the page; for None all but of the parts ``left_out``."""
    if names is None:
        return [each for each in SECTIONS if each.part not in left_out]
    require_sections(names)
    return [each for each in SECTIONS if each.name in names or each.number in names]
