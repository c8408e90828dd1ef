"""The requesting role: there is one inbox, however often and whenever it is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from types import SimpleNamespace
from typing import Any

import pytest

from rpckit.errors import NotSent
from rpckit_redis._channels import Channels
from rpckit_redis._keys import PlaceKind
from rpckit_redis._requester import Requester


class FakeLink:
    """Confirms a subscription a moment after it is asked for."""

    pending: Sized = ()

    async def subscribe(self, channel: str) -> None:
        await asyncio.sleep(0.1)


def a_session() -> Any:
    return SimpleNamespace(main=FakeLink(), alive=True)


@pytest.fixture
async def channels() -> Channels:
    return Channels()


@pytest.fixture
async def requester(channels: Channels) -> Requester:
    """It is between two connections, and had an inbox."""
    requester = Requester(PlaceKind.STREAM, channels, database=0, on_undelivered=_ignore)
    with pytest.raises(NotSent):
        await requester.open_inbox(_ignore)
    return requester


async def test_an_inbox_opened_while_a_reconnect_opens_one_is_the_same(
    channels: Channels, requester: Requester
) -> None:
    session = a_session()
    await channels.attach(session)
    attaching = asyncio.ensure_future(requester.attach(session))
    await asyncio.sleep(0.05)
    opening = asyncio.ensure_future(requester.open_inbox(_ignore))
    await attaching
    inbox = requester.inbox
    await opening
    assert requester.inbox == inbox
    assert list(channels._listening) == [inbox.encode()]


async def test_the_inbox_of_an_attempt_that_failed_is_not_subscribed_again(
    channels: Channels, requester: Requester
) -> None:
    for _ in range(2):
        session = a_session()
        await channels.attach(session)
        await requester.attach(session)
    assert list(channels._listening) == [requester.inbox.encode()]


async def test_each_link_knows_how_many_calls_are_pending(channels: Channels) -> None:
    requester = Requester(PlaceKind.STREAM, channels, database=0, on_undelivered=_ignore)
    session = a_session()
    await channels.attach(session)
    await requester.attach(session)
    for pending in (["a call"], ["another client's call"]):
        await requester.open_inbox(_ignore, pending)
        assert session.main.pending is pending
    requester.detach()
    again = a_session()
    await channels.attach(again)
    await requester.attach(again)
    assert again.main.pending is pending


def _ignore(*_: object) -> None:
    """For what nobody listens to here."""
