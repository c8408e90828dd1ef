"""Our frames, against those of pamqp: written by one and read by the other."""

from __future__ import annotations

import datetime
import struct
from typing import Any

import pamqp.body
import pamqp.commands
import pamqp.frame
import pamqp.header
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.errors import UsageError
from rpckit_amqp import _frames as frames
from rpckit_amqp._frames import (
    FRAME_END,
    FRAME_HEAD,
    HEARTBEAT_FRAME,
    OVERHEAD,
    FrameError,
    Properties,
    ReturnMethod,
    ack_frame,
    content_frames,
    parse_ack,
    parse_properties,
    parse_return,
    property_list,
    publish_frame,
    reject_frame,
    routing_key,
)

short = st.text(max_size=60)
headers = st.dictionaries(
    st.text(min_size=1, max_size=20), st.text(max_size=40) | st.integers(-(2**63), 2**63 - 1), max_size=4
)
properties = st.builds(
    Properties,
    content_type=short,
    headers=headers,
    delivery_mode=st.sampled_from([0, 1, 2]),
    correlation_id=short,
    reply_to=short,
    expiration=short,
    message_id=short,
    type=short,
    app_id=short,
)


def laid_out(each: Properties) -> bytes:
    return property_list(
        each.content_type,
        each.headers,
        each.delivery_mode,
        each.correlation_id,
        each.reply_to,
        each.expiration,
        each.message_id,
        each.type,
        each.app_id,
    )


def payload(frame: bytes) -> bytes:
    return frame[FRAME_HEAD.size : -1]


def split(data: bytes) -> list[tuple[int, Any]]:
    """Channel and frame of each, as pamqp reads them."""
    out = []
    while data:
        consumed, channel, frame = pamqp.frame.unmarshal(data)
        out.append((channel, frame))
        data = data[consumed:]
    return out


# -- golden bytes -----------------------------------------------------------------------------------


def test_golden_publish() -> None:
    assert publish_frame(1, "", "rpc_queue", mandatory=True).hex() == (
        "01 0001 00000012 003c0028 0000 00 09".replace(" ", "") + b"rpc_queue".hex() + "01ce"
    )


def test_golden_ack_and_reject() -> None:
    assert ack_frame(1, 7, multiple=True).hex() == "01000100000 00d003c00500000000000000007 01ce".replace(" ", "")
    assert reject_frame(2, 7, requeue=True).hex() == "0100020000000d003c005a000000000000000701ce"


def test_golden_header_of_a_call() -> None:
    each = Properties(
        "application/msgpack",
        {"x-deadline": 1_700_000_000_000},
        0,
        "c" * 32,
        "rpckit.reply.1",
        "30000",
        "m" * 32,
        "fib",
        "rpckit/1",
    )
    assert laid_out(each).hex() == (
        "a7a8"  # content type, headers, correlation id, reply_to, expiration, message id, type, app id
        + "13"
        + b"application/msgpack".hex()
        + "00000014"
        + "0a"
        + b"x-deadline".hex()
        + "6c"
        + "0000018bcfe56800"
        + "20"
        + (b"c" * 32).hex()
        + "0e"
        + b"rpckit.reply.1".hex()
        + "05"
        + b"30000".hex()
        + "20"
        + (b"m" * 32).hex()
        + "03"
        + b"fib".hex()
        + "08"
        + b"rpckit/1".hex()
    )


def test_golden_heartbeat() -> None:
    assert HEARTBEAT_FRAME.hex() == "08000000000000ce"
    assert split(HEARTBEAT_FRAME)[0][1].name == "Heartbeat"


# -- written by us, read by pamqp -------------------------------------------------------------------


@given(st.integers(1, 65_535), st.text(max_size=60), st.text(max_size=60), st.booleans())
def test_publish_is_read_by_pamqp(channel: int, exchange: str, key: str, mandatory: bool) -> None:
    ((read_channel, frame),) = split(publish_frame(channel, exchange, key, mandatory=mandatory))
    assert (read_channel, frame.name) == (channel, "Basic.Publish")
    assert (frame.exchange, frame.routing_key, frame.mandatory) == (exchange, key, mandatory)


@given(st.integers(1, 2**63 - 1), st.booleans())
def test_ack_and_reject_are_read_by_pamqp(tag: int, bit: bool) -> None:
    ((_, ack),) = split(ack_frame(3, tag, multiple=bit))
    assert (ack.name, ack.delivery_tag, ack.multiple) == ("Basic.Ack", tag, bit)
    ((_, reject),) = split(reject_frame(3, tag, requeue=bit))
    assert (reject.name, reject.delivery_tag, reject.requeue) == ("Basic.Reject", tag, bit)


@given(properties, st.binary(max_size=50))
def test_headers_are_read_by_pamqp(each: Properties, body: bytes) -> None:
    (_, header), *bodies = split(content_frames(1, laid_out(each), body, 131_072))
    read = header.properties
    assert header.body_size == len(body)
    assert b"".join(frame.value for _, frame in bodies) == body
    assert (read.headers or {}) == each.headers
    for name in ("content_type", "correlation_id", "reply_to", "expiration", "message_id", "app_id"):
        assert (getattr(read, name) or "") == getattr(each, name)
    assert (read.message_type or "") == each.type
    assert (read.delivery_mode or 0) == each.delivery_mode


# -- written by pamqp, read by us -------------------------------------------------------------------


@given(st.sampled_from(["", "logs"]), st.text(max_size=60))
def test_routing_keys_of_pamqp_are_read(exchange: str, key: str) -> None:
    frame = pamqp.commands.Basic.Deliver("c1", 1, False, exchange, key)
    assert routing_key(payload(pamqp.frame.marshal(frame, 1))[4 + 3 + 9 :]) == key


@given(st.integers(0, 2**63 - 1), st.booleans())
def test_confirms_of_pamqp_are_read(tag: int, multiple: bool) -> None:
    for frame in (pamqp.commands.Basic.Ack(tag, multiple), pamqp.commands.Basic.Nack(tag, multiple, False)):
        assert parse_ack(payload(pamqp.frame.marshal(frame, 1))) == (tag, multiple)


@given(st.integers(0, 65_535), st.text(max_size=60), st.text(max_size=60))
def test_returns_of_pamqp_are_read(code: int, text: str, key: str) -> None:
    frame = pamqp.commands.Basic.Return(code, text, "exchange", key)
    assert parse_return(payload(pamqp.frame.marshal(frame, 1))) == ReturnMethod(code, text, key)


@given(properties)
def test_our_headers_come_back_as_they_were(each: Properties) -> None:
    assert parse_properties(laid_out(each)) == Properties(**{**_fields(each), "headers": each.headers or None})


def test_properties_we_do_not_use_are_passed_over() -> None:
    each = pamqp.commands.Basic.Properties(
        content_type="text/plain",
        content_encoding="gzip",
        priority=9,
        correlation_id="c",
        timestamp=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        message_type="t",
        user_id="guest",
        app_id="a",
        cluster_id="",
    )
    header = pamqp.header.ContentHeader(0, 5, each)
    assert parse_properties(payload(pamqp.frame.marshal(header, 1))[12:]) == Properties(
        content_type="text/plain", correlation_id="c", type="t", app_id="a"
    )


def test_foreign_header_tables_are_read_by_pamqp() -> None:
    table: dict[str, Any] = {
        "text": "a",
        "flag": True,
        "list": [1, "b"],
        "inner": {"c": 2},
        "none": None,
        "float": 1.5,
    }
    header = pamqp.header.ContentHeader(0, 0, pamqp.commands.Basic.Properties(headers=table, app_id="x"))
    read = parse_properties(payload(pamqp.frame.marshal(header, 1))[12:])
    assert dict(read.headers or {}) == table
    assert read.app_id == "x"


# -- limits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 91, 92, 93, 184, 185, 1_000])
def test_bodies_are_cut_to_the_frame_size_the_broker_wants(size: int) -> None:
    body = bytes(number % 251 for number in range(size))
    data = content_frames(1, laid_out(Properties()), body, 100)
    (_, header), *bodies = split(data)
    assert header.body_size == size
    assert b"".join(frame.value for _, frame in bodies) == body
    assert all(len(pamqp.frame.marshal(frame, 1)) <= 100 for _, frame in bodies)
    assert len(bodies) == -(-size // (100 - OVERHEAD))


def test_headers_that_do_not_fit_a_frame_are_refused() -> None:
    each = laid_out(Properties(headers={"big": "x" * 200}))
    with pytest.raises(UsageError, match="frames hold 92"):
        content_frames(1, each, b"", 100)


def test_a_body_that_rabbitmq_refuses_is_not_written() -> None:
    with pytest.raises(UsageError, match="RabbitMQ carries"):
        content_frames(1, laid_out(Properties()), bytes(frames.MAX_BODY + 1), 131_072)


@pytest.mark.parametrize("field", ["content_type", "correlation_id", "reply_to", "message_id", "type", "app_id"])
@pytest.mark.parametrize("text", ["x" * 256, "é" * 128, "\ud800"])
def test_a_property_over_255_bytes_or_not_utf8_is_refused_and_named(field: str, text: Any) -> None:
    with pytest.raises(UsageError, match=r"255|UTF-8"):
        laid_out(Properties(**{field: text}))


@pytest.mark.parametrize("text", ["x" * 127, "x" * 128, "x" * 255, "é" * 127])
def test_properties_up_to_255_bytes_are_carried(text: str) -> None:
    each = Properties(correlation_id=text, reply_to="after")
    assert parse_properties(laid_out(each)) == each


@pytest.mark.parametrize("name, value", [("x" * 256, "v"), ("\ud800", "v"), ("n", "\ud800"), ("CC", "v"), ("BCC", "v")])
def test_a_header_that_does_not_fit_is_refused_and_named(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="header"):
        laid_out(Properties(headers={name: value}))


def test_addresses_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="the address has 256 bytes"):
        publish_frame(1, "", "x" * 256, mandatory=False)


def test_remembered_short_strings_are_bounded() -> None:
    for number in range(frames.MAX_SHORTS + 10):
        publish_frame(1, "", f"address-{number}", mandatory=False)
    assert len(frames._SHORTS) <= frames.MAX_SHORTS


@given(properties, st.integers(1, 40))
def test_a_truncated_header_never_reads_as_a_whole_one(each: Properties, missing: int) -> None:
    data = laid_out(each)
    if len(data) - missing < 2:
        return
    with pytest.raises((FrameError, IndexError, ValueError, struct.error)):
        parse_properties(data[:-missing])


@given(st.binary(max_size=60))
def test_any_header_bytes_are_read_or_raise_an_exception_that_is_caught(data: bytes) -> None:
    try:
        parse_properties(data)
    except (ValueError, IndexError, struct.error):  # the driver catches all; a crash would be another matter
        pass


def test_every_frame_ends_with_the_end_octet() -> None:
    for frame in (
        publish_frame(1, "", "q", mandatory=True),
        ack_frame(1, 1, multiple=False),
        HEARTBEAT_FRAME,
    ):
        assert frame[-1] == FRAME_END


def _fields(each: Properties) -> dict[str, Any]:
    return {name: getattr(each, name) for name in Properties.__slots__}
