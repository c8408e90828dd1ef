"""Publishing: each confirmed message ends once, and replies outlive a lost connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit.tickwriter import TickWriter
from rpckit_amqp._connection import Session
from rpckit_amqp._driver import FRAME_MAX, CloseReason, FastChannel
from rpckit_amqp._errors import UNTOLD
from rpckit_amqp._frames import Properties, ReturnMethod
from rpckit_amqp._publisher import (
    MAX_EXPRESS_REPLY,
    MAX_REPLIES,
    MAX_REPLIES_BYTES,
    Confirmed,
    Express,
    Publication,
)

NO_ROUTE = ReturnMethod(312, "NO_ROUTE", "q")


class FakeLoop:
    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


class FakeProtocol:
    server_frame_max = FRAME_MAX

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.loop = FakeLoop()

    def leaves_at_once(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        self.written.append(data)


class FakeChannel:
    on_confirm: Callable[[int, bool, bool], None]
    on_return: Callable[[ReturnMethod, Properties], None]

    def __init__(self, protocol: FakeProtocol, channel_id: int = 1) -> None:
        self.protocol = protocol
        self.channel_id = channel_id


class FakeSession:
    """What a publisher needs of a session."""

    server_version = (3, 10, 8)

    def __init__(self) -> None:
        self.blocked = False
        self.alive = True
        self.protocol = FakeProtocol()
        self.data = FakeChannel(self.protocol)
        self.confirms = FakeChannel(self.protocol, 2)

    @property
    def written(self) -> list[bytes]:
        return self.protocol.written

    def take(self) -> list[bytes]:
        taken, self.protocol.written = self.protocol.written, []
        return taken


class Outcome:
    """Publications and how each ended."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, RpcError | None, ReturnMethod | None]] = []

    def done(self, publication: Publication, error: RpcError | None, returned: ReturnMethod | None) -> None:
        self.ended.append((str(publication.owner), error, returned))

    def publication(self, name: str, *, until: float | None = None, **fields: Any) -> Publication:
        message = Message(Kind.REPLY, "q", correlation_id=f"c-{name}", message_id=f"m-{name}", **fields)
        made = Publication(name.encode(), message, self.done, name)
        made.until = until
        return made

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.ended]


def attach(confirmed: Confirmed) -> FakeSession:
    session = FakeSession()
    confirmed.attach(cast(Session, session), cast(FastChannel, session.confirms))
    return session


def is_returned(session: FakeSession, name: str) -> None:
    session.confirms.on_return(NO_ROUTE, Properties(correlation_id=f"c-{name}", message_id=f"m-{name}"))


@pytest.fixture
async def confirmed() -> Confirmed:
    return Confirmed()


@pytest.fixture
def outcome() -> Outcome:
    return Outcome()


@pytest.fixture
async def session(confirmed: Confirmed) -> FakeSession:
    return attach(confirmed)


def publish(confirmed: Confirmed, outcome: Outcome, *names: str, until: float | None = None) -> None:
    for name in names:
        confirmed.publish(outcome.publication(name, until=until))


# -- confirmed --------------------------------------------------------------------------------------


async def test_a_single_confirm_ends_its_message_only(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a", "b", "c")
    assert session.written == [b"a", b"b", b"c"]
    session.confirms.on_confirm(2, False, True)
    assert outcome.ended == [("b", None, None)]
    assert len(confirmed) == 2


async def test_a_multiple_confirm_ends_all_up_to_it_in_order(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a", "b", "c", "d")
    session.confirms.on_confirm(2, False, True)
    session.confirms.on_confirm(3, True, True)
    assert outcome.names == ["b", "a", "c"]
    assert len(confirmed) == 1


async def test_a_confirm_that_comes_twice_or_for_nobody_ends_nothing(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a")
    session.confirms.on_confirm(1, False, True)
    session.confirms.on_confirm(1, False, True)
    session.confirms.on_confirm(9, False, True)
    session.confirms.on_confirm(9, True, True)
    assert outcome.names == ["a"]


@pytest.mark.parametrize("multiple", [False, True])
async def test_a_nack_is_not_sent(multiple: bool, confirmed: Confirmed, session: FakeSession, outcome: Outcome) -> None:
    publish(confirmed, outcome, "a")
    session.confirms.on_confirm(1, multiple, False)
    ((_, error, returned),) = outcome.ended
    assert isinstance(error, NotSent)
    assert "nack" in str(error)
    assert returned is None


async def test_a_return_comes_before_its_confirm_and_is_told_with_it(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a", "b")
    is_returned(session, "b")
    assert outcome.ended == []
    session.confirms.on_confirm(2, True, True)
    assert outcome.ended == [("a", None, None), ("b", None, NO_ROUTE)]


async def test_two_copies_of_one_message_are_returned_each_by_itself(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a", "a", "a")
    is_returned(session, "a")
    is_returned(session, "a")
    session.confirms.on_confirm(3, True, True)
    assert [returned for _, _, returned in outcome.ended] == [NO_ROUTE, NO_ROUTE, None]


async def test_a_return_of_nobodys_message_is_passed_over(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a")
    is_returned(session, "other")
    session.confirms.on_return(ReturnMethod(312, "NO_ROUTE", "elsewhere"), Properties(correlation_id="c-a"))
    session.confirms.on_confirm(1, False, True)
    assert outcome.ended == [("a", None, None)]


async def test_a_plain_message_is_found_without_its_message_id(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    message = Message(Kind.REQUEST, "q", correlation_id="c-a", message_id="m-a", dialect=PLAIN)
    confirmed.publish(Publication(b"a", message, outcome.done, "a"))
    session.confirms.on_return(NO_ROUTE, Properties(correlation_id="c-a"))
    session.confirms.on_confirm(1, False, True)
    assert outcome.ended == [("a", None, NO_ROUTE)]


# -- losses -----------------------------------------------------------------------------------------


async def test_a_loss_ends_what_is_not_kept_and_publishes_the_rest_again(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    far = asyncio.get_running_loop().time() + 60
    publish(confirmed, outcome, "request")
    publish(confirmed, outcome, "one", "two", until=far)
    session.confirms.on_confirm(2, False, True)
    confirmed.detach(CloseReason(320, "shutdown"))
    assert outcome.names == ["one", "request"]
    error = outcome.ended[1][1]
    assert isinstance(error, ConnectionLost)
    assert str(error) == "320 shutdown"
    again = attach(confirmed)
    assert again.written == [b"two"]
    again.confirms.on_confirm(1, False, True)
    assert outcome.names == ["one", "request", "two"]
    assert len(confirmed) == 0


async def test_what_a_session_took_that_failed_as_it_began_is_published_on_the_next(
    confirmed: Confirmed, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "reply", until=asyncio.get_running_loop().time() + 60)
    assert attach(confirmed).written == [b"reply"]
    publish(confirmed, outcome, "request")
    again = attach(confirmed)
    assert again.written == [b"reply"]
    assert isinstance(outcome.ended[0][1], ConnectionLost)
    again.confirms.on_confirm(1, False, True)
    assert outcome.names == ["request", "reply"]
    assert await confirmed.flushed(0)


async def test_confirms_of_a_session_that_is_gone_do_not_end_those_of_the_next(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    publish(confirmed, outcome, "a", until=asyncio.get_running_loop().time() + 60)
    confirmed.detach("lost")
    again = attach(confirmed)
    publish(confirmed, outcome, "b")
    assert again.written == [b"a", b"b"]
    again.confirms.on_confirm(2, False, True)
    assert outcome.names == ["b"]


async def test_without_a_session_replies_wait_and_requests_are_not_sent(confirmed: Confirmed, outcome: Outcome) -> None:
    with pytest.raises(NotSent, match="not connected"):
        publish(confirmed, outcome, "request")
    publish(confirmed, outcome, "one", "two", until=asyncio.get_running_loop().time() + 60)
    assert outcome.ended == []
    assert attach(confirmed).written == [b"one", b"two"]


@pytest.mark.parametrize("fault, words", [("blocked", "takes no messages"), ("dead", "not connected")])
async def test_nothing_is_written_to_a_session_that_takes_nothing(
    fault: str, words: str, confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    session.blocked, session.alive = fault == "blocked", fault != "dead"
    with pytest.raises(NotSent, match=words):
        publish(confirmed, outcome, "request")
    publish(confirmed, outcome, "reply", until=asyncio.get_running_loop().time() + 60)
    assert session.written == []
    session.blocked, session.alive = False, True
    confirmed.flush_backlog()
    assert session.written == [b"reply"]


async def test_replies_nobody_waits_for_any_more_are_not_published_again(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    now = asyncio.get_running_loop().time()
    publish(confirmed, outcome, "late", until=now - 1)
    publish(confirmed, outcome, "in time", until=now + 60)
    confirmed.detach("lost")
    assert attach(confirmed).written == [b"in time"]
    assert outcome.ended == [("late", None, None)]


async def test_flushed_waits_for_confirms_and_backlog(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    assert await confirmed.flushed(0)
    publish(confirmed, outcome, "a", until=asyncio.get_running_loop().time() + 60)
    assert not await confirmed.flushed(0.001)
    confirmed.detach("lost")
    assert not await confirmed.flushed(0.001)
    again = attach(confirmed)
    waiting = asyncio.ensure_future(confirmed.flushed(1))
    await asyncio.sleep(0)
    again.confirms.on_confirm(1, False, True)
    assert await waiting


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("publish"), st.booleans(), st.just(True)),
            st.tuples(st.just("confirm"), st.integers(1, 6), st.booleans()),
            st.tuples(st.just("confirm multiple"), st.integers(1, 6), st.booleans()),
            st.tuples(st.just("lose"), st.just(0), st.just(True)),
        ),
        max_size=25,
    )
)
def test_every_message_ends_exactly_once_whatever_the_broker_says(steps: list[tuple[str, int, bool]]) -> None:
    async def run() -> None:
        confirmed, outcome = Confirmed(), Outcome()
        session = attach(confirmed)
        far = asyncio.get_running_loop().time() + 60
        published = 0
        for what, number, accepted in steps:
            if what == "publish":
                published += 1
                publish(confirmed, outcome, str(published), until=far if number else None)
            elif what == "lose":
                confirmed.detach("lost")
                session = attach(confirmed)
            else:
                session.confirms.on_confirm(number, what == "confirm multiple", accepted)
            assert len(outcome.ended) + len(confirmed) == published
        assert len(set(outcome.names)) == len(outcome.ended)
        session.confirms.on_confirm(10_000, True, True)
        assert sorted(outcome.names, key=int) == [str(number) for number in range(1, published + 1)]
        assert await confirmed.flushed(0)

    asyncio.run(run())


# -- what the broker does not take ------------------------------------------------------------------

MOST = 20_000  # bytes of a body: more than replies that are express have


def publish_body(confirmed: Confirmed, outcome: Outcome, name: str, size: int, until: float | None) -> None:
    message = Message(Kind.REPLY, "q", correlation_id=f"c-{name}", body=bytes(size))
    data = confirmed.framing.lay_out(message, mandatory=False)
    publication = Publication(data, message, outcome.done, name)
    publication.until = until
    confirmed.publish(publication)


async def test_what_the_broker_found_too_large_is_not_published_again(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    far = asyncio.get_running_loop().time() + 60
    for name, size in (("fits", MOST), ("large", MOST + 1), ("behind", 5)):
        publish_body(confirmed, outcome, name, size, far)
    publish_body(confirmed, outcome, "large request", MOST + 1, None)
    publish_body(confirmed, outcome, "request", MOST, None)
    confirmed.framing.limit(MOST)
    confirmed.detach("lost")
    again = attach(confirmed)
    assert again.written == [session.written[0], session.written[2]]
    errors = {name: error for name, error, _ in outcome.ended}
    assert {name: type(error) for name, error in errors.items()} == {
        "large request": UsageError,
        "request": ConnectionLost,
        "large": UsageError,
    }
    assert f"the body has {MOST + 1} bytes; this broker takes {MOST}" in str(errors["large"])


@pytest.mark.parametrize("dialect", [NATIVE, PLAIN])
async def test_over_the_limit_nothing_is_laid_out_and_an_ended_limit_refuses_nothing(
    dialect: str, confirmed: Confirmed
) -> None:
    def lay_out(size: int) -> bytes:
        message = Message(Kind.REPLY, "q", correlation_id="c" * 32, body=bytes(size), dialect=dialect)
        return confirmed.framing.lay_out(message, mandatory=True)

    attach(confirmed)
    lay_out(MOST + 1)
    confirmed.framing.limit(MOST)
    attach(confirmed)
    lay_out(MOST)
    with pytest.raises(UsageError, match="max_message_size"):
        lay_out(MOST + 1)
    confirmed.framing.limit(UNTOLD)
    lay_out(MOST + 1)
    attach(confirmed)
    lay_out(MOST + 1)


# -- express ----------------------------------------------------------------------------------------


def reply(body: bytes, *, address: str = "q", **fields: Any) -> Message:
    return Message(Kind.REPLY, address, body=body, **fields)


def connected(express: Express, session: FakeSession | None = None) -> FakeSession:
    session = session or FakeSession()
    express.attach(cast(Session, session), lambda method, properties: None)
    return session


async def test_express_writes_at_once() -> None:
    express = Express(heartbeat=10)
    session = connected(express)
    express.write(b"request")
    assert session.written == [b"request"]


async def test_express_without_a_session_or_blocked_is_not_sent() -> None:
    express = Express(heartbeat=10)
    with pytest.raises(NotSent, match="not connected"):
        express.write(b"request")
    session = connected(express)
    session.blocked = True
    with pytest.raises(NotSent, match="takes no messages"):
        express.write(b"request")
    assert not express.reply(reply(b"7"), 1e9)


async def test_replies_written_just_before_a_loss_go_out_once_more() -> None:
    express = Express(heartbeat=10)
    session = connected(express)
    now = asyncio.get_running_loop().time()
    session.protocol.loop.now = now - 30
    assert express.reply(reply(b"arrived"), now + 60)
    session.protocol.loop.now = now - 5
    assert express.reply(reply(b"nobody waits"), now - 1)
    assert express.reply(reply(b"may be lost"), now + 60)
    express.write(b"request")
    express.detach()
    again = FakeSession()
    again.protocol.loop.now = now
    connected(express, again)
    assert again.written == [session.written[2]]
    assert b"may be lost" in again.written[0]


async def test_remembered_replies_are_bounded() -> None:
    express = Express(heartbeat=10)
    connected(express)
    for number in range(MAX_REPLIES + 5):
        assert express.reply(reply(str(number).encode()), 1e9)
    assert len(express._replies) == MAX_REPLIES


async def test_remembered_replies_are_bounded_in_bytes_too() -> None:
    """Whatever came before: what is small does not make room for what is large, one by one."""
    express = Express(heartbeat=10)
    connected(express)
    for _ in range(1_000):
        assert express.reply(reply(b"small"), 1e9)
    for _ in range(400):
        assert express.reply(reply(bytes(MAX_EXPRESS_REPLY)), 1e9)
    assert sum(len(data) for _, _, data in express._replies) <= MAX_REPLIES_BYTES


async def test_a_large_reply_is_not_for_express() -> None:
    express = Express(heartbeat=10)
    session = connected(express)
    assert not express.reply(reply(bytes(MAX_EXPRESS_REPLY + 1)), 1e9)
    assert session.written == []


async def test_a_small_reply_that_the_broker_found_too_large_does_not_go_out_once_more() -> None:
    express = Express(heartbeat=10)
    session = connected(express)
    far = asyncio.get_running_loop().time() + 60
    session.protocol.loop.now = asyncio.get_running_loop().time()
    assert express.reply(reply(bytes(101)), far)
    assert express.reply(reply(bytes(100)), far)
    express.limit(100)
    express.detach()
    assert connected(express).written == session.written[1:]


async def test_after_a_crash_of_the_broker_direct_replies_alone_do_not_go_out_once_more() -> None:
    """A stranger's made-up reply_to crashed the broker's channel on each new connection, for as long as it said."""
    express = Express(heartbeat=10)
    session = connected(express)
    far = asyncio.get_running_loop().time() + 60
    session.protocol.loop.now = asyncio.get_running_loop().time()
    for address in ("amq.rabbitmq.reply-to.made.up", "q"):
        assert express.reply(reply(b"7", address=address), far)
    express.detach()
    express.framing.broker_crashed = True
    assert connected(express).written == session.written[1:]


async def test_after_a_crash_of_the_broker_a_kept_direct_reply_is_not_published_again(
    confirmed: Confirmed, session: FakeSession, outcome: Outcome
) -> None:
    for address in ("amq.rabbitmq.reply-to.made.up", "q"):
        message = reply(b"7", address=address)
        publication = Publication(confirmed.framing.lay_out(message, mandatory=True), message, outcome.done, address)
        publication.until = asyncio.get_running_loop().time() + 60
        confirmed.publish(publication)
    written = session.take()
    confirmed.framing.broker_crashed = True
    confirmed.detach("541 INTERNAL_ERROR")
    assert attach(confirmed).written == written[1:]
    assert outcome.names == ["amq.rabbitmq.reply-to.made.up"]
    assert isinstance(outcome.ended[0][1], NotSent)


async def test_under_a_low_limit_no_reply_is_express_so_that_each_refusal_can_be_told() -> None:
    express = Express(heartbeat=10)
    connected(express)
    express.limit(MAX_EXPRESS_REPLY - 1)
    assert not express.reply(reply(b"7"), 1e9)
    express.limit(MAX_EXPRESS_REPLY)
    assert express.reply(reply(b"7"), 1e9)


class TickingProtocol(TickWriter):
    """What a connection does with what is gathered."""

    server_frame_max = FRAME_MAX

    def __init__(self) -> None:
        super().__init__(convoy=24)
        self.written: list[bytes] = []

    def _hand_over(self, data: bytes) -> None:
        self.written.append(data)


async def test_a_bundle_whose_connection_is_lost_in_its_tick_goes_out_on_the_next_one() -> None:
    express = Express(heartbeat=10)
    lost = FakeSession()
    lost.protocol = cast(Any, TickingProtocol())
    connected(express, lost)
    for result in (b"first", b"second"):
        message = reply(result, address="rpckit.inbox.1", correlation_id="c" * 32, content_type="text/plain")
        assert express.reply(message, asyncio.get_running_loop().time() + 60)
    express.detach()
    await asyncio.sleep(0)
    again = connected(express)
    assert len(again.written) == 1
    assert b"$bundle" in again.written[0]
    assert b"first" in again.written[0]
    assert b"second" in again.written[0]
