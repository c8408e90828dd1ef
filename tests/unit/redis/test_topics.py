"""Subscriptions: what a group's member claims before it hands it over."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import hiredis
import pytest

from rpckit.bundle import bundled
from rpckit.errors import ConnectionLost, UsageError
from rpckit.message import Kind, Message
from rpckit_redis._channels import Channels
from rpckit_redis._connection import Session
from rpckit_redis._envelope import write
from rpckit_redis._keys import PlaceKind, topic_place
from rpckit_redis._link import OnReply, pack
from rpckit_redis._requester import Requester
from rpckit_redis._topics import CLAIM_MS, STALE_S, Subscription


class FakeLink:
    def __init__(self) -> None:
        self.last_read = 1_000.0
        self.sent: list[tuple[bytes, OnReply]] = []
        self.on_push: Any = None
        self.on_pattern_push: Any = None
        self.globs: list[str] = []

    def send(self, command: bytes, on_reply: OnReply) -> None:
        self.sent.append((command, on_reply))

    async def ask(self, *words: bytes | str | int) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self.send(pack(*words), answer.set_result)
        return await answer

    async def subscribe(self, channel: str) -> None: ...

    async def unsubscribe(self, channel: str) -> None: ...

    async def subscribe_pattern(self, glob: str) -> None:
        self.globs.append(glob)

    async def unsubscribe_pattern(self, glob: str) -> None:
        self.globs.remove(glob)


class FakeSession:
    alive = True

    def __init__(self) -> None:
        self.main = FakeLink()
        self.fresh_since = self.main.last_read


class Place:
    """A subscription on a session of its own."""

    def __init__(self, group: str, topic: str = "t") -> None:
        self.channels = Channels()
        self.session = FakeSession()
        self.heard: list[Message] = []
        self.subscription = Subscription(self.channels, topic, topic_place(topic), self.heard.append, group)

    async def start(self) -> FakeLink:
        await self.channels.attach(cast(Session, self.session))
        await self.subscription.start()
        return self.session.main

    def event(self, message_id: str = "m") -> None:
        data = write(Message(Kind.EVENT, "t", message_id=message_id))
        self.session.main.on_push(b"rpckit:topic:t", data)


async def test_a_pattern_hears_what_it_matches_and_no_more_than_its_glob_brings() -> None:
    place = Place("", "user.*.x")
    link = await place.start()
    assert link.globs == ["rpckit:topic:user.*.x"]
    for topic in ("user.one.x", "user.one.two.x"):
        channel = f"rpckit:topic:{topic}".encode()
        link.on_pattern_push(link.globs[0].encode(), channel, write(Message(Kind.EVENT, message_id="m")))
    assert [message.address for message in place.heard] == ["user.one.x"]
    await place.subscription.stop()
    assert link.globs == []


async def test_a_group_on_a_pattern_claims_apart_from_one_on_a_name() -> None:
    place = Place("g", "user.*")
    link = await place.start()
    link.on_pattern_push(link.globs[0].encode(), b"rpckit:topic:user.one", write(Message(Kind.EVENT, message_id="m")))
    assert link.sent[0][0] == pack("SET", "rpckit:event:g:m:user.*", "1", "NX", "PX", CLAIM_MS)


async def test_what_comes_by_a_pattern_of_somebody_else_is_passed_on() -> None:
    place = Place("", "user.*")
    link = await place.start()
    told: list[tuple[bytes, bytes, bytes]] = []
    place.channels.on_other_pattern = lambda *push: told.append(push)
    link.on_pattern_push(b"other*", b"other", b"data")
    assert (told, place.heard) == ([(b"other*", b"other", b"data")], [])


async def test_a_pattern_is_subscribed_again_in_a_new_session() -> None:
    place = Place("", "user.*")
    await place.start()
    session = FakeSession()
    await place.channels.attach(cast(Session, session))
    assert session.main.globs == ["rpckit:topic:user.*"]


def test_a_foreign_channel_has_no_groups() -> None:
    with pytest.raises(UsageError, match="'channel:news' has no groups"):
        Place("g", "channel:news")


async def test_without_a_group_nothing_is_claimed() -> None:
    place = Place("")
    link = await place.start()
    place.event()
    assert (len(place.heard), link.sent) == (1, [])


async def test_who_wins_the_claim_hears_the_event() -> None:
    place = Place("g")
    link = await place.start()
    place.event("won")
    place.event("lost")
    assert place.heard == []
    assert link.sent[0][0] == pack("SET", "rpckit:event:g:won", "1", "NX", "PX", CLAIM_MS)
    link.sent[0][1](b"OK")
    link.sent[1][1](None)
    assert [message.message_id for message in place.heard] == ["won"]


async def test_an_event_without_an_id_cannot_be_claimed_and_is_heard_by_all() -> None:
    place = Place("g")
    link = await place.start()
    place.event("")
    assert (len(place.heard), link.sent) == (1, [])


@pytest.mark.parametrize("error", [ConnectionLost("gone"), hiredis.ReplyError("OOM command not allowed")])
async def test_a_claim_that_fails_loses_the_event_and_is_warned_of_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place("g")
    link = await place.start()
    for _ in range(3):
        place.event()
    for _, on_reply in link.sent:
        on_reply(error)
    assert place.heard == []
    assert caplog.text.count("were not claimed") == 1


async def test_what_may_outlive_its_claim_is_not_heard() -> None:
    """This process slept: another member's claim may have expired by now."""
    place = Place("g")
    link = await place.start()
    link.last_read += STALE_S + 1
    place.event()
    assert (place.heard, link.sent) == ([], [])


async def test_what_was_claimed_is_handed_over_before_a_subscription_ends() -> None:
    place = Place("g")
    link = await place.start()
    place.event()
    stopping = asyncio.ensure_future(place.subscription.stop())
    await asyncio.sleep(0)
    place.event("too late")
    assert not stopping.done()
    (_, on_claimed), (ping, on_ping) = link.sent
    assert ping == pack("PING")
    on_claimed(b"OK")
    on_ping(b"PONG")
    await stopping
    assert len(place.heard) == 1


class Inbox:
    """A client's, with its pattern for the replies to plain calls."""

    def __init__(self) -> None:
        self.channels = Channels()
        self.session = FakeSession()
        self.replies: list[Message] = []

    async def open(self) -> FakeLink:
        requester = Requester(PlaceKind.LIST, self.channels, database=0, on_undelivered=lambda *_: None)
        await self.channels.attach(cast(Session, self.session))
        await requester.attach(cast(Session, self.session))
        await requester.open_inbox(self.replies.append)
        self.own = f"{requester.inbox}:"
        return self.session.main


async def test_what_still_comes_by_a_pattern_that_was_left_is_no_reply() -> None:
    inbox = Inbox()
    link = await inbox.open()
    event = write(Message(Kind.EVENT, message_id="m"))
    link.on_pattern_push(b"rpckit:topic:user.*", b"rpckit:topic:user.one", event)
    assert inbox.replies == []


async def test_a_strangers_channel_name_does_not_end_the_connection() -> None:
    inbox = Inbox()
    link = await inbox.open()
    for name in (b"\xff", b"c"):
        link.on_pattern_push(f"{inbox.own}*".encode(), inbox.own.encode() + name, b"1")
    assert [reply.correlation_id for reply in inbox.replies] == ["\ufffd", "c"]


async def test_a_bundle_is_its_replies_and_one_that_holds_none_or_is_malformed_is_nothing() -> None:
    inbox = Inbox()
    link = await inbox.open()
    replies = [Message(Kind.REPLY, correlation_id=letter * 32, body=b"7") for letter in "ab"]
    whole = bundled(replies)
    for body in (b"", b"malformed", whole.body):
        link.on_push(inbox.own.removesuffix(":").encode(), write(replace(whole, body=body)))
    assert [reply.correlation_id for reply in inbox.replies] == ["a" * 32, "b" * 32]
