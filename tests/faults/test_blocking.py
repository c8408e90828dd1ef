"""Handlers that block: in a thread they cost nobody anything, in the event loop they are named."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from rpckit import Client, Server, Service
from rpckit.ids import new_id

from .world import session_of, with_options

HEARTBEAT = 1  # second

pytestmark = pytest.mark.timeout(20)


@pytest.fixture
def service() -> Service:
    service = Service("blocking", address=f"faults.blocking.{new_id()[:8]}")

    @service.method
    def in_thread(seconds: float) -> float:
        time.sleep(seconds)
        return seconds

    @service.method
    async def in_loop(seconds: float) -> float:
        time.sleep(seconds)  # noqa: ASYNC251  # what must not be done
        return seconds

    @service.method
    async def echo(value: int) -> int:
        return value

    return service


def consuming(server: Server) -> Any:
    assert server._dispatcher is not None
    return server._dispatcher.links[0].transport._consuming.session  # type: ignore[attr-defined]


async def test_a_plain_function_that_blocks_for_three_heartbeats_costs_nobody_anything(
    amqp_url: str, service: Service
) -> None:
    url = with_options(amqp_url, heartbeat=HEARTBEAT)
    async with Server(service, url=url) as server, Client(url) as client:
        session, server_session = session_of(client), consuming(server)
        blocking = [asyncio.create_task(client.call(f"{service.address}.in_thread", 3.2)) for _ in range(3)]
        longest = 0.0
        while not all(call.done() for call in blocking):
            began = time.monotonic()
            assert await client.call(f"{service.address}.echo", 7) == 7
            longest = max(longest, time.monotonic() - began)
            await asyncio.sleep(0.02)
        assert await asyncio.gather(*blocking) == [3.2] * 3
        assert longest < 0.5
        assert session_of(client) is session
        assert consuming(server) is server_session


async def test_an_async_function_that_blocks_the_loop_is_named_in_one_warning(
    amqp_url: str, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    async with Server(service, url=amqp_url), Client(amqp_url) as client:
        assert await client.call(f"{service.address}.in_loop", 1.8) == 1.8
        warnings = [record for record in caplog.records if "blocks the event loop" in record.message]
        assert [record.levelno for record in warnings] == [logging.WARNING]
        assert "blocking.in_loop" in warnings[0].message
        assert "time.sleep(seconds)" in warnings[0].message


async def test_a_loop_that_slept_longer_than_two_heartbeats_does_not_blame_the_broker(
    amqp_url: str, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker may close the connection, for it heard nothing; we may not, for we did not listen."""
    url = with_options(amqp_url, heartbeat=HEARTBEAT)
    async with Server(service, url=amqp_url), Client(url) as client:
        assert await client.call(f"{service.address}.echo", 1) == 1
        await asyncio.sleep(0)
        time.sleep(2.1)  # noqa: ASYNC251  # the whole process is stopped, as by a debugger
        assert await client.call(f"{service.address}.echo", 2, no_server="wait", idempotent=True) == 2
        assert not [record for record in caplog.records if "no sign of life" in record.message]
