"""Jobs of the studio: command lines that run in a thread of their own and are watched from outside.

What the studio shows is what the command makes, and the command beside it is the one that ran. No gradio here.
"""

from __future__ import annotations

import contextvars
import hashlib
import io
import logging
import math
import os
import re
import shlex
import shutil
import stat
import tempfile
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from PIL import Image
from torch import Tensor

from phosphene.cli import Failed, common, perform
from phosphene.errors import UserError
from phosphene.images import rescaled, sheet, to_images
from phosphene.lock import FolderLock
from phosphene.models.cascade import usual_of
from phosphene.sampler import Step
from phosphene.web.guard import Uploads

T = TypeVar("T")

SIDE = 512
"""Pixels of a preview."""
EVERY = 0.15
"""Seconds between two previews: a browser needs no more."""
MOST_MODELS = 8
MOST_RESULTS = 60
"""Results that stay on disk, and in the gallery."""
MOST_INPUTS = 2 * MOST_RESULTS
"""Files that visitors made for commands to read, and that stay to be downloaded: a picture and a mask for each."""
INTERRUPTED = 130
"""The exit code of a command that was stopped."""
PATIENCE = 10.0
"""Seconds that a job goes on for a visitor who does not listen."""
ENDING = 10.0
"""Seconds that the studio's end waits for the steps at work."""


PREFIX = "phosphene-studio-"
"""How the folders of studios begin, among those of other programs."""


class Update(NamedTuple):
    """How a job is doing: of ``total`` steps ``done``, the clean estimate meanwhile, the seconds left (None: not known)."""

    done: int
    total: int
    what: str
    preview: Image.Image | None
    left: float | None


class Shelf:
    """Models that jobs share: each is loaded once, and the one that was not asked for longest is let go."""

    def __init__(self) -> None:
        self._held: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        with self._lock:
            if key not in self._held:
                self._held[key] = make()
                while len(self._held) > MOST_MODELS:
                    self._held.popitem(last=False)
            self._held.move_to_end(key)
            return self._held[key]


class Job:
    """A command line at work. Iterate over it for its updates; :meth:`stop` ends it within a step.

    So does ``wanted``, asked at every step, where it says no.
    """

    def __init__(self, argv: Sequence[str], shelf: Shelf, wanted: Callable[[], bool] = lambda: True) -> None:
        self.argv, self.shelf, self.wanted = list(argv), shelf, wanted
        self.said: list[str] = []
        self.pictures: list[Image.Image] = []
        self.failure: Failed | None = None
        self._latest: Update | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._begun = time.monotonic()
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)

    def stop(self) -> None:
        self._stopping.set()

    def end(self, seconds: float) -> bool:
        """Stop, and wait so long for it; whether nothing of it is at work any more."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join(max(0, seconds))
        return not self._thread.is_alive()

    def __iter__(self) -> Iterator[Update]:
        """Updates until the command has ended; raises what made it fail, unless it was stopped."""
        self._thread.start()
        try:
            last = None
            while True:
                with self._changed:
                    self._changed.wait_for(lambda before=last: self._latest is not before or not self._thread.is_alive(), 0.5)
                    latest = self._latest
                if latest is not last:
                    last = latest
                    yield latest
                elif not self._thread.is_alive():
                    break
        finally:  # whoever stops listening does not want the rest
            self.stop()
            self._thread.join()
        if self.failure is not None and self.failure.code != INTERRUPTED:
            raise self.failure

    def _run(self) -> None:
        common.audience.set(self)
        try:
            perform(self.argv)
        except Failed as failure:
            self.failure = failure
        except Exception as error:  # a fault of ours: the log has all of it, the visitor a sentence
            logging.getLogger(__name__).exception("phosphene %s", " ".join(self.argv))
            self.failure = Failed(f"something went wrong ({type(error).__name__}); the studio's log says what", 1)
        with self._changed:
            self._changed.notify_all()

    # What the command tells its audience

    def say(self, text: str) -> None:
        self.said.append(text)

    def readings(self, pictures: list[Image.Image]) -> None:
        self.pictures = pictures

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        return self.shelf.cached(key, make)

    def step(self, step: Step, what: str) -> None:
        if self._stopping.is_set() or not self.wanted():
            raise common.Stopped
        now, done = time.monotonic(), step.index + 1
        if done == 1:
            self._begun = now
        due = self._latest is None or now - self._updated >= EVERY or done == step.total
        if due:
            left = None if done == 1 else (now - self._begun) / (done - 1) * (step.total - done)
            with self._changed:
                self._latest, self._updated = Update(done, step.total, what, mosaic(step.x0), left), now
                self._changed.notify_all()


def mosaic(pictures: Tensor, most: int = 16) -> Image.Image:
    """Up to ``most`` of ``pictures`` (N, C, H, W) side by side, with all sheets of each, about SIDE pixels wide."""
    several = pictures[:most].detach().float().cpu()
    if several.shape[1] > 3:  # sheets
        several = several.unflatten(1, (-1, 3)).flatten(0, 1)
    columns = math.ceil(math.sqrt(len(several)))
    scale = max(1, SIDE // (columns * several.shape[-1]))
    cells = to_images(rescaled(several) if several.shape[1] == 1 else several, scale)  # digits lie in 0..1
    return sheet(common.rows(cells, columns), gap=0)


def discard(picture: Path) -> None:
    """Delete a result: where it is a sheet, the numbered pictures beside it too."""
    for file in picture.parent.glob(f"{picture.stem}*.png"):
        file.unlink(missing_ok=True)


def sweep_studios() -> None:
    """Remove the folders of studios that were killed: their locks, which die with their processes, can be had.

    One without a lock may be another's that is about to take it, and stays.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError, UserError):
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or (hasattr(os, "getuid") and about.st_uid != os.getuid()):
                continue
            if stat.S_ISREG((folder / ".lock").lstat().st_mode):
                lock = FolderLock(folder, "the folder of a studio")
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()


class Studio:
    """What all visitors share: the models, the results' folder, the jobs at work."""

    def __init__(self, model: str, device: str, embeddings: Path | None = None) -> None:
        self.usual = usual_of(model)
        self.model = ["--model", model] + ([] if embeddings is None else ["--embeddings", str(embeddings)])
        self.device, self.shelf = device, Shelf()
        sweep_studios()
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self._lock = FolderLock(self.folder, "the studio's folder")
        self.uploads, self.inputs = Uploads(self.folder / "uploads"), self.folder / "inputs"
        self.inputs.mkdir()
        self.listening: Counter[str] = Counter()  # visitors who are sent how their jobs are doing
        self.results: deque[tuple[Path, str]] = deque()
        self.jobs: dict[str, Job] = {}
        self._count = 0
        self._working, self._idle, self._closed = 0, threading.Condition(), False

    def place(self, name: str) -> Path:
        """A new file of the results' folder."""
        self._count += 1
        return self.folder / f"{self._count:05d}-{name}.png"

    def keep(self, picture: Image.Image, name: str) -> Path:
        """A file with ``picture``, for commands to read: named by what it holds, so that the same is there once."""
        held = io.BytesIO()
        picture.save(held, "PNG")
        path = self.inputs / f"{name}-{hashlib.sha256(held.getvalue()).hexdigest()[:8]}.png"
        path.write_bytes(held.getvalue())
        for old in sorted(self.inputs.iterdir(), key=lambda file: file.stat().st_mtime_ns)[:-MOST_INPUTS]:
            old.unlink()
        return path

    def read_by(self, job: Job) -> list[Path]:
        """The files that a visitor made for ``job``."""
        return [path for word in job.argv if (path := Path(word)).parent == self.inputs]

    def run(self, argv: Sequence[str], session: str) -> Iterator[tuple[Job, Update | None, Path]]:
        """Run a command line that ends in a picture; updates, and at last None. UserError, in one sentence, where it fails."""
        out = self.place(argv[0])
        job = Job([argv[0], "-o", str(out), "--device", self.device, *argv[1:]], self.shelf, self.wanted(session))
        self.jobs[session] = job
        try:
            for update in self.at_work(job):
                yield job, update, out
            if out.is_file():
                self.results.appendleft((out, self.typed(job, out)))
                while len(self.results) > MOST_RESULTS:
                    discard(self.results.pop()[0])
            yield job, None, out
        except Failed as failure:
            raise UserError(self.plain(failure.sentence)) from failure
        finally:
            if self.jobs.get(session) is job:  # and no later one of the same visitor
                del self.jobs[session]

    def wanted(self, session: str) -> Callable[[], bool]:
        """Whether a job that begins now is still wanted: not once the studio ends or its visitor no longer listens."""
        heard = time.monotonic()

        def wanted() -> bool:
            nonlocal heard
            if session in self.listening:
                heard = time.monotonic()
            return not self._closed and time.monotonic() - heard < PATIENCE

        return wanted

    def at_work(self, steps: Iterable[T]) -> Iterator[T]:
        """``steps``, each of which the studio's end waits for; none is begun after it."""
        steps = iter(steps)
        while True:
            with self._idle:
                if self._closed:
                    return
                self._working += 1
            try:
                step = next(steps)
            except StopIteration:
                return
            finally:
                with self._idle:
                    self._working -= 1
                    self._idle.notify_all()
            yield step

    def close(self) -> bool:
        """End all jobs and remove all files; whether nothing is at work any more.

        Where Python ends while a thread of it computes, the process aborts.
        """
        self._closed, due = True, time.monotonic() + ENDING
        jobs = list(self.jobs.values())
        ended = all([job.end(due - time.monotonic()) for job in jobs])
        with self._idle:
            ended &= self._idle.wait_for(lambda: not self._working, max(0, due - time.monotonic()))
        self._lock.release()
        self._folder.cleanup()
        return ended

    def stop(self, session: str) -> None:
        """End the job of the visitor who asks."""
        if (job := self.jobs.get(session)) is not None:
            job.stop()

    def plain(self, text: str) -> str:
        """``text`` without where the studio keeps its files, and without their numbers."""
        return re.sub(rf"{re.escape(str(self.folder) + os.sep)}(inputs{re.escape(os.sep)}|\d+-)?", "", text)

    def typed(self, job: Job, out: Path) -> str:
        """What to type for the same picture."""
        argv = list(job.argv)
        argv[argv.index(str(out))] = f"{argv[0]}.png"
        at = argv.index("--device")
        return self.plain(shlex.join(["phosphene", *argv[:at], *argv[at + 2 :]]))
