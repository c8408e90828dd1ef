"""Faults: how an error crosses the wire, and which error the caller sees. Pure.

Natively a fault is a small map in the content type of its request; to a plain peer it is the text
``CODE: message``. `origin` tells a refusal of the toolkit itself (the work did not begin, or its
outcome is unknown) from an error that the handler chose to raise with the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from rpckit import codec
from rpckit.errors import (
    Code,
    DeadlineExceeded,
    Expired,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NoResponder,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    RemoteCancelled,
    RemoteError,
    RpcError,
    UnencodableResult,
)
from rpckit.message import NATIVE, Kind, Message

__all__ = [
    "FAULT_MESSAGE_HEADER",
    "FAULT_STATUS_HEADER",
    "HANDLER",
    "JSONRPC_CODES",
    "JSONRPC_OTHER",
    "TOOLKIT",
    "Fault",
    "brief",
    "changed_contract",
    "contract_changed",
    "fault_message",
    "fault_of",
    "read_fault",
]

FAULT_STATUS_HEADER = "x-rpckit-status"
FAULT_MESSAGE_HEADER = "x-rpckit-message"
FAULT_ORIGIN_HEADER = "x-rpckit-origin"
MAX_MESSAGE = 4096  # characters of a fault's message that travel
BRIEF = 200  # characters of each text of a fault that was too large
HANDLER = "handler"  # origin: the handler raised it
TOOLKIT = "rpckit"  # origin: the server refused or ended the call
JSONRPC_OTHER = -32000  # the code of all other faults in JSON-RPC
JSONRPC_CODES: Mapping[str, int] = {  # those that the specification has, the language server protocol's, and ours
    Code.INVALID_ARGUMENT: -32602,
    Code.UNIMPLEMENTED: -32601,
    Code.INTERNAL: -32603,
    Code.CANCELLED: -32800,
    Code.DEADLINE_EXCEEDED: -32001,
    Code.RESOURCE_EXHAUSTED: -32002,
    Code.PERMISSION_DENIED: -32003,
    Code.UNAVAILABLE: -32004,
    Code.ABORTED: -32005,
    Code.NOT_FOUND: -32006,
    Code.DATA_LOSS: -32007,
}
CONTRACT_CHANGED = "ContractChanged"  # the type of a refusal that brings the server's contract


@dataclass(frozen=True, slots=True)
class Fault:
    """What the other side says went wrong."""

    code: str
    message: str
    type: str = ""
    details: Mapping[str, Any] | None = None
    retryable: bool = False
    origin: str = HANDLER
    error_id: str | None = None

    def to_error(self) -> RpcError:
        """The error a caller sees."""
        if self.origin == TOOLKIT and self.code in _REFUSALS:
            return _REFUSALS[self.code](self)
        if self.code == Code.DEADLINE_EXCEEDED:  # begun, and stopped when its time was up
            return DeadlineExceeded(self.message)
        error_class = _BY_CODE.get(self.code, RemoteError)
        return error_class(
            self.message,
            code=self.code,
            type=self.type,
            details=self.details,
            retryable=self.retryable,
            error_id=self.error_id,
        )


def fault_of(error: RemoteError) -> Fault:
    """The fault of an error that a handler (or the toolkit, on its way to one) raised on purpose."""
    return Fault(
        code=error.code,
        message=error.message,
        type=error.type,
        details=error.details,
        retryable=error.retryable,
        error_id=error.error_id,
    )


def brief(fault: Fault) -> Fault:
    """The same without details, and cut to what fits anywhere."""
    code, message, type_ = (text[:BRIEF] for text in (fault.code, fault.message, fault.type))
    return replace(fault, code=code, message=message, type=type_, details=None)


def contract_changed(address: str, document: Mapping[str, Any]) -> Fault:
    """The refusal of a call whose client was generated from another contract than this."""
    text = f"{address} has another contract than this client was generated from"
    return Fault(Code.FAILED_PRECONDITION, text, CONTRACT_CHANGED, {"contract": document}, origin=TOOLKIT)


def changed_contract(error: RemoteError) -> dict[str, Any] | None:
    """The contract that such a refusal brings; None for every other error."""
    if error.type != CONTRACT_CHANGED or error.code != Code.FAILED_PRECONDITION:
        return None
    document = (error.details or {}).get("contract")
    return document if isinstance(document, dict) else None


def fault_message(request: Message, fault: Fault) -> Message:
    """The answer to `request` that carries `fault`, in the request's dialect and content type."""
    text = _printable(fault.message[:MAX_MESSAGE])
    if request.dialect != NATIVE:
        reply = request.reply(Kind.FAULT, f"{fault.code}: {text}".encode(errors="replace"), codec.TEXT)
        reply.headers = {
            FAULT_STATUS_HEADER: _printable(fault.code),
            FAULT_MESSAGE_HEADER: " ".join(text.split())[:255],
            FAULT_ORIGIN_HEADER: fault.origin,
        }
        return reply
    content_type = codec.JSON if request.content_type.startswith(codec.JSON) else codec.MSGPACK
    content = {each.name: getattr(fault, each.name) for each in fields(fault)} | {"message": text}
    try:
        body = codec.encode(content_type, content)
    except codec.CodecError:  # details, code and type are the handler's own, and may not fit
        plain = {"code": _printable(fault.code), "type": _printable(fault.type), "details": None}
        body = codec.encode(content_type, content | plain)
    return request.reply(Kind.FAULT, body, content_type)


def read_fault(message: Message) -> Fault:
    """The fault in a `Kind.FAULT` message. Raises `CodecError` when it cannot be read."""
    if message.dialect != NATIVE:
        return _read_text(message)
    content = codec.decode(message.content_type, message.body)
    if not isinstance(content, dict) or not isinstance(content.get("code"), str):
        raise codec.CodecError("a fault without a code")
    details = content.get("details")
    return Fault(
        code=content["code"],
        message=str(content.get("message", "")),
        type=str(content.get("type") or ""),
        details=details if isinstance(details, dict) else None,
        retryable=bool(content.get("retryable")),
        origin=str(content.get("origin", HANDLER)),
        error_id=str(content["error_id"]) if content.get("error_id") else None,
    )


def _read_text(message: Message) -> Fault:
    text = message.body.decode(errors="replace")
    code, separator, rest = text.partition(": ")
    status = message.headers.get(FAULT_STATUS_HEADER) or (code if separator else "")
    if status not in Code.__members__:
        return Fault(code=Code.UNKNOWN, message=text)
    message_text = rest if separator and code == status else text
    return Fault(code=status, message=message_text, origin=message.headers.get(FAULT_ORIGIN_HEADER, HANDLER))


def _printable(text: str) -> str:
    """Lone surrogates come in by JSON, and no codec writes them."""
    return text.encode(errors="replace").decode()


def _overloaded(fault: Fault) -> RpcError:
    after = (fault.details or {}).get("retry_after")
    return Overloaded(fault.message, retry_after=after if isinstance(after, int | float) else None)


_REFUSALS: dict[str, Callable[[Fault], RpcError]] = {
    Code.RESOURCE_EXHAUSTED: _overloaded,
    Code.UNAVAILABLE: lambda fault: NoResponder(fault.message),
    Code.ABORTED: lambda fault: OutcomeUnknown(fault.message),
    Code.DEADLINE_EXCEEDED: lambda fault: Expired(fault.message),
}

_BY_CODE: dict[str, type[RemoteError]] = {
    error_class.default_code: error_class
    for error_class in (
        MethodNotFound,
        InvalidArgument,
        PermissionDenied,
        RemoteCancelled,
        UnencodableResult,
        InternalError,
    )
}
