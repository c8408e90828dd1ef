"""aioamqp's defects in messages and channels (facts/drivers.md, A1 to A36), as our users would meet them.

Rows that cannot reach a user any more, by construction:

| row | why |
|-----|-----|
| A2  | the driver's `basic_publish` and its tag counter are not used: `Confirmed.publish` is the one path |
| A19 | `on_error` is not given to the driver |
| A28 | no test of its own: each test here and in `test_broker_faults` admits nothing but an `RpcError` |

The rows of connections (A12 to A18, A22, A26, A29 to A32) are in `test_driver_rows_connections`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
from array import array
from collections.abc import AsyncIterator
from itertools import count
from typing import Any

import pika
import pytest

from rpckit import (
    Client,
    InternalError,
    NoResponder,
    RemoteCancelled,
    Response,
    RpcError,
    Server,
    Service,
    UsageError,
)
from rpckit.errors import UnencodableResult
from rpckit.ids import new_id
from rpckit.transport import State
from rpckit_amqp._frames import ack_frame

from .world import eventually, proxied, publishing, session_of, with_options

pytestmark = pytest.mark.timeout(20)

BODY = 1_000_000  # bytes: eight frames, and within max_body
FRAME_ROOM = 131_072 - 8  # bytes of a body in one frame

_serial = count(1)


class World:
    """A server with one service of every temper, and a client of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.address = f"faults.rows.{next(_serial)}.{new_id()[:8]}"
        self.service = Service("rows", address=self.address)
        for method in (
            self.echo,
            self.slow,
            self.fail,
            self.give_up,
            self.nest,
            self.large_header,
            self.routing_header,
        ):
            self.service.method(method)
        self.service.method(self.size, default=True)
        self.server = Server(self.service, url=url, grace=1)
        self.client = Client(url, timeout=5.0)

    @property
    def rows(self) -> Any:
        return self.client.at(self.address)

    @property
    def serving(self) -> Any:
        """The server's transport."""
        assert self.server._dispatcher is not None
        return self.server._dispatcher.links[0].transport

    async def echo(self, value: Any) -> Any:
        return value

    async def size(self, value: bytes) -> int:
        return len(value)

    async def slow(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    async def fail(self) -> None:
        raise ValueError("on purpose")

    async def give_up(self) -> None:
        raise asyncio.CancelledError

    async def nest(self, depth: int) -> int:
        return 0 if depth == 0 else 1 + await self.rows.nest(depth - 1)

    async def routing_header(self) -> Response:
        return Response("x", headers={"CC": "another queue"})

    async def large_header(self) -> Response:
        return Response("x", headers={"large": "x" * 140_000})

    async def still_well(self, client_session: Any, server_session: Any) -> None:
        """The service answers, and on the same connections as before."""
        assert await self.rows.echo("well") == "well"
        assert session_of(self.client) is client_session
        assert self.serving._consuming.session is server_session

    def sessions(self) -> tuple[Any, Any]:
        return session_of(self.client), self.serving._consuming.session


@pytest.fixture
async def world(amqp_url: str) -> AsyncIterator[World]:
    world = World(amqp_url)
    async with world.server, world.client:
        yield world
        assert world.client.pending == 0
    delete_queue(amqp_url, world.address)


def delete_queue(url: str, name: str) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().queue_delete(name)


def publish_raw(url: str, queue: str, *many: pika.BasicProperties, body: bytes = b"1") -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        for properties in many:
            channel.basic_publish("", queue, body, properties)


def nested(levels: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for _ in range(levels):
        table = {"": table}
    return table


UNREADABLE = [
    pika.BasicProperties(correlation_id=b"\xff\xfe"),
    pika.BasicProperties(reply_to=b"\xc3("),
    pika.BasicProperties(type=b"\x80", app_id="rpckit/1"),
    pika.BasicProperties(headers={b"\xff": "value"}),
]


# -- publishing -----------------------------------------------------------------------------------


async def test_confirms_of_several_resolve_each(world: World) -> None:
    """A1: `multiple=True` resolved only the named tag; the others hung."""
    confirmed = world.client.transport._confirmed  # type: ignore[attr-defined]
    several: list[bool] = []
    channel = next(c for c in session_of(world.client).protocol.channels.values() if c.publisher_confirms)
    inner = channel.on_confirm

    def on_confirm(tag: int, multiple: bool, accepted: bool) -> None:
        several.append(multiple)
        inner(tag, multiple, accepted)

    channel.on_confirm = on_confirm
    await asyncio.gather(*(world.client.notify(f"{world.address}.echo", n) for n in range(500)))
    assert len(confirmed) == 0
    assert any(several)


@pytest.mark.parametrize(
    "headers",
    [
        {"x": "\ud800"},
        {"\udcff": "x"},
        {"n" * 256: "x"},
        {"x": b"bytes"},
        {"x": 2**63},
        {"x": float("nan")},
        {"x": None},
        {1: "x"},
        {"CC": "x"},
        {"BCC": "x"},
    ],
    ids=repr,
)
async def test_a_header_that_cannot_be_sent_is_refused_and_harms_no_other_call(
    world: World, headers: dict[str, str]
) -> None:
    """A3: half a message went out, and the connection died with all its channels."""
    sessions = world.sessions()
    other = asyncio.create_task(world.rows.slow(0.05))
    with pytest.raises(UsageError):
        await world.rows.using(headers=headers).echo(1)
    assert await other == 0.05
    await world.still_well(*sessions)


@pytest.mark.parametrize("timeout", [float("inf"), float("nan"), 1e300, "1"])
async def test_a_timeout_that_cannot_be_sent_is_refused(world: World, timeout: Any) -> None:
    """A3: an `expiration` or a number that AMQP cannot carry."""
    with pytest.raises(UsageError, match="timeout"):
        await world.rows.using(timeout=timeout).echo(1)
    assert await world.rows.using(timeout=10_000_000).echo(1) == 1


async def test_a_name_that_cannot_be_sent_is_refused(world: World) -> None:
    """A3: a correlation id over 255 bytes; here a method's name, the one short string left to a caller."""
    sessions = world.sessions()
    with pytest.raises(UsageError):
        await world.client.call(f"{world.address}.{'m' * 300}")
    await world.still_well(*sessions)


async def test_headers_larger_than_a_frame_are_refused_before_they_are_sent(world: World) -> None:
    """A4: a header frame over frame_max killed the connection; the caller was told OK."""
    sessions = world.sessions()
    with pytest.raises(UsageError, match="headers"):
        await world.rows.using(headers={"large": "x" * 140_000}).echo(1)
    assert await world.rows.using(headers={"large": "x" * 120_000}).echo(1) == 1
    await world.still_well(*sessions)


async def test_reply_headers_larger_than_a_frame_are_a_fault(world: World) -> None:
    """A4, on the way back: the connection that carries all replies stays."""
    sessions = world.sessions()
    with pytest.raises(UnencodableResult, match="headers"):
        await world.rows.large_header()
    await world.still_well(*sessions)


async def test_a_reply_header_that_means_more_queues_is_a_fault(world: World) -> None:
    """The broker refuses its text by ending the channel; and the reply would go out again on the next connection."""
    sessions = world.sessions()
    with pytest.raises(UnencodableResult, match="CC"):
        await world.rows.routing_header()
    await world.still_well(*sessions)


@pytest.mark.parametrize("size", [0, 1, FRAME_ROOM - 1, FRAME_ROOM, FRAME_ROOM + 1, 2 * FRAME_ROOM, BODY])
async def test_a_body_of_any_size_goes_both_ways(world: World, size: int) -> None:
    """A5: frames were cut 8 bytes too large."""
    body = random.randbytes(size)
    assert await world.rows.echo(body) == body


async def test_large_bodies_of_many_calls_do_not_mix(world: World) -> None:
    """A5 and A8: frames of one message stay together while others are sent."""
    bodies = [random.randbytes(300_000 + n) for n in range(16)]
    assert await asyncio.gather(*map(world.rows.echo, bodies)) == bodies


async def test_a_memoryview_of_wide_items_is_sent_as_its_bytes(world: World) -> None:
    """A5: an item size above one byte gave a wrong length, and killed the connection."""
    sessions = world.sessions()
    reply = await world.client.request(world.address, memoryview(array("I", range(1000))))
    assert reply.decode() == 4000
    await world.still_well(*sessions)


# -- receiving ------------------------------------------------------------------------------------


async def test_requests_with_unreadable_headers_are_dead_lettered_and_counted(
    amqp_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A6: the reader was wedged for ever, with its state OPEN."""
    world = World(amqp_url)
    dead = f"{world.address}.dead"
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        channel.queue_declare(dead, durable=True)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
        channel.queue_declare(world.address, durable=True, arguments=arguments)
    async with world.server, world.client:
        sessions = world.sessions()
        await asyncio.to_thread(publish_raw, amqp_url, world.address, *UNREADABLE)
        await world.still_well(*sessions)
        await eventually(lambda: world.serving._inbound.undecodable == len(UNREADABLE))
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        channel = connection.channel()
        assert channel.queue_declare(dead, passive=True).method.message_count == len(UNREADABLE)
        assert channel.queue_declare(world.address, passive=True).method.message_count == 0
        channel.queue_delete(dead)
        channel.queue_delete(world.address)
    refusals = [record for record in caplog.records if "cannot be decoded" in record.message]
    assert len(refusals) == len(UNREADABLE)


async def test_replies_with_unreadable_headers_are_dropped_and_counted(world: World) -> None:
    """A6, where a client waits for its replies."""
    sessions = world.sessions()
    inbox = world.client.transport.inbox
    await asyncio.to_thread(publish_raw, world.url, inbox, *UNREADABLE)
    await world.still_well(*sessions)
    await eventually(lambda: world.client.transport._requester.inbound.undecodable == len(UNREADABLE))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "properties",
    [
        pika.BasicProperties(timestamp=2**63),
        pika.BasicProperties(headers={"nested": nested(300)}),
        pika.BasicProperties(headers={"nested": nested(480)}),
        pika.BasicProperties(headers={"x-deadline": 2**62, "x-attempt": -1}, app_id="rpckit/1"),
        pika.BasicProperties(headers={"x-deadline": "soon"}, app_id="rpckit/1"),
        pika.BasicProperties(content_type="application/x-python-pickle"),
        pika.BasicProperties(type="$reply", app_id="rpckit/1", reply_to="nowhere"),
        pika.BasicProperties(type="$nonsense", app_id="rpckit/1"),
        pika.BasicProperties(expiration="4000000000"),
        pika.BasicProperties(priority=255, user_id="guest", cluster_id="c", content_encoding="gzip"),
    ],
    ids=lambda properties: repr(properties)[:60],
)
async def test_strange_but_readable_headers_do_no_harm(world: World, properties: pika.BasicProperties) -> None:
    """A6: `timestamp` and tables that the driver choked on."""
    sessions = world.sessions()
    await asyncio.to_thread(publish_raw, world.url, world.address, properties)
    await asyncio.to_thread(publish_raw, world.url, world.client.transport.inbox, properties)
    await world.still_well(*sessions)


async def test_a_direct_reply_to_that_no_broker_made_ends_one_connection_at_most(world: World) -> None:
    """Its reply crashes the channel (541), and went out again on each new connection for as long as it said."""
    losses: list[str] = []
    world.serving.on_state(lambda state, why: losses.append(why) if state is State.RECONNECTING else None)
    made_up = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to.made.up", expiration="60000")
    await asyncio.to_thread(publish_raw, world.url, world.address, made_up)
    await asyncio.sleep(1)
    assert len(losses) <= 1, losses
    assert await world.rows.echo("well") == "well"


async def test_tables_nested_too_deeply_are_refused(world: World) -> None:
    """A6: 3,000 levels ended in a `RecursionError` inside the reader."""
    sessions = world.sessions()
    frame = b"".join(nested_field(3000))
    assert len(frame) < 100_000
    session = session_of(world.client)
    session.protocol.write(raw_message(session.data.channel_id, world.address, frame))
    await world.still_well(*sessions)
    await eventually(lambda: world.serving._inbound.undecodable == 1)


def nested_field(levels: int) -> list[bytes]:
    """A field table nested that often, laid out without recursion: pika's own encoder would not get there."""
    sizes = [7 * level for level in range(levels)]  # each level: name (1+1), type (1), length (4)
    return [(size + 7).to_bytes(4, "big") + b"\x01nF" for size in reversed(sizes)] + [b"\x00\x00\x00\x00"]


def raw_message(channel: int, queue: str, table: bytes) -> bytes:
    """basic.publish to the default exchange with nothing but this table as its headers."""
    name = queue.encode()
    publish = b"\x00\x3c\x00\x28\x00\x00\x00" + bytes((len(name),)) + name + b"\x00"
    header = b"\x00\x3c\x00\x00" + bytes(8) + b"\x20\x00" + table
    return b"".join(
        bytes((kind,)) + channel.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
        for kind, payload in ((1, publish), (2, header))
    )


async def test_a_sleeping_handler_stops_nobody(world: World) -> None:
    """A7: a callback was awaited inside the reader, and all channels stopped."""
    sleeping = [asyncio.create_task(world.rows.slow(1.0)) for _ in range(5)]
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await world.rows.echo(1) == 1
    with pytest.raises(NoResponder):  # asks on another channel
        await world.client.call("faults.nowhere.x")
    assert loop.time() - began < 0.5
    assert await asyncio.gather(*sleeping) == [1.0] * 5


async def test_a_handler_may_call_while_it_handles(world: World) -> None:
    """A8: any call awaited in a callback was a deadlock for ever."""
    assert await world.rows.nest(10) == 10


async def test_slow_handlers_and_much_waiting_do_not_cost_the_connection(amqp_url: str) -> None:
    """A9: reading paused above 128 kB, and the connection was killed as dead after 2.0 s."""
    world = World(with_options(amqp_url, heartbeat=1))
    world.server = Server(world.service, url=world.url, concurrency=2)
    async with world.server, world.client:
        sessions = world.sessions()
        slow = [asyncio.create_task(world.rows.slow(2.6)) for _ in range(2)]
        large = [asyncio.create_task(world.rows.size(bytes(100_000))) for _ in range(40)]
        assert await asyncio.gather(*slow) == [2.6] * 2
        assert await asyncio.gather(*large) == [100_000] * 40
        await world.still_well(*sessions)
    delete_queue(amqp_url, world.address)


async def test_a_raising_handler_is_answered_and_leaves_nothing_unsettled(amqp_url: str) -> None:
    """A10: an exception in a callback was logged only, and with a prefetch of 1 the consumer was stuck."""
    world = World(amqp_url)
    world.server = Server(world.service, url=amqp_url, concurrency=1)
    async with world.server, world.client:
        for _ in range(40):  # more than the prefetch
            with pytest.raises(InternalError):
                await world.rows.fail()
        await eventually(lambda: len(world.serving._inbound.book.outstanding) == 0)
        assert world.server.in_flight == 0
    delete_queue(amqp_url, world.address)


async def test_a_handler_that_raises_cancelled_error_ends_only_itself(world: World) -> None:
    """A11: `CancelledError` in a callback killed the reader, and the state stayed OPEN."""
    sessions = world.sessions()
    with pytest.raises(RemoteCancelled):
        await world.rows.give_up()
    await world.still_well(*sessions)


async def test_a_reader_that_ends_ends_the_connection(world: World) -> None:
    """A11: whatever ends the driver's reader, the connection is dialled anew."""
    session = session_of(world.client)
    session.protocol._stream_reader.set_exception(RuntimeError("on purpose"))
    await eventually(lambda: session_of(world.client) not in (None, session))
    assert await world.rows.echo(1) == 1


async def test_a_frame_that_is_no_frame_ends_the_connection(world: World) -> None:
    """A6 and A11: the stream cannot be read from here on, so it is given up at once."""
    session = session_of(world.client)
    session.protocol.data_received(b"\x01\x00\x01\x00\x00\x00\x01\x00\x00")
    await eventually(lambda: session_of(world.client) not in (None, session))
    assert await world.rows.echo(1) == 1


# -- channels and queues ----------------------------------------------------------------------------


async def test_a_channel_closed_by_the_broker_is_replaced(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A20: the consumer was told nothing, and the reason was lost."""
    caplog.set_level(logging.WARNING)
    inbound = world.serving._inbound
    inbound.write(ack_frame(inbound.session.data.channel_id, 999_999, multiple=False))
    await eventually(lambda: world.serving._inbound is not inbound)
    assert await world.rows.echo(1) == 1
    assert any("406" in record.message for record in caplog.records)


async def test_publishing_to_an_exchange_that_is_gone_is_recovered_from(world: World) -> None:
    """A21: OK to the caller, and a dead channel 0.2 s later. Ours is the exchange of cancels."""
    task = asyncio.create_task(world.rows.slow(5))
    await asyncio.sleep(0.05)
    task.cancel()  # the exchange is known from here on
    await asyncio.sleep(0.05)
    with pika.BlockingConnection(pika.URLParameters(world.url)) as connection:
        connection.channel().exchange_delete("rpckit.events")
    session = session_of(world.client)
    task = asyncio.create_task(world.rows.slow(5))
    await asyncio.sleep(0.05)
    task.cancel()
    await eventually(lambda: session_of(world.client) not in (None, session))
    assert await world.rows.echo(1) == 1


async def test_callers_cancelled_during_a_declaration_leave_nothing_behind(world: World) -> None:
    """A23: `SynchronizationError('Waiter already exists')` until the late answer came."""
    sessions = world.sessions()
    for n in range(60):
        task = asyncio.create_task(world.client.call(f"{world.address}.echo", n, no_server="wait" if n % 2 else "fail"))
        await asyncio.sleep(random.random() * 0.002)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.gather(*(world.rows.echo(n) for n in range(20))) == list(range(20))
    await world.still_well(*sessions)


async def test_a_server_cancelled_while_it_starts_leaves_nothing_behind(amqp_url: str) -> None:
    """A24: `basic_consume` cancelled as its answer came, with messages waiting, deadlocked the reader."""
    world = World(amqp_url)
    async with world.server:
        pass  # its queue is there from here on
    async with world.client:
        calls = [
            asyncio.create_task(world.client.call(f"{world.address}.echo", n, no_server="wait")) for n in range(40)
        ]
        for _ in range(15):
            server = Server(world.service, url=amqp_url)
            starting = asyncio.create_task(server.start())
            await asyncio.sleep(random.random() * 0.03)
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await server.stop(grace=1)
        async with Server(world.service, url=amqp_url):
            results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, RpcError) or result == n for n, result in enumerate(results))
    delete_queue(amqp_url, world.address)
    del server, starting
    gc.collect()  # what complains, complains here


async def test_closing_ends_a_notification_that_waits_for_its_confirm(world: World) -> None:
    """A25: with a confirm outstanding, the publish hung for ever."""
    async with proxied(world.url) as (proxy, url), Client(url) as client:
        assert await client.call(f"{world.address}.echo", 1) == 1
        proxy.freeze()
        notifying = asyncio.create_task(client.notify(f"{world.address}.echo", 1))
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(RpcError):
            await asyncio.wait_for(notifying, 0.5)


async def test_closing_ends_a_call_that_asks_who_serves(world: World) -> None:
    """A25 and A23: the question's own task was cancelled, and its callers with it."""
    async with proxied(world.url) as (proxy, url), Client(url) as client:
        proxy.freeze()
        calling = asyncio.create_task(client.call(f"{world.address}.echo", 1))
        await asyncio.sleep(0.05)
        await client.close()
        with pytest.raises(RpcError):
            await asyncio.wait_for(calling, 0.5)


async def test_a_link_lost_while_asking_who_serves_is_an_rpc_error(world: World) -> None:
    """A18 and A23: a declaration under way when the connection drops."""
    async with proxied(world.url) as (proxy, url), Client(url) as client:
        proxy.freeze()
        calling = [asyncio.create_task(client.call(f"{world.address}.echo", n)) for n in range(5)]
        await asyncio.sleep(0.05)
        proxy.thaw()
        proxy.cut()
        results = await asyncio.wait_for(asyncio.gather(*calling, return_exceptions=True), 1)
        assert all(isinstance(result, RpcError) for result in results)


async def test_a_frozen_declaration_ends_with_its_call(world: World) -> None:
    """A15 and A22: a declaration has no end of its own; a call that queues for a server to come has."""
    async with proxied(world.url) as (proxy, url), Client(url) as client:
        proxy.freeze()
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(RpcError):
            await client.call(f"{world.address}.echo", 1, no_server="wait", timeout=0.3)
        assert loop.time() - began < 0.5


async def test_forty_large_calls_waiting_to_be_sent_end_in_rpc_errors(world: World) -> None:
    """A27: 36 of 40 publishers waiting in drain got an `AttributeError`."""
    async with proxied(world.url) as (proxy, url), Client(url) as client:
        assert await client.call(f"{world.address}.echo", 1) == 1
        proxy.freeze()
        body = bytes(BODY)
        calling = [asyncio.create_task(client.call(f"{world.address}.size", body)) for _ in range(40)]
        await asyncio.sleep(0.3)
        proxy.thaw()
        proxy.reset()
        results = await asyncio.wait_for(asyncio.gather(*calling, return_exceptions=True), 5)
        assert [result for result in results if not isinstance(result, RpcError | int)] == []
        assert any(isinstance(result, RpcError) for result in results)


async def test_an_unroutable_call_is_told_at_once(world: World) -> None:
    """A33: the return came before `publish` returned, which then said OK."""
    assert await world.rows.echo(1) == 1  # known to be served for a second from now
    await world.server.stop()
    await asyncio.to_thread(delete_queue, world.url, world.address)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(NoResponder):
        await world.rows.echo(1)
    assert loop.time() - began < 0.2


async def test_a_notification_that_nobody_takes_is_told(world: World) -> None:
    """A33, for a message that is confirmed."""
    with pytest.raises(NoResponder):
        await world.client.notify("faults.nowhere.echo", 1)


async def test_a_plain_notification_to_a_queue_that_is_gone_is_told(world: World) -> None:
    """A33, where the message has no id of its own: the return was taken for nobody's."""
    async with Client(world.url, dialect="plain") as client:
        await client.notify(world.address, b"1")  # known to be served for a second from now
        await world.server.stop()
        await asyncio.to_thread(delete_queue, world.url, world.address)
        with pytest.raises(NoResponder, match="NO_ROUTE"):
            await client.notify(world.address, b"1")


async def test_a_consumer_whose_queue_is_deleted_declares_it_anew(world: World) -> None:
    """A34: the cancel callback logged a TypeError, and nobody else was told."""
    assert await world.rows.echo(1) == 1
    inbound = world.serving._inbound
    await asyncio.to_thread(delete_queue, world.url, world.address)
    await eventually(lambda: world.serving._inbound is not inbound)
    assert await world.rows.echo(2) == 2


@pytest.mark.parametrize("name", ["a{b}", "a|b", "a=b", "a<b", "ä", "", "a" * 256])
async def test_a_queue_name_that_the_driver_refuses_is_a_usage_error(world: World, name: str) -> None:
    """A35: `ValueError` before sending."""
    sessions = world.sessions()
    with pytest.raises(UsageError):
        await world.client.call(f"{name}.echo", 1)
    with pytest.raises(UsageError):
        Service("x", address=name)
    await world.still_well(*sessions)


async def test_a_hundred_refused_questions_open_no_hundred_channels(world: World) -> None:
    """A26 and A36: each 404 costs a channel; the registry never shrank, and one too many kills all."""
    sessions = world.sessions()
    for n in range(100):
        with pytest.raises(NoResponder):
            await world.client.call(f"faults.nowhere.{n}.x")
    assert len(session_of(world.client).protocol.channels) <= 4
    await world.still_well(*sessions)


async def test_the_publishing_connection_is_one_for_all_calls(world: World) -> None:
    """A36: per call nothing is opened."""
    connection = publishing(world.client.transport)
    channels = len(connection.session.protocol.channels)
    await asyncio.gather(*(world.rows.echo(n) for n in range(200)))
    assert len(connection.session.protocol.channels) == channels
