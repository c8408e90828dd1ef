"""What JSON-RPC 2.0 says when a request has ended: a result, or an error with its number. Pure.

An error has in `data` what a fault has beyond code and message, `data.code` being the fault's own code: so a fault of
rpckit's comes back as it was, and an error of another program by its number.

A request's correlation id is the JSON of its id, to be written as it was read; `null#…` where the id is null.
"""

from __future__ import annotations

from typing import Any

from rpckit.errors import Code, UsageError
from rpckit.fault import JSONRPC_CODES, JSONRPC_OTHER
from rpckit.message import Message

from ._dialect import dump_json, json_body, json_fault

__all__ = [
    "CANCELLED",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "NULL",
    "PARSE_ERROR",
    "error_text",
    "fault_body",
    "fault_text",
    "id_text",
    "result_text",
]

NULL = "null"  # as an id: none that an answer could be told by
PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS = -32700, -32600, -32601, -32602
CANCELLED = -32800  # of the language server protocol, as `$/cancelRequest` is
_CODE_OF = {number: code for code, number in JSONRPC_CODES.items()}


def result_text(correlation_id: str, result: str) -> str:
    """result: its JSON."""
    return f'{{"jsonrpc":"2.0","id":{id_text(correlation_id)},"result":{result}}}'


def error_text(correlation_id: str, code: int, text: str) -> str:
    error = dump_json({"code": code, "message": text})
    return f'{{"jsonrpc":"2.0","id":{id_text(correlation_id)},"error":{error}}}'


def fault_text(message: Message) -> str:
    """The error that says what the fault in a message does."""
    fault = json_fault(message)
    data = {name: value for name, value in fault.items() if name != "message" and value not in (None, "", False)}
    error = {
        "code": JSONRPC_CODES.get(str(fault["code"]), JSONRPC_OTHER),
        "message": str(fault["message"]),
        "data": data,
    }
    try:
        text = dump_json(error)
    except UsageError:  # details may hold what JSON does not
        text = dump_json(error | {"data": {"code": str(fault["code"])}})
    return f'{{"jsonrpc":"2.0","id":{id_text(message.correlation_id)},"error":{text}}}'


def fault_body(error: Any) -> bytes:
    """A fault of ours from an error object: from its `data`, if it came from rpckit, else by its number."""
    error = error if isinstance(error, dict) else {"message": str(error)}
    data = error.get("data")
    known = dict(data) if isinstance(data, dict) and isinstance(data.get("code"), str) else {}
    number = error.get("code")
    code = known.get("code") or (_CODE_OF.get(number, Code.UNKNOWN) if isinstance(number, int) else Code.UNKNOWN)
    details = known.get("details") or ({"jsonrpc_code": number, "data": data} if not known else None)
    fault = {**known, "code": str(code), "message": str(error.get("message", "")), "details": details}
    return json_body(fault)


def id_text(correlation_id: str) -> str:
    """The id to write: what begins with `null` had none, since no other id's JSON begins with an n."""
    return NULL if correlation_id.startswith(NULL) else correlation_id
