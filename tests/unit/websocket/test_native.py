"""`rpckit.v1`: every field comes back, and no stranger's bytes raise anything but `BadFrame`."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpckit.errors import UsageError
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit_websocket._dialect import (
    BadFrame,
    Control,
    Frame,
    Hello,
    Ping,
    Pong,
    Receipt,
    Settled,
    Subscribe,
    Undelivered,
    Unsubscribe,
)
from rpckit_websocket._native import MAX_FIELDS, MAX_HEADERS, VERSION, Native

PEER = "their session"
text = st.text(max_size=40)
ids = st.text(min_size=1, max_size=40)
counts = st.integers(0, 2**64 - 1)
headers = st.dictionaries(text, text, max_size=3)
requests = st.builds(
    Message,
    kind=st.just(Kind.REQUEST),
    address=text,
    method=text,
    message_id=text,
    correlation_id=ids,
    reply_to=st.just(PEER),
    content_type=text,
    time_left_ms=st.none() | counts,
    deadline_ms=st.none() | counts,
    attempt=st.integers(1, 2**64 - 1),
    depth=counts,
    headers=headers,
    body=st.binary(max_size=40),
    dialect=st.sampled_from([NATIVE, PLAIN]),
)
answers = st.builds(
    Message,
    kind=st.sampled_from([Kind.REPLY, Kind.FAULT, Kind.ITEM, Kind.END, Kind.CREDIT]),
    message_id=text,
    correlation_id=text,
    content_type=text,
    headers=headers,
    body=st.binary(max_size=40),
    dialect=st.sampled_from([NATIVE, PLAIN]),
)
events = st.builds(
    Message,
    kind=st.sampled_from([Kind.EVENT, Kind.CANCEL]),
    message_id=text,
    correlation_id=text,
    content_type=text,
    headers=headers,
    body=st.binary(max_size=40),
)

REQUEST = Message(Kind.REQUEST, "q", "fib", "m", "c", PEER, "t", 5, 6, 2, 1, {"user": "ü"}, b"body")
REPLY = Message(Kind.REPLY, "", "", "m", "c", "", "t", headers={"user": "ü"}, body=b"body")
CONTROLS: list[tuple[Control, list[Any]]] = [
    (Hello("id", "name"), [0, VERSION, "id", "name"]),
    (Subscribe("topic"), [9, "topic"]),
    (Unsubscribe("topic"), [10, "topic"]),
    (Ping("t"), [11, "t"]),
    (Pong("t"), [12, "t"]),
    (Receipt("m", "no", "UNAVAILABLE"), [13, "m", "no", "UNAVAILABLE"]),
    (Receipt("m"), [13, "m", "", ""]),
    (Undelivered("c", "why"), [14, "c", "why"]),
]


def packed(fields: Any) -> bytes:
    data: bytes = msgpack.packb(fields)
    return data


def fields_of(message: Message) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(Native().write(message))
    return fields


def read(frame: Frame) -> Any:
    (item,) = Native(PEER).read(frame)
    return item


# --- there and back ------------------------------------------------------------------------------


@given(requests)
def test_a_request_survives(message: Message) -> None:
    assert read(Native().write(message)) == message


@given(answers)
def test_an_answer_survives(message: Message) -> None:
    assert read(Native().write(message)) == message


@given(text, events)
def test_an_event_survives_under_its_topic(topic: str, message: Message) -> None:
    heard = replace(message, address=topic, reply_to=PEER if message.kind is Kind.CANCEL else "")
    assert read(Native().event(topic, message)) == heard


@given(text, text)
def test_a_cancel_survives_with_its_callers_address(address: str, correlation_id: str) -> None:
    cancel = Message(Kind.CANCEL, address, correlation_id=correlation_id, reply_to=PEER)
    assert read(Native().write(cancel)) == cancel


@given(events.filter(lambda event: event.kind is Kind.EVENT), text)
def test_an_event_is_written_to_its_address(message: Message, topic: str) -> None:
    assert read(Native().write(replace(message, address=topic))).address == topic


@given(text, text)
def test_every_control_survives(one: str, other: str) -> None:
    controls: list[Control] = [Hello(one, other), Subscribe(one), Unsubscribe(one), Ping(one), Pong(one)]
    for control in [*controls, Receipt(one, other), Undelivered(one, other)]:
        frame = Native().write_control(control)
        assert frame is not None
        assert Native().read(frame) == (control,)


# --- the form ------------------------------------------------------------------------------------


def test_a_request_is_one_array() -> None:
    assert fields_of(REQUEST) == [1, "c", "q", "fib", "m", "t", 5, 6, 2, 1, {"user": "ü"}, b"body"]


@pytest.mark.parametrize(
    "kind, code", [(Kind.REPLY, 2), (Kind.FAULT, 3), (Kind.ITEM, 4), (Kind.END, 5), (Kind.CREDIT, 6), (Kind.CANCEL, 7)]
)
def test_an_answer_is_one_array(kind: Kind, code: int) -> None:
    address = "inbox" if kind is Kind.CANCEL else ""
    assert fields_of(replace(REPLY, kind=kind, address="inbox")) == [
        code,
        "c",
        address,
        "m",
        "t",
        {"user": "ü"},
        b"body",
    ]


def test_an_event_is_one_array() -> None:
    event = Native().event("topic", replace(REPLY, kind=Kind.EVENT))
    assert msgpack.unpackb(event) == [8, "topic", "c", "m", "t", {"user": "ü"}, b"body", "event"]


@pytest.mark.parametrize("control, fields", CONTROLS)
def test_a_control_is_one_array(control: Control, fields: list[Any]) -> None:
    frame = Native().write_control(control)
    assert isinstance(frame, bytes)
    assert msgpack.unpackb(frame) == fields


@pytest.mark.parametrize("message", [REQUEST, REPLY])
def test_the_plain_form_is_one_bit(message: Message) -> None:
    plain = fields_of(replace(message, dialect=PLAIN))
    assert plain == [fields_of(message)[0] | 64, *fields_of(message)[1:]]


def test_no_headers_take_one_byte() -> None:
    assert fields_of(replace(REQUEST, headers={}))[10] is None
    assert fields_of(replace(REPLY, headers={}))[5] is None


def test_a_request_that_wants_no_reply_has_no_correlation_id_on_the_wire() -> None:
    note = replace(REQUEST, reply_to="")
    assert fields_of(note)[1] == ""
    assert read(Native().write(note)) == replace(note, correlation_id="")


def test_the_callers_name_for_itself_is_not_believed() -> None:
    assert read(Native().write(replace(REQUEST, reply_to="somebody else"))).reply_to == PEER


def test_a_settled_request_is_not_told() -> None:
    assert Native().write_control(Settled("c")) is None


def test_what_a_later_version_adds_to_a_hello_is_passed_over() -> None:
    assert read(packed([0, VERSION, "id", "name", {"more": 1}])) == Hello("id", "name")


# --- what is refused -----------------------------------------------------------------------------

FORMS: dict[str, list[Any]] = {
    "request": fields_of(REQUEST),
    "reply": fields_of(REPLY),
    "cancel": fields_of(replace(REPLY, kind=Kind.CANCEL, address="q")),
    "event": [8, "topic", "c", "m", "t", {}, b"body", "event"],
    **{type(control).__name__: fields for control, fields in CONTROLS},
}
NOT_TEXT: list[Any] = [None, 5, True, b"", [], {}]
NOT_HEADERS: list[Any] = [
    5,
    True,
    "text",
    [1],
    {"": 1},
    {1: ""},
    {b"": ""},
    {str(n): "" for n in range(MAX_HEADERS + 1)},
]
NOT_BYTES: list[Any] = [None, 5, "", [], {}]
NOT_MILLISECONDS: list[Any] = [-1, True, 1.5, "5", []]
WRONG: list[tuple[str, int, list[Any]]] = [
    *(("request", place, NOT_TEXT) for place in range(1, 6)),
    *(("request", place, NOT_MILLISECONDS) for place in (6, 7)),
    ("request", 8, [0, *NOT_MILLISECONDS, None]),
    ("request", 9, [*NOT_MILLISECONDS, None]),
    ("request", 10, NOT_HEADERS),
    ("request", 11, NOT_BYTES),
    *((form, place, NOT_TEXT) for form in ("reply", "cancel") for place in range(1, 5)),
    *((form, 5, NOT_HEADERS) for form in ("reply", "cancel", "event")),
    *((form, 6, NOT_BYTES) for form in ("reply", "cancel", "event")),
    *(("event", place, NOT_TEXT) for place in range(1, 5)),
    ("event", 7, [*NOT_TEXT, "later"]),
    ("Hello", 1, [0, 2, "1", None, []]),
    *((form, 1, NOT_TEXT) for form in ("Subscribe", "Unsubscribe", "Ping", "Pong", "Receipt", "Undelivered")),
    *((form, 2, NOT_TEXT) for form in ("Hello", "Receipt", "Undelivered")),
    ("Receipt", 3, NOT_TEXT),
    ("Hello", 3, NOT_TEXT),
]


@pytest.mark.parametrize("form, place, wrong", WRONG, ids=lambda value: value if isinstance(value, str | int) else "")
def test_a_field_of_another_kind_is_refused(form: str, place: int, wrong: list[Any]) -> None:
    good = FORMS[form]
    assert read(packed(good))
    for value in wrong:
        with pytest.raises(BadFrame):
            read(packed([*good[:place], value, *good[place + 1 :]]))


@pytest.mark.parametrize("form", FORMS)
def test_a_field_too_few_is_refused(form: str) -> None:
    fewer = FORMS[form][:-1] if form != "Receipt" else FORMS[form][:1]
    with pytest.raises(BadFrame):
        read(packed(fewer))


@pytest.mark.parametrize("form", [form for form in FORMS if form != "Hello"])
def test_a_field_too_many_is_refused(form: str) -> None:
    with pytest.raises(BadFrame):
        read(packed([*FORMS[form], ""]))


@pytest.mark.parametrize("code", [15, 63, 64 + 15, 128 + 1, 2**63, -1, -63, None, "1", 1.0, b"", []])
def test_an_unknown_code_is_refused(code: Any) -> None:
    for rest in (FORMS["request"][1:], FORMS["reply"][1:], ["topic"]):
        with pytest.raises(BadFrame):
            read(packed([code, *rest]))


@pytest.mark.parametrize("frame", ["", "text", "\x9c\x01"])
def test_text_frames_are_refused(frame: str) -> None:
    with pytest.raises(BadFrame, match="binary"):
        Native().read(frame)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x91" * 100_000,
        packed(None),
        packed({}),
        b"\x90",
    ],
    ids=lambda frame: repr(frame[:8]),
)
def test_what_is_no_array_of_fields_is_refused(frame: bytes) -> None:
    with pytest.raises(BadFrame):
        read(frame)


def test_a_list_inside_is_not_made_room_for() -> None:
    with pytest.raises(BadFrame, match="max_array_len"):
        read(packed([*FORMS["request"][:10], [None] * (MAX_FIELDS + 1), b""]))


def test_a_token_is_text_so_that_it_can_be_sent_back() -> None:
    """What nests 600 deep is read by msgpack, and not written."""
    with pytest.raises(BadFrame):
        read(b"\x92\x0b" + b"\x91" * 600 + b"\xc0")


@pytest.mark.parametrize("message", [REQUEST, REPLY])
def test_a_frame_cut_anywhere_is_refused(message: Message) -> None:
    frame = Native().write(message)
    for length in range(len(frame)):
        with pytest.raises(BadFrame):
            read(frame[:length])


# --- what cannot be sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"correlation_id": "\ud800"},
        {"headers": {"\ud800": ""}},
        {"headers": {"user": 7}},
        {"headers": {7: "user"}},
        {"headers": {str(n): "" for n in range(MAX_HEADERS + 1)}},
        {"body": object()},
    ],
    ids=["correlation id", "header", "number", "name", "too many", "body"],
)
@pytest.mark.parametrize("message", [REQUEST, REPLY, replace(REPLY, kind=Kind.EVENT)])
def test_what_would_end_the_session_there_is_a_usage_error_here(message: Message, change: dict[str, Any]) -> None:
    native = Native(PEER)
    with pytest.raises(UsageError):
        native.write(replace(message, **change))
    assert native.read(native.write(REQUEST)) == (REQUEST,), "the next message suffers nothing"


def test_a_header_may_be_a_member_of_a_string_enum() -> None:
    class Colour(StrEnum):
        RED = "red"

    assert read(Native().write(replace(REQUEST, headers={"colour": Colour.RED}))).headers == {"colour": "red"}


# --- strangers -----------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | text | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=5,
)


def one_field_changed() -> st.SearchStrategy[list[Any]]:
    def change(form: str) -> st.SearchStrategy[list[Any]]:
        good = FORMS[form]
        places = st.integers(0, len(good) - 1)
        return st.builds(lambda place, value: [*good[:place], value, *good[place + 1 :]], places, values)

    return st.sampled_from(sorted(FORMS)).flatmap(change)


@settings(max_examples=2 * settings().max_examples)
@given(
    st.one_of(
        st.binary(max_size=60),
        values.map(packed),
        st.builds(lambda code, rest: packed([code, *rest]), st.integers(0, 80), st.lists(values, max_size=12)),
        one_field_changed().map(packed),
    )
)
def test_no_strangers_bytes_raise_anything_but_bad_frame(frame: bytes) -> None:
    survives(frame)


@pytest.mark.parametrize("form", FORMS)
def test_no_flipped_bit_raises_anything_but_bad_frame(form: str) -> None:
    frame = packed(FORMS[form])
    for place in range(len(frame) * 8):
        flipped = bytearray(frame)
        flipped[place // 8] ^= 1 << place % 8
        survives(bytes(flipped))


def survives(frame: bytes) -> None:
    """Read or refused; and what was read can be answered."""
    native = Native(PEER)
    try:
        (item,) = native.read(frame)
    except BadFrame:
        return
    if isinstance(item, Ping):
        assert native.write_control(Pong(item.token))
    elif isinstance(item, Message):
        assert native.write(item.reply(Kind.REPLY, b"", item.content_type))
