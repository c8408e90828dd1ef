"""Services on a transport with sessions: what is received where, bare names, and what the transport cannot do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from rpckit import Service, UsageError
from rpckit.bodies import write_arguments
from rpckit.call import cancel_topic
from rpckit.dispatch import Dispatcher
from rpckit.errors import MethodNotFound
from rpckit.fault import read_fault
from rpckit.job import Link
from rpckit.memory import CAPABILITIES
from rpckit.message import NATIVE, Kind, Message
from rpckit.serving import Serving, check_capabilities, serve_on
from rpckit.settings import Settings
from rpckit.topics import event_topic
from rpckit.transport import Capabilities, Delivery, OnBegun, OnDelivery, OnGone, OnMessage, Transport

SESSIONS = replace(CAPABILITIES, sessions=True)


class FakeReceiver:
    def __init__(self) -> None:
        self.stopped = 0
        self.prefetches: list[int] = []

    def set_prefetch(self, prefetch: int) -> None:
        self.prefetches.append(prefetch)

    async def stop(self) -> None:
        self.stopped += 1


class FakeTransport:
    """Remembers, in order, what it was asked to receive and to subscribe to."""

    def __init__(self, *, sessions: bool = True, **capabilities: Any) -> None:
        self.capabilities = replace(SESSIONS, sessions=sessions, **capabilities)
        self.accepts: dict[str, OnDelivery] = {}
        self.topics: dict[str, OnMessage] = {}
        self.asked: list[str] = []
        self.prefetch: dict[str, int] = {}
        self.receivers: list[FakeReceiver] = []
        self.gone: list[OnGone] = []

    def capabilities_at(self, address: str) -> Capabilities:
        return self.capabilities

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> FakeReceiver:
        self.accepts[address] = on_delivery
        self.asked.append(f"receive {address}")
        self.prefetch[address] = prefetch
        self.receivers.append(FakeReceiver())
        return self.receivers[-1]

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> FakeReceiver:
        self.topics[topic] = on_message
        self.asked.append(f"subscribe {topic}")
        return FakeReceiver()

    def on_gone(self, callback: OnGone) -> None:
        self.gone.append(callback)


class FakeDelivery:
    redelivered = False

    def __init__(self, message: Message) -> None:
        self.message = message
        self.replies: list[Message] = []
        self.ends: list[str] = []

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        told(True)

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        self.replies.append(message)
        self.ends.append("reply")

    def settle(self) -> None:
        self.ends.append("settle")

    def hand_back(self) -> None:
        self.ends.append("hand back")

    def reject(self) -> None:
        self.ends.append("reject")


def request(method: str, address: str = "", id_: str = "c-1") -> FakeDelivery:
    body, content_type = write_arguments(NATIVE, "application/json", (), {})
    return FakeDelivery(Message(Kind.REQUEST, address, method, "", id_, "peer", content_type, body=body))


def service(name: str, *methods: str) -> Service:
    made = Service(name)
    for method in methods:

        async def answer(said: str = f"{name}.{method}") -> str:
            return said

        made.method(name=method)(answer)
    return made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not condition():
            await asyncio.sleep(0)


class Bench:
    def __init__(self) -> None:
        self.dispatcher = Dispatcher(10, max_body=1000, prefetch_ahead=32)
        self.transport = FakeTransport()
        self.link = Link("0", cast(Transport, self.transport))

    def accept_bare(self, services: list[Service], delivery: FakeDelivery) -> None:
        self.dispatcher.accept_bare(self.link, services, cast(Delivery, delivery))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.dispatcher.drain(0)


async def test_what_a_client_exposes_is_taken_no_further_ahead_than_is_set() -> None:
    transport, settings = FakeTransport(), Settings(concurrency=1, prefetch_ahead=0)
    serving = Serving(cast(Transport, transport), [service("one", "a", "x")], settings, lambda _: None)
    await serving.start()
    assert transport.prefetch["one"] == 1
    await serving.stop()


# --- bare names ----------------------------------------------------------------------------------


async def test_a_bare_name_that_one_service_has_is_called_there(bench: Bench) -> None:
    delivery = request("b")
    bench.accept_bare([service("one", "a", "x"), service("two", "b", "x")], delivery)
    await until(lambda: bool(delivery.ends))
    (reply,) = delivery.replies
    assert (reply.kind, reply.body) == (Kind.REPLY, b'"two.b"')


async def test_a_bare_name_that_two_have_is_refused_with_both_places(bench: Bench) -> None:
    delivery = request("x")
    bench.accept_bare([service("one", "x"), service("two", "x"), service("three", "y")], delivery)
    assert delivery.ends == ["reply"]
    error = read_fault(delivery.replies[0]).to_error()
    assert isinstance(error, MethodNotFound)
    assert all(word in str(error) for word in ("one", "two", "'x'", "ADDRESS.METHOD"))
    assert "three" not in str(error)


@pytest.mark.parametrize("services", [[], [service("one", "a", "b")]])
async def test_a_bare_name_that_nobody_has_is_refused_with_those_there_are(
    bench: Bench, services: list[Service]
) -> None:
    delivery = request("missing" * 100)
    bench.accept_bare(services, delivery)
    assert delivery.ends == ["reply"]
    error = read_fault(delivery.replies[0]).to_error()
    assert isinstance(error, MethodNotFound)
    assert ("a, b" if services else "no methods") in str(error)
    assert len(str(error)) < 300


async def test_no_name_at_all_is_the_default_method_of_the_only_service_that_has_one(bench: Bench) -> None:
    delivery = request("")
    bench.accept_bare([service("one", "a", "b"), service("two", "only")], delivery)
    await until(lambda: bool(delivery.ends))
    assert delivery.replies[0].body == b'"two.only"'


@pytest.mark.parametrize("method", ["a", "x", "missing"])
async def test_a_server_that_drains_hands_back_whatever_the_name(bench: Bench, method: str) -> None:
    bench.dispatcher.draining = True
    delivery = request(method)
    bench.accept_bare([service("one", "a", "x"), service("two", "x")], delivery)
    assert delivery.ends == ["hand back"]


# --- what is received ----------------------------------------------------------------------------


async def test_cancels_are_heard_before_requests_are_taken(bench: Bench) -> None:
    await serve_on(bench.dispatcher, bench.link, [service("one", "a"), service("two", "b")])
    asked = bench.transport.asked
    assert [each for each in asked if each.startswith("subscribe")] == [
        f"subscribe {cancel_topic('one')}",
        f"subscribe {cancel_topic('two')}",
    ]
    assert asked[2:5] == ["receive one", "receive two", "receive "]
    assert [id(each) for each in bench.link.receivers] == [id(each) for each in bench.transport.receivers]


async def test_without_sessions_a_request_has_an_address(bench: Bench) -> None:
    transport = FakeTransport(sessions=False)
    await serve_on(bench.dispatcher, Link("0", cast(Transport, transport)), [service("one", "a")])
    assert list(transport.accepts) == ["one"]


async def test_a_service_of_events_alone_takes_no_requests(bench: Bench) -> None:
    hearing = Service("hearing")

    @hearing.on("news")
    async def news() -> None: ...

    await serve_on(bench.dispatcher, bench.link, [hearing, service("one", "a")])
    assert "hearing" not in bench.transport.accepts
    assert list(bench.transport.topics) == [event_topic("news"), cancel_topic("one")]


async def test_each_address_leads_to_its_service(bench: Bench) -> None:
    await serve_on(bench.dispatcher, bench.link, [service("one", "a"), service("two", "a")])
    deliveries = {name: request("a", name, name) for name in ("one", "two")}
    for name, delivery in deliveries.items():
        bench.transport.accepts[name](cast(Delivery, delivery))
    bare = request("a")
    bench.transport.accepts[""](cast(Delivery, bare))
    await until(lambda: all(delivery.ends for delivery in deliveries.values()))
    assert {name: delivery.replies[0].body for name, delivery in deliveries.items()} == {
        "one": b'"one.a"',
        "two": b'"two.a"',
    }
    assert bare.replies[0].kind is Kind.FAULT


async def test_a_cancel_on_the_topic_of_an_address_ends_the_call_and_nothing_else_does(bench: Bench) -> None:
    stuck = Service("stuck")

    @stuck.method
    async def wait() -> None:
        await asyncio.Event().wait()

    await serve_on(bench.dispatcher, bench.link, [stuck])
    delivery = request("wait", "stuck")
    bench.transport.accepts["stuck"](cast(Delivery, delivery))
    await asyncio.sleep(0)
    heard = bench.transport.topics[cancel_topic("stuck")]
    for kind in (Kind.EVENT, Kind.REPLY):
        heard(Message(kind, correlation_id="c-1", reply_to="peer"))
    heard(Message(Kind.CANCEL, correlation_id="c-1", reply_to="another peer"))
    await asyncio.sleep(0)
    assert delivery.ends == []
    heard(Message(Kind.CANCEL, correlation_id="c-1", reply_to="peer"))
    await until(lambda: bool(delivery.ends))
    assert delivery.ends == ["settle"]


# --- what a client exposes -----------------------------------------------------------------------


async def test_what_a_client_exposes_is_served_until_it_stops() -> None:
    transport = FakeTransport()
    others: list[str] = []
    serving = Serving(cast(Transport, transport), [service("one", "a")], Settings(), others.append)
    assert transport.asked == []
    await serving.start()
    delivery = request("a")
    transport.accepts[""](cast(Delivery, delivery))
    await until(lambda: bool(delivery.ends))
    assert delivery.replies[0].body == b'"one.a"'
    await serving.stop()
    assert {receiver.stopped for receiver in transport.receivers} == {1}
    late = request("a")
    transport.accepts[""](cast(Delivery, late))
    assert late.ends == ["hand back"]


@pytest.mark.parametrize("end", ["gone", "stop"])
async def test_what_runs_ends_with_the_session(end: str) -> None:
    ended: list[str] = []
    stuck = Service("stuck")

    @stuck.method
    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("wait")

    transport = FakeTransport()
    serving = Serving(cast(Transport, transport), [stuck], Settings(), lambda _: None)
    await serving.start()
    transport.accepts[""](cast(Delivery, request("wait")))
    await asyncio.sleep(0)
    if end == "gone":
        for tell in transport.gone:
            tell("another peer")
        await asyncio.sleep(0)
        assert ended == []
        for tell in transport.gone:
            tell("peer")
        await until(lambda: bool(ended))
    await serving.stop()
    assert ended == ["wait"]


# --- what the transport cannot do ----------------------------------------------------------------


def demanding() -> Service:
    made = Service("s")

    @made.method(idempotent=True, delivery="at_least_once")
    async def again() -> None: ...

    return made


def grouped() -> Service:
    made = Service("s")

    @made.on("news", group="g")
    async def news() -> None: ...

    return made


@pytest.mark.parametrize(
    "make, capability, words",
    [(demanding, "redelivers", 's.again demands delivery="at_least_once"'), (grouped, "event_groups", "'news'")],
)
def test_what_a_service_demands_and_the_transport_cannot_do_is_refused(
    make: Callable[[], Service], capability: str, words: str
) -> None:
    check = partial(check_capabilities, services=[service("one", "a"), make()])
    check(cast(Transport, FakeTransport(**{capability: True})))
    with pytest.raises(UsageError, match=words):
        check(cast(Transport, FakeTransport(**{capability: False})))


async def test_a_client_is_refused_before_it_serves() -> None:
    transport = FakeTransport(redelivers=False)
    with pytest.raises(UsageError, match="at_least_once"):
        Serving(cast(Transport, transport), [demanding()], Settings(), lambda _: None)
    assert transport.gone == []


# --- what counts as begun -------------------------------------------------------------------


@pytest.mark.parametrize("takes", [True, False])
@pytest.mark.parametrize("idempotent", [True, False])
async def test_what_counts_as_begun_is_taken_only_when_it_can_begin(takes: bool, idempotent: bool) -> None:
    """Of a slot that is lent another may make use."""
    transport = FakeTransport(sessions=False, takes_begun=takes)
    dispatcher = Dispatcher(2, max_body=1000, prefetch_ahead=8)
    link = Link("0", cast(Transport, transport))
    dispatcher.links.append(link)
    one = service("one", "a")
    one.method(name="b", idempotent=idempotent)(_nothing)
    await serve_on(dispatcher, link, [one])
    (receiver,) = transport.receivers
    begun = takes and not idempotent
    assert transport.prefetch["one"] == (2 if begun else 10)
    assert dispatcher.slots.take()
    assert dispatcher.slots.take()
    dispatcher.lending.lend()
    dispatcher.lending.lend()
    assert dispatcher.slots.take()
    dispatcher.lending.reclaim_now()
    assert receiver.prefetches == ([2, 3, 4, 3] if begun else [])
    await dispatcher.drain(0)


async def _nothing() -> None: ...
