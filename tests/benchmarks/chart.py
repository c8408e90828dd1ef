"""The chart: calls a second under load, and the time of a single call. Same figures, same bytes."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from .contenders import CONTENDERS
from .figures import Figures

__all__ = ["draw"]

LOAD = 64  # callers in the left panel
OURS, FLOOR, PEER = "#1f6feb", "#57606a", "#b6bfc8"
INK = "#24292f"
LABELS = {contender.name: contender.label for contender in CONTENDERS}
STYLE = {
    "svg.hashsalt": "rpckit",  # ids in the file; random otherwise
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def draw(path: Path, figures: Figures, caption: str) -> bool:
    """Write the SVG; False, and no file, when neither panel has anything to show."""
    names = [c.name for c in CONTENDERS if c.name in figures.samples]
    rates = {name: found.rate for name in names if (found := figures.medians(name, LOAD))}
    times = {name: found.p50 for name in names if (found := figures.medians(name, 1))}
    if not rates and not times:
        return False
    with pyplot.rc_context(STYLE):  # type: ignore[arg-type]
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 1.6 + 0.42 * len(names)))
        figure.patch.set_facecolor("white")
        _bars(left, rates, f"Calls a second, {LOAD} concurrent callers", "longer is better", "{:,.0f}")
        _bars(right, times, "Time of one call, 1 caller: median, ms", "shorter is better", "{:.2f}")
        figure.text(0.01, 0.015, caption, fontsize=8, color=FLOOR)
        figure.tight_layout(rect=(0, 0.05, 1, 1), w_pad=3)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return True


def _bars(axes: Axes, values: dict[str, float], title: str, hint: str, form: str) -> None:
    """Horizontal bars in the order of the contenders, each with its value at its end."""
    names = list(values)
    bars = axes.barh([LABELS[name] for name in names], list(values.values()), color=[_colour(n) for n in names])
    axes.bar_label(bars, labels=[form.format(value) for value in values.values()], padding=4, fontsize=9)
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if _colour(name) == OURS else "normal")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(hint, fontsize=8, color=FLOOR, loc="left")
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.tick_params(length=0)
    axes.xaxis.set_ticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _colour(name: str) -> str:
    if name == "floor":
        return FLOOR
    return OURS if name.startswith("rpckit") else PEER
