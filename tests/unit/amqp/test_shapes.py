"""What is read at one go is what the general way reads; whatever does not fit goes that way."""

from __future__ import annotations

from dataclasses import replace

import pamqp.commands
import pamqp.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.message import PLAIN, Kind, Message
from rpckit_amqp import _shapes
from rpckit_amqp._frames import content_frames, parse_properties, property_list
from rpckit_amqp._mapping import APP_ID, from_properties, lay_out
from rpckit_amqp._shapes import Shaped, Shapes

text = st.text(max_size=40)
messages = st.builds(
    Message,
    kind=st.sampled_from([Kind.REQUEST, Kind.REPLY, Kind.FAULT]),
    address=st.just(""),
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
    Kind.REQUEST, "", "fib", "m" * 32, "c" * 32, "inbox", "application/msgpack", 30_000, 1_700_000_000_000, body=b"x"
)
REPLY = Message(Kind.REPLY, correlation_id="c", body=b"7")


def method_frame(tag: int, consumer: str = "c1", redelivered: bool = False, key: str = "rpc_queue") -> bytes:
    frame: bytes = pamqp.frame.marshal(pamqp.commands.Basic.Deliver(consumer, tag, redelivered, "", key), 1)
    return frame


def read(shapes: Shapes, method: bytes, properties: bytes, body: bytes, around: bytes = b"") -> Shaped | None:
    """With other bytes before and after it."""
    data = around + method + content_frames(1, properties, body, 131_072) + around
    start = len(around)
    return shapes.read(data, start, start + len(method), len(data))


def generally(properties: bytes, body: bytes) -> Message:
    return from_properties(parse_properties(properties), body, "", Kind.REQUEST)


deliveries = st.tuples(messages, st.booleans(), st.sampled_from(["q", "rpc_queue", "another_q"]))


@given(st.lists(deliveries, max_size=6), st.binary(max_size=9))
def test_any_delivery_is_read_as_the_general_way_reads_it(sent: list[tuple[Message, bool, str]], around: bytes) -> None:
    shapes = Shapes()
    for tag, (message, redelivered, key) in enumerate((*sent, *sent, *reversed(sent)), start=1):
        method, properties = method_frame(tag, redelivered=redelivered, key=key), lay_out(message)
        shaped = read(shapes, method, properties, message.body, around)
        if shaped is not None:
            route = b"\0" + bytes((len(key),)) + key.encode()
            stop = len(around) + len(method) + len(content_frames(1, properties, message.body, 131_072))
            assert shaped[:4] == (b"c1", tag, redelivered, route)
            assert shaped[4] == generally(properties, message.body)
            assert shaped[5:] == (properties, stop)


@pytest.mark.parametrize(
    "message", [REQUEST, Message(Kind.REPLY, correlation_id="c", body=b"7")], ids=["call", "reply"]
)
def test_the_second_of_a_shape_is_read_at_one_go(message: Message) -> None:
    shapes = Shapes()
    assert read(shapes, method_frame(1), lay_out(message), message.body) is None
    other = replace(message, correlation_id=message.correlation_id.upper(), body=b"another body")
    shaped = read(shapes, method_frame(2), lay_out(other), other.body)
    assert shaped is not None
    assert shaped[4] == other


def test_a_delivery_that_has_not_all_come_is_left_to_the_general_way() -> None:
    shapes = Shapes()
    method = method_frame(1)
    data = method + content_frames(1, lay_out(REQUEST), REQUEST.body, 131_072)
    for _ in range(2):
        for end in range(len(method), len(data)):
            assert shapes.read(data[:end], 0, len(method), end) is None
    shapes.read(data, 0, len(method), len(data))
    assert shapes.read(data, 0, len(method), len(data)) is not None


@given(st.binary(max_size=60), st.integers(0, 200))
def test_no_strangers_bytes_break_the_reader(data: bytes, at: int) -> None:
    shapes = Shapes()
    method = method_frame(1)
    known = method + content_frames(1, lay_out(REQUEST), REQUEST.body, 131_072)
    at = min(len(method) + at, len(known))
    for each in (known, known[:at] + data + known[at + len(data) :], known[:at] + data, known, known, known):
        shaped = shapes.read(each, 0, len(method), len(each))
        assert shaped is None or shaped[6] <= len(each)
    assert shaped is not None


@pytest.mark.parametrize("expiration", ["soon!", "-3000", "٣٠٠٠٠"])
def test_a_time_left_that_is_no_number_is_left_to_the_general_way(expiration: str) -> None:
    shapes = Shapes()
    properties = property_list("", None, 0, "c", "r", expiration, "m", "fib", APP_ID)
    assert [read(shapes, method_frame(1), properties, b"") for _ in range(3)] == [None] * 3


def test_plain_messages_are_left_to_the_general_way() -> None:
    shapes = Shapes()
    properties = lay_out(replace(REQUEST, dialect=PLAIN))
    assert [read(shapes, method_frame(1), properties, b"30") for _ in range(3)] == [None] * 3


def test_shapes_of_the_same_sizes_are_learnt_anew_so_often_and_no_more() -> None:
    shapes = Shapes()
    one, other = replace(REQUEST, method="abc", message_id="m"), replace(REQUEST, method="ab", message_id="mm")
    for _ in range(_shapes.MAX_RELEARNT * 2):
        for message in (one, other):
            shaped = read(shapes, method_frame(1), lay_out(message), b"x")
            assert shaped is None or shaped[4] == message
    assert [read(shapes, method_frame(1), lay_out(each), b"x") is None for each in (one, other)].count(True) == 1


def test_remembered_shapes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_shapes, "MAX_SHAPES", 10)
    shapes = Shapes()
    for length in range(25):
        read(shapes, method_frame(1), lay_out(replace(REQUEST, correlation_id="c" * length)), b"x")
    assert 0 < len(shapes._shapes) <= 10
