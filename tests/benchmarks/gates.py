"""The gates: what must hold for rpckit, computed from the medians. Pure: figures in, verdicts out."""

from dataclasses import dataclass

from .figures import Figures

__all__ = ["Gate", "judge"]

CALLERS = 64
LEAST_RATIOS = (  # contender, measured against, at least so many times its calls a second
    ("rpckit_amqp", "floor", 0.45),
    ("rpckit_uvloop", "floor", 0.5),
    ("rpckit_amqp", "aioamqp_tutorial", 3.0),
    ("rpckit_amqp", "aio_pika_rpc", 7.0),
    ("rpckit_amqp", "faststream_rabbit", 20.0),
)
MOST_LATENCY = 1.6  # times the floor's p50 at one caller
MOST_GROWTH = 5_000_000  # bytes of resident memory over the soak


@dataclass(frozen=True)
class Gate:
    """A demand and what was found. `figure` is None when it was not measured, which is not a pass."""

    demand: str
    figure: float | None
    limit: float
    unit: str
    at_least: bool

    @property
    def passed(self) -> bool:
        if self.figure is None:
            return False
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    @property
    def verdict(self) -> str:
        return "PASS" if self.passed else "FAIL"

    @property
    def found(self) -> str:
        return "not measured" if self.figure is None else f"{self.figure:.2f} {self.unit}"


def judge(figures: Figures) -> list[Gate]:
    """Every gate, in the order in which they are shown."""
    return [*_ratios(figures), _latency(figures), *_growth(figures)]


def _ratios(figures: Figures) -> list[Gate]:
    return [
        Gate(
            demand=f"{name} >= {least:g} x {other}, calls/s at {CALLERS} callers",
            figure=figures.ratio(name, other, CALLERS),
            limit=least,
            unit="x",
            at_least=True,
        )
        for name, other, least in LEAST_RATIOS
    ]


def _latency(figures: Figures) -> Gate:
    ours, floor = figures.medians("rpckit_amqp", 1), figures.medians("floor", 1)
    return Gate(
        demand=f"rpckit_amqp p50 at 1 caller <= {MOST_LATENCY:g} x floor",
        figure=ours.p50 / floor.p50 if ours and floor else None,
        limit=MOST_LATENCY,
        unit="x",
        at_least=False,
    )


def _growth(figures: Figures) -> list[Gate]:
    soak = figures.soaks.get("rpckit_amqp")
    span = f"{soak.calls[0]:,} to {soak.calls[1]:,} calls" if soak else "the soak"
    return [
        Gate(
            demand=f"rpckit_amqp {side} grows < {MOST_GROWTH // 1_000_000} MB from {span}",
            figure=soak.growth(side) / 1_000_000 if soak else None,
            limit=MOST_GROWTH / 1_000_000,
            unit="MB",
            at_least=False,
        )
        for side in ("client", "server")
    ]
