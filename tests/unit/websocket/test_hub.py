"""Where sessions meet, over wires that only remember: turns, limits, cancels, events, receipts, and slow peers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from math import inf
from typing import Any

import msgpack
import pytest

from rpckit import codec
from rpckit.call import cancel_topic
from rpckit.errors import ConnectionLost, NoResponder, NotSent, Overloaded, RpcError, UsageError
from rpckit.fault import read_fault
from rpckit.message import NATIVE, Kind, Message
from rpckit.topics import MAX_WORDS
from rpckit.transport import Delivery, begins
from rpckit_websocket import _held
from rpckit_websocket._dialect import (
    Control,
    Frame,
    Hello,
    Incoming,
    Ping,
    Pong,
    Receipt,
    Subscribe,
    Undelivered,
    Unsubscribe,
)
from rpckit_websocket._hub import CANCELLED_S, Hub
from rpckit_websocket._link import FIRST_WORD_S, Link
from rpckit_websocket._native import Native
from rpckit_websocket._options import JSONRPC, WebSocketOptions
from rpckit_websocket._receiver import SessionReceiver
from rpckit_websocket._session import MAX_PATTERNS, MAX_TOPICS, Session

Q = "q"
TOPIC = "news"


class FakeWire:
    """What a link writes to; the other side is played by the test."""

    pings = True

    def __init__(self) -> None:
        self.last_read = 0.0
        self.unsent = 0
        self.frames: list[Frame] = []
        self.closes: list[tuple[int, str]] = []
        self.aborted = 0
        self.pinged = 0
        self.on_frame: Callable[[Frame], None]
        self.on_pong: Callable[[], None]

    def attach(self, on_frame: Callable[[Frame], None], on_pong: Callable[[], None]) -> None:
        self.on_frame, self.on_pong = on_frame, on_pong

    def write(self, frame: Frame) -> None:
        self.frames.append(frame)

    def send_ping(self) -> None:
        self.pinged += 1

    def shut(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))

    def abort(self) -> None:
        self.aborted += 1


class FakePeer:
    """The other side of one session."""

    def __init__(self, hub: Hub, name: str, dialect: str | None = NATIVE, *, greets: bool = True) -> None:
        self.name = name
        self.wire = FakeWire()
        self.link = Link(hub, Session(f"id-{name}", dialled=False), self.wire, {})
        hub.admit(self.link)
        self.link.begin(dialect)
        if dialect == NATIVE and greets:
            self.says(Hello("", name))
        self.wire.frames.clear()

    def says(self, what: Control | Message) -> None:
        native = Native()
        frame = native.write(what) if isinstance(what, Message) else native.write_control(what)
        assert frame is not None
        self.wire.on_frame(frame)

    def says_json(self, value: Any) -> None:
        self.wire.on_frame(json.dumps(value))

    def asks(self, *ids: str, address: str = Q, **fields: Any) -> None:
        for id_ in ids:
            self.says(Message(Kind.REQUEST, address, "fib", f"m-{id_}", id_, "me", codec.JSON, **fields))

    def notes(self, *ids: str, address: str = Q, **fields: Any) -> None:
        for id_ in ids:
            self.says(Message(Kind.REQUEST, address, "fib", id_, **fields))

    def cancels(self, id_: str, topic: str = cancel_topic(Q)) -> None:
        self.wire.on_frame(Native().event(topic, Message(Kind.CANCEL, correlation_id=id_)))

    def emits(self, body: bytes = b"1", topic: str = TOPIC) -> None:
        self.wire.on_frame(Native().event(topic, Message(Kind.EVENT, content_type=codec.JSON, body=body)))

    @property
    def heard(self) -> list[Incoming]:
        return [item for frame in self.wire.frames for item in Native().read(frame)]

    @property
    def heard_json(self) -> list[Any]:
        return [json.loads(frame) for frame in self.wire.frames]


class Bench:
    """A hub, and what it told."""

    def __init__(self, *, relays: bool = True, **options: Any) -> None:
        self.undelivered: list[tuple[str, RpcError]] = []
        self.gone: list[str] = []
        self.links: list[tuple[str, bool]] = []
        self.taken: list[Delivery] = []
        self.inbox: list[Message] = []
        self.hub = Hub(
            WebSocketOptions(**options),
            on_undelivered=lambda id_, error: self.undelivered.append((id_, error)),
            on_gone=self.gone.append,
            relays=relays,
        )
        self.hub.on_message = self.inbox.append
        self.hub.on_link = lambda link, joined, why: self.links.append((link.id, joined))

    def serve(self, address: str = Q, prefetch: int = 100) -> SessionReceiver:
        return self.hub.receive(address, self.taken.append, prefetch)

    def peer(self, name: str, dialect: str | None = NATIVE) -> FakePeer:
        return FakePeer(self.hub, name, dialect)

    @property
    def ids(self) -> list[str]:
        """Of what was handed to receivers, in order."""
        return [each.message.correlation_id or each.message.message_id for each in self.taken]

    def settle(self, id_: str) -> None:
        self.taken[self.ids.index(id_)].settle()


@pytest.fixture
async def bench() -> Bench:
    return Bench()


# --- turns ---------------------------------------------------------------------------------------


async def test_a_request_goes_to_the_receiver_of_its_address(bench: Bench) -> None:
    bench.serve()
    others: list[Delivery] = []
    bench.hub.receive("other", others.append, 10)
    peer = bench.peer("a")
    peer.asks("1")
    peer.asks("2", address="other")
    assert (bench.ids, [each.message.correlation_id for each in others]) == (["1"], ["2"])
    assert bench.taken[0].message.reply_to == "id-a"


async def test_each_peer_has_its_turn(bench: Bench) -> None:
    bench.serve(prefetch=1)
    one, other = bench.peer("a"), bench.peer("b")
    one.asks("a1", "a2", "a3")
    other.asks("b1", "b2")
    for id_ in ("a1", "a2", "b1", "a3", "b2"):
        assert bench.ids[-1] == id_
        bench.settle(id_)
    assert len(bench.ids) == 5


async def test_a_peer_has_at_most_peer_limit_in_hand() -> None:
    bench = Bench(peer_limit=2)
    bench.serve()
    one, other = bench.peer("a"), bench.peer("b")
    one.asks("a1", "a2", "a3", "a4")
    other.asks("b1")
    assert bench.ids == ["a1", "a2", "b1"]
    bench.settle("b1")
    assert bench.ids == ["a1", "a2", "b1"], "the turn of another"
    bench.settle("a2")
    assert bench.ids == ["a1", "a2", "b1", "a3"]
    bench.settle("a2")
    assert bench.ids[-1] == "a3", "settled once"


async def test_what_waits_is_not_passed_by_what_comes_later() -> None:
    bench = Bench(peer_limit=2)
    receiver = bench.serve(prefetch=1)
    bench.serve("other")
    peer = bench.peer("a")
    peer.asks("1", "2")
    peer.asks("3", address="other")
    assert bench.ids == ["1"]
    receiver.set_prefetch(2)
    assert bench.ids == ["1", "2"]
    bench.settle("1")
    assert bench.ids == ["1", "2", "3"]


async def test_what_waits_for_room_is_not_passed_by_what_has_some(bench: Bench) -> None:
    bench.serve().pause()
    bench.serve("other")
    one, other = bench.peer("a"), bench.peer("b")
    one.asks("a1")
    one.asks("a2", address="other")
    other.asks("b1", address="other")
    bench.settle("b1")
    assert bench.ids == ["b1"]


async def test_a_peer_that_is_stuck_keeps_no_other_from_its_turns(bench: Bench) -> None:
    bench.serve().pause()
    receiver = bench.serve("other")
    receiver.pause()
    one, other = bench.peer("a"), bench.peer("b")
    one.asks("a1")
    other.asks("b1", "b2", "b3", address="other")
    receiver.resume()
    assert bench.ids == ["b1", "b2", "b3"]


async def test_ordered_keeps_order_over_all_addresses() -> None:
    bench = Bench(ordered=True, peer_limit=50)
    bench.serve("x")
    bench.serve("y")
    peer = bench.peer("a")
    for n in range(6):
        peer.asks(str(n), address="xy"[n % 2])
    for n in range(6):
        assert bench.ids == [str(each) for each in range(n + 1)]
        bench.settle(str(n))


async def test_a_nested_request_passes_a_peer_that_has_its_limit() -> None:
    bench = Bench(ordered=True)
    bench.serve()
    peer = bench.peer("a")
    peer.asks("1", "2")
    peer.link.sent["ours"] = inf
    peer.asks("nested", depth=1)
    assert bench.ids == ["1", "nested"]
    bench.settle("nested")
    assert bench.ids == ["1", "nested"], "it took no turn, and gives none"
    bench.settle("1")
    assert bench.ids == ["1", "nested", "2"]


async def test_who_only_says_that_a_request_is_nested_waits_its_turn() -> None:
    """It can be one only while we wait for that peer, and as many can be as calls of ours do."""
    bench = Bench(ordered=True)
    bench.serve()
    peer = bench.peer("a")
    peer.asks("1")
    peer.asks("2", depth=1)
    assert bench.ids == ["1"]
    peer.link.sent["ours"] = inf
    peer.asks("3", "4", depth=1)
    assert bench.ids == ["1", "3"]
    bench.settle("3")
    assert bench.ids == ["1", "3", "2"]


async def test_nested_requests_pass_a_peer_that_has_its_limit_while_handlers_here_wait_for_such() -> None:
    """They may be what its others wait for, though no call of ours is under way in this session: a service that calls
    itself does so with a client of its own."""
    bench = Bench(peer_limit=2)
    receiver = bench.serve(prefetch=3)
    peer = bench.peer("a")
    peer.asks("1", "2")
    peer.asks("nested", "too", depth=1)
    assert bench.ids == ["1", "2"]
    receiver.set_prefetch(4)  # handlers have lent their slots
    assert bench.ids == ["1", "2", "nested"]
    receiver.set_prefetch(3)
    bench.settle("nested")
    assert bench.ids == ["1", "2", "nested"]
    bench.settle("1")
    assert bench.ids == ["1", "2", "nested", "too"]


async def test_a_nested_request_that_waits_for_room_passes_those_that_wait_for_a_turn() -> None:
    bench = Bench(ordered=True)
    bench.serve(prefetch=2)
    one, other = bench.peer("a"), bench.peer("b")
    one.asks("a1")
    other.asks("b1")
    one.asks("a2")
    one.link.sent["ours"] = inf
    one.asks("nested", depth=1)
    assert bench.ids == ["a1", "b1"]
    bench.settle("b1")
    assert bench.ids == ["a1", "b1", "nested"]


async def test_a_paused_receiver_takes_nothing_until_it_is_resumed(bench: Bench) -> None:
    receiver = bench.serve()
    receiver.pause()
    bench.peer("a").asks("1")
    assert bench.ids == []
    receiver.resume()
    assert bench.ids == ["1"]


# --- how much may wait ---------------------------------------------------------------------------


async def test_held_requests_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_held, "MAX_WAITING", 2)
    bench = Bench(peer_limit=1)
    bench.serve()
    peer = bench.peer("a")
    peer.asks("1", "2", "3", "4")
    (refusal,) = peer.heard
    assert isinstance(refusal, Message)
    assert refusal.correlation_id == "4"
    error = read_fault(refusal).to_error()
    assert isinstance(error, Overloaded)
    assert error.retry_after == 1.0
    bench.settle("1")
    peer.asks("5")
    assert len(peer.heard) == 1, "there is room again"


@pytest.mark.parametrize("field", ["body", "method", "headers"])
async def test_held_requests_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch, field: str) -> None:
    monkeypatch.setattr(_held, "MAX_WAITING_BYTES", 250)
    bench = Bench(peer_limit=1)
    bench.serve()
    peer = bench.peer("a")
    large: Any = {"body": b"x" * 80, "method": "x" * 80, "headers": {"x": "x" * 80}}[field]

    def ask(id_: str) -> None:
        message = Message(Kind.REQUEST, Q, "", "", id_, "me", codec.JSON)
        setattr(message, field, large)
        peer.says(message)

    for id_ in "1234":
        ask(id_)
    assert [item.correlation_id for item in peer.heard if isinstance(item, Message)] == ["4"]
    bench.settle("1")
    bench.settle("2")
    for id_ in "567":
        ask(id_)
    assert [item.correlation_id for item in peer.heard if isinstance(item, Message)] == ["4", "7"]


async def test_a_notification_that_finds_no_room_is_not_receipted_as_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_held, "MAX_WAITING", 1)
    bench = Bench(peer_limit=1)
    bench.serve()
    peer = bench.peer("a")
    peer.notes("1", "2", "3")
    one, two, three = peer.heard
    assert (one, two) == (Receipt("1"), Receipt("2"))
    assert isinstance(three, Receipt)
    assert (three.message_id, "wait here" in three.refusal) == ("3", True)


# --- cancels -------------------------------------------------------------------------------------


async def test_a_held_request_that_is_cancelled_never_runs() -> None:
    bench = Bench(peer_limit=1)
    bench.serve()
    cancels: list[Message] = []
    await bench.hub.subscribe(cancel_topic(Q), cancels.append)
    peer = bench.peer("a")
    peer.asks("1", "2", "3")
    peer.cancels("2")
    bench.settle("1")
    bench.settle("3")
    assert (bench.ids, cancels) == (["1", "3"], [])


async def test_a_peer_whose_held_requests_were_cancelled_stops_nobody() -> None:
    bench = Bench()
    bench.serve(prefetch=1)
    one, two, three = (bench.peer(name) for name in "abc")
    one.asks("a1")
    two.asks("b1")
    three.asks("c1")
    two.cancels("b1")
    bench.settle("a1")
    assert bench.ids == ["a1", "c1"]


async def test_what_stood_behind_a_cancelled_request_may_go(bench: Bench) -> None:
    bench.serve().pause()
    bench.serve("other")
    peer = bench.peer("a")
    peer.asks("1")
    peer.asks("2", address="other")
    assert bench.ids == []
    peer.cancels("1")
    assert bench.ids == ["2"]


async def test_a_cancel_of_what_runs_is_heard_by_its_table(bench: Bench) -> None:
    bench.serve()
    cancels: list[Message] = []
    await bench.hub.subscribe(cancel_topic(Q), cancels.append)
    peer = bench.peer("a")
    peer.asks("1")
    peer.cancels("1")
    peer.cancels("1", topic=cancel_topic("no address at all"))
    peer.says(Message(Kind.CANCEL, correlation_id="1"))
    assert [(each.kind, each.correlation_id, each.reply_to) for each in cancels] == [(Kind.CANCEL, "1", "id-a")] * 3


async def test_a_cancelled_json_request_is_answered_held_or_not() -> None:
    bench = Bench(peer_limit=1)
    bench.serve()
    peer = bench.peer("a", JSONRPC)
    for n in (1, 2):
        peer.says_json({"jsonrpc": "2.0", "id": n, "method": "q.fib"})
    for n in (2, 1):
        peer.says_json({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": n}})
    bench.settle("1")
    assert [(each["id"], each["error"]["code"]) for each in peer.heard_json] == [(2, -32800), (1, -32800)]


@pytest.mark.parametrize("relays", [True, False])
async def test_a_cancel_goes_to_the_session_of_its_request_and_to_no_other(relays: bool) -> None:
    bench = Bench(relays=relays)
    one, other, json_peer = bench.peer("a"), bench.peer("b"), bench.peer("c", JSONRPC)
    one.link.sent["1"] = inf
    json_peer.link.sent["2"] = inf
    for id_ in ("1", "2"):
        bench.hub.publish(cancel_topic(""), Message(Kind.CANCEL, correlation_id=id_))
    (cancel,) = one.heard
    assert isinstance(cancel, Message)
    assert (cancel.kind, cancel.correlation_id) == (Kind.CANCEL, "1")
    assert other.heard == []
    assert [each["params"] for each in json_peer.heard_json] == [{"id": "2"}]
    assert (one.link.sent, [*json_peer.link.sent]) == ({}, ["2"]), "only JSON-RPC answers a cancelled request"


# --- nobody serves -------------------------------------------------------------------------------


async def test_an_address_nobody_serves_is_told_at_once(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.asks("1", address="nobody")
    peer.notes("2", address="nobody")
    peer.notes("", address="nobody")
    request, receipt = peer.heard
    assert isinstance(request, Undelivered)
    assert request.correlation_id == "1"
    assert isinstance(receipt, Receipt)
    assert receipt.message_id == "2"
    assert "'nobody'" in request.why
    assert "'nobody'" in receipt.refusal


async def test_a_refusal_is_short_however_long_the_address(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.asks("1", address="x" * 10_000)
    assert len(peer.wire.frames[0]) < 500


async def test_a_receiver_that_stops_refuses_what_it_held(bench: Bench) -> None:
    receiver = bench.serve(prefetch=1)
    bench.serve("other").pause()
    peer = bench.peer("a")
    peer.asks("1", "2")
    peer.asks("3", address="other")
    peer.notes("4")
    peer.wire.frames.clear()
    await receiver.stop()
    assert [type(item) for item in peer.heard] == [Undelivered, Receipt]
    peer.asks("5")
    assert isinstance(peer.heard[-1], Undelivered)
    assert len(peer.link.held) == 1
    bench.settle("1")
    assert bench.ids == ["1"]


async def test_a_receiver_that_was_replaced_stops_alone(bench: Bench) -> None:
    old = bench.serve()
    bench.serve()
    await old.stop()
    bench.peer("a").asks("1")
    assert bench.ids == ["1"]


# --- answers -------------------------------------------------------------------------------------


async def test_a_reply_goes_back_and_settles(bench: Bench) -> None:
    receiver = bench.serve()
    peer = bench.peer("a")
    peer.asks("1")
    (delivery,) = bench.taken
    assert await begins(delivery)
    delivery.reply(delivery.message.reply(Kind.REPLY, b"5", codec.JSON))
    delivery.reject()
    (reply,) = peer.heard
    assert isinstance(reply, Message)
    assert (reply.kind, reply.correlation_id, reply.body) == (Kind.REPLY, "1", b"5")
    assert (receiver.unsettled, peer.link.in_hand) == (0, 0)


async def test_a_reply_that_can_never_be_sent_leaves_the_request_in_hand() -> None:
    bench = Bench(max_message=20_000)
    receiver = bench.serve()
    peer = bench.peer("a")
    peer.asks("1")
    (delivery,) = bench.taken
    with pytest.raises(UsageError):
        delivery.reply(delivery.message.reply(Kind.REPLY, b"x" * 20_000, codec.JSON))
    assert (receiver.unsettled, peer.heard) == (1, [])


async def test_a_reply_to_a_peer_that_left_only_settles(bench: Bench) -> None:
    receiver = bench.serve()
    peer = bench.peer("a")
    peer.asks("1")
    peer.link.end("gone")
    (delivery,) = bench.taken
    delivery.reply(delivery.message.reply(Kind.REPLY, b"5", codec.JSON))
    assert (receiver.unsettled, peer.heard) == (0, [])


async def test_what_is_handed_back_is_told_that_it_did_not_run(bench: Bench) -> None:
    bench.serve()
    peer = bench.peer("a")
    peer.asks("1")
    (delivery,) = bench.taken
    delivery.hand_back()
    delivery.hand_back()
    (fault,) = peer.heard
    assert isinstance(fault, Message)
    assert isinstance(read_fault(fault).to_error(), NoResponder)


async def test_answers_go_to_the_inbox_under_the_peers_name(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.link.sent["1"] = inf
    peer.says(Message(Kind.REPLY, correlation_id="1", body=b"5"))
    assert [(each.address, each.correlation_id) for each in bench.inbox] == [("id-a", "1")]
    assert peer.link.sent == {}


async def test_a_request_that_comes_back_undelivered_is_told(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.link.sent["1"] = inf
    peer.says(Undelivered("1", "nobody"))
    ((id_, error),) = bench.undelivered
    assert (id_, type(error), peer.link.sent) == ("1", NoResponder, {})


# --- coming and going ----------------------------------------------------------------------------


async def test_what_a_peer_had_waiting_goes_with_it() -> None:
    bench = Bench(peer_limit=1)
    bench.serve()
    peer = bench.peer("a")
    peer.asks("1", "2", "3")
    peer.link.end("gone")
    bench.settle("1")
    assert (bench.ids, bench.hub.holding, len(peer.link.held)) == (["1"], {}, 0)


async def test_a_peer_that_leaves_is_told_once_with_what_it_owed(bench: Bench) -> None:
    peer = bench.peer("a")
    assert list(bench.hub.links) == ["id-a"]
    peer.link.sent.update({"1": inf, "2": inf})
    peer.link.end("pulled")
    peer.link.end("again")
    peer.link.lose("and again")
    assert sorted(id_ for id_, _ in bench.undelivered) == ["1", "2"]
    assert all(isinstance(error, ConnectionLost) and "pulled" in str(error) for _, error in bench.undelivered)
    assert (bench.gone, bench.links) == (["id-a"], [("id-a", True), ("id-a", False)])
    assert (bench.hub.links, bench.hub.every, bench.hub.empty.is_set()) == ({}, set(), True)


async def test_a_connection_that_never_was_a_session_is_not_told(bench: Bench) -> None:
    peer = FakePeer(bench.hub, "a", greets=False)
    assert not bench.hub.empty.is_set()
    peer.link.end("gone")
    assert (bench.links, bench.gone, bench.hub.empty.is_set()) == ([], [], True)
    with pytest.raises(NotSent, match="gone"):
        await peer.link.ready


async def test_an_end_of_the_sessions_own_is_said_and_logged_once(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    peer = bench.peer("a")
    for _ in range(3):
        peer.wire.on_frame(b"\xc1")
    assert [code for code, _ in peer.wire.closes] == [1002]
    assert len(caplog.records) == 1
    with pytest.raises(NotSent):
        peer.link.write(Message(Kind.REPLY))


async def test_what_follows_a_loss_in_the_same_frame_is_not_taken() -> None:
    bench = Bench(max_unsent=1024, peer_limit=1)
    bench.serve()
    peer = bench.peer("a", JSONRPC)
    one, two, three = ({"jsonrpc": "2.0", "id": n, "method": "q.fib"} for n in (1, 2, 3))
    peer.says_json(one)
    peer.says_json(two)
    peer.wire.unsent = 1025
    peer.says_json([{"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 2}}, three])
    assert (peer.link.gone, len(peer.link.held), bench.hub.holding) == (True, 0, {})


# --- events --------------------------------------------------------------------------------------


async def test_events_are_relayed_to_subscribers_but_not_back(bench: Bench) -> None:
    heard: list[Message] = []
    await bench.hub.subscribe(TOPIC, heard.append)
    one, two, three = (bench.peer(name) for name in "abc")
    for peer in (one, two):
        peer.says(Subscribe(TOPIC))
    one.emits(b"5")
    assert [each.body for each in heard] == [b"5"]
    assert [[item.body for item in peer.heard if isinstance(item, Message)] for peer in (one, two, three)] == [
        [],
        [b"5"],
        [],
    ]
    two.says(Unsubscribe(TOPIC))
    one.emits(b"6")
    assert len(two.heard) == 1


async def test_what_is_published_here_is_heard_here_and_by_subscribers(bench: Bench) -> None:
    heard: list[Message] = []
    subscription = await bench.hub.subscribe(TOPIC, heard.append)
    one, other = bench.peer("a"), bench.peer("b")
    one.says(Subscribe(TOPIC))
    event = Message(Kind.EVENT, TOPIC, content_type=codec.JSON, body=b"5")
    bench.hub.publish(TOPIC, event)
    bench.hub.publish("other", event)
    assert (heard, len(one.heard), other.heard) == ([event], 1, [])
    subscription.pause()
    bench.hub.publish(TOPIC, event)
    subscription.resume()
    bench.hub.publish(TOPIC, event)
    await subscription.stop()
    bench.hub.publish(TOPIC, event)
    assert len(heard) == 2


async def test_a_peer_has_a_limit_of_topics(bench: Bench) -> None:
    peer = bench.peer("a")
    for n in range(MAX_TOPICS + 1):
        peer.says(Subscribe(str(n)))
    assert len(peer.link.topics) == MAX_TOPICS
    peer.says(Unsubscribe("0"))
    peer.says(Subscribe("more"))
    assert "more" in peer.link.topics


async def test_a_pattern_hears_each_event_once(bench: Bench) -> None:
    """Also where a name is subscribed that it matches."""
    heard: list[Message] = []
    await bench.hub.subscribe("news.*", heard.append)
    one, other = bench.peer("a"), bench.peer("b")
    for topic in ("news.*", "news.one", "#"):
        one.says(Subscribe(topic))
    other.says(Subscribe("news.*"))
    event = Message(Kind.EVENT, "news.one", content_type=codec.JSON, body=b"5")
    bench.hub.publish("news.one", event)
    bench.hub.publish("news", event)
    assert (heard, len(one.heard), len(other.heard)) == ([event], 2, 1)
    other.says(Unsubscribe("news.*"))
    bench.hub.publish("news.one", event)
    assert len(other.heard) == 1


async def test_a_peer_has_a_limit_of_patterns(bench: Bench) -> None:
    """Each is tried on every event."""
    peer = bench.peer("a")
    for n in range(MAX_PATTERNS + 1):
        peer.says(Subscribe(f"{n}.*"))
    peer.says(Subscribe("a.name"))
    assert len(peer.link.patterns) == MAX_PATTERNS
    assert peer.link.wants("a.name")
    assert not peer.link.wants(f"{MAX_PATTERNS}.x")


async def test_topics_of_more_words_than_anyone_needs_are_passed_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger's pattern takes the product of both numbers of words to match, or not to."""
    one, other = bench.peer("a"), bench.peer("b")
    many = ".".join(["#", "a"] * 20)
    one.says(Subscribe(f"rpckit.event.{many}"))
    one.says(Subscribe("rpckit.event.#"))
    assert one.link.patterns == {"rpckit.event.#"}
    for topic in (".".join("a" * (MAX_WORDS + 1)), "a" * 241):
        other.says(Message(Kind.EVENT, f"rpckit.event.{topic}", content_type=codec.JSON, body=b"5"))
        assert "dropped an event of" in caplog.text
        caplog.clear()
    assert one.heard == []
    other.says(Message(Kind.EVENT, f"rpckit.event.{'.'.join('a' * MAX_WORDS)}", content_type=codec.JSON, body=b"5"))
    assert len(one.heard) == 1


async def test_the_side_that_dials_is_told_of_a_pattern_too_many() -> None:
    """The other side would pass it over without a word."""
    hub = Bench(relays=False).hub
    for n in range(MAX_PATTERNS):
        await hub.subscribe(f"{n}.*", lambda _: None)
    await hub.subscribe("a.name", lambda _: None)
    await hub.subscribe("0.*", lambda _: None)
    with pytest.raises(UsageError, match=r"'more\.\*' is one too many"):
        await hub.subscribe("rpckit.event.more.*", lambda _: None)


async def test_one_subscribers_trouble_with_an_event_is_its_own(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    author, json_peer, other = bench.peer("a"), bench.peer("b", JSONRPC), bench.peer("c")
    for peer in (json_peer, other):
        peer.link.topics.add(TOPIC)
    body = msgpack.packb({"args": [b"\xff"], "kwargs": {}})
    author.wire.on_frame(Native().event(TOPIC, Message(Kind.EVENT, content_type=codec.MSGPACK, body=body)))
    assert (len(json_peer.wire.frames), len(other.heard)) == (0, 1)
    assert "was not sent" in caplog.text


async def test_the_side_that_dials_relays_nothing_and_tells_the_other_its_topics() -> None:
    bench = Bench(relays=False)
    peer = bench.peer("server")
    heard: list[Message] = []
    subscribing = asyncio.ensure_future(bench.hub.subscribe(TOPIC, heard.append))
    await asyncio.sleep(0)
    said, ping = peer.heard
    assert said == Subscribe(TOPIC)
    assert isinstance(ping, Ping)
    assert not subscribing.done()
    peer.says(Pong(ping.token))
    subscription = await subscribing
    peer.link.topics.add(TOPIC)
    peer.emits(b"5")
    assert ([each.body for each in heard], len(peer.heard)) == ([b"5"], 2)
    await subscription.stop()
    assert peer.heard[2:] == [Unsubscribe(TOPIC)]


async def test_a_later_session_of_the_side_that_dials_is_told_its_topics() -> None:
    bench = Bench(relays=False)
    await bench.hub.subscribe(TOPIC, lambda _: None)
    peer = FakePeer(bench.hub, "server", greets=False)
    peer.says(Hello("", "server"))
    assert peer.heard == [Subscribe(TOPIC)]


async def test_waiting_for_a_peer_that_goes_ends_with_it() -> None:
    bench = Bench(relays=False)
    peer = bench.peer("server")
    subscribing = asyncio.ensure_future(bench.hub.subscribe(TOPIC, lambda _: None))
    await asyncio.sleep(0)
    peer.link.end("pulled")
    with pytest.raises(ConnectionLost, match="pulled"):
        await subscribing


# --- slow peers ----------------------------------------------------------------------------------


def event() -> Message:
    return Message(Kind.EVENT, TOPIC, content_type=codec.JSON, body=b"5")


async def test_a_slow_peer_loses_events_first(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(max_unsent=2000)
    bench.serve()
    peer = bench.peer("a")
    peer.says(Subscribe(TOPIC))
    peer.asks("1")
    peer.wire.unsent = 1000
    bench.hub.publish(TOPIC, event())
    assert (len(peer.heard), peer.link.congested()) == (1, False)
    peer.wire.unsent = 1001
    with caplog.at_level(logging.WARNING):
        bench.hub.publish(TOPIC, event())
        bench.hub.publish(TOPIC, event())
    assert (len(peer.heard), len(caplog.records), peer.link.congested()) == (1, 1, True)
    bench.taken[0].reply(bench.taken[0].message.reply(Kind.REPLY, b"5", codec.JSON))
    assert (len(peer.heard), peer.link.gone) == (2, False), "answers are still sent"


async def test_a_peer_that_does_not_read_at_all_is_lost() -> None:
    bench = Bench(max_unsent=2000)
    receiver = bench.serve()
    peer = bench.peer("a")
    peer.asks("1")
    peer.wire.unsent = 2001
    bench.taken[0].reply(bench.taken[0].message.reply(Kind.REPLY, b"5", codec.JSON))
    assert (peer.link.gone, peer.wire.aborted, bench.gone, peer.heard) == (True, 1, ["id-a"], [])
    assert receiver.unsettled == 0
    with pytest.raises(NotSent, match="gone"):
        peer.link.write(Message(Kind.REQUEST, Q))


@pytest.mark.parametrize("what", ["pong", "refusal", "receipt"])
async def test_so_is_one_that_asks_only_what_the_session_itself_answers(what: str) -> None:
    bench = Bench(max_unsent=2000)
    bench.serve()
    peer = bench.peer("a")
    peer.wire.unsent = 2001
    if what == "pong":
        peer.says(Ping("t"))
    elif what == "refusal":
        peer.asks("1", address="nobody")
    else:
        peer.notes("1")
    assert (peer.link.gone, peer.heard) == (True, [])


async def test_a_message_over_the_limit_is_a_usage_error_and_harms_nobody() -> None:
    bench = Bench(max_message=20_000)
    peer = bench.peer("a")
    for message, words in (
        (Message(Kind.REQUEST, Q, body=b"x" * 20_000), "a body of 20000 bytes is over what max_message leaves"),
        (Message(Kind.REQUEST, "x" * 256), "an address of 256 characters; a session carries 255"),
        (Message(Kind.REQUEST, Q, headers={"x": "x" * 20_000}), r"a message of \d+ bytes is over max_message"),
    ):
        with pytest.raises(UsageError, match=words):
            peer.link.write(message)
    assert (peer.link.gone, peer.heard) == (False, [])


async def test_a_text_is_measured_in_bytes() -> None:
    bench = Bench(max_message=20_000)
    peer = bench.peer("a", JSONRPC)
    with pytest.raises(UsageError, match=r"of 21\d\d\d bytes is over max_message"):
        peer.link.write(Message(Kind.REQUEST, Q, "漢" * 7_000))
    assert (peer.link.gone, peer.heard) == (False, [])


async def test_a_peer_that_answers_no_cancelled_call_does_not_fill_a_table(bench: Bench) -> None:
    """Of calls without a deadline each was remembered for as long as the session lasted."""
    peer = bench.peer("a", JSONRPC)
    peer.link.sent["1"] = peer.link.sent["2"] = inf
    bench.hub.publish(cancel_topic(""), Message(Kind.CANCEL, correlation_id="1"))
    peer.link.look(bench.hub.loop.time() + CANCELLED_S + 1, 1e6)
    assert peer.link.sent == {"2": inf}


@pytest.mark.parametrize("expired", [1, 3])
async def test_a_peer_that_is_lost_by_the_cancel_of_an_expired_call_is_lost_quietly(expired: int) -> None:
    bench = Bench(max_unsent=2000)
    peer = bench.peer("a", JSONRPC)
    peer.link.sent.update({f"late-{n}": 1.0 for n in range(expired)}, waits=inf)
    peer.wire.unsent = 2001
    peer.link.look(8.0, 10.0)
    assert (peer.link.gone, peer.wire.pinged, peer.wire.frames) == (True, 0, [])
    assert "waits" in dict(bench.undelivered), "who still waits for it is told"


@pytest.mark.parametrize("relays", [True, False])
async def test_a_cancel_that_loses_a_slow_peer_is_no_error_of_its_sender(relays: bool) -> None:
    """Who sends cancels gives up all that wait behind one that fails, those for peers that read among them."""
    bench = Bench(relays=relays, max_unsent=2000)
    slow, other = bench.peer("a"), bench.peer("b")
    slow.link.sent["1"] = other.link.sent["2"] = inf
    slow.wire.unsent = 2001
    for id_ in "12":
        bench.hub.publish(cancel_topic(Q), Message(Kind.CANCEL, correlation_id=id_))
    assert (slow.link.gone, slow.heard) == (True, [])
    assert [item.correlation_id for item in other.heard if isinstance(item, Message)] == ["2"]


async def test_leaving_a_topic_that_loses_a_slow_server_is_left_all_the_same() -> None:
    bench = Bench(relays=False, max_unsent=2000)
    peer = bench.peer("a")
    subscribing = asyncio.ensure_future(bench.hub.subscribe("rpckit.event.news", lambda _: None))
    await asyncio.sleep(0)
    subscribing.cancel()
    peer.wire.unsent = 2001
    with pytest.raises(asyncio.CancelledError):
        await subscribing
    assert peer.link.gone
    assert list(bench.hub._subscriptions) == []


# --- receipts ------------------------------------------------------------------------------------


async def test_a_notification_is_receipted_when_it_runs_and_when_it_waits() -> None:
    bench = Bench(peer_limit=1)
    bench.serve()
    peer = bench.peer("a")
    peer.notes("1", "2")
    peer.notes("")
    peer.asks("3")
    assert peer.heard == [Receipt("1"), Receipt("2")]
    assert bench.ids == ["1"]


async def test_a_receipt_tells_who_waits_for_it(bench: Bench) -> None:
    peer = bench.peer("a")
    good, bad, lost = (bench.hub.loop.create_future() for _ in range(3))
    peer.link.receipts.update(good=good, bad=bad, lost=lost)
    peer.says(Receipt("good"))
    peer.says(Receipt("bad", "nobody"))
    peer.says(Receipt("unknown"))
    assert good.result() is None
    with pytest.raises(NoResponder, match="nobody"):
        bad.result()
    assert not lost.done()
    peer.link.end("pulled")
    with pytest.raises(ConnectionLost, match="pulled"):
        lost.result()


# --- signs of life -------------------------------------------------------------------------------


async def test_a_silent_peer_is_asked_once_and_lost_when_it_gives_no_sign(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.link.look(5.0, 10.0)
    assert peer.heard == []
    for now in (5.1, 9.0, 17.5):
        peer.link.look(now, 10.0)
    assert ([type(item) for item in peer.heard], peer.link.gone) == ([Ping], False)
    peer.link.look(17.6, 10.0)
    assert (peer.link.gone, peer.wire.aborted) == (True, 1)


async def test_a_peer_that_is_never_silent_is_asked_once_a_heartbeat(bench: Bench) -> None:
    """Also one that always asks first: its round trip is to be known."""
    peer = bench.peer("a")
    for now in range(1, 24):
        peer.wire.last_read = float(now)
        peer.link.look(float(now), 10.0)
        for ping in peer.heard:
            assert isinstance(ping, Ping)
            peer.says(Pong(ping.token))
    assert [type(item) for item in peer.heard] == [Ping, Ping]
    assert peer.link.rtt is not None


async def test_an_answer_to_the_heartbeat_is_measured(bench: Bench) -> None:
    peer = bench.peer("a")
    assert peer.link.rtt is None
    peer.link.look(6.0, 10.0)
    (ping,) = peer.heard
    assert isinstance(ping, Ping)
    peer.says(Pong(ping.token))
    assert peer.link.rtt is not None
    assert 0 <= peer.link.rtt < 1
    peer.link.look(17.6, 10.0)
    assert not peer.link.gone


async def test_a_json_peer_is_asked_by_a_ping_frame(bench: Bench) -> None:
    peer = bench.peer("a", JSONRPC)
    peer.link.look(6.0, 10.0)
    assert (peer.wire.pinged, peer.wire.frames) == (1, [])
    peer.wire.on_pong()
    assert peer.link.rtt is not None


async def test_sleep_of_ours_is_not_silence_of_theirs(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.link.look(6.0, 10.0)
    peer.link.slept(100.0)
    peer.link.look(100.0, 10.0)
    assert not peer.link.gone


async def test_a_session_that_cannot_be_looked_after_is_lost_and_the_others_are_still_watched(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(heartbeat=0.02)
    bad, other = bench.peer("a"), bench.peer("b")
    looks: list[str] = []

    def look(link: Link, now: float, heartbeat: float) -> None:
        looks.append(link.id)
        if link is bad.link:
            raise ValueError("a defect")

    monkeypatch.setattr(Link, "look", look)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bench.hub.watch(), 0.1)
    assert (bad.link.gone, other.link.gone) == (True, False)
    assert (looks.count(bad.link.id), looks.count(other.link.id) > 1) == (1, True)
    assert "a defect" in caplog.text


@pytest.mark.parametrize("default, dialect", [(None, ""), ("jsonrpc", "jsonrpc"), ("native", "native")])
async def test_a_peer_that_says_nothing_gets_the_default_dialect(default: Any, dialect: str) -> None:
    bench = Bench(default_dialect=default)
    peer = FakePeer(bench.hub, "a", None)
    peer.link.look(peer.link.began + FIRST_WORD_S, 10.0)
    assert peer.link.dialect == ""
    peer.link.look(peer.link.began + FIRST_WORD_S + 0.1, 10.0)
    assert peer.link.dialect == dialect


async def test_a_topic_that_is_too_long_is_not_kept(bench: Bench) -> None:
    peer = bench.peer("a")
    peer.says(Subscribe("t" * 255))
    peer.says(Subscribe("t" * 256))
    assert peer.link.topics == {"t" * 255}


async def test_a_peer_that_is_lost_while_it_is_refused_ends_nothing_else() -> None:
    """A stop goes through all that waits, and each refusal is a write."""
    bench = Bench(max_unsent=1024, peer_limit=1)
    receiver = bench.serve()
    slow, other = bench.peer("a"), bench.peer("b")
    for peer in (slow, other):
        peer.asks(f"{peer.link.name}1", f"{peer.link.name}2", f"{peer.link.name}3")
    slow.wire.unsent = 1025
    other.wire.frames.clear()
    await receiver.stop()
    assert slow.link.gone
    assert [type(item) for item in other.heard] == [Undelivered, Undelivered]
