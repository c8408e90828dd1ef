"""Envelope ↔ AMQP properties: nothing is lost, and strangers are understood as far as they go."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit_amqp._frames import Properties, parse_properties
from rpckit_amqp._mapping import APP_ID, MAX_EXPIRATION_MS, RESERVED, from_properties, lay_out

text = st.text(max_size=40)
header_names = st.text(min_size=1, max_size=20).filter(lambda name: name not in RESERVED)
native_requests = st.builds(
    Message,
    kind=st.just(Kind.REQUEST),
    address=st.just("q"),
    method=st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,20}", fullmatch=True) | st.just(""),
    message_id=text,
    correlation_id=text,
    reply_to=text,
    content_type=text,
    time_left_ms=st.none() | st.integers(1, MAX_EXPIRATION_MS),
    deadline_ms=st.none() | st.integers(0, 2**53),
    attempt=st.integers(1, 100),
    depth=st.integers(0, 32),
    headers=st.dictionaries(header_names, text, max_size=3),
    body=st.binary(max_size=20),
)


def there_and_back(message: Message, found_as: Kind = Kind.REQUEST) -> Message:
    properties = parse_properties(lay_out(message))
    return from_properties(properties, message.body, message.address, found_as)


@given(native_requests)
def test_a_native_request_survives(message: Message) -> None:
    assert there_and_back(message) == message


@given(native_requests, st.sampled_from([kind for kind in Kind if kind is not Kind.REQUEST]))
def test_native_messages_of_every_kind_survive(message: Message, kind: Kind) -> None:
    sent = replace(message, kind=kind, method="", time_left_ms=None, deadline_ms=None, attempt=1, depth=0)
    assert there_and_back(sent, Kind.REPLY) == sent


@given(native_requests, st.sampled_from([Kind.REQUEST, Kind.REPLY, Kind.FAULT]))
def test_a_plain_message_survives_as_far_as_plain_peers_go(message: Message, kind: Kind) -> None:
    sent = replace(message, kind=kind, dialect=PLAIN)
    expected = replace(
        sent,
        method="",
        message_id="",
        time_left_ms=message.time_left_ms if kind is Kind.REQUEST else None,
        deadline_ms=None,
        attempt=1,
        depth=0,
    )
    assert there_and_back(sent, Kind.REQUEST if kind is Kind.REQUEST else Kind.REPLY) == expected


def test_a_tutorial_client_is_a_plain_request() -> None:
    message = from_properties(Properties(correlation_id="c", reply_to="amq.gen-1"), b"30", "rpc_queue", Kind.REQUEST)
    assert message == Message(
        Kind.REQUEST, "rpc_queue", correlation_id="c", reply_to="amq.gen-1", body=b"30", dialect=PLAIN
    )


def test_nothing_of_ours_is_written_to_a_plain_peer() -> None:
    message = Message(Kind.REQUEST, "q", "fib", "m", "c", "r", deadline_ms=5, attempt=3, depth=2, dialect=PLAIN)
    properties = parse_properties(lay_out(message))
    assert properties == Properties(correlation_id="c", reply_to="r")


def test_a_plain_fault_has_a_type_that_says_so() -> None:
    properties = parse_properties(lay_out(Message(Kind.FAULT, dialect=PLAIN)))
    assert properties.type == "fault"
    assert from_properties(properties, b"", "q", Kind.REPLY).kind is Kind.FAULT
    assert from_properties(properties, b"", "q", Kind.REQUEST).kind is Kind.REQUEST


def test_a_native_message_says_so_in_its_app_id() -> None:
    properties = parse_properties(lay_out(Message(Kind.REPLY)))
    assert (properties.app_id, properties.type) == (APP_ID, "$reply")


def test_a_kind_from_a_later_version_is_an_unknown_method() -> None:
    message = from_properties(Properties(type="$later", app_id=APP_ID), b"", "q", Kind.REQUEST)
    assert (message.kind, message.method, message.dialect) == (Kind.REQUEST, "$later", NATIVE)


def test_time_left_is_the_expiration_and_no_more_than_rabbitmq_takes() -> None:
    properties = parse_properties(lay_out(Message(Kind.REQUEST, time_left_ms=2**40)))
    assert properties.expiration == str(MAX_EXPIRATION_MS)


@pytest.mark.parametrize("kind", [Kind.REPLY, Kind.FAULT, Kind.CANCEL])
def test_only_requests_expire_in_a_queue(kind: Kind) -> None:
    properties = parse_properties(lay_out(Message(kind, time_left_ms=5, deadline_ms=6)))
    assert (properties.expiration, properties.headers) == ("", None)


def test_a_persistent_message_says_so_to_the_broker_only() -> None:
    properties = parse_properties(lay_out(Message(Kind.REQUEST, persistent=True)))
    assert properties.delivery_mode == 2
    assert not from_properties(properties, b"", "q", Kind.REQUEST).persistent


def test_user_headers_cannot_forge_ours() -> None:
    sent = Message(Kind.REQUEST, "q", headers={"x-depth": "31", "x-deadline": "1", "mine": "1"}, depth=2)
    back = there_and_back(sent)
    assert (back.depth, back.deadline_ms, back.headers) == (2, None, {"mine": "1"})


@pytest.mark.parametrize("expiration", ["", "soon", "-1", "1.5", "9" * 19])
def test_a_strangers_odd_expiration_is_no_deadline(expiration: str) -> None:
    for app_id in ("", APP_ID):
        properties = Properties(expiration=expiration, app_id=app_id)
        assert from_properties(properties, b"", "q", Kind.REQUEST).time_left_ms is None


@pytest.mark.parametrize("value", [-1, True, "5", 1.5, None, {}])
def test_odd_values_in_our_headers_are_ignored(value: Any) -> None:
    headers = {"x-deadline": value, "x-attempt": value, "x-depth": value}
    message = from_properties(Properties(headers=headers, app_id=APP_ID), b"", "q", Kind.REQUEST)
    assert (message.deadline_ms, message.attempt, message.depth) == (None, 1, 0)
    assert message.headers == {}


def test_foreign_header_values_are_given_as_their_text() -> None:
    headers = {"number": 7, "list": [1], "none": None}
    message = from_properties(Properties(headers=headers), b"", "q", Kind.REQUEST)
    assert message.headers == {"number": "7", "list": "[1]", "none": "None"}
