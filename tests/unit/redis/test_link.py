"""One connection: commands and their replies in order, pushes, ticks, and the end."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import hiredis
import pytest

from rpckit.errors import ConnectionLost
from rpckit.tickwriter import CONVOY, UNSENT_MAX, Batch
from rpckit_redis._link import Link, pack
from rpckit_redis._scripts import TAKE_LIST


class Wire:
    """What a link writes to; closing it is heard in the next tick, as of asyncio's."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.writes: list[bytes] = []
        self.closing = False
        link.connection_made(cast(asyncio.Transport, self))

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, *, high: int) -> None:
        assert high == UNSENT_MAX

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            self.link.loop.call_soon(self.link.connection_lost, None)

    close = abort


@pytest.fixture
async def wire() -> Wire:
    return Wire(Link())


@pytest.fixture
def link(wire: Wire) -> Link:
    return wire.link


def test_a_command_is_an_array_of_bulk_strings() -> None:
    assert pack("SET", b"k\r\n", "ü", 7) == b"*4\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$2\r\n\xc3\xbc\r\n$1\r\n7\r\n"


async def test_replies_come_in_the_order_of_commands_however_they_are_cut(wire: Wire, link: Link) -> None:
    replies: list[Any] = []
    for _ in range(3):
        link.send(pack("PING"), replies.append)
    for byte in b"+ONE\r\n:2\r\n$3\r\nTHR\r\n":
        link.data_received(bytes((byte,)))
    assert replies == [b"ONE", 2, b"THR"]


async def test_commands_of_one_tick_leave_as_one_write(wire: Wire, link: Link) -> None:
    link.send(b"1", lambda _: None)
    link.send(b"2", lambda _: None)
    assert wire.writes == []
    await asyncio.sleep(0)
    assert wire.writes == [b"12"]


class Gathering:
    """A batch that is laid out as its items, joined."""

    def __init__(self) -> None:
        self.batch: Batch[Link, bytes] = Batch(lambda link, items: link.send(b"".join(items) + b";", lambda _: None))


async def test_what_is_gathered_in_one_tick_leaves_as_one_command_behind_the_others(wire: Wire, link: Link) -> None:
    batch = Gathering().batch
    link.gather(batch, b"a")
    link.send(b"1", lambda _: None)
    link.gather(batch, b"b")
    await asyncio.sleep(0)
    assert wire.writes == [b"1ab;"]
    assert link.awaiting == 2


async def test_what_is_gathered_alone_leaves_at_once_if_the_tick_before_had_one_thing_to_send(
    wire: Wire, link: Link
) -> None:
    batch = Gathering().batch
    for _ in range(2):
        link.gather(batch, b"a")
        await asyncio.sleep(0)
    link.gather(batch, b"b")
    assert wire.writes == [b"a;", b"a;", b"b;"]
    link.gather(batch, b"c")
    link.gather(batch, b"d")
    await asyncio.sleep(0)
    link.gather(batch, b"e")
    assert wire.writes[3:] == [b"cd;"], "several were sent in the tick before"


async def test_what_answers_to_a_read_costs_a_lone_caller_no_turn_of_the_loop(wire: Wire, link: Link) -> None:
    link.send(b"1", lambda _: None)
    await asyncio.sleep(0)
    link.data_received(b"+A\r\n")
    link.send(b"2", lambda _: None)
    assert wire.writes == [b"1", b"2"]
    assert not link._flush_due
    for command in (b"3", b"4", b"5"):
        link.send(command, lambda _: None)
    await asyncio.sleep(0)
    assert wire.writes == [b"1", b"2", b"3", b"45"]


async def test_a_full_batch_leaves_at_once(wire: Wire, link: Link) -> None:
    batch = Gathering().batch
    for _ in range(CONVOY + 1):
        link.gather(batch, b"a")
    assert wire.writes == [b"a" * CONVOY + b";"]
    await asyncio.sleep(0)
    assert wire.writes[1:] == [b"a;"]


async def test_closing_sends_what_is_gathered(wire: Wire, link: Link) -> None:
    link.gather(Gathering().batch, b"a")
    link.close()
    assert wire.writes == [b"a;"]


async def test_commands_that_wait_for_more_leave_together(wire: Wire, link: Link) -> None:
    link.send(b"1", lambda _: None)
    await asyncio.sleep(0)
    link.hold()
    link.send(b"2", lambda _: None)
    link.send(b"3", lambda _: None)
    await asyncio.sleep(0)
    assert wire.writes == [b"1", b"23"]


async def test_a_reply_is_handed_over_as_it_is_read(link: Link) -> None:
    taken: list[Any] = []
    on_reply, done = link.handing(taken.append)
    link.send(pack("GET", "a"), on_reply)
    link.data_received(b"+A\r\n")
    assert taken == [b"A"]
    await done


async def test_nothing_is_handed_over_of_an_error_or_to_who_was_cancelled(link: Link) -> None:
    taken: list[Any] = []
    on_reply, refused = link.handing(taken.append)
    link.send(pack("GET", "a"), on_reply)
    on_reply, cancelled = link.handing(taken.append)
    link.send(pack("GET", "b"), on_reply)
    cancelled.cancel()
    link.data_received(b"-WRONGTYPE no\r\n+B\r\n")
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await refused
    assert taken == []


async def test_an_error_of_redis_is_a_reply(link: Link) -> None:
    asking = asyncio.ensure_future(link.ask("LPOP", "k"))
    await asyncio.sleep(0)
    link.data_received(b"-WRONGTYPE no\r\n")
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await asking


async def test_a_cancelled_question_keeps_its_place(link: Link) -> None:
    """Its answer is read and dropped: the next question gets its own."""
    first = asyncio.ensure_future(link.ask("GET", "a"))
    second = asyncio.ensure_future(link.ask("GET", "b"))
    await asyncio.sleep(0)
    first.cancel()
    link.data_received(b"+A\r\n+B\r\n")
    assert await second == b"B"


async def test_a_push_is_no_reply(link: Link) -> None:
    pushed: list[tuple[bytes, bytes]] = []
    link.on_push = lambda channel, data: pushed.append((channel, data))
    asking = asyncio.ensure_future(link.ask("GET", "a"))
    await asyncio.sleep(0)
    link.data_received(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n+A\r\n")
    assert await asking == b"A"
    assert pushed == [(b"c", b"hi")]


async def test_a_subscription_is_confirmed_by_its_push_or_refused_by_an_error(link: Link) -> None:
    good, bad = (asyncio.ensure_future(link.subscribe(name)) for name in ("good", "bad"))
    await asyncio.sleep(0)
    link.data_received(b">3\r\n$9\r\nsubscribe\r\n$4\r\ngood\r\n:1\r\n")
    await good
    assert not bad.done()
    link.data_received(b"-NOPERM no\r\n")
    with pytest.raises(hiredis.ReplyError, match="NOPERM"):
        await bad


async def test_a_forgotten_script_is_sent_in_full(wire: Wire, link: Link) -> None:
    replies: list[Any] = []
    link.run(TAKE_LIST, ("k", "d"), (5,), replies.append)
    await asyncio.sleep(0)
    assert b"EVALSHA" in wire.writes[-1]
    link.data_received(b"-NOSCRIPT no\r\n")
    await asyncio.sleep(0)
    assert TAKE_LIST.source.encode() in wire.writes[-1]
    link.data_received(b"*0\r\n")
    assert replies == [[]]


async def test_its_loss_is_told_once_and_answers_everything(wire: Wire, link: Link) -> None:
    lost: list[str] = []
    link.on_lost = lost.append
    asking = [asyncio.ensure_future(link.ask("PING")) for _ in range(3)]
    await asyncio.sleep(0)
    link.abort("pulled")
    link.abort("again")
    await asyncio.sleep(0)
    for each in asking:
        with pytest.raises(ConnectionLost, match="pulled"):
            await each
    with pytest.raises(ConnectionLost, match="pulled"):
        await link.ask("PING")
    assert lost == ["pulled"]
    assert not link.alive


@pytest.mark.parametrize(
    "data, why",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what came in is not from Redis"),
        (b"-ERR max number of clients reached\r\n", "without being asked: ERR max number of clients reached"),
    ],
)
async def test_what_is_not_redis_ends_the_connection(
    link: Link, data: bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    link.data_received(data)
    await asyncio.sleep(0)
    assert not link.alive
    assert why in link.close_reason
    assert not caplog.text


async def test_its_loss_is_told_though_who_is_answered_fails(link: Link) -> None:
    lost: list[str] = []
    link.on_lost = lost.append
    link.send(pack("PING"), lambda _: 1 / 0)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        link.connection_lost(None)
    assert len(lost) == 1


async def test_a_callback_that_raises_ends_the_connection(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever is answered wrongly once would be so for ever."""

    def fail(_: Any) -> None:
        raise RuntimeError("a bug")

    link.send(pack("PING"), fail)
    link.data_received(b"+PONG\r\n")
    await asyncio.sleep(0)
    assert not link.alive
    assert "a bug" in caplog.text


async def test_senders_wait_while_too_much_is_unsent(link: Link) -> None:
    link.send(bytes(UNSENT_MAX + 1), lambda _: None)
    assert link.congested()
    await link.wait_writable(math.inf)
    assert not link.congested()
    link.pause_writing()
    waiting = asyncio.ensure_future(link.wait_writable(math.inf))
    await asyncio.sleep(0)
    assert not waiting.done()
    link.abort("pulled")
    await asyncio.wait_for(waiting, 1)
