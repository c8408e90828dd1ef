"""What calls over Redis leave behind when they are cancelled, and what a server costs Redis when nobody calls."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from rpckit import Client, Server, Service
from rpckit.ids import new_id
from rpckit.testing import Redis

from .world import KINDS, Figure, eventually, of_kind

CALLS = 10_000
AT_ONCE = 200
CONCURRENCY = 50
MOST_PATIENT = 0.25  # seconds; most callers are less so
IDLE_S = 4.0
A_SECOND = 1.0  # commands of an idle server on one connection: the promise
MAY_REMAIN = ("rpckit:claim:", "rpckit:consumer:")  # until they expire, in seconds

pytestmark = pytest.mark.timeout(60)


def commands_seen(broker: Redis, seconds: float) -> Counter[str]:
    """How many commands came by each connection, from MONITOR; those inside scripts are not counted."""
    seen: Counter[str] = Counter()
    with socket.create_connection(("127.0.0.1", broker.port), 1) as link:
        link.sendall(b"MONITOR\r\n")
        until, text = time.monotonic() + seconds, b""
        while (left := until - time.monotonic()) > 0:
            link.settimeout(left)
            try:
                text += link.recv(65_536)
            except TimeoutError:
                break
    for line in text.decode(errors="replace").splitlines():
        if " lua]" not in line and "[" in line:
            seen[line.partition("]")[0].rpartition(" ")[2]] += 1
    return seen


def connections_of(broker: Redis) -> int:
    """Of rpckit; the one that asks is not named."""
    return str(broker.ctl("CLIENT", "LIST")).count(" name=rpckit ")


async def test_ten_thousand_cancelled_calls_leave_nothing(own_redis: Redis) -> None:
    """Over streams, lists and Pub/Sub at once: no entry in a table, no key, no task, and no reply to another call."""
    own_redis.ctl("FLUSHALL")
    running, answered, cancelled = Counter[str](), Counter[str](), Counter[str]()

    async def echo(value: str, seconds: float) -> str:
        kind = value.partition("-")[0]
        running[kind] += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            running[kind] -= 1
        return value

    async def call_and_cancel(client: Client, address: str, kind: str, serials: range) -> None:
        for serial in serials:
            value = f"{kind}-{serial}-{random.random()}"
            task = asyncio.create_task(
                client.call(f"{address}.{('once', 'again')[serial % 2]}", value, random.random() * 0.01)
            )
            await asyncio.sleep(random.random() ** 2 * MOST_PATIENT)
            task.cancel()
            try:
                assert await task == value
                answered[kind] += 1
            except asyncio.CancelledError:
                cancelled[kind] += 1

    async with AsyncExitStack() as stack:
        pairs: dict[str, tuple[Server, Client, Service]] = {}
        for kind in KINDS:
            service = Service("storm", address=f"faults.storm.{new_id()[:8]}")
            service.method(echo, name="once")
            service.method(echo, name="again", idempotent=True)
            url = of_kind(own_redis.url, kind)
            server = await stack.enter_async_context(Server(service, url=url, concurrency=CONCURRENCY))
            client = await stack.enter_async_context(Client(url, timeout=20))
            assert await client.at(service.address).once("first", 0) == "first"
            pairs[kind] = (server, client, service)
        tasks_before, connections = asyncio.all_tasks(), connections_of(own_redis)
        storm = []
        for serial, kind in enumerate(KINDS):
            _, client, service = pairs[kind]
            mine = range(serial, CALLS, len(KINDS))
            lanes = AT_ONCE // len(KINDS)
            storm += [call_and_cancel(client, service.address, kind, mine[lane::lanes]) for lane in range(lanes)]
        await asyncio.gather(*storm)
        assert answered.total() + cancelled.total() == CALLS
        for kind, (server, client, service) in pairs.items():
            assert answered[kind] > CALLS / 200, kind
            assert cancelled[kind] > CALLS / 200, kind
            dispatcher = server._dispatcher
            assert dispatcher is not None
            assert client.pending == 0
            await eventually(lambda: server.in_flight == 0 and not running[kind])  # noqa: B023
            await eventually(lambda: not client._attempts._cancels)  # noqa: B023
            assert dispatcher.slots.taken == dispatcher.slots.waiting == 0
            assert len(dispatcher.inflight._deadlines) < 500
            assert len(client._pending._deadlines) < 500
            receiver = dispatcher.links[0].receivers[0]
            await eventually(lambda: receiver._unsettled == 0)  # type: ignore[attr-defined]  # noqa: B023
            assert not receiver._again  # type: ignore[attr-defined]
            assert await client.at(service.address).once("last", 0) == "last"
        await eventually(lambda: not (asyncio.all_tasks() - tasks_before))
        assert connections_of(own_redis) == connections
    await assert_no_stray_keys(own_redis, {service.address for _, _, service in pairs.values()})


async def assert_no_stray_keys(broker: Redis, addresses: set[str]) -> None:
    """An empty stream with its group and the set of the last consumer stay with an address; the rest has an end."""
    keys = broker.ctl("KEYS", "rpckit:*")
    assert isinstance(keys, list)
    left = [str(key) for key in keys]
    passing = [key for key in left if key.startswith(MAY_REMAIN)]
    assert all(0 <= int(str(broker.ctl("PTTL", key))) <= 25_000 for key in passing if broker.ctl("EXISTS", key))
    lasting = set(left) - set(passing)
    assert lasting <= {f"rpckit:{{{each}}}:{rest}" for each in addresses for rest in ("stream", "list:doing")}
    for key in lasting:
        if key.endswith(":stream"):
            assert broker.ctl("XLEN", key) == 0
        else:
            assert broker.ctl("SCARD", key) == 1


async def test_an_idle_server_sends_one_command_a_second_at_most(own_redis: Redis, figure: Figure) -> None:
    """On each of its connections; a client sends less."""
    async with AsyncExitStack() as stack:
        for kind in KINDS:
            service = Service("idle", address=f"faults.idle.{kind}")
            service.method(_echo, name="echo")
            url = of_kind(own_redis.url, kind)
            await stack.enter_async_context(Server(service, url=url))
            client = await stack.enter_async_context(Client(url))
            assert await client.at(service.address).echo(1) == 1
        assert connections_of(own_redis) == 5 + 3  # servers: one each, and one each that reads; clients: one each
        seen = await asyncio.to_thread(commands_seen, own_redis, IDLE_S)
    most = max(seen.values()) / IDLE_S
    figure(f"Redis: commands a second on the busiest of {len(seen)} idle connections", most)
    assert max(seen.values()) <= IDLE_S * A_SECOND + 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_thousand_calls_in_flight_use_as_many_connections_as_one(own_redis: Redis, kind: str) -> None:
    service = Service("many", address=f"faults.many.{kind}")
    gate = asyncio.Event()

    @service.method
    async def wait(n: int) -> int:
        await gate.wait()
        return n

    url = of_kind(own_redis.url, kind)
    async with Server(service, url=url, concurrency=1_000) as server, Client(url) as client:
        calls = [asyncio.create_task(client.call(f"{service.address}.wait", 0))]
        await eventually(lambda: server.in_flight == 1)
        connections = connections_of(own_redis)
        calls += [asyncio.create_task(client.call(f"{service.address}.wait", n)) for n in range(1, 1_000)]
        await eventually(lambda: server.in_flight == 1_000)
        assert connections_of(own_redis) == connections == (2 if kind == "pubsub" else 3)
        gate.set()
        assert await asyncio.gather(*calls) == list(range(1_000))


async def _echo(value: int) -> int:
    return value
