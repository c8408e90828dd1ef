"""What is told to exchanges of other programs goes out on a channel that is open, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rpckit.errors import NotSent
from rpckit.message import Kind, Message
from rpckit_amqp._frames import publish_frame
from rpckit_amqp._publisher import Confirmed, Express
from rpckit_amqp._queues import Queues
from rpckit_amqp._requester import MAX_CHANNELS, Requester


class Abroad:
    """A session whose channel abroad is opened anew when it was closed; and what is written on it."""

    def __init__(self, closed: int) -> None:
        self.closed = closed  # so many times while the exchange is looked for
        self.channels: list[SimpleNamespace] = []
        self.written: list[bytes] = []
        self.protocol = SimpleNamespace(server_frame_max=0, congested=lambda: False)

    async def foreign_channel(self) -> SimpleNamespace:
        if not self.channels or not self.channels[-1].usable:
            number = len(self.channels) + 4
            self.channels.append(SimpleNamespace(channel_id=number, usable=True, protocol=self.protocol))
        return self.channels[-1]

    def forget_exchanges(self) -> None:
        """There are none."""

    async def ensure_exchange(self, *_: object) -> None:
        await asyncio.sleep(0)
        if self.closed:
            self.closed -= 1
            self.channels[-1].usable = False

    def write(self, data: bytes) -> None:
        self.written.append(data)


async def tell(abroad: Abroad) -> None:
    doubles: Any = {"on_undelivered": print, "on_gone": print}
    express = cast(Express, SimpleNamespace(framing=None, write=abroad.write))
    requester = Requester(cast(Any, None), cast(Queues, abroad), express, cast(Confirmed, None), **doubles)
    requester._session = cast(Any, abroad)
    await requester.publish("fanout:x", Message(Kind.EVENT, "fanout:x", body=b"1"))


@pytest.mark.parametrize("closed", [0, 1, MAX_CHANNELS - 1])
async def test_an_event_is_told_on_a_channel_that_is_open_at_last(closed: int) -> None:
    abroad = Abroad(closed)
    await tell(abroad)
    (data,) = abroad.written
    assert data.startswith(publish_frame(4 + closed, "x", "", mandatory=False))
    assert abroad.channels[-1].usable


async def test_who_finds_no_channel_open_gives_up() -> None:
    abroad = Abroad(MAX_CHANNELS)
    with pytest.raises(NotSent, match="before 'x' is told"):
        await tell(abroad)
    assert abroad.written == []
