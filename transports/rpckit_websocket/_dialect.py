"""What a dialect is: messages to frames and back. Pure, one object for each session.

Bodies stay as they are in `rpckit.v1`. The two JSON dialects lay a body open and together again, since
there it is part of the frame; inside, their messages have the native form with JSON content.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rpckit import codec
from rpckit.errors import Code, UsageError
from rpckit.message import Message

__all__ = [
    "BadFrame",
    "Control",
    "Dialect",
    "Frame",
    "Hello",
    "Incoming",
    "Ping",
    "Pong",
    "Receipt",
    "Settled",
    "Subscribe",
    "Undelivered",
    "Unsubscribe",
    "as_text",
    "dump_json",
    "frame_size",
    "json_body",
    "json_fault",
    "load_json",
    "native_body",
    "open_body",
]

Frame = str | bytes


class BadFrame(Exception):
    """A frame of the other side that cannot be read. `answer` tells it so, where its dialect can.

    rest: what could be read of it all the same.
    """

    def __init__(self, why: str, answer: Frame | None = None, rest: Sequence[Incoming] = ()) -> None:
        super().__init__(why)
        self.answer = answer
        self.rest = rest


@dataclass(frozen=True, slots=True)
class Hello:
    """The first word of each side. id: of the session, which the listening side chooses."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ping:
    """`token` comes back in the pong."""

    token: Any


@dataclass(frozen=True, slots=True)
class Pong:
    token: Any


@dataclass(frozen=True, slots=True)
class Subscribe:
    topic: str


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    topic: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request without reply has arrived. `refusal` says why nobody takes it, `code` which kind of why that is."""

    message_id: str
    refusal: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """Nobody serves the address of a request: it did not run."""

    correlation_id: str
    why: str


@dataclass(frozen=True, slots=True)
class Settled:
    """A request has ended without an answer: it was cancelled, or its method gives none."""

    correlation_id: str


Control = Hello | Ping | Pong | Subscribe | Unsubscribe | Receipt | Undelivered | Settled
Incoming = Message | Control


class Dialect(Protocol):
    """One session's reading and writing.

    greets: a session begins with a word of each side, and is open when the other's is heard.
    """

    name: str
    greets: bool

    def read(self, frame: Frame) -> Sequence[Incoming]:
        """What a frame says. Raises `BadFrame`, whatever is wrong with it."""
        ...

    def write(self, message: Message) -> Frame | None:
        """A frame; None for what need not be said here, or not yet. Raises `UsageError` for what cannot be."""
        ...

    def event(self, topic: str, message: Message) -> Frame | None:
        """Something published on a topic; None where the dialect has no such thing."""
        ...

    def write_control(self, control: Control) -> Frame | None:
        """None where the dialect has no such thing."""
        ...


def frame_size(frame: Frame) -> int:
    """Its bytes on the wire."""
    return len(frame) if isinstance(frame, bytes) or frame.isascii() else len(frame.encode(errors="replace"))


def load_json(frame: Frame) -> Any:
    try:
        return json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise BadFrame(f"not JSON: {error!s:.200}") from error


def dump_json(value: Any) -> str:
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text if text.isascii() or _encodable(text) else json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"this cannot be written as JSON: {error!s:.200}") from error


def _encodable(text: str) -> bool:
    """Lone surrogates come in by JSON, and leave as escapes only."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def native_body(args: list[Any], kwargs: dict[str, Any]) -> bytes:
    """Arguments in the form that a native body has."""
    return json_body({"args": args, "kwargs": kwargs})


def json_body(value: Any) -> bytes:
    """What `load_json` read, as a body; NaN and lone surrogates, which Python's reader takes, are kept."""
    try:
        return json.dumps(value, separators=(",", ":")).encode()
    except RecursionError as error:  # its writer is less patient than its reader
        raise BadFrame("nested too deeply") from error


def open_body(message: Message) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in a request or event; a raw body is the single one. Raises `UsageError`."""
    try:
        value = codec.decode_guess(message.content_type, message.body) if message.body else None
    except codec.CodecError as error:
        raise UsageError(f"the body for {message.address!r} cannot be written as JSON: {error}") from error
    if isinstance(value, dict) and value.keys() == {"args", "kwargs"}:
        args, kwargs = value["args"], value["kwargs"]
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            raise UsageError(
                f"the body for {message.address!r:.200} has args that are no list, or kwargs that are no map"
            )
        return args, kwargs
    return ([] if value is None else [value]), {}


def json_fault(message: Message) -> dict[str, Any]:
    """The fault in a message, as plain data with at least `code` and `message`."""
    try:
        value = codec.decode_guess(message.content_type, message.body)
    except codec.CodecError:
        value = None
    if isinstance(value, dict) and "code" in value and "message" in value:
        return value
    return {"code": str(Code.UNKNOWN), "message": str(value)[:4096]}


def as_text(message: Message) -> str:
    """A JSON body as it stands; another one is written anew. Raises `UsageError`."""
    if message.content_type.startswith(codec.JSON):
        return message.body.decode()
    return dump_json(_plain(codec.decode_guess(message.content_type, message.body)) if message.body else None)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        raise UsageError("bytes cannot be written as JSON: use the native dialect, or base64")
    return value
