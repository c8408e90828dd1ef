"""Claims and settlings of one tick: one step of Redis, and each delivery's own outcome."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any, cast

import hiredis
import pytest

from rpckit.bundle import unbundled
from rpckit.errors import Code, OutcomeUnknown, Overloaded
from rpckit.fault import read_fault
from rpckit.message import Kind, Message
from rpckit.transport import Delivery, begins
from rpckit_redis._channels import Channels
from rpckit_redis._envelope import read, write
from rpckit_redis._keys import BUNDLE_INBOXES, PlaceKind, place_of
from rpckit_redis._link import Link
from rpckit_redis._lists import ListReceiver, PoppingReceiver
from rpckit_redis._pulling import PullingReceiver
from rpckit_redis._replier import MAX_REMEMBERED, Replier
from rpckit_redis._scripts import SETTLE_LIST, SETTLE_OWN_STREAM, TAKE_LIST, TRIES_LIST, TRIES_STREAM
from rpckit_redis._streams import StreamReceiver
from rpckit_redis._subscribers import STALE_S, ChannelReceiver


class Redis:
    """The other end of a link: the commands it gets, as words, write by write."""

    def __init__(self) -> None:
        self.link = Link()
        self.writes: list[list[list[bytes]]] = []
        self.link.connection_made(cast(asyncio.Transport, self))

    def write(self, data: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(data)
        self.writes.append([])
        while (command := reader.gets()) is not False:
            self.writes[-1].append(command)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, *, high: int) -> None: ...

    def abort(self) -> None:
        self.link.connection_lost(None)


class Server:
    """A receiver, its session's main link, and a link to read by."""

    def __init__(self, receiver: type[PullingReceiver], kind: PlaceKind) -> None:
        self.main, self.reader = Redis(), Redis()
        self.deliveries: list[Delivery] = []
        self.session = cast(Any, SimpleNamespace(main=self.main.link, consumer="me", alive=True))
        self.replier = Replier(on_gone=lambda _: None)
        self.replier.attach(self.session)
        place = place_of("x", kind)
        parts = (place, "x", self.deliveries.append, 100, self.replier, Channels())
        self.receiver = receiver(*parts, own=cast(Any, None), reap_soon=lambda: None)
        self.receiver._session = self.session

    def deliver(self, count: int, tries: int = 1) -> list[Delivery]:
        for n in range(count):
            data = write(Message(Kind.REQUEST, "x", message_id=f"m{n}", correlation_id=f"c{n}", reply_to="inbox"))
            self.receiver._deliver(self.session, data, b"1-%d" % n, tries)
        return self.deliveries[-count:]

    async def commands(self) -> list[list[bytes]]:
        await asyncio.sleep(0)
        commands = [command for write in self.main.writes for command in write]
        self.main.writes.clear()
        return commands


@pytest.fixture
async def stream() -> Server:
    return Server(StreamReceiver, PlaceKind.STREAM)


@pytest.fixture
async def in_list() -> Server:
    return Server(ListReceiver, PlaceKind.LIST)


async def begun(deliveries: list[Delivery], *, again: bool = False) -> list[asyncio.Task[bool]]:
    tasks = [asyncio.ensure_future(begins(delivery, again=again)) for delivery in deliveries]
    await asyncio.sleep(0)
    return tasks


def answer(number: int, inbox: str = "1") -> Message:
    return Message(
        Kind.REPLY, f"{BUNDLE_INBOXES}{inbox}", correlation_id=f"{number:032x}", content_type="text/plain", body=b"r"
    )


async def test_bundles_are_published_before_their_requests_are_settled(stream: Server) -> None:
    """Whatever the order of replying: a server that dies between two commands has lost no reply."""
    for number, delivery in enumerate(stream.deliver(4)):
        delivery.reply(answer(number, inbox=str(number % 2)))
    *published, deleted, acked = await stream.commands()
    assert {(name, channel) for name, channel, _ in published} == {
        (b"PUBLISH", BUNDLE_INBOXES.encode() + inbox) for inbox in (b"0", b"1")
    }
    entries = [b"1-0", b"1-1", b"1-2", b"1-3"]
    assert (deleted, acked) == (
        [b"XDEL", b"rpckit:{x}:stream", *entries],
        [b"XACK", b"rpckit:{x}:stream", b"rpckit", *entries],
    )


async def test_a_bundle_whose_connection_is_lost_goes_out_on_the_next_one(stream: Server) -> None:
    for number, delivery in enumerate(stream.deliver(2)):
        delivery.reply(answer(number))
    stream.main.abort()
    stream.replier.detach()
    await asyncio.sleep(0)
    again = Redis()
    stream.replier.attach(cast(Any, SimpleNamespace(main=again.link, alive=True)))
    await asyncio.sleep(0)
    [[[name, channel, data]]] = again.writes
    assert (name, channel) == (b"PUBLISH", BUNDLE_INBOXES.encode() + b"1")
    bundle = read(data, "inbox", Kind.REPLY)
    assert [reply.correlation_id for reply in unbundled(bundle)] == [f"{number:032x}" for number in range(2)]


async def test_nobody_at_the_inbox_of_a_bundle_is_told(stream: Server) -> None:
    gone: list[str] = []
    stream.replier._on_gone = gone.append
    for number in range(2):
        stream.replier.reply(answer(number), stream.main.link.loop.time(), 1_000)
    await asyncio.sleep(0)
    stream.main.link.data_received(b":0\r\n")
    assert gone == [f"{BUNDLE_INBOXES}1"]


async def test_claims_of_one_tick_are_one_step_and_each_has_its_outcome(stream: Server) -> None:
    claims = await begun(stream.deliver(3))
    assert await stream.commands() == [
        [b"EVALSHA", SETTLE_OWN_STREAM.sha, b"1", b"rpckit:{x}:stream", b"rpckit", b"1-0", b"1-1", b"1-2"]
    ]
    stream.main.link.data_received(b"*3\r\n:1\r\n:0\r\n:1\r\n")
    assert await asyncio.gather(*claims) == [True, False, True]


async def test_a_claim_that_was_cancelled_keeps_its_place(stream: Server) -> None:
    claims = await begun(stream.deliver(3))
    await stream.commands()
    claims[1].cancel()
    await asyncio.sleep(0)
    stream.main.link.data_received(b"*3\r\n:1\r\n:1\r\n:0\r\n")
    assert await claims[0] is True
    assert await claims[2] is False


async def test_claims_that_redis_refuses_are_errors_of_their_own(stream: Server) -> None:
    claims = await begun(stream.deliver(2))
    await stream.commands()
    stream.main.link.data_received(b"-MISCONF disk full\r\n")
    outcomes = await asyncio.gather(*claims, return_exceptions=True)
    assert all(isinstance(outcome, OutcomeUnknown) for outcome in outcomes)  # what is left there may run yet
    assert outcomes[0] is not outcomes[1]


async def test_claims_of_a_lost_connection_are_not_won(stream: Server) -> None:
    claims = await begun(stream.deliver(2))
    await stream.commands()
    stream.session.alive = False
    stream.main.abort()
    assert await asyncio.gather(*claims) == [False, False]


async def test_a_claim_lost_with_its_connection_is_not_answered_since_another_server_may_have_it(
    stream: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    claims = await begun(stream.deliver(2))
    await stream.commands()
    stream.main.abort()
    assert await asyncio.gather(*claims) == [False, False]
    assert "could not be begun" in caplog.text


async def test_a_claim_that_another_server_won_takes_up_no_room_any_more(stream: Server) -> None:
    claims = await begun(stream.deliver(2))
    await stream.commands()
    stream.main.link.data_received(b"*2\r\n:1\r\n:0\r\n")
    assert await asyncio.gather(*claims) == [True, False]
    assert stream.receiver._unsettled == 1


async def test_reply_addresses_of_strangers_are_remembered_up_to_a_length(stream: Server) -> None:
    for length in (10, MAX_REMEMBERED, MAX_REMEMBERED + 1, 100_000):
        stream.replier.reply(Message(Kind.REPLY, "i" * length, body=b"7"), 0.0, None)
    assert [len(address) for address in stream.replier._heads] == [10, MAX_REMEMBERED]
    assert [command[0] for command in await stream.commands()] == [b"PUBLISH"] * 4


class Heard:
    """A receiver of a channel with room for `prefetch` requests, and what it delivers."""

    def __init__(self, prefetch: int) -> None:
        self.redis = Redis()
        link = self.redis.link
        self.session = cast(
            Any, SimpleNamespace(main=link, alive=True, fresh_since=link.last_read, consumer="me", on_push=None)
        )
        self.deliveries: list[Delivery] = []
        replier = Replier(on_gone=lambda _: None)
        replier.attach(self.session)
        place = place_of("x", PlaceKind.CHANNEL)
        self.receiver = ChannelReceiver(
            *(place, "x", self.deliveries.append, prefetch, replier, Channels()), broadcast=False
        )
        self.receiver._session = self.session
        link.on_push = lambda channel, _: self.receiver._on_joined(b"") if channel == b"a" else None

    async def reconnect(self) -> None:
        """With nobody else there."""
        await self.answered(self.receiver.announce(self.session), b">3\r\n+subscribe\r\n+a\r\n:1\r\n", b":1\r\n")
        await self.answered(self.receiver.attach(self.session), counts(1, 1))

    async def answered(self, asking: Coroutine[Any, Any, None], *replies: bytes) -> None:
        task = asyncio.create_task(asking)
        for reply in replies:
            await asyncio.sleep(0)
            self.session.main.data_received(reply)
        await task

    async def claims(self) -> list[bytes]:
        """The commands by which what was delivered is claimed."""
        self.redis.writes.clear()
        for delivery in self.deliveries:
            delivery.begin(lambda _: None)
        await asyncio.sleep(0)
        return [command[0] for write in self.redis.writes for command in write]

    def hear(self, count: int) -> None:
        for n in range(count):
            self.receiver._on_data(write(Message(Kind.REQUEST, "x", message_id=f"m{n}")))


async def test_a_backlog_is_delivered_on_the_next_connection() -> None:
    heard = Heard(prefetch=2)
    heard.hear(5)
    assert len(heard.deliveries) == 2
    await heard.reconnect()
    assert len(heard.deliveries) == 4


def counts(alive: int, heard: int) -> bytes:
    return b"*2\r\n:%d\r\n:%d\r\n" % (alive, heard)


JOINED = b">3\r\n+message\r\n+a\r\n+other\r\n"


async def test_what_nobody_else_hears_needs_no_claim() -> None:
    heard = Heard(prefetch=2)
    await heard.reconnect()
    heard.hear(2)
    assert await heard.claims() == []
    assert all(delivery.begun for delivery in heard.deliveries)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seen", [(1, 2), (2, 1), (2, 2)], ids=["older", "coming", "there"])
async def test_what_others_hear_is_claimed(seen: tuple[int, int]) -> None:
    heard = Heard(prefetch=2)
    await heard.reconnect()
    await heard.answered(heard.receiver.look_around(heard.session), counts(*seen))
    heard.hear(1)
    assert await heard.claims() == [b"SET"]


async def test_who_came_after_the_look_around_is_not_overlooked() -> None:
    """Both are in one read; the answer is the older one."""
    heard = Heard(prefetch=2)
    await heard.reconnect()
    await heard.answered(heard.receiver.look_around(heard.session), counts(1, 1) + JOINED)
    heard.hear(1)
    assert await heard.claims() == [b"SET"]


async def test_what_others_have_heard_is_claimed_though_they_are_gone() -> None:
    """It waited here; they may have run it before they left."""
    heard = Heard(prefetch=1)
    await heard.reconnect()
    heard.session.main.data_received(JOINED)
    heard.hear(2)
    await heard.answered(heard.receiver.look_around(heard.session), counts(1, 1))
    heard.hear(1)
    heard.receiver.set_prefetch(3)
    assert await heard.claims() == [b"SET", b"SET"]


async def test_where_nobody_answers_who_hears_it_is_claimed() -> None:
    """As on a replica, which hears what its master's servers hear."""
    heard = Heard(prefetch=1)
    await heard.reconnect()
    await heard.answered(heard.receiver.look_around(heard.session), b"-READONLY a replica\r\n")
    heard.hear(1)
    assert await heard.claims() == [b"SET"]


@pytest.mark.parametrize(
    "answer, outcome",
    [(b":1\r\n", Overloaded), (b":0\r\n", bool), (b"-MISCONF disk full\r\n", OutcomeUnknown)],
    ids=["ours", "another's", "nobody's yet"],
)
async def test_who_is_refused_a_claim_says_that_nothing_ran_only_of_what_nobody_can_run_any_more(
    answer: bytes, outcome: type[object]
) -> None:
    heard = Heard(prefetch=1)
    await heard.reconnect()
    await heard.answered(heard.receiver.look_around(heard.session), counts(2, 2))
    heard.hear(1)
    told: list[object] = []
    heard.deliveries[0].begin(told.append)
    heard.session.main.data_received(b"-OOM full\r\n")
    assert told == []
    heard.session.main.data_received(answer)
    assert [type(each) for each in told] == [outcome]


async def test_what_only_we_have_runs_though_the_connection_is_lost() -> None:
    heard = Heard(prefetch=2)
    heard.hear(1)
    await heard.reconnect()
    heard.hear(1)
    heard.session.alive = False
    told: list[object] = []
    for delivery in heard.deliveries:
        delivery.begin(told.append)
    assert told == [False, True]


async def test_a_long_backlog_of_what_ends_at_once_does_not_recurse() -> None:
    heard = Heard(prefetch=1)
    heard.hear(3_000)
    heard.receiver._on_delivery = lambda delivery: delivery.hand_back()
    heard.deliveries[0].settle()
    assert (len(heard.receiver._backlog), heard.receiver._unsettled) == (0, 0)


async def test_replies_leave_before_their_requests_are_settled(in_list: Server) -> None:
    for delivery in in_list.deliver(2):
        delivery.reply(delivery.message.reply(Kind.REPLY, b""))
    commands = await in_list.commands()
    assert [command[0] for command in commands] == [b"PUBLISH", b"PUBLISH", b"EVALSHA"]
    assert commands[2][1:5] == [
        SETTLE_LIST.sha,
        b"1",
        b"rpckit:{x}:list:doing:me",
        write(in_list.deliveries[0].message),
    ]


async def test_what_was_delivered_before_is_settled_with_its_tries(in_list: Server) -> None:
    claims = await begun(in_list.deliver(1) + in_list.deliver(1, tries=2))
    once, again = await in_list.commands()
    assert once[2:4] == [b"1", b"rpckit:{x}:list:doing:me"]
    assert again[2:5] == [b"2", b"rpckit:{x}:list:doing:me", b"rpckit:{x}:list:tries"]
    in_list.main.link.data_received(b"*1\r\n:1\r\n*1\r\n:1\r\n")
    assert await asyncio.gather(*claims) == [True, True]


async def test_what_is_begun_again_is_one_try_more_and_starts_when_that_is_written_down(
    stream: Server, in_list: Server
) -> None:
    again = [await begun(server.deliver(1, tries=3), again=True) for server in (stream, in_list)]
    data = write(stream.deliveries[0].message)
    name = hashlib.sha1(data).hexdigest().encode()
    assert await stream.commands() == [
        [b"EVALSHA", TRIES_STREAM.sha, b"1", b"rpckit:{x}:stream", b"rpckit", b"me", b"1-0", b"3"]
    ]
    assert await in_list.commands() == [
        [b"EVALSHA", TRIES_LIST.sha, b"2", b"rpckit:{x}:list:doing:me", b"rpckit:{x}:list:tries", data, name, b"3"]
    ]
    assert not any(task.done() for tasks in again for task in tasks)
    stream.main.link.data_received(b":1\r\n")
    in_list.main.link.data_received(b":0\r\n")
    assert [await asyncio.gather(*tasks) for tasks in again] == [[True], [False]]
    assert [server.receiver._unsettled for server in (stream, in_list)] == [1, 0]


async def test_a_try_that_redis_cannot_write_down_begins_all_the_same(
    stream: Server, caplog: pytest.LogCaptureFixture
) -> None:
    (again,) = await begun(stream.deliver(1, tries=2), again=True)
    stream.main.link.data_received(b"-NOREPLICAS Not enough good replicas to write.\r\n")
    assert await again
    assert "a try is not counted" in caplog.text
    assert stream.receiver._unsettled == 1


async def test_what_was_begun_again_and_is_given_up_is_one_try_less(stream: Server) -> None:
    (again,) = await begun(stream.deliver(1, tries=2), again=True)
    stream.main.link.data_received(b":1\r\n")
    assert await again
    stream.deliveries[0].hand_back()
    assert [command[-1] for command in await stream.commands()] == [b"2", b"1"]


async def test_a_first_delivery_that_may_run_twice_is_begun_without_a_word(stream: Server) -> None:
    assert await begins(stream.deliver(1)[0], again=True)
    assert await stream.commands() == []


async def test_what_is_begun_again_in_a_lost_session_is_left_to_the_next(stream: Server) -> None:
    (delivery,) = stream.deliver(1, tries=3)
    stream.session.alive = False
    assert not await begins(delivery, again=True)
    assert stream.receiver._again == set()
    assert await stream.commands() == []


async def test_a_list_not_seen_empty_of_late_is_looked_into_before_it_is_waited_at(in_list: Server) -> None:
    link = in_list.reader.link
    for _ in range(2):
        pulling = asyncio.ensure_future(in_list.receiver.pull(in_list.session, link, 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        link.data_received(b"$1\r\na\r\n" * (link.awaiting - 1) + b"*1\r\n$1\r\nb\r\n")
        await pulling
    looked, waited = in_list.reader.writes
    assert [command[0] for command in looked] == [b"EVALSHA"]
    assert [command[0] for command in waited] == [b"BLMOVE", b"EVALSHA"]
    assert [command[1] for command in (looked[0], waited[1])] == [TAKE_LIST.sha] * 2
    assert [delivery.message.body for delivery in in_list.deliveries] == [b"b", b"a", b"b"]


async def test_a_move_that_redis_refuses_is_raised(in_list: Server) -> None:
    link = in_list.reader.link
    in_list.receiver._empty_at = link.loop.time()  # type: ignore[attr-defined]
    pulling = asyncio.ensure_future(in_list.receiver.pull(in_list.session, link, 10))
    await asyncio.sleep(0)
    link.data_received(b"-NOPERM no\r\n*0\r\n")
    with pytest.raises(hiredis.ReplyError, match="NOPERM"):
        await pulling


def request(number: int, **fields: Any) -> bytes:
    return write(Message(Kind.REQUEST, "x", message_id=f"m{number}", correlation_id=f"{number:032x}", **fields))


async def test_who_was_alone_and_stops_tells_the_callers_of_what_it_has_not_begun() -> None:
    """Nobody else has heard it: waiting would be for nothing."""
    heard = Heard(prefetch=2)
    await heard.reconnect()
    heard.receiver._on_data(request(1, reply_to="rpckit:inbox:1"))
    heard.receiver._on_data(request(2))
    heard.session.main.data_received(JOINED)
    heard.receiver.set_prefetch(3)
    heard.receiver._on_data(request(3, reply_to="rpckit:inbox:3"))
    heard.redis.writes.clear()
    for delivery in heard.deliveries:
        delivery.hand_back()
    await asyncio.sleep(0)
    [(name, inbox, data)] = [command for write in heard.redis.writes for command in write]
    assert (name, inbox) == (b"PUBLISH", b"rpckit:inbox:1")
    fault = read_fault(read(data, "inbox", Kind.REPLY))
    assert (fault.code, fault.message) == (Code.UNAVAILABLE, "the server of 'x' is stopping")


async def test_what_is_too_much_for_who_is_alone_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rpckit_redis._subscribers.MAX_BACKLOG", 1)
    heard = Heard(prefetch=1)
    await heard.reconnect()
    heard.redis.writes.clear()
    for n in range(3):
        heard.receiver._on_data(request(n, reply_to=f"rpckit:inbox:{n}"))
    await asyncio.sleep(0)
    [(_, inbox, data)] = [command for write in heard.redis.writes for command in write]
    assert inbox == b"rpckit:inbox:2"
    assert read_fault(read(data, "inbox", Kind.REPLY)).code == Code.RESOURCE_EXHAUSTED


async def test_what_is_long_on_its_way_is_dropped_only_where_others_may_have_run_it() -> None:
    heard = Heard(prefetch=9)
    await heard.reconnect()
    heard.session.fresh_since = heard.session.main.last_read - STALE_S - 1
    heard.receiver._on_data(request(1, time_left_ms=60_000))
    heard.session.main.data_received(JOINED)
    heard.session.fresh_since = heard.session.main.last_read - STALE_S - 1
    heard.receiver._on_data(request(2, time_left_ms=60_000))
    assert [delivery.message.message_id for delivery in heard.deliveries] == ["m1"]


async def test_what_waited_too_long_for_who_is_alone_has_no_time_left() -> None:
    heard = Heard(prefetch=9)
    await heard.reconnect()
    heard.session.fresh_since = heard.session.main.last_read - 60
    heard.receiver._on_data(request(1, time_left_ms=5_000, deadline_ms=int(time.time() * 1000) - 30_000))
    assert [delivery.message.time_left_ms for delivery in heard.deliveries] == [0]


async def test_what_was_popped_takes_up_room_in_the_next_session_too() -> None:
    """It is nobody else's, and runs; so no more is popped than can begin, however often a connection is lost."""
    server = Server(PoppingReceiver, PlaceKind.LIST)
    for n in range(2):
        server.receiver._deliver(server.session, request(n), None, only_here=True)
    server.receiver._deliver(server.session, request(2), None)
    server.receiver._enter(cast(Any, SimpleNamespace(main=server.main.link, consumer="me", alive=True)))
    assert server.receiver.room() == 98
    for delivery in server.deliveries:
        delivery.settle()
    assert server.receiver.room() == 100


async def test_a_reply_that_is_stored_is_sent_again_as_the_same_one(stream: Server) -> None:
    """Redis may have stored it before the connection was lost."""
    stored = Message(Kind.REPLY, "list:rpckit:reply:r", body=b"7")
    stream.replier.reply(stored, stream.main.link.loop.time(), None)
    [first] = await stream.commands()
    stream.main.abort()
    again = Redis()
    stream.replier.attach(cast(Any, SimpleNamespace(main=again.link, alive=True)))
    await asyncio.sleep(0)
    assert again.writes == [[first]]
    stream.replier.reply(stored, stream.main.link.loop.time(), None)
    await asyncio.sleep(0)
    assert again.writes[-1][0][4] != first[4]
