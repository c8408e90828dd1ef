"""Replies of one tick to one inbox travel as one message, and come out as they went in."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.bundle import MAX_BUNDLED, MAX_INBOXES, MAX_NAMES, MAX_READ, BundleError, Bundles, bundled, fits, unbundled
from rpckit.message import PLAIN, Kind, Message
from rpckit.tickwriter import TickWriter

INBOX = "inbox.1"
REPLY = Message(Kind.REPLY, INBOX, correlation_id="a" * 32, content_type="application/msgpack", body=b"\x07")

ids = st.text("0123456789abcdef", min_size=32, max_size=32)
replies = st.lists(
    st.builds(
        lambda correlation_id, body: replace(REPLY, correlation_id=correlation_id, body=body),
        ids,
        st.binary(max_size=MAX_BUNDLED),
    ),
    min_size=2,
    max_size=30,
)


@given(replies)
def test_what_is_bundled_comes_out_the_same_and_in_order(replies: list[Message]) -> None:
    assert all(fits(reply) for reply in replies)
    bundle = bundled(replies)
    assert bundle.kind is Kind.BUNDLE
    assert (bundle.address, bundle.content_type) == (INBOX, REPLY.content_type)
    assert bundle.correlation_id == replies[0].correlation_id
    assert unbundled(bundle) == replies


def test_a_bundle_is_ids_sizes_and_results() -> None:
    second = replace(REPLY, correlation_id="b" * 32, body=b"xyz")
    assert bundled([REPLY, second]).body == b"a" * 32 + b"\0\0\0\x01\x07" + b"b" * 32 + b"\0\0\0\x03xyz"


def test_a_single_reply_stays_as_it_is() -> None:
    assert bundled([REPLY]) is REPLY
    assert list(unbundled(REPLY)) == [REPLY]


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": Kind.FAULT},
        {"dialect": PLAIN},
        {"headers": {"user": "7"}},
        {"correlation_id": "7"},
        {"correlation_id": "ü" * 32},
        {"body": bytes(MAX_BUNDLED + 1)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_would_lose_something_goes_alone(changed: dict[str, Any]) -> None:
    assert fits(REPLY)
    assert not fits(replace(REPLY, **changed))


@pytest.mark.parametrize(
    "body",
    [b"short", b"a" * 32 + b"\0\0\0\x02x", b"a" * 32 + b"\xff\xff\xff\xffx", b"\xff" * 32 + b"\0\0\0\0"],
    ids=["head", "result", "size", "id"],
)
def test_a_malformed_bundle_yields_nothing(body: bytes) -> None:
    whole = bundled([REPLY, REPLY])
    with pytest.raises(BundleError, match="malformed"):
        unbundled(replace(whole, body=whole.body + body))


def test_a_bundle_of_too_many_is_not_read() -> None:
    most = bundled([REPLY] * MAX_READ)
    assert len(unbundled(most)) == MAX_READ
    with pytest.raises(BundleError, match="over 1024 replies"):
        unbundled(bundled([REPLY] * (MAX_READ + 1)))


# --- of one tick ------------------------------------------------------------------------------------


class Sent:
    """A writer, and what left by it: messages, each with its end and how many replies it holds."""

    def __init__(self) -> None:
        self.writer = TickWriter(convoy=4)
        self.messages: list[tuple[Message, float]] = []
        self.bundles: Bundles[TickWriter] = Bundles("inbox.", self._write)

    def _write(self, writer: TickWriter, message: Message, until: float) -> None:
        self.messages.append((message, until))
        writer.write(message.body)

    def take(self, *results: bytes, until: float = 1.0, **changed: Any) -> None:
        for result in results:
            assert self.bundles.take(self.writer, replace(REPLY, body=result, **changed), until)

    def left(self) -> list[list[bytes]]:
        return [
            [each.body for each in (unbundled(message) if message.kind is Kind.BUNDLE else [message])]
            for message, _ in self.messages
        ]


@pytest.fixture
async def sent() -> Sent:
    return Sent()


async def test_replies_of_one_tick_leave_as_one_message_at_its_end(sent: Sent) -> None:
    sent.take(b"1", b"2", b"3")
    assert sent.left() == []
    await asyncio.sleep(0)
    assert sent.left() == [[b"1", b"2", b"3"]]


async def test_a_lone_reply_does_not_wait(sent: Sent) -> None:
    sent.writer.write(b"alone")
    await asyncio.sleep(0)
    assert not sent.bundles.take(sent.writer, REPLY, 1.0), "it leaves at once: nothing will come with it"


async def test_a_full_bundle_does_not_wait_for_the_end_of_the_tick(sent: Sent) -> None:
    sent.take(b"1", b"2", b"3", b"4", b"5")
    assert sent.left() == [[b"1", b"2", b"3", b"4"]]
    await asyncio.sleep(0)
    assert sent.left()[1:] == [[b"5"]]


async def test_each_inbox_and_each_content_type_has_its_own(sent: Sent) -> None:
    sent.take(b"1", b"2")
    sent.take(b"3", b"4", address="inbox.2")
    sent.take(b"5", b"6", content_type="application/json")
    await asyncio.sleep(0)
    assert sorted(sent.left()) == [[b"1", b"2"], [b"3", b"4"], [b"5", b"6"]]


async def test_a_bundle_is_kept_while_any_of_its_callers_waits(sent: Sent) -> None:
    sent.take(b"1", until=5.0)
    sent.take(b"2", until=7.0)
    sent.take(b"3", until=6.0)
    await asyncio.sleep(0)
    assert [until for _, until in sent.messages] == [7.0]


async def test_an_inbox_that_does_not_take_bundles_gets_none(sent: Sent) -> None:
    assert not sent.bundles.take(sent.writer, replace(REPLY, address="amq.gen-1"), 1.0)
    assert not sent.bundles.take(sent.writer, replace(REPLY, kind=Kind.FAULT), 1.0)
    assert not sent.bundles.take(sent.writer, replace(REPLY, address="inbox." + "x" * MAX_NAMES), 1.0)
    assert not sent.bundles.take(sent.writer, replace(REPLY, content_type="text/plain; " + "x" * MAX_NAMES), 1.0)
    await asyncio.sleep(0)
    assert sent.messages == []


async def test_inboxes_are_remembered_up_to_a_bound_and_forgetting_loses_nothing(sent: Sent) -> None:
    for number in range(MAX_INBOXES + 1):
        sent.take(b"%d" % number, address=f"inbox.{number}")
    assert len(cast(Any, sent.bundles)._batches) == 1
    await asyncio.sleep(0)
    assert len(sent.messages) == MAX_INBOXES + 1
