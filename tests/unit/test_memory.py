"""The memory transport: the reference reading of `rpckit.transport`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rpckit.errors import NoResponder, NotSent
from rpckit.memory import MAX_DELIVERIES, MemoryBroker, MemoryTransport
from rpckit.message import Kind, Message
from rpckit.testing import FakeClock
from rpckit.transport import Delivery, State, TransportOptions, begins
from rpckit.url import Url

OPTIONS = TransportOptions.model_validate({})
Connect = Callable[[], Awaitable[MemoryTransport]]


@pytest.fixture
async def connect(url: str, broker: MemoryBroker) -> AsyncIterator[Connect]:
    """Connected transports, closed after the test."""
    made: list[MemoryTransport] = []

    async def connect() -> MemoryTransport:
        made.append(MemoryTransport(Url.parse(url), OPTIONS))
        await made[-1].connect()
        return made[-1]

    yield connect
    for transport in made:
        await transport.close()


class Received:
    """The deliveries of one receiver."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    def __call__(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.message.body for delivery in self.deliveries]

    def take(self) -> list[Delivery]:
        taken, self.deliveries = self.deliveries, []
        return taken


def request(body: bytes = b"", **fields: object) -> Message:
    return Message(Kind.REQUEST, "q", body=body, **fields)  # type: ignore[arg-type]


async def send(transport: MemoryTransport, *bodies: bytes) -> None:
    for body in bodies:
        await transport.send(request(body))
    await turn()


async def turn() -> None:
    """Let what is due be handed over."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def test_a_request_is_delivered_and_a_reply_comes_to_the_inbox(connect: Connect) -> None:
    server, client = await connect(), await connect()
    received, replies = Received(), list[Message]()
    await server.receive("q", received, prefetch=1)
    await client.open_inbox(replies.append)
    await client.send(request(b"30", reply_to=client.inbox, correlation_id="c"))
    await turn()
    (delivery,) = received.deliveries
    assert not delivery.redelivered
    delivery.reply(delivery.message.reply(Kind.REPLY, b"832040"))
    await turn()
    assert [(reply.body, reply.correlation_id) for reply in replies] == [(b"832040", "c")]


async def test_an_unserved_address_is_known_at_once(connect: Connect, broker: MemoryBroker) -> None:
    client = await connect()
    with pytest.raises(NoResponder, match="'q'"):
        await client.send(request())
    await client.send(request(), must_be_served=False)
    assert broker.depth("q") == 1


async def test_a_waiting_request_goes_to_the_server_that_comes(connect: Connect) -> None:
    client = await connect()
    await client.send(request(b"early"), must_be_served=False)
    received = Received()
    await (await connect()).receive("q", received, prefetch=1)
    await turn()
    assert received.bodies == [b"early"]


async def test_no_more_than_prefetch_is_unsettled(connect: Connect) -> None:
    server, received = await connect(), Received()
    receiver = await server.receive("q", received, prefetch=2)
    await send(server, b"1", b"2", b"3", b"4")
    assert received.bodies == [b"1", b"2"]
    received.deliveries[0].settle()
    await turn()
    assert received.bodies == [b"1", b"2", b"3"]
    receiver.set_prefetch(3)
    await turn()
    assert received.bodies == [b"1", b"2", b"3", b"4"]


async def test_servers_of_one_address_share_its_work_in_turn(connect: Connect) -> None:
    one, two = Received(), Received()
    await (await connect()).receive("q", one, prefetch=10)
    client = await connect()
    await client.receive("q", two, prefetch=10)
    await send(client, b"1", b"2", b"3", b"4")
    assert (one.bodies, two.bodies) == ([b"1", b"3"], [b"2", b"4"])


async def test_settling_twice_is_once(connect: Connect) -> None:
    server, received = await connect(), Received()
    await server.receive("q", received, prefetch=1)
    await send(server, b"1", b"2", b"3")
    first = received.deliveries[0]
    first.settle()
    first.settle()
    first.hand_back()
    first.reject()
    await turn()
    assert received.bodies == [b"1", b"2"]


async def test_what_is_handed_back_is_as_if_never_delivered_and_in_order(
    connect: Connect, broker: MemoryBroker
) -> None:
    server, received = await connect(), Received()
    receiver = await server.receive("q", received, prefetch=3)
    await send(server, b"1", b"2", b"3", b"4")
    await receiver.stop()
    for delivery in received.take():
        delivery.hand_back()
    assert broker.depth("q") == 4
    again = Received()
    await server.receive("q", again, prefetch=10)
    await turn()
    assert again.bodies == [b"1", b"2", b"3", b"4"]
    assert not any(delivery.redelivered for delivery in again.deliveries)


async def test_what_is_handed_back_after_the_last_server_stopped_is_not_lost(
    connect: Connect, broker: MemoryBroker
) -> None:
    server, received = await connect(), Received()
    receiver = await server.receive("q", received, prefetch=1)
    await send(server, b"1")
    await receiver.stop()
    received.deliveries[0].hand_back()
    assert broker.depth("q") == 1


async def test_what_was_delivered_before_stop_goes_back_when_the_transport_closes(
    connect: Connect, broker: MemoryBroker
) -> None:
    server, received = await connect(), Received()
    receiver = await server.receive("q", received, prefetch=1)
    await send(server, b"1")
    await receiver.stop()
    await server.close()
    assert broker.depth("q") == 1


async def test_a_stopped_receiver_does_not_come_back_with_its_connection(connect: Connect) -> None:
    server, received = await connect(), Received()
    receiver = await server.receive("q", received, prefetch=5)
    await send(server, b"1")
    await receiver.stop()
    server.drop()
    server.restore()
    with pytest.raises(NoResponder):
        await server.send(request(b"2"))


async def test_a_lost_connection_redelivers_in_order_and_says_so(connect: Connect) -> None:
    server, received = await connect(), Received()
    await server.receive("q", received, prefetch=3)
    await send(server, b"1", b"2", b"3")
    server.drop()
    again = Received()
    await (await connect()).receive("q", again, prefetch=10)
    await turn()
    assert again.bodies == [b"1", b"2", b"3"]
    assert all(delivery.redelivered for delivery in again.deliveries)


async def test_a_claimed_delivery_is_nobody_elses(connect: Connect, broker: MemoryBroker) -> None:
    server, received = await connect(), Received()
    await server.receive("q", received, prefetch=2)
    await send(server, b"begun", b"not begun")
    assert await begins(received.deliveries[0])
    server.drop()
    assert broker.depth("q") == 1
    assert not await begins(received.deliveries[1])


async def test_a_poisonous_message_goes_to_the_dead_letters(connect: Connect, broker: MemoryBroker) -> None:
    server = await connect()
    await server.receive("q", Received(), prefetch=1)
    await send(server, b"poison")
    for _ in range(MAX_DELIVERIES):
        assert not broker.dead_letters
        server.drop()
        server.restore()
        await turn()
    assert [message.body for message in broker.dead_letters["q"]] == [b"poison"]


async def test_a_rejected_delivery_goes_to_the_dead_letters(connect: Connect, broker: MemoryBroker) -> None:
    server, received = await connect(), Received()
    await server.receive("q", received, prefetch=1)
    await send(server, b"1", b"2")
    received.deliveries[0].reject()
    await turn()
    assert received.bodies == [b"1", b"2"]
    assert [message.body for message in broker.dead_letters["q"]] == [b"1"]


async def test_expired_requests_are_never_delivered(url: str) -> None:
    clock = FakeClock()
    broker = MemoryBroker(clock=clock)
    MemoryBroker.register(url.removeprefix("memory://"), broker)
    transport = MemoryTransport(Url.parse(url), OPTIONS)
    await transport.connect()
    await transport.send(request(b"short", time_left_ms=100), must_be_served=False)
    await transport.send(request(b"long", time_left_ms=300), must_be_served=False)
    clock.advance(0.2)
    received = Received()
    await transport.receive("q", received, prefetch=10)
    await turn()
    assert received.bodies == [b"long"]
    await transport.close()


async def test_a_paused_receiver_gets_nothing_until_it_resumes(connect: Connect) -> None:
    server, received = await connect(), Received()
    receiver = await server.receive("q", received, prefetch=10)
    receiver.pause()
    await send(server, b"1")
    assert received.bodies == []
    receiver.resume()
    await turn()
    assert received.bodies == [b"1"]


async def test_a_reply_to_a_caller_that_has_left_is_told(connect: Connect) -> None:
    server, client = await connect(), await connect()
    received, gone = Received(), list[str]()
    server.on_gone(gone.append)
    await server.receive("q", received, prefetch=1)
    await client.open_inbox(lambda message: None)
    inbox = client.inbox
    await client.send(request(reply_to=inbox))
    await turn()
    await client.close()
    received.deliveries[0].reply(received.deliveries[0].message.reply(Kind.REPLY, b""))
    assert gone == [inbox]


async def test_published_messages_reach_every_subscriber_until_it_stops(connect: Connect) -> None:
    transport = await connect()
    one, two = list[Message](), list[Message]()
    first = await transport.subscribe("news", one.append)
    await transport.subscribe("news", two.append)
    await transport.publish("news", Message(Kind.EVENT, body=b"1"))
    await turn()
    await first.stop()
    await transport.publish("news", Message(Kind.EVENT, body=b"2"))
    await transport.publish("nobody listens", Message(Kind.EVENT))
    await turn()
    assert [message.body for message in one] == [b"1"]
    assert [message.body for message in two] == [b"1", b"2"]


async def test_states_are_told_and_only_connected_takes_messages(connect: Connect) -> None:
    transport, states = await connect(), list[State]()
    transport.on_state(lambda state, why: states.append(state))
    transport.drop()
    with pytest.raises(NotSent, match="reconnecting"):
        await transport.send(request())
    transport.restore()
    transport.block()
    with pytest.raises(NotSent, match="blocked"):
        await transport.publish("news", Message(Kind.EVENT))
    transport.restore()
    await transport.close()
    await transport.close()
    with pytest.raises(NotSent, match="closed"):
        await transport.send(request())
    assert states == [
        State.RECONNECTING,
        State.CONNECTED,
        State.BLOCKED,
        State.CONNECTED,
        State.CLOSED,
    ]


async def test_a_restored_connection_has_a_new_inbox(connect: Connect, broker: MemoryBroker) -> None:
    transport = await connect()
    assert transport.inbox == ""
    await transport.open_inbox(lambda message: None)
    first = transport.inbox
    transport.drop()
    assert transport.inbox == ""
    transport.restore()
    assert transport.inbox not in ("", first)
    assert list(broker.inboxes) == [transport.inbox]


async def test_what_is_delivered_is_a_copy(connect: Connect) -> None:
    server, received = await connect(), Received()
    await server.receive("q", received, prefetch=1)
    sent = request(b"1")
    await server.send(sent)
    sent.body = b"changed"
    await turn()
    assert received.bodies == [b"1"]


async def test_a_full_queue_refuses(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit.memory.MAX_QUEUE", 1)
    transport = await connect()
    await transport.send(request(), must_be_served=False)
    with pytest.raises(NotSent, match="full"):
        await transport.send(request(), must_be_served=False)


def test_a_name_means_one_broker_as_long_as_somebody_holds_it() -> None:
    one = MemoryTransport(Url.parse("memory://held"), OPTIONS)
    assert MemoryTransport(Url.parse("memory://held"), OPTIONS).broker is one.broker
    assert MemoryTransport(Url.parse("memory://other"), OPTIONS).broker is not one.broker


async def test_an_idle_address_leaves_nothing_behind(connect: Connect, broker: MemoryBroker) -> None:
    transport = await connect()
    receiver = await transport.receive("q", Received(), prefetch=1)
    await receiver.stop()
    assert broker._queues == {}
    assert transport.receivers == set()


async def test_a_block_ends_with_nothing_lost(connect: Connect) -> None:
    """The reply to what was sent before comes, and who receives is there once."""
    client, server, received, replies = await connect(), await connect(), Received(), list[Message]()
    await client.open_inbox(replies.append)
    receiver = await server.receive("q", received, prefetch=9)
    await client.send(request(reply_to=client.inbox))
    for blocked in (client, server):
        blocked.block()
        with pytest.raises(NotSent):
            await blocked.send(request())
        blocked.restore()
    await asyncio.sleep(0)
    [delivery] = received.take()
    delivery.reply(Message(Kind.REPLY, delivery.message.reply_to))
    await asyncio.sleep(0)
    assert len(replies) == 1
    await receiver.stop()
    with pytest.raises(NoResponder):
        await client.send(request())
