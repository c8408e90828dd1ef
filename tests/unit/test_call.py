"""What may be said of a call, and what its raw reply says."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit import codec
from rpckit.call import (
    CORRELATION_HEADER,
    UNSET,
    Call,
    CallOptions,
    Reply,
    named,
    read_error,
    read_reply,
    read_value,
    write_body,
)
from rpckit.errors import BadReply, DeadlineExceeded, InternalError, RpcError, UsageError
from rpckit.fault import Fault, fault_message
from rpckit.message import NATIVE, PLAIN, Kind, Message

OPTIONS = CallOptions(timeout=30.0, headers={"a": "1"}, idempotent=True, no_server="wait")


def call(*args: Any, dialect: str = NATIVE, content_type: str = "") -> Call:
    return Call("q", "fib", args, {}, OPTIONS, {}, None, "m", 0, dialect, content_type)


def test_options_without_changes_are_the_same_object() -> None:
    assert OPTIONS.but() is OPTIONS


def test_only_what_is_given_changes() -> None:
    assert OPTIONS.but(timeout=3) == CallOptions(3, {"a": "1"}, True, "wait")
    assert OPTIONS.but(headers={}) == CallOptions(30.0, {}, True, "wait")
    assert OPTIONS.but(idempotent=False, no_server="fail") == CallOptions(30.0, {"a": "1"})


def test_none_is_a_timeout_and_unset_is_not() -> None:
    assert OPTIONS.but(timeout=None).timeout is None
    assert OPTIONS.but(timeout=UNSET).timeout == 30.0
    assert repr(UNSET) == "<from the settings>"


@pytest.mark.parametrize("no_server", ["wiat", True, "", []])
def test_a_misspelt_no_server_is_refused_and_does_not_wait(no_server: Any) -> None:
    with pytest.raises(UsageError, match='no_server is "fail" or "wait", not'):
        OPTIONS.but(no_server=no_server)


@pytest.mark.parametrize("timeout", [math.inf, -math.inf, math.nan, "3", [], 1e30])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(timeout: Any) -> None:
    with pytest.raises(UsageError, match="timeout is in seconds, or None"):
        OPTIONS.but(timeout=timeout)


def test_headers_that_are_not_strings_are_refused() -> None:
    with pytest.raises(UsageError, match="'user' is int"):
        OPTIONS.but(headers={"user": 7})  # type: ignore[dict-item]


def test_arguments_are_encoded_once_for_all_attempts() -> None:
    made = call(30)
    write_body(made)
    body = made.body
    made.args = (31,)
    write_body(made)
    assert made.body is body
    assert made.content_type == codec.MSGPACK


def test_a_body_given_raw_is_left_alone() -> None:
    made = call(object())
    made.body = b"raw"
    write_body(made)
    assert made.body == b"raw"


def test_arguments_that_cannot_be_encoded_are_our_mistake() -> None:
    with pytest.raises(UsageError):
        write_body(call(object()))


def test_a_native_value_needs_a_known_content_type() -> None:
    assert read_value(Message(Kind.REPLY, body=b"\x1e", content_type=codec.MSGPACK)) == 30
    with pytest.raises(BadReply):
        read_value(Message(Kind.REPLY, body=b"\x1e"))


def test_a_plain_value_is_guessed() -> None:
    assert read_value(Message(Kind.REPLY, body=b"832040", dialect=PLAIN)) == 832040
    assert read_value(Message(Kind.REPLY, body=b"Hi!", dialect=PLAIN)) == "Hi!"


@given(st.binary(max_size=40), st.sampled_from([NATIVE, PLAIN]), st.sampled_from(["", codec.JSON, codec.MSGPACK]))
def test_any_reply_is_read_or_is_a_bad_reply(body: bytes, dialect: str, content_type: str) -> None:
    message = Message(Kind.REPLY, body=body, dialect=dialect, content_type=content_type)
    assert isinstance(read_error(message), RpcError)
    try:
        read_value(message)
        read_reply(message).decode()
    except BadReply:
        pass


def test_a_fault_that_cannot_be_read_is_a_bad_reply() -> None:
    assert isinstance(read_error(Message(Kind.FAULT, body=b"\xc1", content_type=codec.MSGPACK)), BadReply)


def test_a_fault_becomes_its_error() -> None:
    request = Message(Kind.REQUEST, reply_to="inbox", content_type=codec.MSGPACK)
    error = read_error(fault_message(request, Fault("INTERNAL", "oops", error_id="e1")))
    assert isinstance(error, InternalError)
    assert error.error_id == "e1"


def test_a_raw_reply_shows_the_correlation_id_its_sender_chose() -> None:
    message = Message(Kind.REPLY, correlation_id="c-1", headers={"x": "y"}, body=b"HI!", content_type=codec.TEXT)
    assert read_reply(message) == Reply(b"HI!", {"x": "y"}, "c-1", codec.TEXT)
    message.headers = {CORRELATION_HEADER: "own"}
    assert read_reply(message).correlation_id == "own"


def test_a_raw_reply_is_decoded_by_its_content_type() -> None:
    assert Reply(b"30", {}, "", codec.TEXT).decode() == "30"
    assert Reply(b"30", {}, "", "").decode() == 30
    with pytest.raises(BadReply):
        Reply(b"{", {}, "", codec.JSON).decode()


@pytest.mark.parametrize(
    "address, method, target",
    [("q", "fib", "q.fib"), ("q", "", "q"), ("", "fib", "fib"), ("", "", "the other side")],
    ids=["a method", "the default one", "the other side's", "the other side's default one"],
)
def test_a_call_that_is_out_of_time_says_what_was_called(address: str, method: str, target: str) -> None:
    call = Call(address, method, (), {}, OPTIONS, {}, None, "m", 0, NATIVE)
    assert str(named(call, DeadlineExceeded())).startswith(f"no reply from {target} within ")
