"""Envelope ↔ bytes: nothing is lost, FastStream is understood and understands, no stranger's bytes break the reader."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from enum import StrEnum
from typing import Any

import msgpack
import pytest
from faststream.redis.parser import BinaryMessageFormatV1, RedisListParser, SimpleParserConfig
from hypothesis import given, settings
from hypothesis import strategies as st

from rpckit.errors import UsageError
from rpckit.fault import FAULT_STATUS_HEADER, Fault, fault_message
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit_redis._envelope import HEAD, MAGIC, MAX_HEADERS, NATIVE_1, PLAIN_JSON, RESERVED, EnvelopeError, read, write

text = st.text(max_size=40)
plain_names = text.filter(lambda name: name not in RESERVED and name != FAULT_STATUS_HEADER)
counts = st.integers(0, 2**64 - 1)
natives = st.builds(
    Message,
    kind=st.sampled_from(Kind),
    address=text,
    method=text,
    message_id=text,
    correlation_id=text,
    reply_to=text,
    content_type=text,
    time_left_ms=st.none() | counts,
    deadline_ms=st.none() | counts,
    attempt=st.integers(1, 2**64 - 1),
    depth=counts,
    headers=st.dictionaries(text, text, max_size=3),
    body=st.binary(max_size=40),
)
plains = st.builds(
    Message,
    kind=st.sampled_from([Kind.REQUEST, Kind.REPLY]),
    address=text,
    message_id=text,
    correlation_id=text,
    reply_to=text,
    content_type=text,
    headers=st.dictionaries(plain_names, text, max_size=3),
    body=text.map(str.encode),
    dialect=st.sampled_from([PLAIN, PLAIN_JSON]),
)

NATIVE_MESSAGE = Message(Kind.REQUEST, "q", "fib", "m", "c", "r", "t", 5, 6, 2, 1, {"user": "ü"}, b"body")
PLAIN_MESSAGE = Message(
    Kind.REQUEST, "q", "", "m", "c", "r", "text/plain", headers={"user": "ü"}, body=b"30", dialect=PLAIN
)
FIELDS = msgpack.unpackb(write(NATIVE_MESSAGE)[len(NATIVE_1) :])


def native(fields: Any) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return NATIVE_1 + packed


def binary(*texts: bytes, gap: bytes = b"", body: bytes = b"30", version: int = 1) -> bytes:
    """FastStream's form by hand, from its description."""
    pairs = b"".join(struct.pack(">H", len(each)) + each for each in texts)
    start = 18 + len(gap)
    head = MAGIC + struct.pack(">HII", version, start, start + 2 + len(pairs) + len(gap))
    return head + gap + struct.pack(">H", len(texts) // 2) + pairs + gap + body


# --- native --------------------------------------------------------------------------------------


@given(natives, st.sampled_from([Kind.REQUEST, Kind.REPLY]))
def test_a_native_message_survives_wherever_it_is_found(message: Message, found_as: Kind) -> None:
    assert read(write(message), message.address, found_as) == message


def test_a_native_message_is_two_bytes_and_one_array() -> None:
    assert write(NATIVE_MESSAGE)[:2] == b"\xc1\x01"
    assert FIELDS == ["request", "fib", "m", "c", "r", "t", 5, 6, 2, 1, {"user": "ü"}, b"body"]


USUAL = Message(Kind.REPLY, "inbox", correlation_id="0f" * 16, content_type="application/msgpack", body=b"\x08")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 5_000])
def test_the_usual_reply_is_read_as_any_other(size: int) -> None:
    reply = replace(USUAL, body=bytes(size))
    assert read(write(reply), "inbox", Kind.REPLY) == reply


def test_what_only_looks_like_the_usual_reply_is_read_field_by_field() -> None:
    usual = write(USUAL)
    other = replace(USUAL, correlation_id="ü" * 16)
    assert read(write(other), "inbox", Kind.REPLY) == other
    for end in range(2, len(usual)):
        with pytest.raises(EnvelopeError, match="malformed"):
            read(usual[:end], "inbox", Kind.REPLY)
    for spoilt in (usual + b"\x00", usual.replace(b"0f", b"\xff\xff")):
        with pytest.raises(EnvelopeError, match="malformed"):
            read(spoilt, "inbox", Kind.REPLY)


def test_no_headers_take_one_byte() -> None:
    assert msgpack.unpackb(write(Message(Kind.REPLY))[2:])[10] is None


def test_an_empty_map_is_no_headers_too() -> None:
    assert read(native([*FIELDS[:10], {}, b""]), "q", Kind.REPLY).headers == {}


@pytest.mark.parametrize(
    "place, wrong",
    [
        (0, ["later", "", None, 5, [], {}]),
        *((place, [None, 5, b"", []]) for place in range(1, 6)),
        *((place, [-1, True, 1.5, "5", []]) for place in (6, 7)),
        *((place, [-1, True, 1.5, "5", None]) for place in (8, 9)),
        (8, [0]),
        (10, [[], "", 0, False, {"": 1}, {b"": ""}, {1: ""}]),
        (11, ["", None, 5, []]),
    ],
)
def test_a_field_of_another_kind_is_refused(place: int, wrong: list[Any]) -> None:
    for value in wrong:
        with pytest.raises(EnvelopeError, match="malformed"):
            read(native([*FIELDS[:place], value, *FIELDS[place + 1 :]]), "q", Kind.REQUEST)


@pytest.mark.parametrize(
    "fields",
    [None, 5, "twelve chars", [], FIELDS[:11], [*FIELDS, b""], dict.fromkeys("abcdefghijkl"), msgpack.Timestamp(1)],
    ids=repr,
)
def test_anything_but_twelve_fields_is_refused(fields: Any) -> None:
    with pytest.raises(EnvelopeError, match="malformed"):
        read(native(fields), "q", Kind.REQUEST)


@pytest.mark.parametrize(
    "packed", [b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc1"]
)
def test_bytes_that_promise_much_cost_nothing(packed: bytes) -> None:
    with pytest.raises(EnvelopeError, match="malformed"):
        read(NATIVE_1 + packed, "q", Kind.REQUEST)


def test_a_list_inside_is_not_made_room_for() -> None:
    """It is allocated whole before its items are read: a thousand nested ones of a million each from one message."""
    with pytest.raises(EnvelopeError, match="max_array_len"):
        read(native([*FIELDS[:10], [None] * 13, b""]), "q", Kind.REQUEST)


@pytest.mark.parametrize("data", [b"\xc1", b"\xc1\x00", b"\xc1\x02" + write(NATIVE_MESSAGE)[2:]])
def test_a_later_version_is_named(data: bytes) -> None:
    with pytest.raises(EnvelopeError, match=f"version {data[1:2].hex() or 'none'}"):
        read(data, "q", Kind.REQUEST)


# --- FastStream ----------------------------------------------------------------------------------


@given(plains)
def test_a_plain_message_survives(message: Message) -> None:
    assert read(write(message), message.address, message.kind) == message


@given(plains)
def test_faststream_reads_what_is_written(message: Message) -> None:
    body, headers = BinaryMessageFormatV1.parse(write(message))
    names = {"correlation_id": message.correlation_id, "content-type": message.content_type}
    names |= {"reply_to": message.reply_to, "message_id": message.message_id}
    assert (body, headers) == (message.body, {**message.headers, **{name: id_ for name, id_ in names.items() if id_}})


async def test_faststreams_handler_is_given_every_field() -> None:
    parser = RedisListParser(SimpleParserConfig(BinaryMessageFormatV1))
    for dialect in (PLAIN, PLAIN_JSON):
        message = await parser.parse_message({"channel": "q", "data": write(replace(PLAIN_MESSAGE, dialect=dialect))})
        assert (message.message_id, message.correlation_id, message.reply_to) == ("m", "c", "r")
        assert message.headers["user"] == "ü"
        assert await parser.decode_message(message) == "30"


@pytest.mark.parametrize("reply_to", ["", "inbox"])
@pytest.mark.parametrize(
    "value, body, content_type",
    [
        (None, b"", ""),
        (b"\x00\xff", b"\x00\xff", ""),
        ("é", "é".encode(), "text/plain"),
        ([1], b"[1]", "application/json"),
    ],
)
async def test_what_faststream_writes_is_read(value: Any, body: bytes, content_type: str, reply_to: str) -> None:
    data = await BinaryMessageFormatV1.encode(
        message=value, reply_to=reply_to, headers={"user": "7"}, correlation_id="c"
    )
    message = read(data, "q", Kind.REQUEST)
    assert message == Message(
        Kind.REQUEST,
        "q",
        correlation_id="c",
        reply_to=reply_to,
        content_type=content_type,
        headers={"user": "7"},
        body=body,
        dialect=PLAIN,
    )
    assert write(message) == data


def test_lengths_count_bytes() -> None:
    data = write(Message(Kind.REPLY, correlation_id="ü", headers={"ключ": "値"}, body=b"\xff", dialect=PLAIN))
    assert data == binary(b"correlation_id", "ü".encode(), "ключ".encode(), "値".encode(), body=b"\xff")


@pytest.mark.parametrize("dialect", [PLAIN, "faststream"])
def test_every_other_dialect_is_written_as_faststreams(dialect: str) -> None:
    assert write(replace(PLAIN_MESSAGE, dialect=dialect)).startswith(MAGIC)


def test_offsets_are_followed() -> None:
    assert read(binary(b"user", b"7", gap=b"\xff\xff\xff"), "q", Kind.REQUEST) == Message(
        Kind.REQUEST, "q", headers={"user": "7"}, body=b"30", dialect=PLAIN
    )


def test_nothing_of_ours_is_written_to_a_plain_peer() -> None:
    sent = replace(PLAIN_MESSAGE, method="fib", time_left_ms=5, deadline_ms=6, attempt=2, depth=1)
    assert write(sent) == write(PLAIN_MESSAGE)


def test_user_headers_cannot_forge_ours() -> None:
    forged = Message(Kind.REQUEST, "q", headers=dict.fromkeys(RESERVED, "forged"), dialect=PLAIN)
    assert write(forged) == write(Message(Kind.REQUEST, "q", dialect=PLAIN))


@pytest.mark.parametrize("dialect", [NATIVE, PLAIN, PLAIN_JSON])
def test_a_fault_is_told_from_a_reply(dialect: str) -> None:
    fault = fault_message(replace(PLAIN_MESSAGE, dialect=dialect), Fault("NOT_FOUND", "no such ключ"))
    assert read(write(fault), "r", Kind.REPLY) == fault


def test_the_header_of_a_fault_makes_none_of_a_request() -> None:
    message = read(binary(FAULT_STATUS_HEADER.encode(), b"INTERNAL"), "q", Kind.REQUEST)
    assert (message.kind, message.headers) == (Kind.REQUEST, {FAULT_STATUS_HEADER: "INTERNAL"})


@pytest.mark.parametrize("version", [0, 2])
def test_another_version_of_faststreams_form_is_named(version: int) -> None:
    with pytest.raises(EnvelopeError, match=f"version {version}"):
        read(binary(version=version), "q", Kind.REQUEST)


@pytest.mark.parametrize("headers_at, body_at", [(17, 20), (18, 19), (18, 99), (20, 18), (19, 20), (2**32 - 1, 20)])
def test_offsets_outside_the_message_are_refused(headers_at: int, body_at: int) -> None:
    with pytest.raises(EnvelopeError):
        read(HEAD.pack(MAGIC, 1, headers_at, body_at) + b"\0\0body", "q", Kind.REQUEST)


def test_headers_end_where_the_body_begins() -> None:
    with pytest.raises(EnvelopeError, match="no 4 characters at 22 of 22"):
        read(HEAD.pack(MAGIC, 1, 18, 22) + b"\0\1\0\4name\0\0", "q", Kind.REQUEST)


# --- the older JSON form, and no form ------------------------------------------------------------


@pytest.mark.parametrize(
    "headers, expected",
    [
        ('{"user": "7"}', {"user": "7"}),
        ('{"n": 7, "list": [1], "none": null}', {"n": "7", "list": "[1]"}),
    ],
)
def test_an_old_client_of_faststream_is_understood(headers: str, expected: dict[str, str]) -> None:
    data = f' {{"headers": {headers}, "data": "\\u00e9"}}\n'.encode()
    assert read(data, "q", Kind.REQUEST) == Message(
        Kind.REQUEST, "q", headers=expected, body="é".encode(), dialect=PLAIN_JSON
    )


def test_an_old_client_of_faststream_is_answered_in_kind() -> None:
    request = read(b'{"data":"30","headers":{"correlation_id":"c","reply_to":"r"}}', "q", Kind.REQUEST)
    reply = request.reply(Kind.REPLY, b'"832040"', "application/json")
    assert json.loads(write(reply)) == {
        "data": '"832040"',
        "headers": {"correlation_id": "c", "content-type": "application/json"},
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"30",
        b"\x00\xff",
        "é".encode(),
        MAGIC[:7],
        b'{"data": "30"}',
        b'{"data": 30, "headers": {}}',
        b'{"data": "30", "headers": []}',
        b'{"data": "30", "headers": {}, "more": 1}',
        b'[{"data": "30", "headers": {}}]',
        b'{"data": "30", "headers": {}',
        b'{"data": "\\ud800", "headers": {}}',
        b'{"data": "30", "headers": {"\\ud800": ""}}',
        b'{"data": "30", "headers": {"user": "\\ud800"}}',
        b'{"data": "30", "headers": {"deep": %s}}' % (b"[" * 100_000),
    ],
    ids=lambda data: repr(data[:50]),
)
def test_anything_else_is_a_body(data: bytes) -> None:
    assert read(data, "q", Kind.REQUEST) == Message(Kind.REQUEST, "q", body=data, dialect=PLAIN)


# --- what cannot be carried, and what cannot be read ---------------------------------------------


@pytest.mark.parametrize("dialect", [NATIVE, PLAIN, PLAIN_JSON])
@pytest.mark.parametrize(
    "change",
    [
        {"correlation_id": "\ud800"},
        {"headers": {"\ud800": ""}},
        {"headers": {"user": "\ud800"}},
        {"headers": {"user": 7}},
        {"headers": {7: "user"}},
        {"headers": {str(n): "" for n in range(MAX_HEADERS + 1)}},
    ],
    ids=lambda change: ascii(change)[:40],
)
def test_what_no_form_can_carry_is_a_usage_error(dialect: str, change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"in the {dialect} form"):
        write(replace(PLAIN_MESSAGE, dialect=dialect, **change))
    assert write(replace(PLAIN_MESSAGE, dialect=dialect)), "the next message suffers nothing"


@pytest.mark.parametrize("name, value", [("n" * 65_536, ""), ("n", "v" * 65_536), ("n", "é" * 32_768)])
def test_faststreams_headers_are_at_most_65535_bytes(name: str, value: str) -> None:
    with pytest.raises(UsageError):
        write(replace(PLAIN_MESSAGE, headers={name: value}))
    cut = replace(PLAIN_MESSAGE, headers={name[:65_535]: value[:-1]})
    assert read(write(cut), "q", Kind.REQUEST) == cut


def test_the_json_form_carries_text_only() -> None:
    with pytest.raises(UsageError, match="plain-json"):
        write(replace(PLAIN_MESSAGE, body=b"\xff", dialect=PLAIN_JSON))


def test_an_integer_over_64_bits_is_a_usage_error() -> None:
    with pytest.raises(UsageError):
        write(replace(NATIVE_MESSAGE, deadline_ms=2**64))


def test_a_header_may_be_a_member_of_a_string_enum() -> None:
    class Colour(StrEnum):
        RED = "red"

    for message in (NATIVE_MESSAGE, PLAIN_MESSAGE, replace(PLAIN_MESSAGE, dialect=PLAIN_JSON)):
        sent = replace(message, headers={"colour": Colour.RED})
        assert read(write(sent), "q", Kind.REQUEST).headers == {"colour": "red"}


@pytest.mark.parametrize("message", [NATIVE_MESSAGE, PLAIN_MESSAGE])
def test_an_envelope_cut_anywhere_is_refused(message: Message) -> None:
    data = write(message)
    begins = 1 if message.dialect == NATIVE else len(MAGIC)
    ends = len(data) if message.dialect == NATIVE else len(data) - len(message.body)
    for length in range(begins, ends):
        with pytest.raises(EnvelopeError):
            read(data[:length], "q", Kind.REQUEST)


@pytest.mark.parametrize("message", [NATIVE_MESSAGE, PLAIN_MESSAGE, replace(PLAIN_MESSAGE, dialect=PLAIN_JSON)])
def test_no_flipped_bit_breaks_the_reader(message: Message) -> None:
    data = write(message)
    for place in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[place // 8] ^= 1 << place % 8
        survives(bytes(flipped))


values = st.recursive(
    st.none() | st.booleans() | counts | st.floats() | text | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)
strange = st.one_of(
    st.builds(
        bytes.__add__,
        st.sampled_from([b"", NATIVE_1, NATIVE_1 + b"\x9c", MAGIC, MAGIC + b"\0\1\0\0\0\x12\0\0\0"]),
        st.binary(max_size=60),
    ),
    st.lists(values, min_size=11, max_size=13).map(native),
    st.fixed_dictionaries({"data": values, "headers": values}).map(
        lambda value: json.dumps(value, default=str).encode()
    ),
)


@settings(max_examples=3 * settings().max_examples)
@given(strange)
def test_no_strangers_bytes_break_the_reader(data: bytes) -> None:
    survives(data)


def survives(data: bytes) -> None:
    """Read or refused; and what was read can be answered."""
    try:
        message = read(data, "q", Kind.REQUEST)
    except EnvelopeError:
        return
    assert write(message.reply(Kind.REPLY, b"", message.content_type))


@pytest.mark.parametrize("value", ["日本", "Zoë", "ünïcødé", "🙂", "é" * 300])
async def test_what_faststreams_writer_miscounts_is_read(value: str) -> None:
    """It counts characters: in bytes its headers are cut in the middle of one, or end too early."""
    data = await BinaryMessageFormatV1.encode(
        message=b"30", reply_to=None, headers={"x-name": value, "x-more": "plain"}, correlation_id="c"
    )
    message = read(data, "list:x", Kind.REQUEST)
    assert (dict(message.headers)["x-name"], message.headers["x-more"], message.body) == (value, "plain", b"30")
