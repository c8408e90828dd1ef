"""Lists of services of which nothing may run twice: requests are popped for good, and no more than can begin."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count
from types import SimpleNamespace
from unittest import mock

import pytest

from rpckit import Client, Server, Service
from rpckit.ids import new_id
from rpckit.registry import open_transport
from rpckit.testing import Redis
from rpckit.transport import Delivery, State

from .world import eventually, of_kind, proxied

RESTARTS = 20
CALLS = 1_000  # more than are served in so many restarts
SLOTS = 4
JOBS = 24  # more than a server has slots and would take ahead of them
FEW = 5  # commands beside those of the calls: beats, presence

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def address(own_redis: Redis) -> Iterator[str]:
    yield f"faults.popped.{new_id()[:8]}"
    own_redis.ctl("FLUSHALL")


@pytest.fixture
def url(own_redis: Redis) -> str:
    return of_kind(own_redis.url, "list")


def echo_at(address: str) -> Service:
    service = Service("popped", address=address)

    @service.method
    async def work(n: int) -> int:
        return n

    return service


def length(broker: Redis, address: str, beside: str = "") -> int:
    items = broker.ctl("LLEN", f"rpckit:{{{address}}}:list{beside}")
    assert isinstance(items, int)
    return items


def commands(broker: Redis) -> Counter[str]:
    """How often each was run, by scripts too."""
    stats = broker.ctl("INFO", "commandstats")
    assert isinstance(stats, str)
    lines = [line.removeprefix("cmdstat_").partition(":calls=") for line in stats.splitlines() if ":calls=" in line]
    return Counter({name: int(rest.partition(",")[0]) for name, _, rest in lines})


async def test_a_call_takes_a_push_a_pop_and_a_reply(own_redis: Redis, url: str, address: str) -> None:
    service = echo_at(address)
    async with Server(service, url=url), Client(url) as client:
        await client.call(f"{address}.work", 0)
        before = commands(own_redis)
        for n in range(100):
            assert await client.call(f"{address}.work", n) == n
        taken = commands(own_redis) - before
    assert taken["blmpop"] == taken["rpush"] == taken["publish"] == 100
    assert taken["evalsha"] <= 3 * FEW  # it is asked who serves, a few times a second
    assert not taken["lrem"]
    assert not taken["blmove"]


async def test_what_a_dead_server_had_not_begun_was_never_taken(own_redis: Redis, url: str, address: str) -> None:
    """It had no slot free: so the rest is run by another, once."""
    executions: Counter[int] = Counter()
    go_on = asyncio.Event()
    service = Service("popped", address=address)

    @service.method
    async def work(n: int) -> None:
        executions[n] += 1
        await go_on.wait()

    async with Client(url, no_server="wait") as client, proxied(url) as (proxy, through):
        doomed = Server(service, url=through, concurrency=SLOTS)
        await doomed.start()
        for n in range(JOBS):
            await client.notify(f"{address}.work", n)
        await eventually(lambda: len(executions) == SLOTS)
        assert doomed.in_flight == SLOTS
        assert length(own_redis, address) == JOBS - SLOTS
        await proxy.refuse()
        proxy.reset()
        go_on.set()
        async with Server(service, url=url, concurrency=SLOTS):
            await eventually(lambda: len(executions) == JOBS)
        await doomed.stop(grace=0)
    assert set(executions.values()) == {1}


async def test_twenty_rolling_restarts_over_a_full_queue_lose_nothing(url: str, address: str) -> None:
    executions: Counter[int] = Counter()
    servers: Counter[int] = Counter()

    def service_of(serial: int) -> Service:
        service = Service("popped", address=address)

        @service.method
        async def work(n: int) -> int:
            executions[n] += 1
            servers[serial] += 1
            await asyncio.sleep(0.02)
            return n

        return service

    serials = count()
    server = Server(service_of(next(serials)), url=url, concurrency=SLOTS)
    await server.start()
    async with Client(url, timeout=40) as client:
        calls = [asyncio.create_task(client.call(f"{address}.work", n)) for n in range(CALLS)]
        for restart in range(RESTARTS):
            await eventually(partial(lambda before: len(servers) > before, restart))
            after = Server(service_of(next(serials)), url=url, concurrency=SLOTS)
            await after.start()
            await server.stop(grace=0.3)
            server = after
        results = await asyncio.gather(*calls, return_exceptions=True)
        await server.stop()
    assert results == list(range(CALLS))
    assert executions == Counter(range(CALLS))


async def test_what_is_handed_back_is_first_again_and_what_is_popped_too_late_too(
    own_redis: Redis, url: str, address: str
) -> None:
    deliveries: list[Delivery] = []
    client, transport = Client(url, no_server="wait"), open_transport(url)
    async with client:
        await transport.connect(serve=True)
        receiver = await transport.receive(address, deliveries.append, prefetch=3, at_most_once=True)
        for n in range(5):
            await client.notify(f"{address}.work", n)
        await eventually(lambda: len(deliveries) == 3)
        own_redis.ctl("CONFIG", "SET", "maxmemory", "1")
        stopping = asyncio.create_task(receiver.stop())
        for delivery in deliveries:
            delivery.hand_back()
        await stopping
        await eventually(lambda: length(own_redis, address) == 5)
        own_redis.ctl("CONFIG", "SET", "maxmemory", "0")

        again: list[Delivery] = []
        late = await transport.receive(address, again.append, prefetch=5, at_most_once=True)
        await eventually(lambda: len(again) == 5)
        assert [each.message.body for each in again[:3]] == [each.message.body for each in deliveries]
        for delivery in again:
            delivery.settle()
        late._reading.cancel()  # type: ignore[attr-defined]  # as one does that Redis does not let go in time
        await asyncio.sleep(0.1)  # it waits in Redis still
        await client.notify(f"{address}.work", 5)
        await eventually(lambda: length(own_redis, address) == 1)
        assert len(again) == 5
        await transport.close()


async def test_what_cannot_be_read_is_with_the_dead_letters(own_redis: Redis, url: str, address: str) -> None:
    service = echo_at(address)
    async with Server(service, url=url), Client(url) as client:
        push = r"return redis.call('RPUSH', KEYS[1], '\193\1nonsense')"
        own_redis.ctl("EVAL", push, "1", f"rpckit:{{{address}}}:list")
        await eventually(lambda: length(own_redis, address, ":dead") == 1)
        assert await client.call(f"{address}.work", 1) == 1


async def test_what_a_dead_server_kept_is_taken_over(own_redis: Redis, url: str, address: str) -> None:
    """A server of the same address one method of which may run twice, perhaps an older one."""
    executions: Counter[int] = Counter()
    service = Service("popped", address=address)

    @service.method
    async def work(n: int) -> int:
        executions[n] += 1
        return n

    async with Client(url, no_server="wait", timeout=10) as client:
        async with proxied(url) as (proxy, through):
            kept: list[Delivery] = []
            states: list[State] = []
            transport = open_transport(through)
            transport.on_state(lambda state, why: states.append(state))
            await transport.connect(serve=True)
            await transport.receive(address, kept.append, prefetch=JOBS)
            calls = [asyncio.create_task(client.call(f"{address}.work", n)) for n in range(JOBS)]
            await eventually(lambda: len(kept) == JOBS)
            await proxy.refuse()
            proxy.reset()
            await eventually(lambda: State.RECONNECTING in states)
            await transport.close()
        async with Server(service, url=url):
            assert await asyncio.gather(*calls) == list(range(JOBS))
    assert executions == Counter(range(JOBS))


@pytest.mark.parametrize("concurrency", [1, 100])
async def test_a_caller_whose_clock_is_slow_is_served(url: str, address: str, concurrency: int) -> None:
    """What waits in Redis for its request knows how old that can be at most."""
    service = echo_at(address)
    slow = mock.patch("rpckit.client.time", SimpleNamespace(time=lambda: time.time() - 60))
    async with Server(service, url=url, concurrency=concurrency), Client(url, timeout=5) as client:
        with slow:
            for n in range(4):
                await asyncio.sleep(0.3)
                assert await client.call(f"{address}.work", n) == n


async def test_what_it_has_popped_runs_though_its_connection_is_lost(own_redis: Redis, url: str, address: str) -> None:
    """It waits for a slot that another service has; nobody else could run it."""
    go_on = asyncio.Event()
    one, other = Service("one", address=f"{address}.one"), Service("other", address=f"{address}.other")

    @one.method
    async def hold() -> None:
        await go_on.wait()

    @other.method
    async def work(n: int) -> int:
        return n

    async with Server(one, other, url=url, concurrency=1) as server, Client(url, timeout=10) as client:
        held = asyncio.ensure_future(client.call(f"{address}.one.hold"))
        await eventually(lambda: server.in_flight == 1)
        answers = asyncio.gather(held, client.call(f"{address}.other.work", 1))
        await eventually(lambda: server.in_flight == 2)
        for line in str(own_redis.ctl("CLIENT", "LIST")).splitlines():
            fields = dict(word.partition("=")[::2] for word in line.split())
            if int(fields["sub"]) > 1 or fields["cmd"] == "blmpop":  # the server's
                own_redis.ctl("CLIENT", "KILL", "ID", fields["id"])
        await asyncio.sleep(0.3)
        go_on.set()
        assert list(await answers) == [None, 1]


async def test_a_list_is_popped_whatever_the_servers_url(own_redis: Redis, address: str) -> None:
    service, go_on = Service("popped", address=f"list:{address}"), asyncio.Event()

    @service.method
    async def work() -> None:
        await go_on.wait()

    url = of_kind(own_redis.url, "stream")
    async with Client(url, no_server="wait") as client, Server(service, url=url, concurrency=1) as server:
        for _ in range(5):
            await client.notify(f"list:{address}.work")
        await eventually(lambda: server.in_flight == 1)
        await asyncio.sleep(0.1)
        assert (server.in_flight, own_redis.ctl("LLEN", address)) == (1, 4)
        go_on.set()
        await eventually(lambda: not server.in_flight)
