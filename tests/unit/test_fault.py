"""Faults: every error has a way over the wire, and every fault an error at the other end."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit import codec
from rpckit.codec import CodecError
from rpckit.errors import (
    Code,
    DeadlineExceeded,
    Expired,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NoResponder,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RemoteCancelled,
    RemoteError,
    RpcError,
    UnencodableResult,
)
from rpckit.fault import (
    FAULT_STATUS_HEADER,
    HANDLER,
    MAX_MESSAGE,
    TOOLKIT,
    Fault,
    fault_message,
    fault_of,
    read_fault,
)
from rpckit.message import NATIVE, PLAIN, Kind, Message


def request(dialect: str = NATIVE, content_type: str = codec.MSGPACK) -> Message:
    return Message(Kind.REQUEST, "q", correlation_id="c", reply_to="inbox", dialect=dialect, content_type=content_type)


def over_the_wire(fault: Fault, dialect: str = NATIVE, content_type: str = codec.MSGPACK) -> Fault:
    return read_fault(fault_message(request(dialect, content_type), fault))


@pytest.mark.parametrize(
    "code, error_class",
    [
        (Code.UNIMPLEMENTED, MethodNotFound),
        (Code.INVALID_ARGUMENT, InvalidArgument),
        (Code.PERMISSION_DENIED, PermissionDenied),
        (Code.CANCELLED, RemoteCancelled),
        (Code.DATA_LOSS, UnencodableResult),
        (Code.INTERNAL, InternalError),
        (Code.NOT_FOUND, RemoteError),
        ("SOMETHING_FOREIGN", RemoteError),
    ],
)
def test_a_handlers_code_becomes_its_remote_error(code: str, error_class: type[RemoteError]) -> None:
    error = Fault(code, "m", type="T", details={"a": 1}, retryable=True, error_id="e").to_error()
    assert type(error) is error_class
    assert isinstance(error, RemoteError)
    assert (error.code, error.message, error.type, error.details) == (code, "m", "T", {"a": 1})
    assert (error.retryable, error.error_id) == (True, "e")


@pytest.mark.parametrize(
    "code, error_class",
    [
        (Code.RESOURCE_EXHAUSTED, Overloaded),
        (Code.UNAVAILABLE, NoResponder),
        (Code.ABORTED, OutcomeUnknown),
        (Code.DEADLINE_EXCEEDED, Expired),
    ],
)
def test_refusals_of_the_toolkit_are_not_mistaken_for_the_handlers(code: Code, error_class: type[RpcError]) -> None:
    assert type(Fault(code, "m", origin=TOOLKIT).to_error()) is error_class
    assert not isinstance(Fault(code, "m", origin=HANDLER).to_error(), (Expired, NoResponder, Overloaded))


def test_a_begun_call_that_ran_out_of_time_is_deadline_exceeded() -> None:
    assert type(Fault(Code.DEADLINE_EXCEEDED, "stopped").to_error()) is DeadlineExceeded


def test_overloaded_learns_when_to_try_again() -> None:
    error = Fault(Code.RESOURCE_EXHAUSTED, "full", details={"retry_after": 2.5}, origin=TOOLKIT).to_error()
    assert isinstance(error, Overloaded)
    assert error.retry_after == 2.5
    nonsense = Fault(Code.RESOURCE_EXHAUSTED, "full", details={"retry_after": "soon"}, origin=TOOLKIT)
    assert nonsense.to_error().retry_after is None  # type: ignore[attr-defined]


faults = st.builds(
    Fault,
    code=st.sampled_from(list(Code)).map(str),
    message=st.text(max_size=50),
    type=st.text(max_size=20),
    details=st.none() | st.dictionaries(st.text(max_size=5), st.integers(-9, 9), max_size=3),
    retryable=st.booleans(),
    origin=st.sampled_from([HANDLER, TOOLKIT]),
    error_id=st.none() | st.text(min_size=1, max_size=9),
)


@given(faults, st.sampled_from([codec.MSGPACK, codec.JSON]))
def test_a_fault_survives_the_native_wire(fault: Fault, content_type: str) -> None:
    assert over_the_wire(fault, NATIVE, content_type) == fault


@given(faults)
def test_a_plain_peer_gets_the_code_and_the_message(fault: Fault) -> None:
    back = over_the_wire(fault, PLAIN)
    assert (back.code, back.message, back.origin) == (fault.code, fault.message, fault.origin)


def test_a_plain_fault_is_text_that_people_can_read() -> None:
    reply = fault_message(request(PLAIN, ""), Fault(Code.NOT_FOUND, "no such\nthing"))
    assert (reply.body, reply.content_type, reply.kind) == (
        b"NOT_FOUND: no such\nthing",
        codec.TEXT,
        Kind.FAULT,
    )
    assert reply.headers["x-rpckit-message"] == "no such thing"


@pytest.mark.parametrize("body", [b"it broke", b"Traceback: KeyError", b"\xff\xfe"])
def test_a_foreign_fault_text_without_a_code_is_unknown(body: bytes) -> None:
    fault = read_fault(Message(Kind.FAULT, body=body, dialect=PLAIN))
    assert (fault.code, fault.message) == (Code.UNKNOWN, body.decode(errors="replace"))


def test_the_status_header_of_a_plain_fault_wins_over_its_text() -> None:
    message = Message(Kind.FAULT, body=b"something: else", dialect=PLAIN, headers={FAULT_STATUS_HEADER: "NOT_FOUND"})
    assert read_fault(message) == Fault(Code.NOT_FOUND, "something: else")


@given(st.binary(max_size=40), st.sampled_from([codec.MSGPACK, codec.JSON, "", "text/plain"]))
def test_any_native_fault_is_read_or_is_a_codec_error(body: bytes, content_type: str) -> None:
    try:
        read_fault(Message(Kind.FAULT, body=body, content_type=content_type)).to_error()
    except CodecError:
        pass


@pytest.mark.parametrize("value", [7, [], {}, {"code": 5}, {"message": "m"}])
def test_a_native_fault_without_a_code_is_a_codec_error(value: Any) -> None:
    body = codec.encode(codec.MSGPACK, value)
    with pytest.raises(CodecError, match="without a code"):
        read_fault(Message(Kind.FAULT, body=body, content_type=codec.MSGPACK))


@pytest.mark.parametrize("content_type", [codec.MSGPACK, codec.JSON])
@pytest.mark.parametrize(
    "fault",
    [
        Fault(Code.INTERNAL, "m", details={"lock": threading.Lock()}),
        Fault(Code.INTERNAL, "m", details={"text": "\ud800"}),
        Fault(Code.INTERNAL, "m\ud800"),
        Fault("MY_\ud800", "m", type="\ud800"),
    ],
    ids=["lock", "details", "message", "code"],
)
def test_a_fault_that_cannot_be_encoded_travels_without_its_odd_parts(fault: Fault, content_type: str) -> None:
    back = over_the_wire(fault, NATIVE, content_type)
    assert back.message.startswith("m")
    assert back.details is None
    plain = fault_message(request(PLAIN), fault)
    assert read_fault(plain).message.endswith(fault.message.replace("\ud800", "?"))
    assert all(value.encode() for value in plain.headers.values())


@pytest.mark.parametrize("dialect", [NATIVE, PLAIN])
def test_long_messages_are_cut(dialect: str) -> None:
    back = over_the_wire(Fault(Code.INTERNAL, "x" * 100_000), dialect)
    assert len(back.message) == MAX_MESSAGE


def test_fault_of_keeps_what_the_handler_said() -> None:
    error = PermissionDenied("not you", details={"user": "7"}, retryable=True)
    assert fault_of(error) == Fault(
        Code.PERMISSION_DENIED, "not you", "PermissionDenied", {"user": "7"}, retryable=True
    )


def test_fault_of_an_error_made_of_an_exception_can_be_sent() -> None:
    error = InvalidArgument(ValueError("bad"))  # type: ignore[arg-type]
    assert over_the_wire(fault_of(error)).message == "bad"
