"""Servers over Redis that are killed, frozen and restarted: what was begun runs once, or again if it may;
what was not begun is run by another; what kills its server is put aside, and nothing else is.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from rpckit import Client, DeadlineExceeded, OutcomeUnknown, Server, Service
from rpckit.deadline import MAX_SKEW_S
from rpckit.ids import new_id
from rpckit.registry import open_transport
from rpckit.testing import Redis
from rpckit.transport import Delivery, State, begins
from rpckit_redis._scripts import MAX_HELD

from .nursery import Nursery, lives, nursery
from .world import KINDS, Figure, eventually, of_kind, proxied

JOBS = 3_000
KILLS = 14
WORKERS = 3
RUNS_OF_POISON = 5  # of a request whose servers die, before it is put aside
TAKEN_OVER_S = 1.5  # seconds from a server's death to its work in other hands: the promise
SLOW_MACHINE = 5.0
RESTARTS = 20
CALLS = 2_000  # more than are served in so many restarts
FROZEN_S = 8.0  # longer than a silent server counts as alive, and than a claim on a short call holds

QUEUES = ("stream", "list")

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def workers() -> AsyncIterator[Nursery]:
    async with nursery() as each:
        yield each


@pytest.fixture(params=QUEUES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(own_redis: Redis) -> Iterator[str]:
    yield f"faults.workers.{new_id()[:8]}"
    own_redis.ctl("FLUSHALL")


def executions_in(log: Path) -> Counter[str]:
    return Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()


def dead_letters(broker: Redis, kind: str, address: str) -> int:
    length = broker.ctl("XLEN" if kind == "stream" else "LLEN", f"rpckit:{{{address}}}:{kind}:dead")
    assert isinstance(length, int)
    return length


# -- killed ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def kept_up(workers: Nursery, url: str, address: str, log: Path) -> AsyncIterator[list[int]]:
    """The ids of so many workers, each replaced when it dies."""
    pids = [await workers.spawn(url, address, log, 8) for _ in range(WORKERS)]

    async def keep() -> None:
        while True:
            for place, pid in enumerate(pids):
                if not lives(pid):
                    pids[place] = await workers.fork(url, address, log, 8)
            await asyncio.sleep(0.02)

    keeper = asyncio.create_task(keep())
    try:
        yield pids
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


async def test_three_thousand_jobs_outlive_fourteen_kills_and_one_poison(
    own_redis: Redis, workers: Nursery, kind: str, address: str, tmp_path: Path, figure: Figure
) -> None:
    """None is missing; the one that kills its worker each time is a dead letter, its caller told, and no other is."""
    log, url, loop = tmp_path / "executions", of_kind(own_redis.url, kind), asyncio.get_running_loop()
    async with kept_up(workers, url, address, log) as pids, Client(url, timeout=50) as client:
        peer = client.at(address).using(idempotent=True)
        jobs = [asyncio.create_task(peer.again(f"j{n}", 0.02)) for n in range(JOBS)]
        poison = asyncio.create_task(peer.poison("poison"))
        began = loop.time()
        for kill in range(1, KILLS + 1):
            await eventually(partial(_done_at_least, jobs, kill * JOBS * 0.9 / KILLS), 30)
            os.kill(random.choice([pid for pid in pids if lives(pid)]), signal.SIGKILL)
        answers = await asyncio.gather(*jobs)
        with pytest.raises(OutcomeUnknown, match="with the dead letters"):
            await poison
        figure(f"Redis, {kind}: 3,000 jobs, 14 kills and a poison", loop.time() - began)
    executions = executions_in(log)
    assert all(isinstance(pid, int) for pid in answers)
    assert executions.keys() == {f"j{n}" for n in range(JOBS)} | {"poison"}
    assert executions["poison"] == RUNS_OF_POISON
    assert dead_letters(own_redis, kind, address) == 1


def _done_at_least(jobs: list[asyncio.Task[object]], number: float) -> bool:
    return sum(job.done() for job in jobs) >= number


@asynccontextmanager
async def doomed(url: str, address: str) -> AsyncIterator[list[Delivery]]:
    """What a server with no slot free is delivered; at the end it dies with all of that."""
    async with proxied(url) as (proxy, through):
        transport, states, deliveries = open_transport(through), list[State](), list[Delivery]()
        transport.on_state(lambda state, why: states.append(state))
        await transport.connect(serve=True)
        try:
            await transport.receive(address, deliveries.append, prefetch=40)
            yield deliveries
            await proxy.refuse()
            proxy.reset()
            await eventually(lambda: State.RECONNECTING in states)
        finally:
            await transport.close()


async def die_with(url: str, address: str, call: asyncio.Task[object], *, begin: bool = False) -> list[Delivery]:
    """What a server had when it died, and had begun again if `begin`; nothing if the call ended before."""
    async with doomed(url, address) as deliveries:
        await eventually(lambda: deliveries or call.done())
        for delivery in deliveries if begin else ():
            assert await begins(delivery, again=True)
    return deliveries


async def is_put_aside(broker: Redis, kind: str, address: str, call: asyncio.Task[object], why: str) -> None:
    with pytest.raises(OutcomeUnknown, match=why):
        await call
    assert dead_letters(broker, kind, address) == 1
    assert broker.ctl("EXISTS", f"rpckit:{{{address}}}:{kind}:tries") == 0


async def test_a_request_that_waits_in_every_server_that_dies_is_no_dead_letter(
    own_redis: Redis, kind: str, address: str
) -> None:
    """However many they are: it had no part in that."""
    url = of_kind(own_redis.url, kind)
    service = Service("waits", address=address)

    @service.method(idempotent=True)
    async def work() -> str:
        return "ran"

    async with Client(url, no_server="wait", timeout=30) as client:
        call = asyncio.create_task(client.call(f"{address}.work", idempotent=True))
        for _ in range(2 * RUNS_OF_POISON):
            assert await die_with(url, address, call)
        async with Server(service, url=url):
            assert await call == "ran"
    assert dead_letters(own_redis, kind, address) == 0
    assert own_redis.ctl("EXISTS", f"rpckit:{{{address}}}:{kind}:tries") == 0


async def test_a_request_that_every_server_dies_over_is_a_dead_letter(
    own_redis: Redis, kind: str, address: str
) -> None:
    """The servers in which it waited do not count, before or between."""
    url = of_kind(own_redis.url, kind)
    async with Client(url, no_server="wait", timeout=30) as client:
        call = asyncio.create_task(client.call(f"{address}.poison", idempotent=True))
        for _ in range(RUNS_OF_POISON):
            await die_with(url, address, call, begin=True)
            await die_with(url, address, call)
        await is_put_aside(own_redis, kind, address, call, f"died {RUNS_OF_POISON} times over this request")


async def test_a_request_that_no_server_outlives_is_a_dead_letter_though_it_never_began(
    own_redis: Redis, kind: str, address: str
) -> None:
    """Reading it may be what kills them."""
    url = of_kind(own_redis.url, kind)
    async with Client(url, no_server="wait", timeout=30) as client:
        call = asyncio.create_task(client.call(f"{address}.huge", idempotent=True))
        for _ in range(MAX_HELD):
            await die_with(url, address, call)
        await is_put_aside(own_redis, kind, address, call, f"died {MAX_HELD - 1} times with this request in hand")


async def test_a_server_that_reconnects_has_not_died_over_what_it_runs(
    own_redis: Redis, kind: str, address: str
) -> None:
    url, ran, go_on = of_kind(own_redis.url, kind), list[str](), asyncio.Event()
    service = Service("long", address=address)

    @service.method(idempotent=True)
    async def work() -> str:
        ran.append("begun")
        await go_on.wait()
        return "done"

    @service.method
    async def ping() -> None: ...

    async with proxied(url) as (proxy, through), Client(url, timeout=30) as client, Server(service, url=through):
        call = asyncio.create_task(client.call(f"{address}.work", idempotent=True))
        await eventually(lambda: ran)
        for _ in range(3):
            before = held(own_redis, kind, address)
            proxy.cut()
            await eventually(lambda before=before: held(own_redis, kind, address)[0] not in (None, before[0]))  # type: ignore[misc]
            assert held(own_redis, kind, address)[1] == 1
        await client.call(f"{address}.ping")  # by then it has read what it holds again
        go_on.set()
        assert await call == "done"
    assert ran == ["begun"]


def held(broker: Redis, kind: str, address: str) -> tuple[str | None, int]:
    """By which server its only request is held, and what is counted of it."""
    place = f"rpckit:{{{address}}}:{kind}"
    if kind == "stream":
        pending: Any = broker.ctl("XPENDING", place, "rpckit", "-", "+", "1")
        return (str(pending[0][1]), int(pending[0][3])) if pending else (None, 0)
    lists: Any = broker.ctl("KEYS", f"{place}:doing:*")
    counts: Any = broker.ctl("HVALS", f"{place}:tries")
    return lists[0] if lists else None, int(counts[0]) if counts else 1


async def test_the_work_of_a_killed_server_is_soon_in_other_hands(
    own_redis: Redis, workers: Nursery, kind: str, address: str, tmp_path: Path, figure: Figure
) -> None:
    """What was waiting there, and what ran there if it may run again; what ran and may not is nobody's."""
    log, url, loop = tmp_path / "executions", of_kind(own_redis.url, kind), asyncio.get_running_loop()
    async with Client(url, timeout=10) as client:
        first = await workers.spawn(url, address, log, 5)
        peer = client.at(address)
        lost = [asyncio.create_task(peer.using(timeout=2).once(f"lost{n}", 30)) for n in range(3)]
        run = [asyncio.create_task(peer.using(idempotent=True).again(f"run{n}", 1.0)) for n in range(2)]
        await eventually(lambda: sum(executions_in(log).values()) == 5)
        waiting = [asyncio.create_task(peer.once(f"waits{n}", 0)) for n in range(20)]
        await asyncio.sleep(0.1)
        second = await workers.spawn(url, address, log, 50)
        os.kill(first, signal.SIGKILL)
        began = loop.time()
        assert await asyncio.gather(*waiting) == [second] * 20
        figure(f"Redis, {kind}: server killed → what waited there answered by another", loop.time() - began)
        assert loop.time() - began < TAKEN_OVER_S * SLOW_MACHINE
        assert await asyncio.gather(*run) == [second] * 2
        assert loop.time() - began < TAKEN_OVER_S * SLOW_MACHINE + 1.0
        outcomes = await asyncio.gather(*lost, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [DeadlineExceeded] * 3
    executions = executions_in(log)
    assert all(executions[f"waits{n}"] == 1 for n in range(20))
    assert all(executions[f"run{n}"] == 2 for n in range(2))
    assert all(executions[f"lost{n}"] == 1 for n in range(3))


# -- frozen ---------------------------------------------------------------------------------------------


async def test_nothing_runs_twice_when_a_frozen_server_wakes(
    own_redis: Redis, workers: Nursery, address: str, tmp_path: Path, figure: Figure
) -> None:
    """Its work was taken over meanwhile. Over Pub/Sub it hears requests whose claims are long gone."""
    loop = asyncio.get_running_loop()
    logs = {kind: tmp_path / kind for kind in KINDS}
    urls = {kind: of_kind(own_redis.url, kind) for kind in KINDS}
    async with Client(urls["stream"]) as stream, Client(urls["list"]) as list_, Client(urls["pubsub"]) as pubsub:
        clients = dict(zip(KINDS, (stream, list_, pubsub), strict=True))
        frozen = [await workers.spawn(urls[kind], address, logs[kind], 5) for kind in KINDS]
        begun, waiting = [], []
        for kind, client in clients.items():
            call = partial(client.call, f"{address}.once", timeout=20)
            begun += [asyncio.create_task(call(f"begun{n}", 1.0)) for n in range(5)]
            if kind != "pubsub":
                waiting += [asyncio.create_task(call(f"waits{n}", 0.01)) for n in range(20)]
            await eventually(lambda log=logs[kind]: sum(executions_in(log).values()) == 5)  # type: ignore[misc]
        await asyncio.sleep(0.2)  # the others are delivered, and wait there
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        at = loop.time()
        for kind in KINDS:
            await workers.spawn(urls[kind], address, logs[kind], 50)
        heard = [clients["pubsub"].call(f"{address}.once", f"heard{n}", 0.0, timeout=1) for n in range(200)]
        await asyncio.gather(*heard)
        await asyncio.gather(*waiting)
        figure("Redis: server frozen → what waited there answered by another", loop.time() - at)
        await asyncio.sleep(at + FROZEN_S - loop.time())
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*begun)
        await asyncio.sleep(0.7)
    for log in logs.values():
        assert [call_id for call_id, times in executions_in(log).items() if times != 1] == []


async def test_a_living_server_keeps_its_work_when_every_sign_of_life_is_lost(
    own_redis: Redis, kind: str, address: str
) -> None:
    """Redis had no memory for it, or was flushed: whoever looks next has lost its own as well."""
    begun = 0

    def service() -> Service:
        service = Service("living", address=address)

        async def work() -> None:
            nonlocal begun
            begun += 1
            await asyncio.sleep(2.5)

        service.method(work, idempotent=True)
        return service

    url = of_kind(own_redis.url, kind)
    async with Server(service(), url=url), Client(url) as client:
        call = asyncio.create_task(client.call(f"{address}.work", idempotent=True))
        await eventually(lambda: begun == 1)
        await asyncio.sleep(0.5)  # the two look by turns
        async with Server(service(), url=url):
            for _ in range(5):
                keys = own_redis.ctl("KEYS", "rpckit:consumer:*")
                assert isinstance(keys, list)
                own_redis.ctl("DEL", "none", *map(str, keys))
                await asyncio.sleep(0.25)
            await call
    assert begun == 1


async def test_what_expired_long_ago_in_the_queue_does_not_run(own_redis: Redis, address: str) -> None:
    """However long it waited; and a caller whose clock is wrong is served all the same."""
    ran: list[str] = []
    service = Service("late", address=address)

    @service.method
    async def work(name: str) -> str:
        ran.append(name)
        return name

    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Client(of_kind(own_redis.url, kind))) for kind in QUEUES]
        for client in clients:
            with pytest.raises(DeadlineExceeded):
                await client.call(f"{address}.work", "late", timeout=0.2, no_server="wait")
        await asyncio.sleep(MAX_SKEW_S + 0.3)
        await stack.enter_async_context(Server(service, url=[of_kind(own_redis.url, kind) for kind in QUEUES]))
        await asyncio.sleep(0.3)  # the list is seen empty: what comes now is new, whatever clocks say
        with mock.patch("rpckit.client.time", SimpleNamespace(time=lambda: time.time() - 3_600)):
            for client in clients:
                assert await client.call(f"{address}.work", "wrong clock", timeout=5) == "wrong clock"
    assert ran == ["wrong clock"] * len(QUEUES)


# -- restarted ------------------------------------------------------------------------------------------


async def test_twenty_rolling_restarts_over_a_full_queue_lose_nothing(
    own_redis: Redis, kind: str, address: str
) -> None:
    """Nothing is lost or a dead letter, and what may not run twice does not."""
    executions: Counter[int] = Counter()
    servers: Counter[int] = Counter()
    url = of_kind(own_redis.url, kind)

    def service_of(serial: int) -> Service:
        service = Service("drain", address=address)

        async def work(n: int) -> int:
            executions[n] += 1
            servers[serial] += 1
            await asyncio.sleep(0.02)
            return n

        service.method(work, name="once")
        service.method(work, name="again", idempotent=True)
        return service

    serials = count()
    server = Server(service_of(next(serials)), url=url, concurrency=4)
    await server.start()
    async with Client(url, timeout=40) as client:
        calls = [
            asyncio.create_task(client.call(f"{address}.{('once', 'again')[n % 2]}", n, idempotent=n % 2 == 1))
            for n in range(CALLS)
        ]
        for restart in range(RESTARTS):
            await eventually(partial(lambda before: len(servers) > before, restart))
            after = Server(service_of(next(serials)), url=url, concurrency=4)
            await after.start()
            await server.stop(grace=0.3)  # half of it for handlers to end, of 0.02 s each
            server = after
        results = await asyncio.gather(*calls, return_exceptions=True)
        await server.stop()
    assert results == list(range(CALLS))
    assert set(executions) == set(range(CALLS))
    assert len(servers) == RESTARTS + 1
    assert dead_letters(own_redis, kind, address) == 0
    assert {executions[n] for n in range(0, CALLS, 2)} == {1}


async def test_a_job_that_no_restart_lets_end_is_no_dead_letter(own_redis: Redis, kind: str, address: str) -> None:
    """Stopped in order seven times in the middle of it, it has killed nobody."""
    begun = 0
    patience = 30.0
    url = of_kind(own_redis.url, kind)

    def service() -> Service:
        service = Service("drain", address=address)

        async def work() -> int:
            nonlocal begun
            begun += 1
            await asyncio.sleep(patience)
            return begun

        service.method(work, idempotent=True)
        return service

    server = Server(service(), url=url)
    await server.start()
    async with Client(url, timeout=30) as client:
        call = asyncio.create_task(client.at(address).using(idempotent=True).work())
        for restart in range(7):
            await eventually(partial(lambda times: begun > times or call.done(), restart))
            assert not call.done()
            await server.stop(grace=0.05)
            server = Server(service(), url=url)
            patience = 30.0 if restart < 6 else 0.0
            await server.start()
        assert await call == 8
        await server.stop()
    assert dead_letters(own_redis, kind, address) == 0
