"""The protocol: bytes in, callbacks out, however the network cuts them; and one end for every connection."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from collections.abc import AsyncIterator
from typing import Any

import pamqp.body
import pamqp.commands as commands
import pamqp.frame
import pamqp.header
import pamqp.heartbeat
import pytest
from aioamqp import exceptions as driver_errors
from aioamqp.channel import Channel
from aioamqp.protocol import CONNECTING, OPEN

from rpckit.tickwriter import UNSENT_MAX
from rpckit_amqp import _driver
from rpckit_amqp._driver import FRAME_MAX, CloseReason, Deliver, FastChannel, FastProtocol
from rpckit_amqp._frames import HEARTBEAT_FRAME, Properties, ReturnMethod, property_list

CHANNEL = 1


class FakeTransport(asyncio.Transport):
    """Keeps what is written; aborting it loses the connection in the next tick."""

    def __init__(self, protocol: FastProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.writes: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high


class Line:
    """A protocol with one open channel, and all that it tells."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.lost: list[CloseReason] = []
        self.channel_lost: list[CloseReason] = []
        self.protocol = FastProtocol()
        self.transport = FakeTransport(self.protocol)
        self.protocol.connection_made(self.transport)
        self.protocol.state = OPEN
        self.protocol.on_lost = self.lost.append
        self.protocol.on_blocked = lambda why: self.told.append(("blocked", why))
        self.channel = FastChannel(self.protocol, CHANNEL)
        self.protocol.channels[CHANNEL] = self.channel
        self.channel.on_deliver = lambda *told: self.told.append((told[:4], *told[4:]))
        self.channel.on_confirm = lambda *confirm: self.told.append(confirm)
        self.channel.on_return = lambda method, properties: self.told.append((method, properties))
        self.channel.on_closed = self.channel_lost.append

    def feed(self, *parts: bytes) -> list[Any]:
        """What is told of these reads."""
        self.told.clear()
        for part in parts:
            self.protocol.data_received(part)
        return list(self.told)

    async def frame(self) -> Any:
        """The next frame that was left to the driver."""
        async with asyncio.timeout(1):
            return (await self.protocol.get_frame())[1]


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    yield line
    line.protocol.abort("the test is over")
    await asyncio.sleep(0)


def marshal(frame: Any, channel: int = CHANNEL) -> bytes:
    data: bytes = pamqp.frame.marshal(frame, channel)
    return data


def content(body: bytes, properties: commands.Basic.Properties | None = None, frame_max: int = FRAME_MAX) -> bytes:
    """Header and body frames as the broker writes them."""
    most = frame_max - 8
    header = pamqp.header.ContentHeader(0, len(body), properties or commands.Basic.Properties())
    chunks = [body[start : start + most] for start in range(0, len(body), most)]
    return marshal(header) + b"".join(marshal(pamqp.body.ContentBody(chunk)) for chunk in chunks)


def delivery(tag: int, body: bytes = b"30", **properties: Any) -> bytes:
    return marshal(commands.Basic.Deliver("c1", tag, False, "", "rpc_queue")) + content(
        body, commands.Basic.Properties(**properties)
    )


def returned(body: bytes = b"30", correlation_id: str = "c-1") -> bytes:
    method = commands.Basic.Return(312, "NO_ROUTE", "", "rpc_queue")
    return marshal(method) + content(body, commands.Basic.Properties(correlation_id=correlation_id))


BAD_TABLE = b"\x00\x00\x00\x05" + b"\x01nQ\x00\x00"  # a field of a type that nobody knows


def undecodable(tag: int, body: bytes = b"30") -> bytes:
    """A delivery whose header has a table that cannot be decoded."""
    payload = (
        (60).to_bytes(2, "big") + bytes(2) + len(body).to_bytes(8, "big") + (1 << 13).to_bytes(2, "big") + BAD_TABLE
    )
    header = b"\x02" + CHANNEL.to_bytes(2, "big") + len(payload).to_bytes(4, "big") + payload + b"\xce"
    bodies = marshal(pamqp.body.ContentBody(body)) if body else b""
    return marshal(commands.Basic.Deliver("c1", tag, False, "", "rpc_queue")) + header + bodies


STREAM = (
    delivery(1, b"30", correlation_id="c-1", reply_to="r", message_type="fib", headers={"user": "7"})
    + marshal(commands.Basic.Ack(3, True))
    + delivery(2, b"")
    + marshal(pamqp.heartbeat.Heartbeat(), 0)
    + returned()
    + marshal(commands.Basic.Nack(4, False, False))
    + marshal(commands.Connection.Blocked("low on memory"), 0)
    + undecodable(3)
    + marshal(commands.Connection.Unblocked(), 0)
    + delivery(4, b"last")
)


def deliver(tag: int) -> Deliver:
    return b"c1", tag, False, b"\0\x09rpc_queue"


EMPTY = b"\0\0"  # a property list
BAD = (1 << 13).to_bytes(2, "big") + BAD_TABLE
FULL = property_list("", {"user": "7"}, 0, "c-1", "r", "", "", "fib", "")
EXPECTED_ONE = [(deliver(1), EMPTY, b"30")]

EXPECTED: list[Any] = [
    (deliver(1), FULL, b"30"),
    (3, True, True),
    (deliver(2), EMPTY, b""),
    (ReturnMethod(312, "NO_ROUTE", "rpc_queue"), Properties(correlation_id="c-1")),
    (4, False, False),
    ("blocked", "low on memory"),
    (deliver(3), BAD, b"30"),
    ("blocked", None),
    (deliver(4), EMPTY, b"last"),
]


# -- receiving --------------------------------------------------------------------------------------


async def test_several_frames_in_one_read_are_all_taken(line: Line) -> None:
    assert line.feed(STREAM) == EXPECTED


@pytest.mark.parametrize("kind", ["delivery", "all"])
async def test_a_read_that_ends_anywhere_changes_nothing(line: Line, kind: str) -> None:
    stream, expected = (STREAM, EXPECTED) if kind == "all" else (delivery(1), EXPECTED_ONE)
    for cut in range(len(stream) + 1):
        assert line.feed(stream[:cut], stream[cut:]) == expected


async def test_single_bytes_are_enough(line: Line) -> None:
    assert line.feed(*(STREAM[at : at + 1] for at in range(len(STREAM)))) == EXPECTED


@pytest.mark.parametrize("size", [FRAME_MAX - 8, FRAME_MAX - 7, 3 * FRAME_MAX + 1])
async def test_big_bodies_are_put_together(line: Line, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    stream = delivery(1, body[:size]) + delivery(2, b"after")
    reads = [stream[at : at + 65_536] for at in range(0, len(stream), 65_536)]
    (_, _, big), (_, _, after) = line.feed(*reads)
    assert (big, after) == (body[:size], b"after")


@pytest.mark.parametrize("body", [b"", b"30", b"x" * 200_000])
async def test_a_header_that_cannot_be_decoded_does_not_put_the_reader_out_of_step(line: Line, body: bytes) -> None:
    bodies = body if len(body) < FRAME_MAX else body[: FRAME_MAX - 8]
    stream = undecodable(1, bodies) + delivery(2, b"next")
    for cut in (0, 40, len(stream) - 5):
        assert line.feed(stream[:cut], stream[cut:]) == [(deliver(1), BAD, bodies), (deliver(2), EMPTY, b"next")]
    assert line.protocol.alive


async def test_an_undecodable_return_is_passed_over(line: Line) -> None:
    method = marshal(commands.Basic.Return(312, "NO_ROUTE", "", "q"))
    rest = undecodable(1)[len(marshal(commands.Basic.Deliver("c1", 1, False, "", "rpc_queue"))) :]
    assert line.feed(method + rest + delivery(2)) == [(deliver(2), EMPTY, b"30")]


async def test_other_frames_go_on_to_the_driver_in_order(line: Line) -> None:
    answer = marshal(commands.Queue.DeclareOk("q", 5, 1))
    assert len(line.feed(delivery(1) + answer + delivery(2) + HEARTBEAT_FRAME)) == 2
    frame = await line.frame()
    assert (frame.name, frame.queue, frame.consumer_count) == ("Queue.DeclareOk", "q", 1)
    assert (await line.frame()).name == "Heartbeat"


async def test_messages_of_a_channel_that_is_gone_are_dropped(line: Line) -> None:
    stray = bytearray(delivery(1))
    line.protocol.channels.clear()
    assert line.feed(bytes(stray)) == []
    assert (await line.frame()).name == "Basic.Deliver"
    line.protocol.channels[CHANNEL] = line.channel
    assert len(line.feed(delivery(2))) == 1


@pytest.mark.parametrize(
    "data, words",
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not an AMQP 0-9-1 server"),
        (b"AMQP\x00\x01\x00\x00", "not an AMQP 0-9-1 server"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "not an AMQP 0-9-1 server"),
        (b"\x01\x00\x01\x7f\xff\xff\xff" + b"x" * 20, "not an AMQP 0-9-1 server"),
        (delivery(1)[:-1] + b"\x00", "without its end"),
        (content(b"30"), "header frame without its method"),
        (content(b"30")[22:], "body frame without its method"),
        (marshal(commands.Basic.Ack(1, False))[:11].replace(b"\x0d", b"\x04") + b"\xce", "could not be read"),
    ],
    ids=["http", "amqp 1.0", "tls", "size", "end", "header", "body", "short"],
)
async def test_bytes_that_are_no_amqp_end_the_connection_with_a_reason(
    line: Line, data: bytes, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    assert line.feed(data) == []
    assert not line.protocol.alive
    await asyncio.sleep(0)
    assert words in line.lost[0].text


async def test_another_program_at_the_port_is_told_to_who_connects_and_not_logged_with_a_traceback(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    line.protocol.state = CONNECTING
    line.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await asyncio.sleep(0)
    assert "not an AMQP 0-9-1 server" in line.lost[0].text
    assert caplog.text == ""


async def test_a_callback_of_ours_that_fails_ends_the_connection(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*_: object) -> None:
        raise KeyError("ours")

    line.channel.on_deliver = fail
    line.feed(delivery(1))
    assert not line.protocol.alive
    assert "could not be read" in caplog.text


async def test_a_read_is_a_sign_of_life(line: Line) -> None:
    line.protocol.last_read = 0.0
    line.feed(b"\x08")
    assert line.protocol.last_read == pytest.approx(line.protocol.loop.time(), abs=1)


# -- sending ----------------------------------------------------------------------------------------


async def test_what_is_written_in_one_tick_leaves_as_one_write_in_order(line: Line) -> None:
    line.protocol.write(b"1")
    await line.protocol._write_frame(CHANNEL, commands.Queue.Declare(queue="q"), drain=False)
    line.protocol.write(b"2")
    assert line.transport.writes == []
    await asyncio.sleep(0)
    (written,) = line.transport.writes
    assert written == b"1" + marshal(commands.Queue.Declare(queue="q")) + b"2"
    line.protocol.beat()
    await asyncio.sleep(0)
    assert line.transport.writes[1:] == [HEARTBEAT_FRAME]


async def test_after_a_tick_with_one_message_the_next_one_does_not_wait_for_its_tick(line: Line) -> None:
    line.protocol.write(b"1")
    await asyncio.sleep(0)
    line.protocol.write(b"2")
    assert line.transport.writes == [b"1", b"2"]
    line.protocol.write(b"3")  # not alone: with the rest of the tick, and the next tick waits again
    line.protocol.write(b"4")
    assert line.transport.writes == [b"1", b"2"]
    await asyncio.sleep(0)
    line.protocol.write(b"5")
    assert line.transport.writes == [b"1", b"2", b"34"]


async def test_nothing_is_written_after_the_end(line: Line) -> None:
    line.protocol.write(b"1")
    line.protocol.abort("over")
    await asyncio.sleep(0)
    line.protocol.write(b"2")
    await asyncio.sleep(0)
    assert line.transport.writes == []


async def test_writers_wait_while_too_much_is_unsent(line: Line) -> None:
    assert line.transport.high == UNSENT_MAX
    line.protocol.pause_writing()
    assert line.protocol.congested()
    waiting = asyncio.ensure_future(line.protocol.wait_writable(math.inf))
    await asyncio.sleep(0)
    assert not waiting.done()
    line.protocol.resume_writing()
    await waiting
    assert not line.protocol.congested()


async def test_what_waits_in_our_own_buffer_counts_as_unsent(line: Line) -> None:
    line.protocol.write(bytes(UNSENT_MAX + 1))
    assert line.protocol.congested()
    await line.protocol.wait_writable(math.inf)
    assert not line.protocol.congested()
    assert len(line.transport.writes) == 1


async def test_writers_that_wait_are_let_go_when_the_connection_is_lost(line: Line) -> None:
    line.protocol.pause_writing()
    waiting = asyncio.ensure_future(line.protocol.wait_writable(math.inf))
    await asyncio.sleep(0)
    line.protocol.abort("pulled")
    await asyncio.wait_for(waiting, 1)
    assert not line.protocol.alive


# -- the end ----------------------------------------------------------------------------------------


async def test_the_first_reason_stays_and_is_told_once(line: Line) -> None:
    line.protocol.abort("first", 320)
    line.protocol.abort("second")
    await asyncio.sleep(0)
    line.protocol.connection_lost(OSError("third"))
    assert line.lost == line.channel_lost == [CloseReason(320, "first")]


async def test_a_connection_that_breaks_says_how(line: Line, caplog: pytest.LogCaptureFixture) -> None:
    line.transport.closing = True
    line.protocol.connection_lost(ConnectionResetError("reset by peer"))
    assert line.lost == [CloseReason(0, "the connection was lost (reset by peer)")]
    assert not [record for record in caplog.records if record.name.startswith("aioamqp")]


async def test_a_channel_closed_alone_is_told_once(line: Line) -> None:
    line.channel.connection_closed(404, "NOT_FOUND - no queue")
    line.protocol.abort("later")
    await asyncio.sleep(0)
    assert line.channel_lost == [CloseReason(404, "NOT_FOUND - no queue")]


async def test_a_channel_that_closes_is_not_usable_though_its_close_ok_waits_for_room(line: Line) -> None:
    room = asyncio.Event()
    line.protocol._drain = room.wait
    reader = asyncio.ensure_future(line.protocol.run())
    assert line.channel.usable
    line.feed(marshal(commands.Channel.Close(404, "NOT_FOUND - no exchange", 0, 0), CHANNEL))
    await asyncio.sleep(0.01)
    assert line.channel.close_reason is None
    assert not line.channel.usable
    room.set()
    await asyncio.sleep(0.01)
    assert line.channel.close_reason == CloseReason(404, "NOT_FOUND - no exchange")
    assert not line.channel.usable
    line.protocol.abort("the test is over")
    await reader


async def test_a_brokers_close_is_confirmed_and_its_reason_kept(line: Line) -> None:
    reader = asyncio.ensure_future(line.protocol.run())
    line.feed(marshal(commands.Connection.Close(320, "CONNECTION_FORCED - shutdown", 0, 0), 0))
    await asyncio.wait_for(reader, 1)
    await asyncio.sleep(0)
    assert line.lost == [CloseReason(320, "CONNECTION_FORCED - shutdown")]
    assert b"".join(line.transport.writes) == marshal(commands.Connection.CloseOk(), 0)


async def test_a_consumer_cancelled_by_the_broker_is_told(line: Line) -> None:
    cancelled: list[str] = []
    line.channel.on_consumer_cancelled = cancelled.append
    reader = asyncio.ensure_future(line.protocol.run())
    line.feed(marshal(commands.Basic.Cancel("c1", True)))
    await asyncio.sleep(0.001)
    assert cancelled == ["c1"]
    line.protocol.eof_received()
    await asyncio.wait_for(reader, 1)
    assert not line.protocol.alive


async def test_a_frame_the_driver_cannot_handle_ends_the_connection(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    reader = asyncio.ensure_future(line.protocol.run())
    line.feed(b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x63\xce")  # class 99
    await asyncio.wait_for(reader, 1)
    await asyncio.sleep(0)
    assert "a frame could not be handled" in line.lost[0].text


async def test_an_answer_to_who_gave_up_in_the_same_turn_is_passed_over(line: Line) -> None:
    reader = asyncio.ensure_future(line.protocol.run())
    opening = asyncio.ensure_future(line.channel.open())
    await asyncio.sleep(0)
    line.feed(marshal(commands.Channel.OpenOk()))
    opening.cancel()
    await asyncio.wait({opening})
    await asyncio.sleep(0.001)
    assert line.protocol.alive
    assert line.protocol.close_reason is None
    line.protocol.eof_received()
    await asyncio.wait_for(reader, 1)


async def test_who_is_cancelled_while_it_asks_leaves_nothing_to_complain_of(line: Line) -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    await line.protocol._drain_lock.acquire()
    opening = asyncio.ensure_future(line.channel.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait({opening})
    line.channel.connection_closed()
    del opening
    line.channel._futures.clear()
    gc.collect()
    assert said == []


async def test_a_cancelled_reader_ends_the_connection(line: Line) -> None:
    reader = asyncio.ensure_future(line.protocol.run())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert not line.protocol.alive


async def test_reading_after_the_end_is_a_closed_connection(line: Line) -> None:
    line.protocol.eof_received()
    with pytest.raises(driver_errors.AmqpClosedConnection):
        await line.protocol.get_frame()


# -- the driver itself ------------------------------------------------------------------------------


@pytest.fixture
def _without_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Channel, "confirm_select")
    monkeypatch.delattr(Channel, "basic_cancel")


@pytest.mark.usefixtures("_without_confirms")
def test_a_driver_without_the_names_we_lean_on_is_refused_at_import() -> None:
    with pytest.raises(ImportError, match=r"aioamqp has no basic_cancel, confirm_select; rpckit needs aioamqp"):
        _driver._check_driver()
