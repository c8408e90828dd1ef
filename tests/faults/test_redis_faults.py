"""Callers go on calling over streams, lists and Pub/Sub at once while Redis, its connections or the link break.

Whatever happens, the rules of `history` hold for each call, and the service is back soon after Redis.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest

from rpckit import Client, ConnectionLost, NotSent, RpcError, Server, Service
from rpckit.ids import new_id
from rpckit.testing import FaultProxy, Redis

from .world import KINDS, Figure, Swarm, eventually, of_kind, proxied

BACK_S = 1.0  # seconds from a Redis that accepts again to a served caller: the promise
AFTER = 0.3  # seconds of calling after the fault
SLOW_MACHINE = 5.0  # the factor by which a loaded CI machine may miss it
CALLERS = 20  # of each kind
FROZEN_S = 1.5  # three heartbeats
TIMEOUT = 1.5  # seconds of a call: what Pub/Sub loses is waited for so long
QUICK = {"heartbeat": 0.5, "connect_timeout": 1}  # seconds
IDLE_CPU = 0.02  # of one core, for a server and a client, while there is no Redis: the promise

Side = Literal["client", "server"]

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def broker(own_redis: Redis) -> AsyncIterator[Redis]:
    yield own_redis
    own_redis.thaw()
    if not own_redis.running():
        await asyncio.to_thread(own_redis.start)


SHARED = "pubsub of two"  # where there is one server only, nothing is claimed


class Swarms(dict[str, Swarm]):
    """One of each kind, broken together."""

    async def assert_back(self, figure: Figure, what: str, *kinds: str) -> None:
        """Each answers again within the promised time from now, and then every caller is served."""
        now = asyncio.get_running_loop().time()
        for kind in kinds or self:
            took = await self[kind].served_since(now)
            outcomes = ", ".join(f"{n} {name}" for name, n in sorted(self[kind].history.outcomes().items()))
            figure(f"Redis, {kind}: {what}: until the first answer; {outcomes}", took)
            assert took < BACK_S * SLOW_MACHINE, kind
        await asyncio.sleep(AFTER)

    def check(self) -> None:
        for kind, swarm in self.items():
            assert swarm.problems() == [], kind


@asynccontextmanager
async def swarms_on(
    client_url: str, server_url: str | None = None, names: Sequence[str] = (*KINDS, SHARED)
) -> AsyncIterator[Swarms]:
    """Swarms that must keep every promise until the end."""
    swarms = Swarms()
    async with AsyncExitStack() as stack:
        for name in names:
            urls = [of_kind(url, name.split()[0], **QUICK) for url in (client_url, server_url or client_url)]
            swarm = swarms[name] = await stack.enter_async_context(Swarm(*urls, callers=CALLERS, timeout=TIMEOUT))
            if name is SHARED:
                await stack.enter_async_context(Server(swarm.service(), url=urls[1], grace=2.0))
        yield swarms
    swarms.check()


@asynccontextmanager
async def swarms_through(url: str, side: Side) -> AsyncIterator[tuple[Swarms, FaultProxy]]:
    """Swarms of which one side, client or server, reaches Redis through a proxy."""
    async with proxied(url) as (proxy, through):
        urls = (through, url) if side == "client" else (url, through)
        async with swarms_on(*urls) as swarms:
            yield swarms, proxy


# -- Redis ----------------------------------------------------------------------------------------------


async def test_a_redis_killed_and_restarted_breaks_no_promise(broker: Redis, figure: Figure) -> None:
    """It comes back empty: the groups are gone (R17), and what waited with them."""
    async with swarms_on(broker.url) as swarms:
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.start)
        await swarms.assert_back(figure, "killed and started")


async def test_a_redis_that_kept_its_data_over_a_kill_breaks_no_promise(figure: Figure) -> None:
    """What had been taken and not begun comes again, and is not run twice."""
    async with Redis(config={"appendonly": "yes", "appendfsync": "always"}) as broker, swarms_on(broker.url) as swarms:
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.start)
        await swarms.assert_back(figure, "killed and started with its data")


async def test_a_call_that_is_sent_again_waits_until_redis_has_read_its_data() -> None:
    """It takes connections and subscriptions before, and nothing else: whoever went on then was told it was refused."""
    slow = {"appendonly": "yes", "appendfsync": "no", "key-load-delay": "100"}  # microseconds a key: about 2 s
    service, begun = Service("patient", address=f"faults.patient.{new_id()[:8]}"), asyncio.Event()

    @service.method(idempotent=True)
    async def again() -> int:
        begun.set()
        await asyncio.sleep(0.2)
        return 7

    async with Redis(config=slow) as broker:
        await asyncio.to_thread(broker.ctl, "EVAL", "for i = 1, 15000 do redis.call('SET', i, i) end", "0")
        url = of_kind(broker.url, "stream")
        async with Server(service, url=url), Client(url) as client:
            peer = client.at(service.address).using(idempotent=True, no_server="wait")
            call = asyncio.create_task(peer.again())
            await begun.wait()
            await asyncio.to_thread(broker.kill)
            await asyncio.to_thread(broker.start)
            assert await call == 7


async def test_a_redis_frozen_and_thawed_breaks_no_promise(broker: Redis, figure: Figure) -> None:
    async with swarms_on(broker.url) as swarms:
        broker.freeze()
        await asyncio.sleep(FROZEN_S)
        broker.thaw()
        await swarms.assert_back(figure, f"frozen for {FROZEN_S} s and thawed")


async def test_connections_killed_by_redis_break_no_promise(broker: Redis, figure: Figure) -> None:
    async with swarms_on(broker.url) as swarms:
        for kind in ("normal", "pubsub"):
            await asyncio.to_thread(broker.ctl, "CLIENT", "KILL", "TYPE", kind)
            await swarms.assert_back(figure, f"CLIENT KILL TYPE {kind}")


async def test_flushall_and_script_flush_under_load_break_no_promise(broker: Redis, figure: Figure) -> None:
    """Groups, heartbeats and scripts are gone at once, and nobody is told. Claims had better not be: two servers."""
    async with swarms_on(broker.url, names=KINDS) as swarms:
        for _ in range(5):
            await asyncio.to_thread(broker.ctl, "FLUSHALL")
            await asyncio.to_thread(broker.ctl, "SCRIPT", "FLUSH")
            await asyncio.sleep(0.1)
        await swarms.assert_back(figure, "FLUSHALL")


async def test_a_redis_out_of_memory_says_overloaded(broker: Redis, figure: Figure) -> None:
    """R23: requests and claims are refused with an error that says so, and nothing ran; Pub/Sub itself needs none."""
    async with swarms_on(broker.url) as swarms:
        try:
            await asyncio.to_thread(broker.ctl, "CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(1.5)
        finally:
            await asyncio.to_thread(broker.ctl, "CONFIG", "SET", "maxmemory", "0")
        await swarms.assert_back(figure, "out of memory for 1.5 s")
    for name, swarm in swarms.items():
        assert bool(swarm.history.outcomes()["Overloaded"]) is (name != "pubsub")


async def test_over_the_output_limit_of_pubsub_every_call_ends_with_an_error(broker: Redis, figure: Figure) -> None:
    """R16: Redis closes the connection that is too slow to read; its callers are told, and then it is back."""
    limit = ("CONFIG", "SET", "client-output-buffer-limit")
    async with swarms_on(broker.url) as swarms:
        service = Service("large", address=f"faults.large.{new_id()[:8]}")

        @service.method
        async def large(size: int) -> bytes:
            return bytes(size)

        url = of_kind(broker.url, "stream", **QUICK)
        async with Server(service, url=url), Client(url, timeout=5) as client:
            try:
                await asyncio.to_thread(broker.ctl, *limit, "pubsub 65536 0 0")
                call = client.at(service.address).large
                results = await asyncio.gather(*(call(900_000) for _ in range(8)), return_exceptions=True)
                assert {type(result) for result in results} <= {ConnectionLost, NotSent}
            finally:
                await asyncio.to_thread(broker.ctl, *limit, "pubsub 33554432 8388608 60")
            assert len(await call(900_000)) == 900_000
        await swarms.assert_back(figure, "output limit of Pub/Sub")


# -- the link -------------------------------------------------------------------------------------------


def cut(proxy: FaultProxy) -> None:
    proxy.cut()


def reset(proxy: FaultProxy) -> None:
    proxy.reset()


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_lost_link_breaks_no_promise(broker: Redis, side: Side, figure: Figure) -> None:
    async with swarms_through(broker.url, side) as (swarms, proxy):
        for fault in (cut, reset):
            fault(proxy)
            await swarms.assert_back(figure, f"link of the {side}: {fault.__name__}")


@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_frozen_link_breaks_no_promise(broker: Redis, side: Side, figure: Figure) -> None:
    """Both ways first, then silent from Redis only: a half-open link."""
    async with swarms_through(broker.url, side) as (swarms, proxy):
        proxy.freeze()
        await asyncio.sleep(FROZEN_S)
        proxy.thaw()
        await swarms.assert_back(figure, f"link of the {side} frozen")
        proxy.freeze("to_client")
        await asyncio.sleep(FROZEN_S)
        proxy.thaw()
        await swarms.assert_back(figure, f"link of the {side} silent from Redis")


async def test_a_link_cut_in_the_middle_of_a_message_breaks_no_promise(broker: Redis, figure: Figure) -> None:
    async with swarms_through(broker.url, "server") as (swarms, proxy):
        proxy.cut_after(333)
        await eventually(lambda: not proxy.connections)
        await swarms.assert_back(figure, "link of the server cut in a message")


# -- waiting --------------------------------------------------------------------------------------------


def kill(broker: Redis) -> None:
    broker.kill()


def freeze(broker: Redis) -> None:
    broker.freeze()


@pytest.mark.parametrize("fault", [kill, freeze])
async def test_waiting_for_a_dead_redis_costs_no_cpu(
    broker: Redis, fault: Callable[[Redis], None], figure: Figure
) -> None:
    """R13 and R12: servers and clients of every kind, and a call that waits."""
    async with AsyncExitStack() as stack:
        waiting: list[Awaitable[object]] = []
        for kind in KINDS:
            service = Service("waiting", address=f"faults.waiting.{kind}")
            service.method(_echo, name="echo")
            url = of_kind(broker.url, kind, **QUICK)
            await stack.enter_async_context(Server(service, url=url))
            client = await stack.enter_async_context(Client(url, send_wait=4, timeout=4))
            assert await client.at(service.address).echo(1) == 1
            waiting.append(client.at(service.address).using(idempotent=True).echo(2))
        fault(broker)
        calls = asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(FROZEN_S)  # the dead one is found
        cpu, began = time.process_time(), time.monotonic()
        await asyncio.sleep(2.0)
        share = (time.process_time() - cpu) / (time.monotonic() - began)
        figure(f"Redis: share of a core while it is dead ({fault.__name__}), 6 sides", share)
        assert share / len(KINDS) < IDLE_CPU * SLOW_MACHINE
        broker.thaw()
        if not broker.running():
            await asyncio.to_thread(broker.start)
        assert all(result == 2 or isinstance(result, RpcError) for result in await calls)


async def _echo(value: int) -> int:
    return value
