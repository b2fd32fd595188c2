"""Step caching for guidance: what it leads away from is asked for at every so many-th step alone.

Between those steps the difference that guidance adds is the one of the last of them:

    eps(x, t, away)  ~  eps(x, t, toward) - (eps(toward) - eps(away)) at the last step that asked for both

It changes slowly along a run, so the picture is nearly the same, and a step between costs half. It is lossy, and so off unless
it is asked for. Sources: Lv et al. 2024 (FasterCache); Ma et al. 2024 (DeepCache), whose reuse is of a UNet's deep features.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from phosphene.devices import memory
from phosphene.expression import Asked, Cond, Guide, of_parts
from phosphene.models.protocol import Denoiser, Estimate

MOST = 64
"""Parts of a batch that are kept in mind; of more, all is asked for at every step."""


@dataclass(frozen=True)
class Away:
    """A condition that guidance leads away from."""

    condition: Hashable | None


def marked(asked: Asked) -> Asked:
    """``asked``, with what each guidance leads away from marked as such."""
    asked = of_parts(asked, marked)
    return replace(asked, parts=(asked.parts[0], _as_away(asked.parts[1]))) if isinstance(asked, Guide) else asked


def _as_away(asked: Asked) -> Asked:
    if isinstance(asked, Cond):
        return Cond(tuple(Away(condition) for condition in asked.conditions))
    return of_parts(asked, _as_away)


@dataclass
class _Text:
    """A batch of embeddings, which of its rows guidance leads toward and away from, and how often it was asked for."""

    given: Tensor  # kept, so that no other can come to lie in its memory
    told: Tensor  # without the mark
    toward: Tensor
    away: Tensor
    told_toward: Tensor
    paired: bool  # whether guidance leads every picture toward as many as away, all pictures in the same order
    calls: int = 0
    update: Tensor | None = None  # toward - away, of the last call that asked for both


class Reusing:
    """A denoiser that asks ``stage`` for what is marked :class:`Away` at every ``every``-th call of a run; else it is the stage.

    It is shown each picture once, with all conditions that are asked of it, so that it knows what belongs together: guidance says
    first what it leads toward. Where a picture has not as many of either (two prompts away from one), all is asked for. An
    embedding has a column more, which is 1 where it is marked.
    """

    shares = True

    def __init__(self, stage: Denoiser, every: int) -> None:
        self.stage, self.every = stage, every
        self._texts: dict[tuple, _Text] = {}

    def __getattr__(self, name: str) -> object:
        return getattr(self.stage, name)

    def embed(self, condition: Hashable | None) -> Tensor:
        away = isinstance(condition, Away)
        told = self.stage.embed(condition.condition if away else condition)
        return torch.cat([told, told.new_full((*told.shape[:-1], 1), float(away))], -1)

    def __call__(self, x: Tensor, t: Tensor, embedding: Tensor) -> Estimate:
        text = self._text(embedding, len(x))
        text.calls += 1
        if not text.paired:
            return self._asked(x, t, text.told)
        if (text.calls - 1) % self.every == 0:
            answer = self._asked(x, t, text.told)
            text.update = answer.noise[text.toward] - answer.noise[text.away]
            return answer
        toward = self._asked(x, t[: len(text.toward)], text.told_toward)
        order = torch.cat([text.toward, text.away]).argsort()
        noise = torch.cat([toward.noise, toward.noise - text.update])[order]
        # Guidance takes the variance of what it leads toward.
        return Estimate(noise, None if toward.variance is None else torch.cat([toward.variance] * 2)[order])

    def _asked(self, x: Tensor, t: Tensor, told: Tensor) -> Estimate:
        if not getattr(self.stage, "shares", False):
            x = x.repeat(len(told) // len(x), 1, 1, 1)
        return self.stage(x, t, told)

    def _text(self, embedding: Tensor, pictures: int) -> _Text:
        """The same memory, unchanged since, is the same text of the same run."""
        key = (memory(embedding), pictures)
        if key not in self._texts:
            if len(self._texts) == MOST:
                self._texts.clear()
            mark = embedding.flatten(1)[:, -1] > 0
            toward, away = (rows.nonzero()[:, 0] for rows in (~mark, mark))
            whole = len(mark) % pictures == 0 and bool((mark.view(-1, pictures) == mark.view(-1, pictures)[:, :1]).all())
            told = embedding[..., :-1].contiguous()
            self._texts[key] = _Text(embedding, told, toward, away, told[toward], whole and len(toward) == len(away))
        return self._texts[key]
