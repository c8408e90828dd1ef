"""The seam, first half: connections, and messages that arrive as they were sent."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from rpckit.errors import NoResponder, NotSent, UsageError
from rpckit.ids import new_id
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit.registry import open_transport
from rpckit.testing.conformance._rig import AT_ONCE_S, Line, Rig, RigFixtures, median_time, quiet, until
from rpckit.transport import Capabilities, State

__all__ = ["Connections", "Envelopes", "Events", "Routes"]

SIZES = (0, 1, 300_000, 1_048_576)  # bytes: nothing, something, several frames, the default limit of a body
HEADERS = {"user": "7", "名前": "Grüße ✓", "empty": "", "long": "x" * 2000}
UNSENDABLE: dict[str, dict[str, Any]] = {
    "a header of 1 MiB": {"headers": {"x": "x" * 1_048_576}},
    "a header's name of 300 letters": {"headers": {"x" * 300: "y"}},
    "a header that is not Unicode": {"headers": {"x": "\ud800"}},
    "a method's name of 300 letters": {"method": "x" * 300},
    "a content type of 300 letters": {"content_type": "x" * 300},
}


class Connections(RigFixtures):
    async def test_capabilities_do_not_contradict_each_other(self, capabilities: Capabilities) -> None:
        """What a transport declares is what everybody relies on."""
        assert capabilities.name
        assert capabilities.settles or not (capabilities.redelivers or capabilities.persists)
        assert capabilities.max_body is None or capabilities.max_body >= 1_048_576

    async def test_an_unknown_option_is_an_error_that_lists_the_known_ones(self, url: str) -> None:
        joint = "&" if "?" in url else "?"
        with pytest.raises(UsageError, match="connect_timeout"):
            open_transport(f"{url}{joint}no_such_option=1")

    async def test_before_connect_nothing_is_sent(self, url: str, address: str) -> None:
        """Making a transport does no I/O, and a message before `connect` is `NotSent`."""
        line = Line(open_transport(url))
        assert line.transport.inbox == ""
        with pytest.raises(NotSent):
            await line.send(address)
        await line.transport.close()

    async def test_states_are_told(self, rig: Rig) -> None:
        """`on_state` tells of the connection, and once of its end."""
        line = await rig.line()
        assert line.states[-1:] == [State.CONNECTED]
        await line.transport.close()
        await line.transport.close()
        assert line.states[-1:] == [State.CLOSED]
        assert line.states.count(State.CLOSED) == 1

    async def test_closing_twice_is_closing_once(self, rig: Rig, address: str) -> None:
        """Also with receivers, subscriptions and an open inbox, and at the same time."""
        line = await rig.line()
        await line.receive(address)
        await line.transport.subscribe(address, line.inbox.append)
        await asyncio.gather(line.transport.close(), line.transport.close())
        await line.transport.close()

    async def test_after_close_nothing_is_sent(self, rig: Rig, address: str) -> None:
        """Nothing left this process, and the error says so."""
        server, caller = await rig.serving(), await rig.line()
        await server.receive(address)
        await caller.transport.close()
        with pytest.raises(NotSent):
            await caller.send(address)


class Envelopes(RigFixtures):
    async def test_every_field_of_a_request_arrives(self, rig: Rig, address: str) -> None:
        """A transport carries the whole envelope; the time left may only shrink."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        deadline_ms = int(time.time() * 1000) + 30_000
        sent = await caller.send(
            address,
            b"\x00\xff body",
            method="fib",
            content_type="application/x-anything",
            time_left_ms=30_000,
            deadline_ms=deadline_ms,
            attempt=3,
            depth=2,
            headers=HEADERS,
        )
        message = (await received.first()).message
        for name in ("kind", "method", "message_id", "correlation_id", "content_type", "deadline_ms"):
            assert getattr(message, name) == getattr(sent, name), name
        for name in ("attempt", "depth", "body", "dialect"):
            assert getattr(message, name) == getattr(sent, name), name
        assert dict(message.headers) == HEADERS
        assert message.time_left_ms is not None
        assert 0 < message.time_left_ms <= 30_000

    async def test_what_was_left_out_stays_out(self, rig: Rig, address: str) -> None:
        """No deadline, no method, no headers: nothing is made up on the way."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        message = (await received.first()).message
        assert (message.method, message.content_type, dict(message.headers)) == ("", "", {})
        assert (message.time_left_ms, message.deadline_ms) == (None, None)
        assert (message.attempt, message.depth, message.body) == (1, 0, b"")

    async def test_a_plain_request_stays_plain(self, rig: Rig, address: str) -> None:
        """The raw form: the body as it is, and nothing of ours in it."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        sent = await caller.send(address, b"30", dialect=PLAIN, headers={"user": "7"})
        message = (await received.first()).message
        assert (message.dialect, message.body, message.method) == (PLAIN, b"30", "")
        assert (message.correlation_id, dict(message.headers)) == (sent.correlation_id, {"user": "7"})

    @pytest.mark.parametrize("size", SIZES)
    async def test_bodies_of_any_size_go_there_and_back(self, rig: Rig, address: str, size: int) -> None:
        """From nothing to 1 MiB, byte for byte."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        body = bytes(range(256)) * (size // 256) + bytes(size % 256)
        await caller.send(address, body)
        delivery = await received.first()
        assert delivery.message.body == body
        delivery.reply(delivery.message.reply(Kind.REPLY, body))
        await until(lambda: caller.inbox, "the reply")
        assert caller.inbox[0].body == body

    @pytest.mark.parametrize("kind", [Kind.REPLY, Kind.FAULT, Kind.ITEM, Kind.END, Kind.CANCEL])
    async def test_every_field_of_a_reply_arrives(self, rig: Rig, address: str, kind: Kind) -> None:
        """Replies of each kind reach the inbox named in their request."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        sent = await caller.send(address)
        delivery = await received.first()
        reply = delivery.message.reply(kind, b"\x00\xff", "application/x-anything")
        reply.headers = HEADERS
        delivery.reply(reply)
        await until(lambda: caller.inbox, "the reply")
        message = caller.inbox[0]
        assert (message.kind, message.correlation_id) == (kind, sent.correlation_id)
        assert (message.message_id, message.dialect) == (reply.message_id, NATIVE)
        assert (message.content_type, message.body) == ("application/x-anything", b"\x00\xff")
        assert dict(message.headers) == HEADERS

    async def test_a_plain_fault_is_told_from_a_plain_reply(self, rig: Rig, address: str) -> None:
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address, dialect=PLAIN)
        delivery = await received.first()
        delivery.reply(delivery.message.reply(Kind.FAULT, b"INTERNAL: no"))
        await until(lambda: caller.inbox, "the fault")
        assert (caller.inbox[0].kind, caller.inbox[0].dialect) == (Kind.FAULT, PLAIN)

    @pytest.mark.parametrize("fields", UNSENDABLE.values(), ids=UNSENDABLE)
    async def test_what_cannot_be_sent_is_refused_and_harms_nobody(
        self, rig: Rig, address: str, fields: dict[str, Any]
    ) -> None:
        """It arrives whole or raises `UsageError`, and the next message is as good as ever."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        try:
            sent = await caller.send(address, **fields)
        except UsageError:
            pass
        else:
            message = (await received.first()).message
            assert all(getattr(message, name) == getattr(sent, name) for name in fields)
        await caller.send(address, b"the next one")
        await until(lambda: b"the next one" in received.bodies, "the next message")
        assert State.RECONNECTING not in caller.states

    @pytest.mark.parametrize("fields", UNSENDABLE.values(), ids=UNSENDABLE)
    async def test_a_reply_that_cannot_be_sent_leaves_its_delivery_open(
        self, rig: Rig, address: str, fields: dict[str, Any]
    ) -> None:
        """`reply` raises `UsageError` before anything is written: a fault can still be sent instead."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        reply = delivery.message.reply(Kind.REPLY, b"")
        for name, value in fields.items():
            setattr(reply, name, value)
        try:
            delivery.reply(reply)
        except UsageError:
            delivery.reply(delivery.message.reply(Kind.FAULT, b"instead"))
        await until(lambda: caller.inbox, "an answer")
        await quiet()
        assert len(caller.inbox) == 1
        assert State.RECONNECTING not in server.states

    async def test_a_name_that_is_too_long_is_refused(self, rig: Rig, address: str) -> None:
        """Whoever asks for an address that no broker can carry is told so, and goes on."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        with pytest.raises((UsageError, NoResponder)):
            await caller.send("x" * 300)
        await caller.send(address)
        await received.first()
        assert State.RECONNECTING not in caller.states

    async def test_a_body_over_the_transports_own_limit_is_refused(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """`max_body` is checked before the first byte leaves; None means that there is no limit to check."""
        if capabilities.max_body is None:
            return
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        with pytest.raises(UsageError):
            await caller.send(address, bytes(capabilities.max_body + 1))
        await caller.send(address)
        await received.first()


class Routes(RigFixtures):
    async def test_an_inbox_has_a_name_once_it_is_open(self, rig: Rig) -> None:
        line = await rig.line(inbox=False)
        assert line.transport.inbox == ""
        await line.transport.open_inbox(line.inbox.append)
        assert line.transport.inbox != ""

    async def test_replies_reach_the_caller_that_asked(self, rig: Rig, address: str) -> None:
        """Two callers of one server, with the same correlation id: each gets its own reply."""
        server, one, other = await rig.serving(), await rig.line(), await rig.line()
        received = await server.receive(address)
        await one.send(address, b"one", correlation_id="same")
        await other.send(address, b"other", correlation_id="same")
        await received.first(2)
        assert len({delivery.message.reply_to for delivery in received.all}) == 2
        for delivery in received.all:
            delivery.reply(delivery.message.reply(Kind.REPLY, delivery.message.body))
        await until(lambda: one.inbox and other.inbox, "both replies")
        assert (one.inbox[0].body, other.inbox[0].body) == (b"one", b"other")

    async def test_a_message_sent_to_an_inbox_arrives_there(self, rig: Rig, address: str) -> None:
        """`send` takes replies and cancels too: not everything answers a delivery at hand."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address)
        delivery = await received.first()
        await server.transport.send(delivery.message.reply(Kind.ITEM, b"1"))
        await until(lambda: caller.inbox, "the item")
        assert (caller.inbox[0].kind, caller.inbox[0].body) == (Kind.ITEM, b"1")

    async def test_addresses_are_apart(self, rig: Rig) -> None:
        here, there = rig.address(), rig.address()
        server, caller = await rig.serving(), await rig.line()
        at_here, at_there = await server.receive(here), await server.receive(there)
        await caller.send(here, b"here")
        await caller.send(there, b"there")
        await at_here.first()
        await at_there.first()
        await quiet()
        assert (at_here.bodies, at_there.bodies) == ([b"here"], [b"there"])

    async def test_requests_of_one_caller_keep_their_order(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `orders`; otherwise it is enough that each arrives once."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address, prefetch=200)
        sent = [b"%d" % number for number in range(200)]
        for body in sent:
            await caller.send(address, body)
        await received.first(200)
        assert received.bodies == sent if capabilities.orders else sorted(received.bodies) == sorted(sent)

    async def test_a_message_without_reply_to_is_with_the_broker_when_send_returns(
        self, rig: Rig, address: str
    ) -> None:
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await caller.send(address, b"news", reply_to="", correlation_id="")
        await caller.transport.close()
        delivery = await received.first()
        assert (delivery.message.reply_to, delivery.message.body) == ("", b"news")
        delivery.settle()

    async def test_nobody_serves_is_told_at_once(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """`NoResponder`, raised or by `on_undelivered`, within 50 ms; who cannot know accepts the request."""
        caller = await rig.line()
        if not capabilities.knows_no_responder:
            await caller.send(address)
            return

        async def attempt() -> None:
            assert isinstance(await caller.refusal(address), NoResponder)

        assert await median_time(attempt) < AT_ONCE_S

    async def test_nobody_serves_is_told_to_those_who_want_no_reply(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        caller = await rig.line()
        if not capabilities.knows_no_responder:
            await caller.send(address, reply_to="")
            return
        with pytest.raises(NoResponder):
            await caller.send(address, reply_to="")

    async def test_a_stopped_server_serves_no_more(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """Also when its queue is still there."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await received.receiver.stop()
        if capabilities.knows_no_responder:
            assert isinstance(await caller.refusal(address), NoResponder)
        else:
            await caller.send(address)
        assert len(received) == 0

    async def test_a_request_waits_for_its_server(self, rig: Rig, address: str, capabilities: Capabilities) -> None:
        """`must_be_served=False`: if `queue_wait`, a server that comes finds it; otherwise it is refused."""
        caller = await rig.line()
        if not capabilities.queue_wait:
            with pytest.raises((UsageError, NoResponder)):
                await caller.send(address, must_be_served=False)
            return
        await caller.send(address, b"patience", must_be_served=False)
        await caller.send(address, b"no reply", must_be_served=False, reply_to="")
        server = await rig.serving()
        received = await server.receive(address)
        await received.first(2)
        assert sorted(received.bodies) == [b"no reply", b"patience"]


class Events(RigFixtures):
    async def test_everyone_who_subscribed_hears_what_is_published(self, rig: Rig, address: str) -> None:
        """Every message of the topic from then on, with its fields."""
        speaker, one, other = await rig.serving(), await rig.line(), await rig.line()
        await one.transport.subscribe(address, one.inbox.append)
        await other.transport.subscribe(address, other.inbox.append)
        event = Message(Kind.CANCEL, address, correlation_id=new_id(), headers=HEADERS, body=b"\x00\xff")
        await speaker.transport.publish(address, event)
        await until(lambda: one.inbox and other.inbox, "the event, to both")
        for message in (one.inbox[0], other.inbox[0]):
            assert (message.kind, message.correlation_id) == (Kind.CANCEL, event.correlation_id)
            assert (dict(message.headers), message.body) == (HEADERS, b"\x00\xff")

    async def test_the_sender_of_an_event_can_be_told_apart(self, rig: Rig, address: str) -> None:
        """A cancel names its caller as the request did, or it would never find the work."""
        server, caller = await rig.serving(), await rig.line()
        received = await server.receive(address)
        await server.transport.subscribe(address, server.inbox.append)
        await caller.send(address)
        await caller.transport.publish(address, Message(Kind.CANCEL, reply_to=caller.transport.inbox))
        await until(lambda: server.inbox, "the cancel")
        assert server.inbox[0].reply_to == (await received.first()).message.reply_to

    async def test_what_a_pattern_hears_says_its_topic(
        self, rig: Rig, address: str, capabilities: Capabilities
    ) -> None:
        """If `event_patterns`. Everywhere `#` within a word is a letter like any other."""
        speaker, listener = await rig.serving(), await rig.line()
        wanted = {f"{address}.c#": b"a name"}
        await listener.transport.subscribe(f"{address}.c#", listener.inbox.append)
        if capabilities.event_patterns:
            wanted[f"{address}.one.b"] = b"matched"
            await listener.transport.subscribe(f"{address}.*.b", listener.inbox.append)
        for topic in (*wanted, f"{address}.cc", f"{address}.b", f"{address}.one.two.b"):
            await speaker.transport.publish(topic, Message(Kind.EVENT, topic, body=wanted.get(topic, b"not for us")))
        await until(lambda: len(listener.inbox) == len(wanted), "the events")
        await quiet()
        assert {message.address: message.body for message in listener.inbox} == wanted

    async def test_publishing_to_nobody_is_no_error(self, rig: Rig, address: str) -> None:
        """And whoever subscribes later does not hear of it."""
        line = await rig.serving()
        await line.transport.publish(address, Message(Kind.EVENT))
        await line.transport.subscribe(address, line.inbox.append)
        await quiet()
        assert line.inbox == []

    async def test_a_subscription_ends_when_it_is_stopped(self, rig: Rig, address: str) -> None:
        speaker, listener = await rig.serving(), await rig.line()
        subscription = await listener.transport.subscribe(address, listener.inbox.append)
        await subscription.stop()
        await speaker.transport.publish(address, Message(Kind.EVENT))
        await quiet()
        assert listener.inbox == []

    async def test_a_paused_subscription_is_silent(self, rig: Rig, address: str) -> None:
        """What is published meanwhile is lost: events are at most once."""
        speaker, listener = await rig.serving(), await rig.line()
        subscription = await listener.transport.subscribe(address, listener.inbox.append)
        subscription.pause()
        await speaker.transport.publish(address, Message(Kind.EVENT, body=b"1"))
        await quiet()
        subscription.resume()
        await speaker.transport.publish(address, Message(Kind.EVENT, body=b"2"))
        await until(lambda: listener.inbox, "the second event")
        assert [message.body for message in listener.inbox] == [b"2"]
