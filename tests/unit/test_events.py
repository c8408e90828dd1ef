"""Events: heard by a service, emitted by a client, run like calls that nobody waits for."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from rpckit import Client, Context, NotSent, Server, Service, UsageError, current_context
from rpckit.call import cancel_topic
from rpckit.events import MAX_WAITING_BYTES, EventBacklog, EventDelivery
from rpckit.memory import CAPABILITIES, MemoryBroker, MemoryTransport
from rpckit.message import Kind, Message
from rpckit.queries import TOPIC
from rpckit.topics import event_topic
from rpckit.transport import OnMessage, begins

Serve = Callable[..., Awaitable[Server]]
BRIEF = 0.01  # seconds: enough for a memory broker


class Listener:
    """A service that hears "news", and what became of its handlers."""

    def __init__(self, group: str = "") -> None:
        self.heard: list[Any] = []
        self.cancelled: list[Any] = []
        self.contexts: list[Context] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.service = Service("listener")
        self.service.on("news", group=group)(self.hear)

    async def hear(self, number: int, ctx: Context) -> None:
        self.heard.append(number)
        self.contexts.append(ctx)
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0.001)


def topics(broker: MemoryBroker) -> list[str]:
    return sorted(broker.topics)


# -- the count of those that wait -------------------------------------------------------------------


def test_events_over_the_limit_are_dropped_counted_and_warned_of_once_a_burst(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backlog = EventBacklog(limit=4)
    assert [backlog.admit(0) for _ in range(6)] == [True] * 4 + [False] * 2
    backlog.begin(0)
    assert [backlog.admit(0) for _ in range(2)] == [True, False]  # the same burst: it was never over
    assert (backlog.waiting, backlog.dropped, len(caplog.records)) == (4, 3, 1)
    for _ in range(2):
        backlog.begin(0)
    assert [backlog.admit(0) for _ in range(3)] == [True, True, False]
    assert (backlog.dropped, len(caplog.records)) == (4, 2)


async def test_an_event_is_a_delivery_of_which_nothing_is_kept() -> None:
    message = Message(Kind.EVENT)
    delivery = EventDelivery(message)
    assert await begins(delivery)
    assert not delivery.redelivered
    delivery.reply(message)
    for step in (delivery.settle, delivery.hand_back, delivery.reject):
        step()
    assert delivery.message is message


# -- emitting -----------------------------------------------------------------------------------


async def test_an_event_carries_arguments_and_headers_as_a_call_does(client: Client, serve: Serve) -> None:
    listener = Listener()
    await serve(listener.service)
    await client.emit("news", "1", headers={"user": "7"})
    await client.emit("news", number=2)
    await until(lambda: len(listener.heard) == 2)
    assert listener.heard == [1, 2]
    first, second = listener.contexts
    assert (first.headers, second.headers) == ({"user": "7"}, {})
    assert first.message.kind is Kind.EVENT
    assert first.message_id
    assert first.message_id != second.message_id
    assert (first.caller, first.deadline, first.attempt) == ("", None, 1)


async def test_emitting_to_nobody_is_no_error(client: Client) -> None:
    await client.emit("news", 1)
    assert client.pending == 0


async def test_an_event_is_native_whatever_the_client_speaks(url: str, serve: Serve) -> None:
    """A plain body could not carry two arguments, and whoever listens is one of us."""
    service, heard = Service("pairs"), list[tuple[int, int]]()

    @service.on("news")
    async def hear(a: int, b: int) -> None:
        heard.append((a, b))

    await serve(service)
    async with Client(url, dialect="plain") as plain:
        await plain.emit("news", 1, b=2)
        await until(lambda: heard)
    assert heard == [(1, 2)]


async def test_emitting_waits_to_be_connected(url: str, broker: MemoryBroker, serve: Serve) -> None:
    listener = Listener()
    await serve(listener.service)
    async with Client(url, send_wait=0.05) as client:
        transport = client.transport
        assert isinstance(transport, MemoryTransport)
        transport.drop()
        with pytest.raises(NotSent):
            await client.emit("news", 1)
        asyncio.get_running_loop().call_later(BRIEF, transport.restore)
        await client.emit("news", 2)
        await until(lambda: listener.heard)
    assert listener.heard == [2]


async def test_a_client_connects_when_it_first_emits(url: str, serve: Serve) -> None:
    listener = Listener()
    await serve(listener.service)
    client = Client(url)
    await client.emit("news", 1)
    await until(lambda: listener.heard)
    await client.close()


@pytest.mark.parametrize("topic", ["", "user.*", "x" * 241, 7])
async def test_what_is_no_topic_is_refused(client: Client, topic: Any) -> None:
    with pytest.raises(UsageError, match=r"topic .* cannot be used"):
        await client.emit(topic, 1)


async def test_what_cannot_be_sent_is_the_emitters_mistake(client: Client) -> None:
    with pytest.raises(UsageError, match="arguments cannot be sent"):
        await client.emit("news", object())
    with pytest.raises(UsageError, match="over max_body"):
        await client.emit("news", bytes(client.settings.max_body))
    with pytest.raises(UsageError, match="headers are strings"):
        await client.emit("news", headers={"n": 1})  # type: ignore[dict-item]


async def test_an_event_from_a_handler_has_neither_its_deadline_nor_its_depth(
    client: Client, url: str, serve: Serve
) -> None:
    listener, caller = Listener(), Service("caller")
    async with Client(url) as inner:

        @caller.method
        async def tell(n: int) -> None:
            await inner.emit("news", n)

        await serve(listener.service, caller)
        await client.call("caller.tell", 1, timeout=1)
        await until(lambda: listener.heard)
    assert (listener.contexts[0].depth, listener.contexts[0].time_left()) == (0, None)


def test_topics_of_users_are_never_ours() -> None:
    assert event_topic("rpckit.cancel.x") != cancel_topic("x")
    assert len(event_topic("x" * 240)) <= 255


# -- serving ------------------------------------------------------------------------------------


async def test_a_service_may_only_hear_and_then_nothing_is_received_at_its_address(
    client: Client, broker: MemoryBroker, serve: Serve
) -> None:
    await serve(Listener().service, Listener().service)  # not two services at one address: neither has one
    assert not broker.served("listener")
    assert sorted(topics(broker)) == sorted([event_topic("news"), TOPIC])


async def test_stopping_leaves_no_topic_behind(broker: MemoryBroker, url: str) -> None:
    async with Server(Listener().service, Listener("mail").service, url=url):
        assert [len(listeners) for listeners in broker.topics.hearing(event_topic("news"))] == [2]
    assert topics(broker) == []


async def test_a_group_is_refused_where_there_are_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, event_groups=False))
    async with Server(Listener().service, url=url):
        pass
    with pytest.raises(UsageError, match="listener hears 'news' in the group 'mail', which memory cannot"):
        await Server(Listener("mail").service, url=url).start()


async def test_a_pattern_is_refused_where_a_topic_is_a_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryTransport, "capabilities", replace(CAPABILITIES, event_patterns=False))
    service = Service("s")
    service.on("user.*")(Listener().hear)
    with pytest.raises(UsageError, match=r"s hears 'user.\*', a pattern, which memory cannot give"):
        await Server(service, url=url).start()


async def test_an_exchange_of_others_is_refused_where_there_is_none(client: Client, url: str, serve: Serve) -> None:
    """Before anything is sent, whoever wants to tell: a client, a server, a handler."""
    service = Service("s")
    service.on("fanout:logs")(Listener().hear)
    with pytest.raises(UsageError, match=r"topic 'fanout:logs' cannot be met on memory"):
        await Server(service, url=url).start()
    server = await serve(Listener().service)
    for tell in (client.emit, server.emit):
        with pytest.raises(UsageError, match=r"topic 'fanout:logs' cannot be met on memory"):
            await tell("fanout:logs", "a line")


async def test_a_handler_is_told_the_topic(client: Client, serve: Serve) -> None:
    """Of an event; a call has none."""
    service, topics = Service("s"), list[str]()

    @service.method
    @service.on("user.*")
    @service.on("news")
    async def hear(ctx: Context) -> None:
        topics.append(ctx.topic)

    await serve(service)
    await client.emit("user.created")
    await client.emit("news")
    await until(lambda: len(topics) == 2)
    await client.call("s.hear")
    assert topics == ["user.created", "news", ""]


async def test_a_service_hears_and_answers(client: Client, serve: Serve) -> None:
    listener = Listener()

    @listener.service.method
    async def count() -> int:
        return len(listener.heard)

    await serve(listener.service)
    await client.emit("news", 1)
    await until(lambda: listener.heard)
    assert await client.call("listener.count") == 1


async def test_middleware_goes_around_the_handlers_of_events(client: Client, serve: Serve) -> None:
    listener, around = Listener(), list[str]()

    async def note(context: Context, call_next: Any) -> Any:
        around.append(f"{context.service}.{context.method}")
        assert current_context() is context
        return await call_next(context)

    await serve(listener.service, middleware=[note])
    await client.emit("news", 1)
    await until(lambda: listener.heard)
    assert around == ["listener.hear"]


async def test_a_plain_def_hears_in_a_thread(client: Client, serve: Serve) -> None:
    service, heard = Service("thread"), list[tuple[int, str]]()

    @service.on("news")
    def hear(number: int) -> None:
        heard.append((number, threading.current_thread().name))

    await serve(service)
    await client.emit("news", 1)
    await until(lambda: heard)
    ((number, thread),) = heard
    assert number == 1
    assert thread.startswith("rpckit-handler")


@pytest.mark.parametrize(
    "argument, words, traced",
    [
        (1, "s.hear failed to handle an event", True),
        (
            "one",
            "s.hear failed to handle an event on news, which does not fit: INVALID_ARGUMENT: hear: number: "
            "Input should be a valid integer, unable to parse string as an integer",
            False,
        ),
    ],
    ids=["raises", "does not fit"],
)
async def test_an_error_is_logged_once_with_its_cause_and_harms_nobody(
    client: Client, serve: Serve, caplog: pytest.LogCaptureFixture, argument: object, words: str, traced: bool
) -> None:
    service, heard = Service("s"), list[int]()

    @service.on("news")
    async def hear(number: int) -> None:
        if number == 1:
            raise KeyError("the cause")
        heard.append(number)

    server = await serve(service)
    await client.emit("news", argument)
    await client.emit("news", 2)
    await until(lambda: heard and server.in_flight == 0)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert (record.getMessage(), bool(record.exc_info)) == (words, traced)
    assert heard == [2]


async def test_no_more_handlers_run_than_the_concurrency(client: Client, serve: Serve) -> None:
    listener = Listener()
    listener.go_on.clear()
    server = await serve(listener.service, concurrency=2)
    for number in range(5):
        await client.emit("news", number)
    await until(lambda: server.in_flight == 5)
    await asyncio.sleep(BRIEF)
    assert listener.heard == [0, 1]
    listener.go_on.set()
    await until(lambda: server.in_flight == 0)
    assert listener.heard == [0, 1, 2, 3, 4]


async def test_too_many_events_that_wait_are_dropped(
    client: Client, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener()
    listener.go_on.clear()
    server = await serve(listener.service, concurrency=1)
    assert server._dispatcher is not None
    server._dispatcher.events = EventBacklog(limit=3)
    for number in range(10):
        await client.emit("news", number)
    await asyncio.sleep(BRIEF)
    assert server._dispatcher.events.dropped == 6
    assert caplog.text.count("events are dropped") == 1
    listener.go_on.set()
    await until(lambda: server.in_flight == 0)
    assert listener.heard == [0, 1, 2, 3]
    await client.emit("news", 10)
    await until(lambda: listener.heard[-1] == 10)


async def test_a_handler_that_awaits_a_call_lends_its_slot(client: Client, url: str, serve: Serve) -> None:
    service, heard = Service("s"), list[int]()
    async with Client(url) as inner:

        @service.method
        async def double(n: int) -> int:
            return 2 * n

        @service.on("news")
        async def hear(n: int) -> None:
            heard.append(await inner.call("s.double", n, timeout=1))

        await serve(service, concurrency=1)
        await client.emit("news", 21)
        await until(lambda: heard)
    assert heard == [42]


@pytest.mark.parametrize("kind, body", [(Kind.CANCEL, b""), (Kind.EVENT, bytes(2000))])
async def test_what_is_no_event_or_too_large_is_dropped(
    client: Client, serve: Serve, caplog: pytest.LogCaptureFixture, kind: Kind, body: bytes
) -> None:
    listener = Listener()
    await serve(listener.service, max_body=1000)
    await client.transport.publish(event_topic("news"), Message(kind, body=body))
    await client.emit("news", 1)
    await until(lambda: listener.heard)
    assert listener.heard == [1]
    assert f"dropped a {kind}" in caplog.text


async def test_a_strangers_fields_do_not_make_a_call_of_an_event(client: Client, serve: Serve) -> None:
    """Two handlers hear the same message; neither is taken for the other's duplicate, and neither answers."""
    one, other = Listener(), Listener()
    await serve(one.service, other.service)
    sent: list[Message] = []
    await client.transport.subscribe("replies", sent.append)
    body = b'{"args": [1], "kwargs": {}}'
    message = Message(
        Kind.EVENT, correlation_id="c", reply_to="replies", time_left_ms=0, content_type="application/json", body=body
    )
    await client.transport.publish(event_topic("news"), message)
    await until(lambda: one.heard and other.heard)
    assert sent == []


# -- stopping -----------------------------------------------------------------------------------


async def test_stopping_runs_what_was_heard_within_the_grace_period(client: Client, serve: Serve) -> None:
    listener = Listener()
    listener.go_on.clear()
    server = await serve(listener.service, concurrency=1)
    await client.emit("news", 1)
    await client.emit("news", 2)
    await until(lambda: server.in_flight == 2)
    asyncio.get_running_loop().call_later(BRIEF, listener.go_on.set)
    await server.stop(grace=2)
    assert (listener.heard, listener.cancelled) == ([1, 2], [])


async def test_what_has_not_begun_by_then_is_dropped_and_what_runs_is_stopped(client: Client, serve: Serve) -> None:
    listener = Listener()
    listener.go_on.clear()
    server = await serve(listener.service, concurrency=1)
    await client.emit("news", 1)
    await client.emit("news", 2)
    await until(lambda: server.in_flight == 2)
    await server.stop(grace=0)
    assert (listener.heard, listener.cancelled) == ([1], [1])


async def test_events_are_dropped_while_draining(client: Client, serve: Serve) -> None:
    listener = Listener()
    server = await serve(listener.service)
    dispatcher = server._dispatcher
    assert dispatcher is not None
    dispatcher.draining = True
    await client.emit("news", 1)
    await asyncio.sleep(BRIEF)
    assert (listener.heard, server.in_flight) == ([], 0)


async def test_nothing_is_heard_after_stopping(client: Client, serve: Serve) -> None:
    listener = Listener()
    server = await serve(listener.service)
    await server.stop()
    await client.emit("news", 1)
    await asyncio.sleep(BRIEF)
    assert listener.heard == []


# -- groups, on the memory transport ----------------------------------------------------------------


async def _subscribed(client: Client, on_message: OnMessage, group: str) -> Any:
    return await client.transport.subscribe("t", on_message, group=group)


async def test_of_a_group_one_hears_in_turn(client: Client) -> None:
    heard: dict[str, list[bytes]] = {name: [] for name in ("a", "b", "other", "everyone")}

    def note(name: str) -> OnMessage:
        return lambda message: heard[name].append(message.body)

    first = await _subscribed(client, note("a"), "g")
    await _subscribed(client, note("b"), "g")
    await _subscribed(client, note("other"), "h")
    await _subscribed(client, note("everyone"), "")

    async def publish(*bodies: bytes) -> None:
        for body in bodies:
            await client.transport.publish("t", Message(Kind.EVENT, body=body))
        await asyncio.sleep(BRIEF)

    await publish(b"1", b"2", b"3", b"4")
    assert heard == {
        "a": [b"1", b"3"],
        "b": [b"2", b"4"],
        "other": [b"1", b"2", b"3", b"4"],
        "everyone": [b"1", b"2", b"3", b"4"],
    }
    first.pause()
    await publish(b"5", b"6")
    assert heard["b"][2:] == [b"5", b"6"]
    first.resume()
    await publish(b"7")
    assert heard["a"][2:] == [b"7"]
    await first.stop()
    await publish(b"8", b"9")
    assert heard["b"][4:] == [b"8", b"9"]


async def test_a_member_that_lost_its_connection_is_passed_over(url: str, client: Client) -> None:
    gone, here = list[Message](), list[Message]()
    async with Client(url) as other:
        await _subscribed(other, gone.append, "g")
        await _subscribed(client, here.append, "g")
        transport = other.transport
        assert isinstance(transport, MemoryTransport)
        transport.drop()
        for _ in range(4):
            await client.transport.publish("t", Message(Kind.EVENT))
        await asyncio.sleep(BRIEF)
        assert (len(gone), len(here)) == (0, 4)
        transport.restore()
        for _ in range(4):
            await client.transport.publish("t", Message(Kind.EVENT))
        await asyncio.sleep(BRIEF)
        assert (len(gone), len(here)) == (2, 6)


async def test_what_was_on_its_way_is_handed_over_before_a_subscription_ends(client: Client) -> None:
    heard: list[Message] = []
    subscription = await _subscribed(client, heard.append, "g")
    await client.transport.publish("t", Message(Kind.EVENT))
    await subscription.stop()
    await subscription.stop()
    assert len(heard) == 1


def test_what_waits_is_bounded_in_bytes_too() -> None:
    backlog = EventBacklog()
    assert backlog.admit(MAX_WAITING_BYTES)
    assert not backlog.admit(1)
    backlog.begin(MAX_WAITING_BYTES)
    assert backlog.admit(1)


@pytest.mark.parametrize("away", ["first", "last"])
async def test_a_transport_that_is_away_keeps_no_other_from_hearing(
    url: str, away: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Telling it again would tell the others twice."""
    listener, publish = Listener(), MemoryTransport.publish

    async def publish_unless_away(self: MemoryTransport, topic: str, message: Message) -> None:
        if self.url.hosts[0].name == "away":
            raise NotSent("it is away")
        await publish(self, topic, message)

    monkeypatch.setattr(MemoryTransport, "publish", publish_unless_away)
    urls = ["memory://away", url] if away == "first" else [url, "memory://away"]
    async with Server(listener.service, url=urls) as server:
        await server.emit("news", 1)
        await until(lambda: listener.heard == [1])
    assert "news was told on 1 of 2 transports: it is away" in caplog.text
    async with Server(listener.service, url="memory://away") as server:
        with pytest.raises(NotSent, match="it is away"):
            await server.emit("news", 2)
