"""The tables of WIRE.md are what the code does: envelope, values, faults, numbers of errors."""

from __future__ import annotations

import datetime
import enum
import json
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgpack
import pytest

from rpckit import codec, errors
from rpckit.contract import Service
from rpckit.errors import Code
from rpckit.fault import HANDLER, JSONRPC_CODES, JSONRPC_OTHER, TOOLKIT, Fault
from rpckit.message import Kind, Message
from rpckit.schema import contract_of, method_fingerprint, names_in
from rpckit_amqp._mapping import from_properties, lay_out
from rpckit_redis._envelope import write
from rpckit_websocket._native import Native

PAGE = (Path(__file__).parents[2] / "WIRE.md").read_text()
TABLES = re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE)


def table(first_row: str) -> list[list[str]]:
    """The rows of the one table that begins so, without its head."""
    (found,) = [each for each in TABLES if each.startswith(f"| {first_row}")]
    return [[cell.strip() for cell in row.strip("|\n").split("|")] for row in found.splitlines()[2:]]


def meant(error: str) -> str:
    """The class that a cell names."""
    found = re.match(r"`(\w+)`", error)
    assert found is not None, error
    return found[1]


def fault_rows() -> Iterator[tuple[str, str, str]]:
    for code, toolkit, handler in table("code | with the origin"):
        known = code.strip("`") if code.startswith("`") else "LIGHTS_OUT"
        yield known, TOOLKIT, meant(toolkit)
        yield known, HANDLER, meant(toolkit if handler == "the same" else handler)


@pytest.mark.parametrize("code, origin, error", [*fault_rows()])
def test_a_fault_becomes_the_error_beside_it(code: str, origin: str, error: str) -> None:
    assert type(Fault(code, "", origin=origin).to_error()) is getattr(errors, error)


def test_codes_that_are_not_in_the_table_are_remote_errors() -> None:
    listed = {code for code, _, _ in fault_rows()}
    for code in set(Code) - listed:
        for origin in (TOOLKIT, HANDLER):
            assert type(Fault(code, "", origin=origin).to_error()) is errors.RemoteError


def test_the_numbers_of_json_rpc() -> None:
    (found,) = [each for each in TABLES if each.startswith("| -32602")]
    numbers, _, codes = ([cell.strip() for cell in row.strip("|\n").split("|")] for row in found.splitlines())
    told = dict(zip(codes, map(int, numbers), strict=True))
    assert told.pop("any other") == JSONRPC_OTHER
    assert told == {str(code): number for code, number in JSONRPC_CODES.items()}


REQUEST = Message(
    Kind.REQUEST,
    "address",
    "method",
    "message_id",
    "correlation_id",
    "reply_to",
    "content_type",
    30_000,
    1_767_225_629_999,
    2,
    1,
    {"headers": ""},
    b"body",
)
FIELDS = {
    "time left": 30_000,
    "deadline": 1_767_225_629_999,
    "attempt": 2,
    "depth": 1,
    "headers": {"headers": ""},
    "body": b"body",
    "kind": "request",
}


def positions(column: int) -> Iterator[tuple[str, int]]:
    for row in table("field | what | AMQP"):
        if number := re.match(r"\d+", row[column]):
            yield row[0].strip("*"), int(number[0])


def test_the_fields_of_redis_stand_where_the_page_says() -> None:
    data = write(REQUEST)
    fields = msgpack.unpackb(data[2:])
    told = dict(positions(3))
    assert data[:2] == b"\xc1\x01"
    assert sorted(told.values()) == list(range(1, len(fields) + 1))
    assert [fields[at - 1] for at in told.values()] == [FIELDS.get(name, name) for name in told]


def test_the_fields_of_a_frame_stand_where_the_page_says() -> None:
    frame = Native().write(REQUEST)
    assert isinstance(frame, bytes)
    fields = msgpack.unpackb(frame)
    told = dict(positions(4))
    assert told.pop("kind") == 1
    assert fields[0] == 1
    assert [fields[at - 1] for at in told.values()] == [FIELDS.get(name, name) for name in told]
    assert fields[told["correlation_id"]] == "address"  # behind it, as the sentence below the table says


@dataclass
class Point:
    x: int
    y: bytes


class Size(enum.Enum):
    SMALL = "small"


HOUR = datetime.timedelta(hours=1, seconds=2.5)
MOMENT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value, packed",
    [
        (2**64 - 1, 2**64 - 1),
        (2**64, msgpack.ExtType(1, (2**64).to_bytes(9, "big", signed=True))),
        (-(2**63) - 1, msgpack.ExtType(1, (-(2**63) - 1).to_bytes(9, "big", signed=True))),
        (b"\xff", b"\xff"),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        ({1: "a"}, {1: "a"}),
        (MOMENT, "2026-01-02T03:04:05Z"),
        (HOUR, "PT1H2.5S"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (Decimal("1.10"), "1.10"),
        (Path("/a"), "/a"),
        (Size.SMALL, "small"),
        (Point(1, b"\xff"), {"x": 1, "y": b"\xff"}),
    ],
    ids=repr,
)
def test_values_are_what_the_page_says(value: Any, packed: Any) -> None:
    assert msgpack.unpackb(codec.encode(codec.MSGPACK, value), strict_map_key=False) == packed


@pytest.mark.parametrize("value", [b"\xff", float("nan"), float("inf")], ids=repr)
def test_what_json_cannot_carry_is_an_error(value: Any) -> None:
    with pytest.raises(codec.CodecError):
        codec.encode(codec.JSON, value)


def test_an_amqp_message_without_the_mark_is_plain() -> None:
    class Properties:
        app_id = type = message_id = correlation_id = reply_to = content_type = expiration = ""
        headers: dict[str, Any] = {}  # noqa: RUF012  # read only

    assert from_properties(Properties, b"30", "x", Kind.REQUEST).dialect == "plain"  # type: ignore[arg-type]  # as good
    assert b"rpckit/1" in lay_out(REQUEST)


def test_the_fingerprint_can_be_computed_from_the_contract_alone() -> None:
    """As the page says it, with nothing but JSON and SHA-256."""
    from hashlib import sha256

    service = Service("shop")

    @service.method
    async def place(point: Point) -> list[Point]:
        """Prose."""
        return [point]

    document = contract_of(service)
    method = document["methods"]["place"]
    mentioned = {name: document["definitions"][name] for name in names_in(method, document["definitions"])}
    method = {key: value for key, value in method.items() if key != "doc"}
    said = json.dumps([method, mentioned], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert mentioned
    assert sha256(said.encode()).hexdigest()[:16] == method_fingerprint(document, "place")
