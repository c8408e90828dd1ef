"""What the tests of JSON-RPC say to it, and how they read its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from rpckit import codec
from rpckit.bodies import write_arguments
from rpckit.message import NATIVE, Kind, Message
from rpckit_websocket._dialect import BadFrame, Frame, Incoming
from rpckit_websocket._jsonrpc import JsonRpc

PEER = "their session"


def asked(id_: Any = 1, method: Any = "q.fib", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "method": method, **more}


def note(method: str = "q.fib", **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, **more}


def read(rpc: JsonRpc, *values: Any, batch: bool = False) -> Sequence[Incoming]:
    return rpc.read(json.dumps(list(values) if batch else values[0]))


def request(rpc: JsonRpc, id_: Any = 1, method: Any = "q.fib", **more: Any) -> Message:
    (item,) = read(rpc, asked(id_, method, **more))
    assert isinstance(item, Message)
    return item


def loaded(frame: Frame | None) -> Any:
    assert frame is not None
    return json.loads(frame)


def refused(rpc: JsonRpc, *values: Any, batch: bool = False) -> Any:
    """What a bad frame is answered."""
    with pytest.raises(BadFrame) as caught:
        read(rpc, *values, batch=batch)
    return loaded(caught.value.answer)


def reply(request: Message, value: Any) -> Message:
    return request.reply(Kind.REPLY, json.dumps(value).encode(), codec.JSON)


def call(method: str, *args: Any, **kwargs: Any) -> Message:
    body, content_type = write_arguments(NATIVE, "", args, kwargs)
    return Message(Kind.REQUEST, "q", method, "m", "c-1", "inbox", content_type, body=body)


def message_of(item: Incoming) -> Message:
    assert isinstance(item, Message)
    return item
