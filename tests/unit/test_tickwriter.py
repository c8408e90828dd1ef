"""What is written in one tick leaves together, in order."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from rpckit.errors import NotSent
from rpckit.tickwriter import LEAST_CONVOY, MOST_CONVOY, UNSENT_MAX, Batch, TickWriter


class Sent(asyncio.Transport):
    """Keeps what is handed over."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []
        self.closing = False

    def write(self, data: Any) -> None:
        self.chunks.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high == UNSENT_MAX


@pytest.fixture
async def sent() -> Sent:
    return Sent()


@pytest.fixture
async def writer(sent: Sent) -> TickWriter:
    writer = TickWriter(convoy=4)
    writer.connection_made(sent)
    return writer


async def tick() -> None:
    await asyncio.sleep(0)


async def test_what_is_written_in_one_tick_is_handed_over_once(writer: TickWriter, sent: Sent) -> None:
    for word in (b"a", b"b", b"c"):
        writer.write(word)
    assert sent.chunks == []
    await tick()
    assert sent.chunks == [b"abc"]


async def test_a_full_convoy_leaves_at_once_and_the_rest_after_it(writer: TickWriter, sent: Sent) -> None:
    for number in range(6):
        writer.write(b"%d" % number)
    assert sent.chunks == [b"0123"]
    await tick()
    assert sent.chunks == [b"0123", b"45"]


@pytest.mark.parametrize(
    "pending, convoy", [(0, 4), (8, 4), (9, LEAST_CONVOY), (32, 16), (33, 17), (1_000, MOST_CONVOY)]
)
async def test_a_convoy_is_half_of_what_is_pending_if_that_is_not_little(
    writer: TickWriter, sent: Sent, pending: int, convoy: int
) -> None:
    writer.pending = range(pending)
    for _ in range(2):
        writer.write(b"a")
    await tick()  # here it looks
    sent.chunks.clear()
    for _ in range(convoy + 1):
        writer.write(b"a")
    assert sent.chunks == [b"a" * convoy]
    await tick()
    assert sent.chunks == [b"a" * convoy, b"a"]


async def test_after_a_crowd_a_convoy_is_what_it_was_before(writer: TickWriter, sent: Sent) -> None:
    for writer.pending in (range(100), ()):
        for _ in range(2):
            writer.write(b"a")
        await tick()
    sent.chunks.clear()
    await test_a_full_convoy_leaves_at_once_and_the_rest_after_it(writer, sent)


async def test_after_a_lone_message_the_next_does_not_wait(writer: TickWriter, sent: Sent) -> None:
    writer.write(b"a")
    await tick()
    writer.write(b"b")
    assert sent.chunks == [b"a", b"b"]


async def test_what_follows_a_lone_message_in_its_tick_stays_behind_it(writer: TickWriter, sent: Sent) -> None:
    writer.write(b"a")
    await tick()
    for word in (b"b", b"c", b"d"):
        writer.write(word)
    await tick()
    assert sent.chunks == [b"a", b"b", b"cd"]
    writer.write(b"e")
    assert sent.chunks == [b"a", b"b", b"cd"]  # the tick before was no lone one


async def test_nothing_is_handed_to_a_connection_that_is_gone(writer: TickWriter, sent: Sent) -> None:
    writer.write(b"a")
    sent.closing = True
    await tick()
    assert sent.chunks == []
    assert not writer.alive


async def test_who_waits_goes_on_when_the_other_side_reads_again(writer: TickWriter) -> None:
    writer.pause_writing()
    waiting = asyncio.create_task(writer.wait_writable(math.inf))
    await tick()
    assert not waiting.done()
    writer.resume_writing()
    await asyncio.wait_for(waiting, 1)


async def test_who_waits_goes_on_when_the_connection_is_lost(writer: TickWriter) -> None:
    writer.pause_writing()
    waiting = asyncio.create_task(writer.wait_writable(math.inf))
    await tick()
    assert writer._end_writing()
    await asyncio.wait_for(waiting, 1)
    assert not writer.alive
    assert not writer._end_writing()


async def test_who_waits_for_too_long_has_sent_nothing(writer: TickWriter) -> None:
    writer.pause_writing()
    with pytest.raises(NotSent, match="8 MiB wait to be sent"):
        await writer.wait_writable(writer.loop.time() + 0.01)


@pytest.mark.parametrize("read_elsewhere", [False, True])
async def test_what_answers_to_a_read_needs_no_flush_behind_it(
    writer: TickWriter, sent: Sent, read_elsewhere: bool
) -> None:
    reader = writer
    if read_elsewhere:
        reader = TickWriter(convoy=4)
        reader.answered_on = writer
    writer.write(b"a")
    await tick()
    reader.heard()
    writer.write(b"b")
    assert sent.chunks == [b"a", b"b"]
    assert not writer._flush_due
    for word in (b"c", b"d", b"e"):
        writer.write(word)
    await tick()
    assert sent.chunks == [b"a", b"b", b"c", b"de"]


async def test_what_is_held_leaves_with_what_follows(writer: TickWriter, sent: Sent) -> None:
    writer.write(b"a")
    await tick()
    writer.hold()
    writer.write(b"b")
    writer.write(b"c")
    assert sent.chunks == [b"a"]
    await tick()
    assert sent.chunks == [b"a", b"bc"]


def batch(word: bytes, *, ahead: bool = False) -> Batch[TickWriter, bytes]:
    return Batch(lambda writer, items: writer.write(word + b"".join(items) + b" "), ahead=ahead)


async def test_what_is_ahead_leaves_first_whenever_it_was_begun(writer: TickWriter, sent: Sent) -> None:
    settled, to_one, to_another = batch(b"s"), batch(b"r", ahead=True), batch(b"R", ahead=True)
    for replies in (to_one, to_another):
        writer.gather(replies, b"1")
        writer.gather(settled, b"1")
    await tick()
    assert sent.chunks == [b"R1 r1 s11 "]


async def test_a_full_batch_takes_along_what_is_ahead_of_it(writer: TickWriter, sent: Sent) -> None:
    settled, to_one, to_another = batch(b"s"), batch(b"r", ahead=True), batch(b"R", ahead=True)
    for replies in (to_one, to_another, to_one, to_another, to_one):
        writer.gather(replies, b"1")
        writer.gather(settled, b"1")
    assert sent.chunks == [b"R11 r11 s1111 "]
    await tick()
    assert sent.chunks[1:] == [b"r1 s1 "]


async def test_what_cannot_be_laid_out_harms_nothing_else(
    writer: TickWriter, sent: Sent, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(writer: TickWriter, items: list[bytes]) -> None:
        raise ValueError("too long")

    good, bad = batch(b"g"), Batch[TickWriter, bytes](refuse)
    for each in (bad, good, bad, good):
        writer.gather(each, b"1")
    await tick()
    assert sent.chunks == [b"g11 "]
    assert "too long" in caplog.text
    for each in (bad, good):
        writer.gather(each, b"2")
    await tick()
    assert sent.chunks[1:] == [b"g2 "]


async def test_a_tick_with_a_full_batch_was_no_lone_one(writer: TickWriter, sent: Sent) -> None:
    replies = batch(b"r")
    for _ in range(5):
        writer.gather(replies, b"1")
    await tick()
    assert sent.chunks == [b"r1111 ", b"r1 "]
    writer.gather(replies, b"2")
    assert len(sent.chunks) == 2
