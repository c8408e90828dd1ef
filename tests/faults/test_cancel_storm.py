"""10,000 calls cancelled at random moments: nothing is left of them, and no reply goes astray."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from rpckit import Client, Server, Service
from rpckit.ids import new_id

from .world import eventually, session_of

CALLS = 10_000
AT_ONCE = 200
CONCURRENCY = 50
MOST_PATIENT = 0.4  # seconds; most callers are less so


@pytest.mark.timeout(60)
async def test_ten_thousand_cancelled_calls_leave_nothing(amqp_url: str) -> None:
    service = Service("storm", address=f"faults.storm.{new_id()[:8]}")
    running = 0

    @service.method
    async def echo(value: str, seconds: float) -> str:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            running -= 1
        return value

    server = Server(service, url=amqp_url, concurrency=CONCURRENCY)
    async with server, Client(amqp_url, timeout=20) as client:
        assert await client.call(f"{service.address}.echo", "first", 0) == "first"
        sessions, tasks_before = session_of(client), asyncio.all_tasks()
        answered = cancelled = 0

        async def call_and_cancel(serials: range) -> None:
            nonlocal answered, cancelled
            for serial in serials:
                value = f"{serial}-{random.random()}"
                call = asyncio.create_task(client.call(f"{service.address}.echo", value, random.random() * 0.01))
                await asyncio.sleep(random.random() ** 2 * MOST_PATIENT)
                call.cancel()
                try:
                    assert await call == value
                    answered += 1
                except asyncio.CancelledError:
                    cancelled += 1

        began = time.monotonic()
        await asyncio.gather(*(call_and_cancel(range(n, CALLS, AT_ONCE)) for n in range(AT_ONCE)))
        assert time.monotonic() - began < 40
        assert answered + cancelled == CALLS
        assert answered > CALLS / 50
        assert cancelled > CALLS / 50

        dispatcher = server._dispatcher
        assert dispatcher is not None
        transport, serving = client.transport, dispatcher.links[0].transport
        assert client.pending == 0
        await eventually(lambda: server.in_flight == 0 and running == 0)
        await eventually(lambda: len(serving._inbound.book.outstanding) == 0)  # type: ignore[attr-defined]
        for each in (transport, serving):
            assert len(each._confirmed) == 0  # type: ignore[attr-defined]
        await eventually(lambda: not client._attempts._cancels)
        assert dispatcher.slots.taken == dispatcher.slots.waiting == 0
        assert len(dispatcher.inflight._deadlines) < 500
        assert len(client._pending._deadlines) < 500
        await eventually(lambda: not (asyncio.all_tasks() - tasks_before))
        assert session_of(client) is sessions
        assert await client.call(f"{service.address}.echo", "last", 0) == "last"


@pytest.mark.timeout(30)
async def test_cancelling_a_call_stops_its_handler(amqp_url: str) -> None:
    service = Service("stopped", address=f"faults.stopped.{new_id()[:8]}")
    ended: list[str] = []

    @service.method
    async def sleep(n: int) -> None:
        try:
            await asyncio.sleep(20)
            ended.append("ran on")
        except asyncio.CancelledError:
            ended.append("stopped")
            raise

    async with Server(service, url=amqp_url) as server, Client(amqp_url) as client:
        calls = [asyncio.create_task(client.call(f"{service.address}.sleep", n)) for n in range(20)]
        await eventually(lambda: server.in_flight == 20)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await eventually(lambda: ended == ["stopped"] * 20, 2)
        assert server.in_flight == 0
