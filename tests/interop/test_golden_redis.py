"""The Redis dialects, byte by byte: see golden/README.md. What is in FastStream's form, FastStream must read too."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from faststream.redis.parser import BinaryMessageFormatV1

from rpckit.message import NATIVE, Kind, Message
from rpckit_redis._envelope import read, write

GOLDEN = Path(__file__).parent / "golden" / "redis.json"
WRITE = os.environ.get("GOLDEN") == "write"
MEANING = {"correlation_id": "correlation_id", "content-type": "content_type", "reply_to": "reply_to"}

Vector = dict[str, Any]


def vectors() -> dict[str, Vector]:
    recorded: dict[str, Vector] = json.loads(GOLDEN.read_text())
    return recorded


def some(*words: str) -> Any:
    """The recorded messages whose name has one of the words."""
    named = [pytest.param(each, id=name) for name, each in vectors().items() if any(word in name for word in words)]
    assert named
    return pytest.mark.parametrize("vector", named)


def message_of(vector: Vector) -> Message:
    fields = vector["message"]
    return Message(**{**fields, "kind": Kind(fields["kind"]), "body": bytes.fromhex(fields["body"])})


def with_bytes(vector: Vector) -> Vector:
    data = write(message_of(vector))
    return {**vector, "bytes": data.hex(), "bytes read": data.decode("ascii", errors="backslashreplace")}


def test_every_message_is_written_as_it_was_recorded() -> None:
    """A raw one is read and never written."""
    written = {name: vector if "raw" in name else with_bytes(vector) for name, vector in vectors().items()}
    if WRITE:
        GOLDEN.write_text(json.dumps(written, indent=2) + "\n")
    assert written == vectors()


@some("native", "faststream", "json", "raw")
def test_every_recorded_message_is_read(vector: Vector) -> None:
    message = message_of(vector)
    found_as = Kind.REPLY if message.kind is Kind.FAULT else message.kind
    assert read(bytes.fromhex(vector["bytes"]), message.address, found_as) == message


@some("faststream", "json", "raw")
def test_faststream_reads_every_plain_message(vector: Vector) -> None:
    message = message_of(vector)
    body, headers = BinaryMessageFormatV1.parse(bytes.fromhex(vector["bytes"]))
    ours = {name: getattr(message, field) for name, field in MEANING.items() if getattr(message, field)}
    assert (body, headers) == (message.body, {**ours, **message.headers})


@some("faststream request", "faststream reply", "faststream fault")
async def test_faststream_writes_these_bytes_itself(vector: Vector) -> None:
    """Not those with other than ASCII headers: it counts their characters."""
    message = message_of(vector)
    data = await BinaryMessageFormatV1.encode(
        message=message.body.decode() if message.content_type == "text/plain" else json.loads(message.body),
        reply_to=message.reply_to,
        headers=dict(message.headers),
        correlation_id=message.correlation_id,
    )
    assert data.hex() == vector["bytes"]


def test_every_form_is_recorded() -> None:
    assert {message_of(vector).dialect for vector in vectors().values()} == {NATIVE, "plain", "plain-json"}
