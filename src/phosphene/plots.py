"""Plots, drawn by matplotlib without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from phosphene.files import replacing


def loss_curves(curves: Mapping[str, Sequence[tuple[float, float]]], path: Path, title: str, x: str = "epoch") -> None:
    """A PNG of training losses, log scale; each curve is (``x``, loss) pairs, smoothed over the noise."""
    figure, axes = _figure()
    for label, points in curves.items():
        epochs, losses = [p[0] for p in points], [p[1] for p in points]
        (line,) = axes.plot(epochs, losses, alpha=0.25, linewidth=0.8)
        axes.plot(epochs, _smoothed(losses), color=line.get_color(), linewidth=1.8, label=label)
    axes.set(xlabel=x, ylabel="loss", title=title, yscale="log")
    if len(curves) > 1:
        axes.legend(frameon=False)
    _save(figure, path)


def lines(curves: Mapping[str, Sequence[tuple[float, float]]], path: Path, title: str, x: str, y: str) -> None:
    """A PNG of (x, y) points joined by lines."""
    figure, axes = _figure()
    for label, points in curves.items():
        axes.plot([p[0] for p in points], [p[1] for p in points], marker="o", label=label)
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.legend(frameon=False)
    _save(figure, path)


def _figure():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path: Path) -> None:
    import matplotlib.pyplot as plt

    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)


def _smoothed(values: Sequence[float], share: float = 0.04) -> list[float]:
    """A moving average over ``share`` of the curve."""
    reach = max(1, round(len(values) * share / 2))
    return [sum(v := values[max(0, i - reach) : i + reach + 1]) / len(v) for i in range(len(values))]
