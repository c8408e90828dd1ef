"""When acks leave: late enough to be few, early enough that the broker never waits for room."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rpckit.message import PLAIN, Kind, Message
from rpckit_amqp._connection import Session
from rpckit_amqp._frames import ack_frame, reject_frame
from rpckit_amqp._inbound import ACK_WITHIN_S, Inbound

CHANNEL = 1
ROUTE = b"\0\1q"  # exchange and routing key
EMPTY = b"\0\0"  # a property list
BAD = (1 << 13).to_bytes(2, "big") + b"\0\0\0\5\1nQ\0\0"  # a header of a type that nobody knows
REQUESTS: Any = {"address": "q", "kind": Kind.REQUEST}


class Line:
    """A session whose frames are kept, with a channel that consumes whatever it is told."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.alive = True
        self.data: Any = SimpleNamespace(channel_id=CHANNEL)
        self.protocol = SimpleNamespace(loop=asyncio.get_running_loop(), write=self.frames.append)

    async def on_data(self, what: str, start: Any) -> None:
        """Consuming succeeds."""


async def consuming(prefetch: int) -> tuple[Line, Inbound]:
    line = Line()
    inbound = Inbound(cast(Session, line))
    await inbound.consume("c1", "q", lambda *_: None, **REQUESTS, acked=True, prefetch=prefetch)
    return line, inbound


def deliver(line: Line, *tags: int) -> None:
    for tag in tags:
        line.data.on_deliver(b"c1", tag, False, ROUTE, EMPTY, b"")


async def test_few_acks_wait_for_others_and_leave_in_one_frame() -> None:
    line, inbound = await consuming(prefetch=100)
    deliver(line, 1, 2, 3)
    inbound.settle(1)
    await asyncio.sleep(0)
    inbound.settle(2)
    assert line.frames == []
    await asyncio.sleep(10 * ACK_WITHIN_S)
    assert line.frames == [ack_frame(CHANNEL, 2, multiple=True)]


@pytest.mark.parametrize("acked", [True, False])
async def test_a_message_that_cannot_be_decoded_is_rejected_and_the_next_one_handled(
    acked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    line, handled = Line(), []
    inbound = Inbound(cast(Session, line))
    await inbound.consume("c1", "q", lambda *args: handled.append(args[4]), **REQUESTS, acked=acked)
    line.data.on_deliver(b"c1", 1, False, ROUTE, BAD, b"")
    line.data.on_deliver(b"c1", 2, False, ROUTE, EMPTY, b"30")
    assert handled == [Message(Kind.REQUEST, "q", body=b"30", dialect=PLAIN)]
    assert line.frames == ([reject_frame(CHANNEL, 1, requeue=False)] if acked else [])
    assert inbound.undecodable == 1
    assert "cannot be decoded" in caplog.text


async def test_they_do_not_wait_once_the_prefetch_is_nearly_used_up() -> None:
    line, inbound = await consuming(prefetch=4)
    deliver(line, 1, 2)
    inbound.settle(1)
    await asyncio.sleep(0)
    assert line.frames == []
    deliver(line, 3, 4)
    inbound.settle(2)
    await asyncio.sleep(0)
    assert line.frames == [ack_frame(CHANNEL, 2, multiple=True)]


async def test_the_smallest_prefetch_of_a_channel_decides() -> None:
    line, inbound = await consuming(prefetch=100)
    await inbound.consume("c2", "r", lambda *_: None, **REQUESTS, acked=True, prefetch=1)
    await inbound.consume("c3", "s", lambda *_: None, **REQUESTS, acked=False)
    deliver(line, 1)
    inbound.settle(1)
    await asyncio.sleep(0)
    assert line.frames == [ack_frame(CHANNEL, 1, multiple=True)]


@pytest.mark.parametrize("alive", [True, False])
async def test_acking_now_takes_the_place_of_acking_later(alive: bool) -> None:
    line, inbound = await consuming(prefetch=100)
    line.alive = alive
    deliver(line, 1)
    inbound.settle(1)
    inbound.ack()
    inbound.ack()
    await asyncio.sleep(10 * ACK_WITHIN_S)
    assert line.frames == ([ack_frame(CHANNEL, 1, multiple=True)] if alive else [])
