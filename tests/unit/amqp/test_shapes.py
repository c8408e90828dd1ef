"""What is read at one go is what the general way reads; whatever does not fit goes that way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.message import PLAIN, Kind, Message
from rpckit_amqp import _shapes
from rpckit_amqp._frames import parse_properties, property_list
from rpckit_amqp._mapping import APP_ID, from_properties, lay_out
from rpckit_amqp._shapes import Shapes

text = st.text(max_size=40)
messages = st.builds(
    Message,
    kind=st.sampled_from([Kind.REQUEST, Kind.REPLY, Kind.FAULT]),
    address=st.just("q"),
    method=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True) | st.just(""),
    message_id=text,
    correlation_id=text,
    reply_to=text,
    content_type=text,
    time_left_ms=st.none() | st.integers(1, 2**32),
    deadline_ms=st.none() | st.integers(0, 2**53),
    persistent=st.booleans(),
    attempt=st.integers(1, 2),
    headers=st.dictionaries(st.sampled_from(["a", "b"]), text, max_size=1),
    body=st.binary(max_size=20),
)
REQUEST = Message(
    Kind.REQUEST, "q", "fib", "m" * 32, "c" * 32, "inbox", "application/msgpack", 30_000, 1_700_000_000_000, body=b"x"
)


def generally(properties: bytes, body: bytes) -> Message:
    return from_properties(parse_properties(properties), body, "q", Kind.REQUEST)


@given(st.lists(messages, max_size=6), st.integers(0, 5))
def test_any_message_is_read_as_the_general_way_reads_it(sent: list[Message], again: int) -> None:
    shapes = Shapes()
    for message in (*sent, *sent, *sent[again:]):
        properties = lay_out(message)
        read = shapes.read(properties, message.body, "q")
        assert read is None or read == generally(properties, message.body)


def test_the_second_of_a_shape_is_read_at_one_go() -> None:
    shapes = Shapes()
    for message in (REQUEST, Message(Kind.REPLY, "q", correlation_id="c", content_type="text/plain", body=b"7")):
        assert shapes.read(lay_out(message), message.body, "q") is None
        other = replace(message, correlation_id=message.correlation_id.upper())
        assert shapes.read(lay_out(other), other.body, "q") == other


@given(st.binary(max_size=80))
def test_any_bytes_are_read_as_the_general_way_reads_them_or_left_to_it(data: bytes) -> None:
    shapes = Shapes()
    known = lay_out(REQUEST)
    for properties in (known, data, data, data + known[len(data) :], known[:-9] + data[:9]):
        try:
            read = shapes.read(properties, b"", "q")
        except UnicodeDecodeError:
            with pytest.raises(UnicodeDecodeError):
                parse_properties(properties)
        else:
            assert read is None or read == generally(properties, b"")


@pytest.mark.parametrize("expiration", ["soon!", "-3000", "٣٠٠٠٠"])
def test_a_time_left_that_is_no_number_is_left_to_the_general_way(expiration: str) -> None:
    shapes = Shapes()
    properties = property_list("", None, 0, "c", "r", expiration, "m", "fib", APP_ID)
    assert shapes.read(properties, b"", "q") is shapes.read(properties, b"", "q") is None


def test_plain_messages_are_left_to_the_general_way() -> None:
    shapes = Shapes()
    properties = lay_out(replace(REQUEST, dialect=PLAIN))
    assert shapes.read(properties, b"", "q") is shapes.read(properties, b"", "q") is None


def test_remembered_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shapes, "MAX_SHAPES", 10)
    shapes = Shapes()
    for length in range(25):
        shapes.read(lay_out(replace(REQUEST, correlation_id="c" * length)), b"", "q")
    assert 0 < len(shapes._shapes) <= 10
