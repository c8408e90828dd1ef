"""The chart: calls a second under load, and the time of a single call. Same figures, same bytes."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot
from matplotlib.axes import Axes

from .contenders import BY_NAME, CONTENDERS, Contender
from .figures import Figures

__all__ = ["draw"]

LOAD = 64  # callers in the left panel
OURS, FLOOR, PEER = "#1f6feb", "#57606a", "#b6bfc8"
INK = "#24292f"
ROW, HEAD, GAP = 1.0, 1.0, 0.35  # heights: of a bar, of a group's name above it, between two groups
INCH = 0.32  # of one height
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
    shown = [c for c in CONTENDERS if c.name in figures.samples]
    rates = {c.name: found.rate for c in shown if (found := figures.medians(c.name, LOAD))}
    times = {c.name: found.p50 for c in shown if (found := figures.medians(c.name, 1))}
    if not rates and not times:
        return False
    rows, heads, height = _places(shown)
    with pyplot.rc_context(STYLE):  # type: ignore[arg-type]
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 1.6 + INCH * height))
        figure.patch.set_facecolor("white")
        _bars(left, rows, rates, f"Calls a second, {LOAD} concurrent callers", "longer is better", "{:,.0f}")
        _bars(right, rows, times, "Time of one call, 1 caller: median, ms", "shorter is better", "{:.2f}")
        for axes in (left, right):
            _name_groups(axes, heads, height)
        figure.text(0.01, 0.012, caption, fontsize=8, color=FLOOR)
        figure.tight_layout(rect=(0, 0.03, 1, 1), w_pad=3)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None})
        pyplot.close(figure)
    return True


def _places(shown: list[Contender]) -> tuple[dict[str, float], dict[str, float], float]:
    """Where the contenders and the names of their groups stand, from the top, and how high all is."""
    rows: dict[str, float] = {}
    heads: dict[str, float] = {}
    at = 0.0
    for contender in shown:
        if contender.group not in heads:
            at += GAP if heads else 0.0
            heads[contender.group] = at
            at += HEAD
        rows[contender.name] = at
        at += ROW
    return rows, heads, at


def _bars(axes: Axes, rows: dict[str, float], values: dict[str, float], title: str, hint: str, form: str) -> None:
    """Horizontal bars in the order of the contenders, each with its value at its end."""
    names = list(values)
    places = [rows[name] for name in names]
    bars = axes.barh(places, list(values.values()), color=[_colour(name) for name in names])
    axes.bar_label(bars, labels=[form.format(value) for value in values.values()], padding=4, fontsize=9)
    axes.set_yticks(places, labels=[BY_NAME[name].label for name in names])
    for tick, name in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if _colour(name) == OURS else "normal")
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(hint, fontsize=8, color=FLOOR, loc="left")
    axes.margins(x=0.14)
    axes.tick_params(length=0)
    axes.xaxis.set_ticks([])
    for side in axes.spines.values():
        side.set_visible(False)


def _name_groups(axes: Axes, heads: dict[str, float], height: float) -> None:
    for group, at in heads.items():
        axes.text(0, at + 0.1, group, va="center", fontsize=9, fontweight="bold", color=FLOOR)
    axes.set_ylim(height - ROW / 2, -HEAD / 2)


def _colour(name: str) -> str:
    if name.startswith("floor"):
        return FLOOR
    return OURS if name.startswith("rpckit") else PEER
