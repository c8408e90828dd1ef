"""64 callers go on calling while the broker, its connections, its queue or the link to it break.

Whatever happens, the rules of `history` hold for each call, and the service is back soon after the broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

import pytest

from rpckit.testing import FaultProxy, RabbitMq

from .world import Figure, Swarm, proxied, with_options

BACK_S = 1.0  # seconds from a broker that accepts again to a served caller: the promise
AFTER = 0.3  # seconds of calling after the fault
SLOW_MACHINE = 5.0  # the factor by which a loaded CI machine may miss it

Side = Literal["client", "server"]


@pytest.fixture
async def broker(own_rabbitmq: RabbitMq) -> AsyncIterator[RabbitMq]:
    yield own_rabbitmq
    own_rabbitmq.thaw()
    if not own_rabbitmq.running():
        await asyncio.to_thread(own_rabbitmq.start)


@asynccontextmanager
async def swarm_on(url: str) -> AsyncIterator[Swarm]:
    """A swarm that must keep every promise until the end."""
    direct = with_options(url, heartbeat=1, connect_timeout=2)
    async with Swarm(direct, direct) as swarm:
        yield swarm
    swarm.check()


@asynccontextmanager
async def swarm_through(url: str, side: Side) -> AsyncIterator[tuple[Swarm, FaultProxy]]:
    """A swarm of which one side, client or server, reaches the broker through a proxy."""
    direct = with_options(url, heartbeat=1, connect_timeout=2)
    async with AsyncExitStack() as stack:
        proxy, through = await stack.enter_async_context(proxied(url, heartbeat=1, connect_timeout=2))
        client_url, server_url = (through, direct) if side == "client" else (direct, through)
        swarm = await stack.enter_async_context(Swarm(client_url, server_url))
        yield swarm, proxy
    swarm.check()


async def assert_back(swarm: Swarm, figure: Figure, what: str) -> None:
    """The service answers again within the promised time from now, and then every caller is served."""
    took = await swarm.served_since(asyncio.get_running_loop().time())
    outcomes = ", ".join(f"{count} {name}" for name, count in sorted(swarm.history.outcomes().items()))
    figure(f"{what}: until the first answer; {outcomes}", took)
    assert took < BACK_S * SLOW_MACHINE
    await asyncio.sleep(AFTER)


@pytest.mark.timeout(60)
async def test_a_broker_killed_and_restarted_breaks_no_promise(broker: RabbitMq, figure: Figure) -> None:
    async with swarm_on(broker.url) as swarm:
        await asyncio.to_thread(broker.flush)
        await asyncio.to_thread(broker.kill)
        await asyncio.sleep(0.5)
        await asyncio.to_thread(broker.start)
        await assert_back(swarm, figure, "broker killed and started")


@pytest.mark.timeout(60)
async def test_a_broker_frozen_and_thawed_breaks_no_promise(broker: RabbitMq, figure: Figure) -> None:
    async with swarm_on(broker.url) as swarm:
        await asyncio.to_thread(broker.freeze)
        await asyncio.sleep(3.5)
        await asyncio.to_thread(broker.thaw)
        await assert_back(swarm, figure, "broker frozen for 3.5 s and thawed")


@pytest.mark.timeout(30)
async def test_connections_closed_by_the_broker_break_no_promise(broker: RabbitMq, figure: Figure) -> None:
    async with swarm_on(broker.url) as swarm:
        await asyncio.to_thread(broker.ctl, "close_all_connections", "maintenance")
        await assert_back(swarm, figure, "all connections closed by rabbitmqctl")


@pytest.mark.timeout(30)
async def test_a_memory_alarm_breaks_no_promise(broker: RabbitMq, figure: Figure) -> None:
    async with swarm_on(broker.url) as swarm:
        try:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
            await asyncio.sleep(2.5)
        finally:
            await asyncio.to_thread(broker.ctl, "set_vm_memory_high_watermark", "0.4")
        await assert_back(swarm, figure, "memory alarm for 2.5 s")
    assert swarm.history.outcomes()["NotSent"]


@pytest.mark.timeout(30)
async def test_a_queue_deleted_under_its_consumer_breaks_no_promise(broker: RabbitMq, figure: Figure) -> None:
    async with swarm_on(broker.url) as swarm:
        await asyncio.to_thread(broker.ctl, "delete_queue", swarm.address)
        await assert_back(swarm, figure, "queue deleted")


def cut(proxy: FaultProxy) -> None:
    proxy.cut()


def reset(proxy: FaultProxy) -> None:
    proxy.reset()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("fault", [cut, reset])
async def test_a_lost_link_breaks_no_promise(
    broker: RabbitMq, side: Side, fault: Callable[[FaultProxy], None], figure: Figure
) -> None:
    async with swarm_through(broker.url, side) as (swarm, proxy):
        for _ in range(3):
            fault(proxy)
            await assert_back(swarm, figure, f"link of the {side}: {fault.__name__}")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_frozen_link_breaks_no_promise(broker: RabbitMq, side: Side, figure: Figure) -> None:
    async with swarm_through(broker.url, side) as (swarm, proxy):
        proxy.freeze()
        await asyncio.sleep(3.0)
        proxy.thaw()
        await assert_back(swarm, figure, f"link of the {side} frozen for 3 s")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("side", ["client", "server"])
async def test_a_link_that_is_silent_one_way_breaks_no_promise(broker: RabbitMq, side: Side, figure: Figure) -> None:
    async with swarm_through(broker.url, side) as (swarm, proxy):
        proxy.freeze("to_client")
        await asyncio.sleep(2.5)
        proxy.thaw()
        await assert_back(swarm, figure, f"link of the {side} silent from the broker for 2.5 s")
