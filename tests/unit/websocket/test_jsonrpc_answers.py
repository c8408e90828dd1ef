"""What JSON-RPC answers: results and errors, faults both ways, and the errors of strangers."""

from __future__ import annotations

from typing import Any

import pytest

from rpckit import codec
from rpckit.errors import Code, UsageError
from rpckit.fault import JSONRPC_CODES, Fault, fault_message, read_fault
from rpckit.message import Kind
from rpckit_websocket._dialect import (
    Undelivered,
)
from rpckit_websocket._jsonrpc import JsonRpc
from tests.unit.websocket.jsonrpc_words import (
    PEER,
    call,
    loaded,
    message_of,
    read,
    request,
)


@pytest.fixture
def rpc() -> JsonRpc:
    return JsonRpc(PEER)


FAULT = Fault(Code.NOT_FOUND, "no ü", "Missing", {"n": 1}, True, "rpckit", "e-1")


@pytest.mark.parametrize("content_type", [codec.JSON, codec.MSGPACK])
def test_a_fault_survives_both_ways(content_type: str) -> None:
    here, there = JsonRpc("here"), JsonRpc("there")
    sent = call("fib")
    (there_request,) = there.read(here.write(sent) or "")
    request = message_of(there_request)
    request.content_type = content_type
    frame = there.write(fault_message(request, FAULT))
    assert loaded(frame)["error"]["code"] == JSONRPC_CODES[Code.NOT_FOUND]
    (answer,) = here.read(frame or "")
    assert message_of(answer).correlation_id == sent.correlation_id
    assert read_fault(message_of(answer)) == FAULT


@pytest.mark.parametrize("code", [code for code in Code if code in JSONRPC_CODES])
def test_each_code_has_its_number_and_back(rpc: JsonRpc, code: Code) -> None:
    error = loaded(rpc.write(fault_message(request(rpc), Fault(code, "text"))))["error"]
    assert (error["code"], error["message"], error["data"]["code"]) == (JSONRPC_CODES[code], "text", code)
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "error": {"code": JSONRPC_CODES[code], "message": "text"}})
    assert read_fault(message_of(item)).code == code


def test_a_code_without_a_number_travels_in_the_data(rpc: JsonRpc) -> None:
    error = loaded(rpc.write(fault_message(request(rpc), Fault("MY_OWN", "text"))))["error"]
    assert (error["code"], error["data"]["code"]) == (-32000, "MY_OWN")


def test_details_that_json_has_not_are_left_out(rpc: JsonRpc) -> None:
    message = request(rpc)
    message.content_type = codec.MSGPACK
    error = loaded(rpc.write(fault_message(message, Fault("MY_OWN", "text", details={"raw": b"\xff"}))))["error"]
    assert error == {"code": -32000, "message": "text", "data": {"code": "MY_OWN"}}


@pytest.mark.parametrize(
    "error, code, text",
    [
        ({"code": -32601, "message": "no such method"}, Code.UNIMPLEMENTED, "no such method"),
        ({"code": 12345, "message": "theirs"}, Code.UNKNOWN, "theirs"),
        ({"code": "12", "message": 5}, Code.UNKNOWN, "5"),
        ({"code": [], "data": []}, Code.UNKNOWN, ""),
        ({"data": {"code": 5}}, Code.UNKNOWN, ""),
        ("text", Code.UNKNOWN, "text"),
        (5, Code.UNKNOWN, "5"),
        (False, Code.UNKNOWN, "False"),
        ({"code": 1, "message": "\ud800"}, Code.UNKNOWN, "\ud800"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_strangers_error_is_a_fault(rpc: JsonRpc, error: Any, code: str, text: str) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "error": error})
    fault = read_fault(message_of(item))
    assert (fault.code, fault.message) == (code, text)


def test_a_strangers_number_and_data_are_kept_in_the_details(rpc: JsonRpc) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "error": {"code": 7, "message": "", "data": [1]}})
    assert read_fault(message_of(item)).details == {"jsonrpc_code": 7, "data": [1]}


def test_an_error_of_null_is_none(rpc: JsonRpc) -> None:
    (item,) = read(rpc, {"jsonrpc": "2.0", "id": "c", "result": 5, "error": None})
    assert message_of(item).kind is Kind.REPLY


def test_a_request_nobody_serves_is_answered_so(rpc: JsonRpc) -> None:
    request(rpc, 1)
    error = loaded(rpc.write_control(Undelivered("1", "nobody")))["error"]
    assert error == {"code": -32601, "message": "nobody"}


def test_a_result_that_json_has_not_is_a_usage_error_and_can_still_be_answered(rpc: JsonRpc) -> None:
    message = request(rpc, 1)
    with pytest.raises(UsageError):
        rpc.write(message.reply(Kind.REPLY, b"\xff", codec.BYTES))
    assert loaded(rpc.write(fault_message(message, FAULT)))["id"] == 1
