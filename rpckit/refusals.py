"""What a server says instead of a result: to calls it does not run, and for errors that handlers raise. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rpckit.call import CORRELATION_HEADER
from rpckit.context import Response
from rpckit.contract import Service
from rpckit.errors import (
    Code,
    DeadlineExceeded,
    Expired,
    NoResponder,
    NotSent,
    OutcomeUnknown,
    Overloaded,
    RemoteError,
    RpcError,
)
from rpckit.fault import Fault, fault_of
from rpckit.message import CONTRACT_HEADER, Message
from rpckit.schema import fingerprint_in

__all__ = ["declared_fault", "fault_for", "not_one", "response_headers", "same_contract", "unknown_method"]

_NESTED_CODES: tuple[tuple[type[RpcError], Code], ...] = (
    (DeadlineExceeded, Code.DEADLINE_EXCEEDED),
    (OutcomeUnknown, Code.ABORTED),
    (Expired, Code.DEADLINE_EXCEEDED),
    (Overloaded, Code.RESOURCE_EXHAUSTED),
    (NoResponder, Code.UNAVAILABLE),
    (NotSent, Code.UNAVAILABLE),
)


def fault_for(error: RpcError) -> Fault:
    """Of an error raised on purpose, or by a nested call: its text may travel."""
    if isinstance(error, RemoteError):
        return fault_of(error)
    code = next((code for kind, code in _NESTED_CODES if isinstance(error, kind)), Code.INTERNAL)
    details = {"retry_after": error.retry_after} if isinstance(error, Overloaded) else None
    return Fault(code, _text(error), type=type(error).__name__, details=details)


def declared_fault(error: Exception, declared: Sequence[type[Exception]]) -> Fault:
    """Under the name that callers were told of, also for a subclass of it."""
    name = next(each.__name__ for each in declared if isinstance(error, each))
    if isinstance(error, RemoteError):
        return replace(fault_of(error), type=name)
    return Fault(Code.UNKNOWN, _text(error), type=name)


def _text(error: Exception) -> str:
    """Its caller is to have an answer, also where the error's own class fails to tell of it."""
    try:
        return str(error)
    except Exception as fault:
        return f"its text cannot be made: {type(fault).__name__} in {type(error).__name__}.__str__"


def same_contract(service: Service, message: Message) -> bool:
    """Whether the method is what its caller was generated from."""
    known = message.headers[CONTRACT_HEADER]
    return message.method in service.methods and fingerprint_in(service, message.method) == known


def unknown_method(service: Service, method: str) -> Fault:
    """There is no such method, or none was named where there are several."""
    known = ", ".join(service.methods)
    if not method:
        text = f"{service.name} has several methods and no default: name one of {known}"
    else:
        text = f"{service.name} has no method {method[:100]!r}; it has {known}"
    return Fault(Code.UNIMPLEMENTED, text, type="MethodNotFound")


def not_one(services: Sequence[Service], having: Sequence[Service], method: str) -> Fault:
    """Of a session's services, none or several have a method that was called without an address."""
    if having:
        places = ", ".join(service.address for service in having)
        text = f"{method or 'a default method'!r:.100} is at {places}: call it as ADDRESS.METHOD"
    else:
        known = ", ".join(name for service in services for name in service.methods)
        text = f"nothing here answers {method[:100]!r}; there are {known or 'no methods'}"
    return Fault(Code.UNIMPLEMENTED, text, type="MethodNotFound")


def response_headers(response: Response) -> dict[str, str]:
    """Of the reply that carries a handler's `Response`."""
    headers = {str(name): str(value) for name, value in response.headers.items()}
    if response.correlation_id is not None:
        headers[CORRELATION_HEADER] = response.correlation_id
    return headers
