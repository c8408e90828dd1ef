"""Replies that cannot leave are kept for the next connection: the latest, for as long as their callers wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rpckit.errors import ConnectionLost
from rpckit.message import REPLY, Message
from rpckit_redis import _replier
from rpckit_redis._link import OnReply
from rpckit_redis._replier import REPLY_KEPT_S, Replier


class Outgoing:
    """A link as a replier sees it: what is sent, and what answers it."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.last_read = self.loop.time()
        self.sent: list[tuple[bytes, OnReply]] = []

    def send(self, command: bytes, on_reply: OnReply) -> None:
        self.sent.append((command, on_reply))

    def leaves_at_once(self) -> bool:
        return True

    @property
    def bodies(self) -> list[bytes]:
        return [command.removesuffix(b"\r\n")[-4:] for command, _ in self.sent]


class Bench:
    def __init__(self) -> None:
        self.gone: list[str] = []
        self.replier = Replier(on_gone=self.gone.append)

    def reply(self, number: int, *, ago: float = 0.0, limit_ms: int | None = None, to: str = "inbox") -> None:
        message = Message(REPLY, to, correlation_id=f"c{number}", body=b"%04d" % number)
        self.replier.reply(message, asyncio.get_running_loop().time() - ago, limit_ms)

    def attach(self) -> Outgoing:
        link = Outgoing()
        self.replier.attach(cast(Any, SimpleNamespace(main=link, alive=True)))
        return link


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_was_answered_without_a_connection_goes_out_on_the_next_one_once_and_in_order(bench: Bench) -> None:
    for number in range(3):
        bench.reply(number)
    assert bench.attach().bodies == [b"0000", b"0001", b"0002"]
    assert bench.attach().bodies == []


async def test_a_reply_is_sent_again_only_where_its_connection_was_lost(bench: Bench) -> None:
    first = bench.attach()
    for number in range(3):
        bench.reply(number)
    (_, taken), (_, lost), (_, refused) = first.sent
    taken(1)
    lost(ConnectionLost("gone"))
    refused(RuntimeError("no"))
    assert bench.attach().bodies == [b"0001"]
    assert bench.gone == []


async def test_a_reply_that_nobody_heard_tells_that_its_caller_is_gone(bench: Bench) -> None:
    link = bench.attach()
    bench.reply(1, to="an inbox")
    link.sent[0][1](0)
    assert bench.gone == ["an inbox"]


async def test_a_reply_is_kept_for_as_long_as_its_caller_waits(bench: Bench) -> None:
    bench.reply(1, ago=2.0, limit_ms=1_999)
    bench.reply(2, ago=2.0, limit_ms=60_000)
    bench.reply(3, ago=REPLY_KEPT_S + 1)
    bench.reply(4, ago=REPLY_KEPT_S - 1)
    assert bench.attach().bodies == [b"0002", b"0004"]


async def test_of_too_many_replies_the_latest_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_replier, "MAX_KEPT", 3)
    for number in range(5):
        bench.reply(number)
    assert bench.attach().bodies == [b"0002", b"0003", b"0004"]


async def test_of_too_large_replies_the_latest_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.reply(0)
    each = len(bench.attach().sent[0][0])
    bench.replier.detach()
    monkeypatch.setattr(_replier, "MAX_KEPT_BYTES", 2 * each)
    for _ in range(2):  # what has left counts no more
        for number in range(5):
            bench.reply(number)
        assert bench.attach().bodies == [b"0003", b"0004"]
        bench.replier.detach()
