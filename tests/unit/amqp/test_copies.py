"""The copy of a request says what the original said, but neither who sent it nor where else it was to go."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, decode

from rpckit_amqp._copies import for_a_copy
from rpckit_amqp._frames import F_HEADERS, FrameError

MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
EVERY_TYPE: dict[str, Any] = {
    "boolean": True,
    "small": 1,
    "short": 300,
    "integer": 70_000,
    "long": 2**40,
    "text": "CC",
    "bytes": bytearray(b"\x03BCC"),
    "nothing": None,
    "float": 0.5,
    "decimal": Decimal("1.5"),
    "moment": MOMENT,
    "list": ["CC", 1, {"CC": "nested"}],
    "table": {"CC": "nested", "BCC": 1},
    "CCC": "other",
}
EVERYTHING: dict[str, Any] = {
    "content_type": "text/plain",
    "content_encoding": "gzip",
    "headers": EVERY_TYPE,
    "delivery_mode": 2,
    "priority": 5,
    "correlation_id": "c",
    "reply_to": "inbox",
    "expiration": "1000",
    "message_id": "m",
    "timestamp": MOMENT,
    "message_type": "work",
    "user_id": "somebody",
    "app_id": "app",
}


def laid_out(**said: Any) -> bytes:
    return commands.Basic.Properties(**said).marshal()


def in_turn(*headers: dict[str, Any]) -> dict[str, Any]:
    """One table; pamqp lays it out in this order."""
    return {name: value for each in headers for name, value in each.items()}


@given(st.sets(st.sampled_from(sorted(EVERYTHING))))
def test_whatever_else_a_request_says_its_copy_says_too(names: set[str]) -> None:
    said = {name: EVERYTHING[name] for name in names}
    kept = {name: value for name, value in said.items() if name != "user_id"}
    assert for_a_copy(laid_out(**said)) == laid_out(**kept)


@pytest.mark.parametrize("name", ["CC", "BCC"])
def test_the_queues_a_request_was_also_for_do_not_get_its_copy(name: str) -> None:
    routing = {name: ["audit", "other"]}
    for headers in (in_turn(routing, EVERY_TYPE), in_turn(EVERY_TYPE, routing)):
        copy = for_a_copy(laid_out(headers=headers, reply_to="inbox"))
        assert copy == laid_out(headers=EVERY_TYPE, reply_to="inbox")
        assert name not in decode.field_table(copy[2:])[1]


def test_what_says_nothing_of_it_stays_as_it_is() -> None:
    properties = laid_out(headers={"x-deadline": 2**40}, reply_to="inbox", app_id="rpckit/1")
    assert for_a_copy(properties) is properties


def test_a_header_of_a_type_that_nobody_knows_is_told() -> None:
    table = b"\x01nQ\x02CCS\x00\x00\x00\x00"
    with pytest.raises(FrameError, match="unknown type 'Q'"):
        for_a_copy(F_HEADERS.to_bytes(2, "big") + len(table).to_bytes(4, "big") + table)
