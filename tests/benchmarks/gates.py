"""The gates: what must hold for rpckit, computed from the medians. Pure: figures in, verdicts out.

A figure that was not measured is not a pass. There is one exception: where the other side's server is not
installed and `make bench` does not ask for it, the gate says so and is left open.
"""

from collections.abc import Collection
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
    ("rpckit_redis_stream", "floor_redis_stream", 0.4),
    ("rpckit_redis_list", "floor_redis_list", 0.3),
    ("rpckit_redis_pubsub", "floor_redis_pubsub", 0.3),
    ("rpckit_redis_broadcast", "floor_redis_pubsub", 0.3),
    ("rpckit_redis_stream", "faststream_redis_stream", 15.0),
    ("rpckit_redis_list", "faststream_redis_list", 15.0),
    ("rpckit_redis_pubsub", "faststream_redis_channel", 15.0),
    ("rpckit_websocket", "fastapi_websocket_rpc", 2.0),
    ("rpckit_websocket", "websocket_bare", 0.6),
    ("rpckit_redis_list", "nats", 0.9),
    ("rpckit_redis_broadcast", "nats", 0.9),
)
MOST_LATENCIES = (  # contender, measured against, at most so many times its p50 at one caller
    ("rpckit_amqp", "floor", 1.6),
    ("rpckit_redis_stream", "floor_redis_stream", 2.2),  # it claims a request before it runs it
    ("rpckit_redis_list", "floor_redis_list", 1.6),  # popped, as the service has no idempotent method
    ("rpckit_redis_pubsub", "floor_redis_pubsub", 1.6),  # a server that is alone claims nothing
    ("rpckit_redis_broadcast", "floor_redis_pubsub", 1.6),
)
GROWERS = ("rpckit_amqp",)
MOST_GROWTH = 5_000_000  # bytes of resident memory over the soak
CROWDED = ("rpckit_websocket",)
MOST_PER_PEER = 40_000  # resident bytes of a server for an idle peer, of 5,000
OPTIONAL = ("nats",)  # peers whose server need not be installed


@dataclass(frozen=True)
class Gate:
    """A demand and what was found. `figure` is None when it was not measured; `excuse` tells why it may be so."""

    demand: str
    figure: float | None
    limit: float
    unit: str
    at_least: bool
    excuse: str = ""

    @property
    def passed(self) -> bool:
        if self.figure is None:
            return False
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    @property
    def failed(self) -> bool:
        return not self.passed and not self.excuse

    @property
    def verdict(self) -> str:
        if self.passed:
            return "PASS"
        return "FAIL" if self.failed else "OPEN"

    @property
    def found(self) -> str:
        if self.figure is not None:
            return f"{self.figure:.2f} {self.unit}"
        return f"not measured ({self.excuse})" if self.excuse else "not measured"


def judge(figures: Figures, names: Collection[str]) -> list[Gate]:
    """Every gate between contenders that were asked for, in the order in which they are shown."""
    return [
        *(_ratio(figures, *row) for row in LEAST_RATIOS if {*row[:2]} <= {*names}),
        *(_latency(figures, *row) for row in MOST_LATENCIES if {*row[:2]} <= {*names}),
        *(_growth(figures, name, side) for name in GROWERS if name in names for side in ("client", "server")),
        *(_crowd(figures, name) for name in CROWDED if name in names),
    ]


def _ratio(figures: Figures, name: str, other: str, least: float) -> Gate:
    return Gate(
        demand=f"{name} >= {least:g} x {other}, calls/s at {CALLERS} callers",
        figure=figures.ratio(name, other, CALLERS),
        limit=least,
        unit="x",
        at_least=True,
        excuse=figures.skipped.get(other, "") if other in OPTIONAL else "",
    )


def _latency(figures: Figures, name: str, other: str, most: float) -> Gate:
    ours, floor = figures.medians(name, 1), figures.medians(other, 1)
    return Gate(
        demand=f"{name} p50 at 1 caller <= {most:g} x {other}",
        figure=ours.p50 / floor.p50 if ours and floor else None,
        limit=most,
        unit="x",
        at_least=False,
    )


def _crowd(figures: Figures, name: str) -> Gate:
    bytes_each = figures.crowds.get(name)
    return Gate(
        demand=f"{name} server takes < {MOST_PER_PEER // 1000} kB for an idle peer",
        figure=None if bytes_each is None else bytes_each / 1000,
        limit=MOST_PER_PEER / 1000,
        unit="kB",
        at_least=False,
    )


def _growth(figures: Figures, name: str, side: str) -> Gate:
    soak = figures.soaks.get(name)
    span = f"{soak.calls[0]:,} to {soak.calls[1]:,} calls" if soak else "the soak"
    return Gate(
        demand=f"{name} {side} grows < {MOST_GROWTH // 1_000_000} MB from {span}",
        figure=soak.growth(side) / 1_000_000 if soak else None,
        limit=MOST_GROWTH / 1_000_000,
        unit="MB",
        at_least=False,
    )
