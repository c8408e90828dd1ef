"""The wire of fastapi_websocket_rpc 0.1: a frame is one JSON object with a request or a response. Pure.

It has no error frame: a failed call is answered with a result of null and the error in a key of its own,
which its programs ignore, so that none of them hangs. Its programs' errors are dropped connections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rpckit import codec
from rpckit.errors import Code, UsageError
from rpckit.message import Kind, Message

from ._dialect import (
    BadFrame,
    Control,
    Frame,
    Hello,
    Incoming,
    Ping,
    Pong,
    Settled,
    Undelivered,
    as_text,
    dump_json,
    json_body,
    json_fault,
    load_json,
    native_body,
    open_body,
)
from ._options import FASTAPI_RPC

__all__ = ["FastApiRpc"]

PING_METHOD, CHANNEL_ID_METHOD = "_ping_", "_get_channel_id_"
PONG = "pong"
OUR_PING = "rpckit-ping-"  # before the call ids of our own heartbeats
GREETING = f"{OUR_PING}hello"


class FastApiRpc:
    """`peer` is the reply address that requests of the other side get, and our channel id."""

    name = FASTAPI_RPC
    greets = True

    __slots__ = ("_binary", "_dialled", "_only_binary", "peer")

    def __init__(self, peer: str = "", *, dialled: bool = False, binary: bool = False) -> None:
        self.peer = peer
        self._dialled = dialled  # the side that dialled asks first
        self._binary = self._only_binary = binary

    def read(self, frame: Frame) -> Sequence[Incoming]:
        self._binary = self._only_binary or type(frame) is bytes
        value = load_json(frame)
        if not isinstance(value, dict):
            raise BadFrame("a frame is an object with a request or a response")
        incoming: list[Incoming] = []
        if value.get("request") is not None:
            incoming += self._request(value["request"])
        if value.get("response") is not None:
            incoming.append(self._response(value["response"]))
        return incoming

    def _request(self, request: Any) -> Sequence[Incoming]:
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            raise BadFrame("a request has a method")
        method, call_id = request["method"], request.get("call_id")
        arguments = request.get("arguments") or {}
        if not isinstance(call_id, str | None):
            raise BadFrame("a call_id is a string")
        if not isinstance(arguments, dict):
            why = "arguments are an object: by name only"
            fault = {"code": Code.INVALID_ARGUMENT, "message": why}
            raise BadFrame(why, self._error(call_id, fault) if call_id else None)
        if method == PING_METHOD:
            return (Ping(call_id),)
        if method == CHANNEL_ID_METHOD:
            return (Ping(f"{CHANNEL_ID_METHOD}{call_id}"),)
        address, _, name = method.rpartition(".")
        message = Message(Kind.REQUEST, address, name, "", call_id or "", self.peer if call_id else "")
        message.content_type, message.body = codec.JSON, native_body([], arguments)
        return (message,)

    def _response(self, response: Any) -> Incoming:
        if not isinstance(response, dict):
            raise BadFrame("a response is an object")
        call_id = response.get("call_id")
        if not isinstance(call_id, str):
            raise BadFrame("a response has a call_id")
        if call_id.startswith(OUR_PING):
            return Hello("") if call_id == GREETING else Pong(call_id.removeprefix(OUR_PING))
        error = response.get("error")
        if isinstance(error, dict):
            fault = {"code": Code.UNKNOWN, "message": "", **error}
            return _answer(Kind.FAULT, call_id, json_body(fault))
        return _answer(Kind.REPLY, call_id, json_body(response.get("result")))

    def write(self, message: Message) -> Frame | None:
        if message.kind is Kind.REQUEST:
            return self._framed(self._request_text(message))
        if message.kind is Kind.REPLY:
            return self._result(message.correlation_id, as_text(message))
        if message.kind is Kind.FAULT:
            return self._error(message.correlation_id, json_fault(message))
        if message.kind in (Kind.CANCEL, Kind.EVENT):
            return None  # it has neither
        raise UsageError(f"fastapi_websocket_rpc has no {message.kind}")

    def event(self, topic: str, message: Message) -> Frame | None:
        return None

    def write_control(self, control: Control) -> Frame | None:
        match control:
            case Hello():
                return self._ping(GREETING) if self._dialled else None
            case Ping(token):
                return self._ping(f"{OUR_PING}{token}")
            case Pong(token):
                if isinstance(token, str) and token.startswith(CHANNEL_ID_METHOD):
                    return self._result(token.removeprefix(CHANNEL_ID_METHOD), dump_json(self.peer))
                return self._result(token, dump_json(PONG))
            case Undelivered(correlation_id, why):
                return self._error(correlation_id, {"code": Code.UNIMPLEMENTED, "message": why})
            case Settled(correlation_id):
                return self._result(correlation_id, "null")
        return None

    def _request_text(self, message: Message) -> str:
        args, kwargs = open_body(message)
        if args:
            raise UsageError("fastapi_websocket_rpc takes arguments by name only")
        name = ".".join(part for part in (message.address, message.method) if part)
        call_id = message.correlation_id or None
        return dump_json({"request": {"method": name, "arguments": kwargs, "call_id": call_id}, "response": None})

    def _ping(self, call_id: str) -> Frame:
        request = {"method": PING_METHOD, "arguments": {}, "call_id": call_id}
        return self._framed(dump_json({"request": request, "response": None}))

    def _result(self, call_id: str | None, result: str) -> Frame:
        kind = dump_json(_type_name(result))
        response = f'{{"result":{result},"result_type":{kind},"call_id":{dump_json(call_id)}}}'
        return self._framed(f'{{"request":null,"response":{response}}}')

    def _error(self, call_id: str, fault: dict[str, Any]) -> Frame:
        error = {name: value for name, value in fault.items() if value not in (None, "", False)}
        try:
            text = dump_json(error)
        except UsageError:  # details may hold what JSON does not
            text = dump_json({"code": str(fault["code"]), "message": str(fault["message"])})
        response = f'{{"result":null,"result_type":"error","call_id":{dump_json(call_id)},"error":{text}}}'
        return self._framed(f'{{"request":null,"response":{response}}}')

    def _framed(self, text: str) -> Frame:
        return text.encode() if self._binary else text


def _answer(kind: Kind, call_id: str, body: bytes) -> Message:
    return Message(kind, "", correlation_id=call_id, content_type=codec.JSON, body=body)


def _type_name(result: str) -> str:
    """The Python type of a JSON text, as those programs write it; it only informs."""
    names = {"{": "dict", "[": "list", '"': "str", "t": "bool", "f": "bool", "n": "NoneType"}
    return names.get(result[:1]) or ("float" if set(result) & set(".eE") else "int")
