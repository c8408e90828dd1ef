"""The WebSocket dialects, byte by byte: see golden/README.md. What fastapi_websocket_rpc must read, it is given."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgpack
import pytest
from fastapi_websocket_rpc.schemas import RpcMessage, RpcRequest, RpcResponse

from rpckit.fault import JSONRPC_CODES
from rpckit.message import Kind, Message
from rpckit_websocket import _dialect
from rpckit_websocket._dialect import Dialect, Frame, Incoming
from rpckit_websocket._fastapi_rpc import FastApiRpc
from rpckit_websocket._jsonrpc import JsonRpc
from rpckit_websocket._native import Native

GOLDEN = Path(__file__).parent / "golden" / "websocket.json"
WRITE = os.environ.get("GOLDEN") == "write"
SESSION = "b" * 32
DIALECTS = {"native": Native, "jsonrpc": JsonRpc, "fastapi_websocket_rpc": FastApiRpc}
PLAIN = Message(Kind.EVENT)  # what has its fields is not recorded

Vector = dict[str, Any]


def vectors() -> dict[str, Vector]:
    recorded: dict[str, Vector] = json.loads(GOLDEN.read_text())
    return recorded


def some(*words: str, without: str = "\0") -> Any:
    """The recorded frames whose name has one of the words."""
    named = [
        pytest.param(name, each, id=name)
        for name, each in vectors().items()
        if any(word in name for word in words) and without not in name
    ]
    assert named
    return pytest.mark.parametrize("name, vector", named)


def dialect_of(name: str, vector: Vector, *, dialled: bool = False) -> Dialect:
    make = DIALECTS[name.partition(" ")[0]]
    if make is Native:
        return Native(SESSION)
    return make(SESSION, dialled=dialled, binary=vector.get("binary", False))


# --- writing and reading --------------------------------------------------------------------------------


def written(name: str, vector: Vector) -> Frame | None:
    dialect = dialect_of(name, vector, dialled=vector.get("dialled", False))
    if "control" in vector:
        return dialect.write_control(getattr(_dialect, vector["control"])(**vector["fields"]))
    fields = vector["message"]
    message = Message(**{**fields, "kind": Kind(fields["kind"]), "body": bytes.fromhex(fields.get("body", ""))})
    return dialect.event(vector["topic"], message) if "topic" in vector else dialect.write(message)


def read(name: str, vector: Vector) -> list[Vector]:
    """What the other side makes of it."""
    frame = frame_of(name, vector)
    return [as_data(each) for each in dialect_of(name, vector, dialled=not vector.get("dialled", False)).read(frame)]


def as_data(item: Incoming) -> Vector:
    if not isinstance(item, Message):
        return {type(item).__name__: asdict(item)}
    usual = asdict(PLAIN)
    fields = {field: value for field, value in asdict(item).items() if field == "kind" or value != usual[field]}
    if "body" in fields:
        fields["body"] = item.body.hex()
    return {"Message": fields}


def in_hex(name: str, vector: Vector) -> bool:
    return name.startswith("native") or vector.get("binary", False)


def frame_of(name: str, vector: Vector) -> Frame:
    text: str = vector["frame"]
    return bytes.fromhex(text) if in_hex(name, vector) else text


def anew(name: str, vector: Vector) -> Vector:
    """Written and read by today's code; what others write is only read."""
    recorded = {key: value for key, value in vector.items() if key not in ("frame reads", "is read as")}
    if "theirs" not in name:
        frame = written(name, vector)
        assert frame is not None
        recorded["frame"] = frame.hex() if isinstance(frame, bytes) else frame
    frame = frame_of(name, recorded)
    if name.startswith("native"):
        recorded["frame reads"] = repr(msgpack.unpackb(frame))
    elif isinstance(frame, bytes):
        recorded["frame reads"] = frame.decode()
    return {**recorded, "is read as": json.loads(json.dumps(read(name, recorded)))}


# --- the tests -------------------------------------------------------------------------------------------


def test_every_frame_is_written_and_read_as_it_was_recorded() -> None:
    today = {name: anew(name, vector) for name, vector in vectors().items()}
    if WRITE:
        GOLDEN.write_text(json.dumps(today, indent=2, ensure_ascii=False) + "\n")
    assert today == vectors()


@some("native", "jsonrpc", "fastapi_websocket_rpc", without="theirs")
def test_a_frame_is_of_the_kind_that_its_dialect_has(name: str, vector: Vector) -> None:
    assert isinstance(written(name, vector), bytes if in_hex(name, vector) else str)


@some("jsonrpc", without="theirs")
def test_every_json_rpc_frame_is_what_the_specification_says(name: str, vector: Vector) -> None:
    frame = json.loads(frame_of(name, vector))
    assert frame["jsonrpc"] == "2.0"
    if "method" in frame:
        assert frame.keys() <= {"jsonrpc", "method", "params", "id"}
        assert isinstance(frame.get("params", []), list | dict)
    else:
        assert frame.keys() in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    if "error" in frame:
        assert frame["error"].keys() <= {"code", "message", "data"}
        assert frame["error"]["code"] in JSONRPC_CODES.values()


@some("fastapi_websocket_rpc")
def test_fastapi_websocket_rpc_reads_every_frame(name: str, vector: Vector) -> None:
    message = RpcMessage.model_validate(json.loads(frame_of(name, vector)))
    assert (message.request is None) != (message.response is None)
    part = message.request or message.response
    assert part.call_id is None if "notification" in name else part.call_id


@some(*(f"fastapi_websocket_rpc {what}" for what in ("hello", "request", "reply", "ping", "pong", "channel", "theirs")))
def test_fastapi_websocket_rpc_writes_these_bytes_itself(name: str, vector: Vector) -> None:
    """Not those with an error, which it has no key for."""
    frame = frame_of(name, vector)
    parts = json.loads(frame)
    request, response = parts["request"], parts["response"]
    theirs = RpcMessage(
        request=RpcRequest(**request) if request else None,
        response=RpcResponse[Any](**response) if response else None,
    )
    text = theirs.model_dump_json()
    assert frame == (text.encode() if isinstance(frame, bytes) else text)


def test_every_form_is_recorded() -> None:
    """Each kind of message and control that a dialect can write is there."""
    assert {name.partition(" ")[0] for name in vectors()} == DIALECTS.keys()
    controls = {"Hello", "Ping", "Pong", "Subscribe", "Unsubscribe", "Receipt", "Undelivered", "Settled"}
    assert {vector["control"] for vector in vectors().values() if "control" in vector} == controls
    kinds = {vector["message"]["kind"] for vector in vectors().values() if "message" in vector}
    assert kinds == {"request", "reply", "fault", "cancel", "event"}
