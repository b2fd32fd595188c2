"""What the page is made of: sections, their figures, and the desk where they are made and kept.

A section is a small function of a :class:`Desk`, declared by :func:`section` in the order of the page. What it made is kept with
a digest of everything it depends on (the package's code, the models, the options): the same page is never drawn twice, and
one that was stopped goes on where it stood. What the page says is no part of that: text is put in anew whenever it is written.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from phosphene.defaults import CASCADE
from phosphene.drawing import Sampling, Step, Task, run
from phosphene.errors import UserError
from phosphene.files import write_text
from phosphene.images import fitted, save_png, to_images, to_tensor
from phosphene.models import catalogue, folders
from phosphene.models.cascade import is_cascade, locate, open_cascade
from phosphene.sampler import last

if TYPE_CHECKING:
    from phosphene.models.stage import Stage

SIDE = 192
"""Pixels of a picture on the page, at least: pictures are enlarged by whole numbers, without smoothing."""
CACHE = ".kept"
"""The folder, beside the pictures, that says what was made from what."""


@dataclass
class Figure:
    """A picture of the page: its file, what it shows (also its alternative text), and the command that makes its like.

    ``turn`` is the CSS by which a reader turns it into its other reading, ``readings`` what it shows before and after;
    ``far`` lets the reader walk away from it.
    """

    file: str
    caption: str
    command: str
    width: int
    height: int
    turn: str = ""
    readings: Sequence[str] = ("", "")
    far: bool = False


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
    make: Callable[[Desk], Content]


SECTIONS: list[Section] = []


def section(part: str, number: str, title: str, cost: tuple[float, float]) -> Callable:
    """Declare the function below as the next section of the page."""

    def declare(make: Callable[[Desk], Content]) -> Callable[[Desk], Content]:
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

    def __post_init__(self) -> None:
        self._models: dict[str | int, Any] = {}  # cascades by their number of stages

    def model(self, name: str):
        """A model of the MNIST chapter, loaded once."""
        if name not in self._models:
            self._models[name] = catalogue.load(name, self.device)
        return self._models[name]

    def stages(self, count: int = 2) -> tuple[Stage, ...]:
        """The stages of the text-to-image model, ``count`` at most, opened once."""
        have = [n for n in (1, 2) if n >= count and n in self._models]
        if not have:
            self._models[count] = open_cascade(self.cascade, self.device, stages=count).stages
        return self._models[have[-1] if have else count][:count]

    @property
    def stage(self) -> Stage:
        """The first of them, which is all that most sections need."""
        return self.stages(1)[0]

    def sampling(self, steps: int = 34, quick: int = 10) -> Sampling:
        """How pictures are sampled: ``steps`` ancestral steps, or ``quick`` of DPM-Solver++ on a quick page."""
        chosen = Sampling("dpm", quick, upscale_steps=4) if self.quick else Sampling("ancestral", steps)
        return chosen._replace(max_rows=64)

    def steps(self, large: bool = False) -> str:
        """The options that say so on a command line."""
        return f" --solver dpm --steps 10{' --upscale-steps 4' if large else ''}" if self.quick else ""

    def run(
        self, task: Task, seeds: Sequence[int], sampling: Sampling | None = None, *, large: bool = False, best_of: int = 1
    ) -> Iterator[Step]:
        """``task`` drawn by the first stage, or, ``large``, by all that there are; as :meth:`sampling` has it by default."""
        model = self.stages() if large else self.stage
        return run(task, model, seeds, sampling=sampling or self.sampling(), best_of=best_of)

    def draw(self, task: Task, seeds: Sequence[int], sampling: Sampling | None = None) -> Tensor:
        """The finished pictures of the first stage, (N, C, H, W) in [-1, 1]."""
        return last(self.run(task, seeds, sampling)).cpu()

    def image(self, picture: Tensor, side: int = SIDE) -> Image.Image:
        """(C, H, W) in [-1, 1], enlarged to about ``side`` pixels."""
        return to_images(picture[None], max(1, round(side / picture.shape[-1])))[0]

    def sample(self, name: str) -> Tensor:
        """A picture that ships with the package, (1, 3, H, W), as the first stage sees it."""
        from phosphene.readers import read_picture

        return to_tensor(fitted(read_picture(Path(name)), self.stage.image_shape[1:]))

    def save(self, image: Image.Image, name: str, caption: str, command: str, **more: object) -> Figure:
        """Write ``image`` beside the page."""
        save_png(image, self.out / f"{name}.png", {"command": command})
        return self.drawn(name, caption, command, **more)

    def drawn(self, name: str, caption: str, command: str, **more: object) -> Figure:
        """The figure of a picture that is beside the page already."""
        with Image.open(self.out / f"{name}.png") as image:
            return Figure(f"{name}.png", caption, command, *image.size, **more)


@cache
def _code() -> str:
    """A digest of the package's code: what it draws may change with any line."""
    root = Path(__file__).parent.parent
    whole = hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        whole.update(file.read_bytes())
    return whole.hexdigest()


def _models(desk: Desk) -> str:
    """A digest of the models' sums; of a cascade from elsewhere its files' names, sizes and dates."""
    sums = [path.read_text() for path in sorted(folders.EMBEDDED.glob(f"*/{folders.SUMS}"))]
    if is_cascade(desk.cascade):
        place = locate(desk.cascade)
        found = sorted(file for file in place.rglob("*") if file.is_file())
        sums += [f"{file.relative_to(place)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in found]
    return hashlib.sha256("\n".join(sums).encode()).hexdigest()


def chosen(names: Sequence[str] | None) -> list[Section]:
    """The sections called ``names``, by name or number, in the order of the page; all for None."""
    if names is None:
        return list(SECTIONS)
    known = {key for each in SECTIONS for key in (each.name, each.number)}
    for name in names:
        if name not in known:
            raise UserError(f"--sections {name}: there is none of that name; choose of {', '.join(s.name for s in SECTIONS)}.")
    return [each for each in SECTIONS if each.name in names or each.number in names]


Progress = Callable[[str, int, int, float], None]
"""Is told a section's title, how many are done, of how many, and the seconds that are left."""


def made_sections(desk: Desk, sections: Sequence[Section], progress: Progress) -> Iterator[tuple[Section, Content]]:
    """Each section with what it says and shows, made now or kept from before."""
    from phosphene.models.cascade import describe

    describe(desk.cascade)  # refused before there is a folder
    digest = hashlib.sha256("\n".join([_code(), _models(desk), desk.cascade, desk.device, str(desk.quick)]).encode()).hexdigest()
    (desk.out / CACHE).mkdir(parents=True, exist_ok=True)
    held = {each.name: _cached(desk, each, digest) for each in sections}
    price = 0 if desk.quick else 1
    ahead, spent, paid = sum(each.cost[price] for each in sections if held[each.name] is None), 0.0, 0.0
    for done, each in enumerate(sections):
        content = held[each.name]
        pace = spent / paid if paid else 1.0
        progress(each.title, done, len(sections), (ahead - paid) * pace)
        if content is None:
            begun = time.perf_counter()
            content = each.make(desk)
            spent, paid = spent + time.perf_counter() - begun, paid + each.cost[price]
            pictures = {f.file: hashlib.sha256((desk.out / f.file).read_bytes()).hexdigest() for f in content.figures}
            entry = {"digest": digest, "pictures": pictures, "values": content.values}
            entry["figures"] = [asdict(figure) for figure in content.figures]
            write_text(desk.out / CACHE / f"{each.name}.json", json.dumps(entry))
        yield each, content
    progress("done", len(sections), len(sections), 0.0)


def _cached(desk: Desk, each: Section, digest: str) -> Content | None:
    """What was made of the same code, models and options, if its pictures are still there and are what they were."""
    try:
        held = json.loads((desk.out / CACHE / f"{each.name}.json").read_text())
        same = all(hashlib.sha256((desk.out / f).read_bytes()).hexdigest() == sum for f, sum in held["pictures"].items())
        if held["digest"] != digest or not same:
            return None
        return Content(*(Figure(**figure) for figure in held["figures"]), **held["values"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
