"""Each wait has one limit, whatever it consists of; and what changes while a connection comes back is heeded."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from rpckit import (
    Client,
    ConnectionLost,
    DeadlineExceeded,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    RpcError,
    Server,
    Service,
)
from rpckit.ids import new_id
from rpckit.registry import open_transport
from rpckit.testing._ports import free_port
from rpckit.url import Url

from .world import eventually, of_kind, proxied

LATE_S = 0.4  # seconds that a busy machine may take

pytestmark = pytest.mark.timeout(60)


def service() -> Service:
    made = Service("limits", address=new_id())

    @made.method
    async def ping() -> str:
        return "pong"

    @made.method
    async def hold() -> None:
        await asyncio.sleep(60)

    return made


async def timed(work: Awaitable[Any]) -> tuple[BaseException | None, float]:
    """How it failed, if it did, and after how many seconds, to the microsecond.

    By the loop's clock, which times are promised by: uvloop's is that of the turn, a millisecond behind the wall's.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    outcome: Any = (await asyncio.gather(work, return_exceptions=True))[0]
    return outcome if isinstance(outcome, BaseException) else None, round(clock() - began, 6)


@asynccontextmanager
async def filled(client: Client) -> AsyncIterator[None]:
    """More waits to be sent than a connection lets wait, if nobody reads."""
    body = os.urandom(900_000)
    filling = [asyncio.create_task(client.emit("limits", body)) for _ in range(40)]
    try:
        yield
    finally:
        for each in filling:
            each.cancel()
        await asyncio.gather(*filling, return_exceptions=True)


@pytest.fixture(params=["amqp", "stream", "list", "ws"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "ws":
        return f"ws://127.0.0.1:{free_port()}/ws"
    if request.param == "amqp":
        return str(request.getfixturevalue("amqp_url"))
    return of_kind(request.getfixturevalue("redis_url"), request.param)


async def test_a_notification_that_nobody_confirms_may_have_run(url: str) -> None:
    """The connection is not known to be lost, so nobody says that it is."""
    served = service()
    async with Server(served, url=url), proxied(url) as (proxy, way), Client(way) as client:
        await client.call(f"{served.address}.ping")
        proxy.freeze()
        error, seconds = await timed(client.notify(f"{served.address}.ping", timeout=0.5))
        proxy.thaw()
    assert isinstance(error, OutcomeUnknown)
    assert not isinstance(error, ConnectionLost)
    assert 0.5 <= seconds < 0.5 + LATE_S


async def test_handlers_that_wait_for_one_another_without_end_are_refused_what_they_ask_for(url: str) -> None:
    """They have more requests in hand than RabbitMQ delivers at once: what they wait for would never come."""
    nests = Service("nests", address=new_id())

    @nests.method
    async def nest(depth: int) -> int:
        return 1 + await inner.call(f"{nests.address}.nest", depth - 1) if depth else 0

    async with Server(nests, url=url, concurrency=1, prefetch_ahead=1), Client(url) as inner, Client(url) as client:
        calls = [client.call(f"{nests.address}.nest", 8, timeout=30) for _ in range(50)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert await client.call(f"{nests.address}.nest", 8) == 8
    refused = [str(outcome) for outcome in outcomes if outcome != 8]
    assert all("handlers wait for nested calls here" in why for why in refused), refused


async def test_looking_and_waiting_for_room_share_the_time_of_a_call(amqp_url: str) -> None:
    served = service()
    async with Server(served, url=amqp_url), proxied(amqp_url) as (proxy, way), Client(way) as client:
        await client.call(f"{served.address}.ping")
        await client.emit("limits", 1)
        await asyncio.sleep(1.2)  # then whether anybody serves is asked again
        proxy.freeze("to_client")
        call = asyncio.create_task(timed(client.call(f"{served.address}.ping", timeout=2)))
        await asyncio.sleep(0.3)
        proxy.freeze("to_server")
        async with filled(client):
            await asyncio.sleep(1.3)
            proxy.thaw("to_client")
            error, seconds = await call
        proxy.thaw()
    assert isinstance(error, NotSent)
    assert seconds < 2 + LATE_S


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_waiting_for_room_and_for_an_answer_share_the_time_of_a_notification(redis_url: str, kind: str) -> None:
    url, served = of_kind(redis_url, kind), service()
    async with Server(served, url=url), proxied(url) as (proxy, way), Client(way) as client:
        await client.call(f"{served.address}.ping")
        proxy.freeze()
        async with filled(client):
            transport: Any = client.transport
            await eventually(transport._connection.session.main.congested)
            notification = asyncio.create_task(timed(client.notify(f"{served.address}.ping", timeout=1)))
            await asyncio.sleep(0.7)
            proxy.thaw("to_server")
            error, seconds = await notification
        proxy.thaw()
    assert isinstance(error, OutcomeUnknown)
    assert seconds < 1 + LATE_S


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A place that accepts and says nothing."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_collecting_counts_the_time_it_takes_to_connect() -> None:
    async with silent() as place:
        client = Client(f"redis+stream://{place}/?connect_timeout=3")
        error, seconds = await timed(client.collect("list:rpckit:reply:x", timeout=0.3))
        assert isinstance(error, NotSent)
        assert seconds < 0.3 + LATE_S
        await client.close()


async def test_collecting_waits_for_a_connection_that_comes_back(redis_url: str) -> None:
    url = of_kind(redis_url, "stream")
    async with proxied(url) as (proxy, way), Client(way) as client:
        proxy.reset()
        await eventually(lambda: client.state != "connected")
        with pytest.raises(DeadlineExceeded):
            await client.collect(f"list:rpckit:reply:{new_id()}", timeout=1)


async def test_a_prefetch_that_changes_while_a_connection_comes_back_ends_no_connection(amqp_url: str) -> None:
    states: list[str] = []
    async with proxied(amqp_url) as (proxy, way):
        transport: Any = open_transport(Url.parse(way), {})
        transport.on_state(lambda state, _: states.append(state))
        await transport.connect(serve=True)
        try:
            receiver = await transport.receive(new_id(), lambda _: None, prefetch=8)
            lost, states[:] = transport._inbound, []
            proxy.delay(0.05)
            transport._consuming.session.protocol.transport.abort()
            await eventually(lambda: receiver._inbound is not lost and receiver._inbound.session.alive)
            receiver.set_prefetch(16)
            await eventually(lambda: len(receiver._tags) == 2)
            await asyncio.sleep(0.5)
        finally:
            await transport.close()
    assert states.count("reconnecting") == 1


@pytest.mark.parametrize("kind", ["stream", "list"])
async def test_a_server_that_stops_while_its_connection_comes_back_serves_nobody(redis_url: str, kind: str) -> None:
    url, served = of_kind(redis_url, kind), service()
    async with proxied(url) as (proxy, way), Client(url) as client:
        server = Server(served, url=way, grace=3)
        await server.start()
        hold = asyncio.create_task(timed(client.call(f"{served.address}.hold", timeout=10)))
        await eventually(lambda: server.in_flight == 1)
        transport: Any = server._dispatcher.links[0].transport  # type: ignore[union-attr]
        lost = transport._channels.session
        proxy.delay(0.05)
        proxy.reset()
        await eventually(lambda: transport._channels.session not in (None, lost))
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(1)
        assert not stopping.done()
        with pytest.raises(NoResponder):
            await client.call(f"{served.address}.ping", timeout=1)
        await stopping
        assert isinstance((await hold)[0], RpcError)


async def test_a_request_in_the_plain_form_is_told_too_that_nobody_serves(redis_url: str) -> None:
    """At an address of our own; a list that other programs read is written to all the same."""
    async with Client(of_kind(redis_url, "stream")) as client:
        error, seconds = await timed(client.request(new_id(), b"x", timeout=5))
    assert isinstance(error, NoResponder)
    assert seconds < LATE_S


async def test_a_client_that_leaves_stops_its_work(url: str) -> None:
    served, stopped = service(), asyncio.Event()

    @served.method
    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.set()

    async with Server(served, url=url) as server:
        async with Client(url) as client:
            call = asyncio.create_task(client.call(f"{served.address}.work"))
            await eventually(lambda: server.in_flight == 1)
        await asyncio.wait_for(stopped.wait(), 1)
        assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], ConnectionLost)


async def test_a_closing_that_is_cancelled_leaves_no_connection(amqp_url: str) -> None:
    async with proxied(amqp_url) as (proxy, way):
        client = Client(way)
        await client.connect()
        await client.emit("limits", 1)
        proxy.freeze()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.close(), 0.1)
        await client.close()
        proxy.thaw()
        await eventually(lambda: proxy.connections == 0)
