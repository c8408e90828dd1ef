"""What is filled into a template is what the general way lays out, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit_amqp import _templates
from rpckit_amqp._framing import Framing

ID = "0123456789abcdef" * 2
names = st.text(max_size=12) | st.sampled_from(["%b", "%", "\x01" * 32, "\x02" * 32, "\x04" * 8])
ids = st.text("0123456789abcdef", min_size=32, max_size=32) | st.text(max_size=40)
messages = st.builds(
    Message,
    kind=st.sampled_from(list(Kind)),
    address=names,
    method=names,
    message_id=ids | st.just(""),
    correlation_id=ids,
    reply_to=names,
    content_type=names,
    time_left_ms=st.none() | st.integers(1, 2**33),
    deadline_ms=st.none() | st.integers(0, 2**53),
    attempt=st.sampled_from([1, 1, 2]),
    depth=st.sampled_from([0, 0, 1]),
    headers=st.sampled_from([{}, {}, {"user": "7"}]),
    body=st.binary(max_size=30),
    dialect=st.sampled_from([NATIVE, NATIVE, PLAIN]),
    persistent=st.booleans(),
)
REQUEST = Message(
    Kind.REQUEST,
    "rpc_queue",
    "fib",
    ID,
    ID[::-1],
    "inbox",
    "application/msgpack",
    30_000,
    1_700_000_000_000,
    body=b"30",
)
REPLY = Message(Kind.REPLY, "inbox", correlation_id=ID, content_type="application/msgpack", body=b"832040")


@given(messages, ids, st.integers(0, 2**53), st.binary(min_size=1, max_size=30), st.booleans())
def test_any_message_is_laid_out_as_the_general_way_does(
    message: Message, correlation_id: str, deadline_ms: int, body: bytes, mandatory: bool
) -> None:
    framing = Framing()
    other = replace(message, correlation_id=correlation_id, body=body)
    if message.deadline_ms is not None:
        other.deadline_ms = deadline_ms
    for each in (message, other, message):
        assert framing.lay_out(each, mandatory=mandatory) == framing._lay_out(each, mandatory)


@pytest.mark.parametrize("message", [REQUEST, REPLY], ids=["request", "reply"])
def test_calls_and_replies_are_filled_in(message: Message) -> None:
    framing = Framing()
    other = replace(message, correlation_id="f" * 32, body=b"another")
    for each in (message, other):
        assert framing._templates.fill(each, True) == framing._lay_out(each, True)


@pytest.mark.parametrize("body", [b"", bytes(131_072 - 7), bytes(300_000)], ids=len)
def test_bodies_that_take_no_frame_or_several_go_the_general_way(body: bytes) -> None:
    assert Framing()._templates.fill(replace(REQUEST, body=body), True) is None


def test_templates_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_templates, "MAX_TEMPLATES", 10)
    templates = Framing()._templates
    for number in range(25):
        templates.fill(replace(REQUEST, address=f"q{number}"), True)
        templates.fill(replace(REPLY, address=f"q{number}"), True)
    assert 0 < len(templates._requests) <= 10
    assert 0 < len(templates._replies) <= 10
