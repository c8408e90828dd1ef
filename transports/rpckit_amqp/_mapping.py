"""Envelope ↔ AMQP properties. Pure; nothing of ours is in the body.

`app_id: rpckit/1` marks a native message, everything else is plain. `type` is the method of a
request, or `$reply`, `$fault` … A plain fault has `type: fault`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rpckit.message import NATIVE, PLAIN, Kind, Message

from ._frames import H_DEADLINE, Properties, property_list

__all__ = ["APP_ID", "KINDS", "from_properties", "lay_out"]

APP_ID = "rpckit/1"
PLAIN_FAULT = "fault"
PERSISTENT = 2  # delivery mode
H_ATTEMPT, H_DEPTH = "x-attempt", "x-depth"
RESERVED = frozenset((H_DEADLINE, H_ATTEMPT, H_DEPTH))
MAX_DIGITS = 18  # of an expiration
MAX_EXPIRATION_MS = 2**32 - 1  # RabbitMQ refuses more

KINDS = {f"${kind.value}": kind for kind in Kind if kind is not Kind.REQUEST}  # by type
_TYPE_OF: dict[Kind, str] = {kind: name for name, kind in KINDS.items()}


def lay_out(message: Message) -> bytes:
    """The property list of a message. Raises `UsageError` for what AMQP cannot carry."""
    request = message.kind is Kind.REQUEST
    native = message.dialect == NATIVE
    left = message.time_left_ms
    if native:
        type_ = message.method if request else _TYPE_OF[message.kind]
    else:
        type_ = PLAIN_FAULT if message.kind is Kind.FAULT else ""
    return property_list(
        message.content_type,
        _native_headers(message) if native and request else message.headers,
        PERSISTENT if message.persistent else 0,
        message.correlation_id,
        message.reply_to,
        str(left if left < MAX_EXPIRATION_MS else MAX_EXPIRATION_MS) if request and left is not None else "",
        message.message_id if native else "",
        type_,
        APP_ID if native else "",
    )


def from_properties(properties: Properties, body: bytes, address: str, kind: Kind) -> Message:
    """`kind` is what a plain message is where it was found: a request in a queue, a reply in an inbox."""
    if properties.app_id != APP_ID:
        return _from_plain(properties, body, address, kind)
    headers = properties.headers
    message_kind = KINDS.get(properties.type, Kind.REQUEST)
    message = Message(
        message_kind,
        address,
        properties.type if message_kind is Kind.REQUEST else "",
        properties.message_id,
        properties.correlation_id,
        properties.reply_to,
        properties.content_type,
        _milliseconds(properties.expiration) if properties.expiration else None,
        body=body,
    )
    if headers:
        _read_headers(message, headers)
    return message


def _read_headers(message: Message, headers: Mapping[str, Any]) -> None:
    message.deadline_ms = _integer(headers.get(H_DEADLINE))
    if len(headers) > 1 or message.deadline_ms is None:
        message.attempt = _integer(headers.get(H_ATTEMPT)) or 1
        message.depth = _integer(headers.get(H_DEPTH)) or 0
        message.headers = _user_headers(headers)


def _from_plain(properties: Properties, body: bytes, address: str, kind: Kind) -> Message:
    if kind is Kind.REPLY and properties.type == PLAIN_FAULT:
        kind = Kind.FAULT
    return Message(
        kind,
        address,
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        content_type=properties.content_type,
        time_left_ms=_milliseconds(properties.expiration),
        headers=_user_headers(properties.headers or {}),
        body=body,
        dialect=PLAIN,
    )


def _native_headers(message: Message) -> dict[str, Any]:
    headers: dict[str, Any] = dict(message.headers) if message.headers else {}
    if message.deadline_ms is not None:
        headers[H_DEADLINE] = message.deadline_ms
    if message.attempt > 1:
        headers[H_ATTEMPT] = message.attempt
    if message.depth:
        headers[H_DEPTH] = message.depth
    return headers


def _user_headers(headers: Any) -> dict[str, str]:
    """Strings both ways: what a foreign program put there as a number or a table is given as its text."""
    return {str(name): str(value) for name, value in headers.items() if name not in RESERVED}


def _integer(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _milliseconds(text: str) -> int | None:
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None
