"""The order of things: interleaved rounds, then the soak. A contender that fails is noted and left out."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from .brokers import Brokers
from .contenders import Contender, missing_package
from .figures import Figures, Soak
from .load import GRACE, Sample
from .processes import ContenderFailed, Worker, contender_pair

__all__ = ["Plan", "run"]

BROKER_WARM_UP = 3.0  # seconds; a broker that has just started is slow for the first contender
WARM_UP = 0.4  # seconds, in each pair of processes
WARM_UP_CALLERS = 16
ANSWERING = 5.0  # seconds a worker may take beyond its own deadline
SLOWEST = 500  # calls a second; the soak gives up below that
SOAKED = ("rpckit_amqp",)
SOAK_CALLERS = 64
CROWDED = ("rpckit_websocket",)
CROWD = 5_000  # idle peers
FIRST_PEERS = 100  # not counted: what the server needs once
CONNECTING = 120.0  # seconds for a crowd


@dataclass(frozen=True)
class Plan:
    """What to measure. `soak`: calls before the first and the second look at the memory; None for none."""

    contenders: list[Contender]
    callers: list[int]
    rounds: int
    seconds: float
    soak: tuple[int, int] | None


async def run(plan: Plan, brokers: Brokers, tell: Callable[[str], None]) -> Figures:
    """Measure everything in the plan. Does not raise for a contender's faults."""
    figures = Figures(skipped=_absent(plan.contenders, brokers))
    for contender in _able(plan.contenders, figures)[:1]:
        tell(f"warm-up of the broker: {contender.title}")
        await _guarded(contender, figures, _warm_up(contender, brokers))
    for number in range(1, plan.rounds + 1):
        for contender in _able(plan.contenders, figures):
            tell(f"round {number} of {plan.rounds}: {contender.title}")
            await _guarded(contender, figures, _round(contender, plan, brokers, figures))
    for contender in _able(plan.contenders, figures):
        if plan.soak and contender.name in SOAKED:
            tell(f"soak, {plan.soak[1]:,} calls: {contender.title}")
            await _guarded(contender, figures, _soak(contender, plan, brokers, figures))
        if plan.soak and contender.name in CROWDED:
            tell(f"{CROWD:,} idle peers: {contender.title}")
            await _guarded(contender, figures, _crowd(contender, brokers, figures))
    return figures


async def _guarded(contender: Contender, figures: Figures, step: Coroutine[None, None, None]) -> None:
    try:
        await step
    except ContenderFailed as error:
        figures.failures[contender.name] = str(error)


async def _warm_up(contender: Contender, brokers: Brokers) -> None:
    async with contender_pair(contender.name, brokers.url(contender) or "") as (_, client):
        await _load(client, WARM_UP_CALLERS, BROKER_WARM_UP)


async def _round(contender: Contender, plan: Plan, brokers: Brokers, figures: Figures) -> None:
    async with contender_pair(contender.name, brokers.url(contender) or "") as (_, client):
        await _load(client, WARM_UP_CALLERS, WARM_UP)
        for callers in plan.callers:
            figures.add(contender.name, callers, await _load(client, callers, plan.seconds))


async def _load(client: Worker, callers: int, seconds: float) -> Sample:
    done = await client.ask(seconds + GRACE + ANSWERING, do="load", callers=callers, seconds=seconds)
    return Sample(done["calls"], done["rate"], done["p50"], done["p99"])


async def _soak(contender: Contender, plan: Plan, brokers: Brokers, figures: Figures) -> None:
    assert plan.soak
    first, last = plan.soak
    async with contender_pair(contender.name, brokers.url(contender) or "") as (server, client):
        looks = []
        for count in (first, last - first):
            deadline = GRACE + count / SLOWEST
            await client.ask(deadline + ANSWERING, do="calls", callers=SOAK_CALLERS, count=count, deadline=deadline)
            looks.append([(await worker.ask(ANSWERING, do="rss"))["rss"] for worker in (client, server)])
    (client_first, server_first), (client_last, server_last) = looks
    figures.soaks[contender.name] = Soak(plan.soak, (client_first, client_last), (server_first, server_last))


async def _crowd(contender: Contender, brokers: Brokers, figures: Figures) -> None:
    async with contender_pair(contender.name, brokers.url(contender) or "") as (server, client):
        looks = []
        for count in (FIRST_PEERS, CROWD):
            await client.ask(CONNECTING, do="crowd", count=count)
            looks.append((await server.ask(ANSWERING, do="rss"))["rss"])
    figures.crowds[contender.name] = (looks[1] - looks[0]) / CROWD


def _able(contenders: list[Contender], figures: Figures) -> list[Contender]:
    return [c for c in contenders if c.name not in figures.failures and c.name not in figures.skipped]


def _absent(contenders: list[Contender], brokers: Brokers) -> dict[str, str]:
    absent = {}
    for contender in contenders:
        if package := missing_package(contender):
            absent[contender.name] = f"{package} is not installed"
        elif brokers.url(contender) is None:
            absent[contender.name] = f"no {contender.broker}-server"
    return absent
