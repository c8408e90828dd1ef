"""Envelope ↔ the bytes of one Redis message. Pure.

Redis carries bytes and nothing beside them, so the envelope stands before the body. The first bytes tell the form:

    C1 01                    native, version 1: a msgpack array of the envelope's fields, the body last.
                             No msgpack value and no UTF-8 text begins with C1
    89 "BIN" 0D 0A 1A 0A     FastStream's binary form: header and body offsets, then pairs of text
    {"data": …,"headers": …} what FastStream wrote before 0.7; answered in kind
    anything else            a body without an envelope

The address is where the message was found, and is not carried. What `read` gives is text that can be written again.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import msgpack

from rpckit.call import CORRELATION_HEADER
from rpckit.codec import MSGPACK
from rpckit.errors import Code, UsageError
from rpckit.fault import FAULT_STATUS_HEADER
from rpckit.message import NATIVE, PLAIN, REPLY, Kind, Message

__all__ = ["PLAIN_JSON", "EnvelopeError", "read", "write"]

PLAIN_JSON = "plain-json"  # the dialect of FastStream before 0.7

MARK = b"\xc1"
NATIVE_1 = MARK + b"\x01"
FIELDS = 12
MAX_HEADERS = 65_535  # as many as FastStream's form can count
MAX_COPIED = 4096  # bytes: copying more of an envelope would cost more than a view of it

MAGIC = b"\x89BIN\r\n\x1a\n"
BINARY_1 = 1
HEAD = struct.Struct(">8sHII")  # magic, version, offset of the headers, offset of the body
MAX_UTF8 = 4  # bytes of a character
SHORT = struct.Struct(">H")  # a count of headers, or the bytes of a text

CORRELATION_ID, CONTENT_TYPE, REPLY_TO, MESSAGE_ID = "correlation_id", "content-type", "reply_to", "message_id"
RESERVED = frozenset((CORRELATION_ID, CONTENT_TYPE, REPLY_TO, MESSAGE_ID))

# The usual reply, as msgpack writes it: all of them are the same but for the id, of 32 digits, and a short body.
# Taking these two out costs half of what reading field by field does.
_reply = msgpack.packb((REPLY, "", "", "0" * 32, "", MSGPACK, None, None, 1, 0, None, b""))
REPLY_HEAD, _, REPLY_TAIL = (NATIVE_1 + _reply[:-1]).partition(b"0" * 32)
ID_AT = len(REPLY_HEAD)
ID_END = ID_AT + 32
BODY_AT = ID_END + len(REPLY_TAIL) + 1  # after its length, in one byte

_KINDS: dict[str, Kind] = {kind.value: kind for kind in Kind}


class EnvelopeError(ValueError):
    """The bytes begin as an envelope does, and are none that can be read: theirs is the fault, or a later version."""


def write(message: Message) -> bytes:
    """The bytes of a message in its dialect; any but native and `PLAIN_JSON` is FastStream's binary form.

    Raises `UsageError` for what the form cannot carry. Plain forms carry no deadline, attempt or method.
    """
    try:
        if message.dialect != NATIVE:
            return _write_json(message) if message.dialect == PLAIN_JSON else _write_binary(message)
        return NATIVE_1 + _packer.pack(  # the fields in the order of `Message`, which reading relies on
            (
                message.kind,
                message.method,
                message.message_id,
                message.correlation_id,
                message.reply_to,
                message.content_type,
                message.time_left_ms,
                message.deadline_ms,
                message.attempt,
                message.depth,
                _checked(message.headers) if message.headers else None,
                message.body,
            )
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise UsageError(f"Redis cannot carry {message!r} in the {message.dialect} form: {error!s:.200}") from error


def read(data: bytes, address: str, kind: Kind) -> Message:
    """The message found at `address`; `kind` is what a plain one is there: a request in a queue, a reply in an inbox.

    Raises `EnvelopeError`, and nothing else whatever a stranger sends.
    """
    if data.startswith(REPLY_HEAD) and data.startswith(REPLY_TAIL, ID_END) and len(data) >= BODY_AT:
        body, correlation_id = data[BODY_AT:], data[ID_AT:ID_END]
        if data[BODY_AT - 1] == len(body) and correlation_id.isalnum():
            return Message(REPLY, address, "", "", correlation_id.decode(), "", MSGPACK, None, None, 1, 0, {}, body)
    if not data.startswith(NATIVE_1):
        return _read_other(data, address, kind)
    packed = data[2:] if len(data) < MAX_COPIED else memoryview(data)[2:]
    try:
        fields = msgpack.unpackb(packed, max_array_len=FIELDS, max_map_len=MAX_HEADERS, max_ext_len=0)
        word, method, message_id, correlation_id, reply_to, form, left, deadline, attempt, depth, headers, body = fields
        fields[0] = _KINDS[word]
    except (ValueError, TypeError, LookupError) as error:
        raise EnvelopeError(f"rpckit's envelope is malformed: {error!r:.200}") from error
    if not (  # every field is looked at: a stranger wrote them
        type(method) is type(message_id) is type(correlation_id) is type(reply_to) is type(form) is str
        and (left is None or (type(left) is int and left >= 0))
        and (deadline is None or (type(deadline) is int and deadline >= 0))
        and type(attempt) is type(depth) is int
        and attempt > 0 <= depth
        and (headers is None or _are_strings(headers))
        and type(body) is bytes
    ):
        raise EnvelopeError("rpckit's envelope is malformed: a field is missing or not of its type")
    fields[-2] = headers or {}
    fields.insert(1, address)
    return Message(*fields)


def _read_other(data: bytes, address: str, kind: Kind) -> Message:
    if data.startswith(MARK):
        raise EnvelopeError(f"rpckit's envelope, of unknown version {data[1:2].hex() or 'none'}; this reads 01")
    if data.startswith(MAGIC):
        return _read_binary(data, address, kind)
    return _read_json(data, address, kind) or Message(kind, address, body=data, dialect=PLAIN)


# --- FastStream ----------------------------------------------------------------------------------


def _write_binary(message: Message) -> bytes:
    headers = _plain_headers(message)
    pairs = b"".join([_short(text) for pair in headers.items() for text in pair])
    start = HEAD.size + SHORT.size
    head = HEAD.pack(MAGIC, BINARY_1, HEAD.size, start + len(pairs))
    return b"".join((head, SHORT.pack(len(headers)), pairs, message.body))


def _read_binary(data: bytes, address: str, kind: Kind) -> Message:
    try:
        _, version, headers_at, body_at = HEAD.unpack_from(data)
        if version != BINARY_1:
            raise EnvelopeError(f"FastStream's envelope, of unknown version {version}; this reads {BINARY_1}")
        if not HEAD.size <= headers_at <= body_at <= len(data):
            raise EnvelopeError(f"FastStream's envelope is malformed: offsets {headers_at}, {body_at} of {len(data)}")
        headers = _read_pairs(data[:body_at], headers_at)
    except (struct.error, UnicodeDecodeError) as error:
        raise EnvelopeError(f"FastStream's envelope is malformed: {error}") from error
    return _plain_message(headers, data[body_at:], address, kind, PLAIN)


def _write_json(message: Message) -> bytes:
    content = {"data": message.body.decode(), "headers": _plain_headers(message)}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()


def _read_json(data: bytes, address: str, kind: Kind) -> Message | None:
    """None when it is another JSON value, or none: then it is a body."""
    if b'"headers"' not in data:  # spares bodies the parsing
        return None
    try:
        match json.loads(data):
            case {"data": str(text), "headers": dict(given), **others} if not others:
                headers = {name: str(value) for name, value in given.items() if value is not None}
                "".join((*headers, *headers.values())).encode()  # a lone surrogate could not be written again
                return _plain_message(headers, text.encode(), address, kind, PLAIN_JSON)
    except (ValueError, RecursionError):
        pass
    return None


def _plain_headers(message: Message) -> dict[str, str]:
    """In FastStream's order; the user's own cannot stand for ours."""
    ours = {
        CORRELATION_ID: message.correlation_id,
        CONTENT_TYPE: message.content_type,
        REPLY_TO: message.reply_to,
        MESSAGE_ID: message.message_id,
    }
    headers = {name: value for name, value in ours.items() if value}
    headers.update((name, value) for name, value in message.headers.items() if name not in RESERVED)
    if message.kind is Kind.REPLY and CORRELATION_HEADER in headers:
        headers[CORRELATION_ID] = headers.pop(CORRELATION_HEADER)  # a plain caller knows its reply by the channel
    if message.kind is Kind.FAULT:
        headers.setdefault(FAULT_STATUS_HEADER, Code.UNKNOWN)
    return _checked(headers)


def _plain_message(headers: dict[str, str], body: bytes, address: str, kind: Kind, dialect: str) -> Message:
    if kind is Kind.REPLY and FAULT_STATUS_HEADER in headers:
        kind = Kind.FAULT
    return Message(
        kind,
        address,
        message_id=headers.pop(MESSAGE_ID, ""),
        correlation_id=headers.pop(CORRELATION_ID, ""),
        reply_to=headers.pop(REPLY_TO, ""),
        content_type=headers.pop(CONTENT_TYPE, ""),
        headers=headers,
        body=body,
        dialect=dialect,
    )


def _short(text: str) -> bytes:
    """The length counts bytes; FastStream's own writer counts characters, and its reader bytes."""
    encoded = text.encode()
    return len(encoded).to_bytes(SHORT.size, "big") + encoded


def _read_pairs(head: bytes, at: int) -> dict[str, str]:
    """The headers between `at` and the end.

    FastStream's writer (0.7.8) counts characters where its reader counts bytes. What does not come out in bytes,
    and does so in characters, was written by it.
    """
    try:
        headers, end = _read_texts(head, at, _read_bytes)
    except (EnvelopeError, struct.error, UnicodeDecodeError):
        headers, end = _read_texts(head, at, _read_characters)
    if end < len(head):
        with suppress(EnvelopeError, struct.error):
            counted, end = _read_texts(head, at, _read_characters)
            return counted if end == len(head) else headers
    return headers


def _read_texts(data: bytes, at: int, read_text: Callable[[bytes, int, int], str]) -> tuple[dict[str, str], int]:
    (count,) = SHORT.unpack_from(data, at)
    at += SHORT.size
    texts = []
    for _ in range(2 * count):
        (length,) = SHORT.unpack_from(data, at)
        text = read_text(data, at + SHORT.size, length)
        texts.append(text)
        at += SHORT.size + len(text.encode())
    return dict(zip(texts[::2], texts[1::2], strict=True)), at


def _read_bytes(data: bytes, start: int, length: int) -> str:
    if start + length > len(data):
        raise EnvelopeError(f"FastStream's envelope is malformed: {length} bytes of text at {start} of {len(data)}")
    return data[start : start + length].decode()


def _read_characters(data: bytes, start: int, length: int) -> str:
    text = data[start : start + MAX_UTF8 * length].decode(errors="ignore")[:length]
    if len(text) < length or not data.startswith(text.encode(), start):
        raise EnvelopeError(f"FastStream's envelope is malformed: no {length} characters at {start} of {len(data)}")
    return text


# --- both ----------------------------------------------------------------------------------------


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    checked = dict(headers)
    if not _are_strings(checked):
        raise TypeError("headers are strings both ways")
    if len(checked) > MAX_HEADERS:
        raise ValueError(f"{len(checked)} headers; {MAX_HEADERS} can be carried")
    return checked


def _are_strings(headers: object) -> bool:
    return isinstance(headers, dict) and all(isinstance(text, str) for pair in headers.items() for text in pair)


class _Packer(threading.local):
    """One a thread, as in `rpckit.codec`."""

    def __init__(self) -> None:
        self.pack: Callable[[Any], bytes] = msgpack.Packer(autoreset=True).pack


_packer = _Packer()
