"""One session: frames in, messages out, and back. A pure state machine: no loop, no clock, no socket.

It begins without a dialect, unless a subprotocol or an option named one; then the first frame tells it.
What the session itself has to say (greetings, pongs, answers to bad frames) waits in `out`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rpckit.message import NATIVE, Message

from ._dialect import (
    BadFrame,
    Dialect,
    Frame,
    Hello,
    Ping,
    Pong,
    Receipt,
    Subscribe,
    Undelivered,
    Unsubscribe,
)
from ._fastapi_rpc import FastApiRpc
from ._jsonrpc import JsonRpc
from ._native import Native
from ._options import FASTAPI_RPC, JSONRPC, MAX_MESSAGE

__all__ = ["MAX_PATTERNS", "MAX_TOPICS", "TRANSITIONS", "Fact", "Phase", "Session", "Told", "told_by_first_frame"]

MAX_TOPICS = 1024  # that one peer may subscribe to
MAX_PATTERNS = 64  # among them: each is tried on every event
MAX_BAD_FRAMES = 100  # in a row; a peer that only sends rubbish is not worth reading


class Phase(StrEnum):
    """Where a session stands."""

    UNKNOWN = "unknown"  # its dialect is not known
    GREETING = "greeting"  # we have spoken, and wait for the other side's first word
    OPEN = "open"  # either side calls
    CLOSED = "closed"


class Told(StrEnum):
    """What moves a session from one phase to another."""

    NAMED = "its dialect is known"
    HEARD = "the other side has spoken"
    ENDED = "the connection is gone, or must go"


TRANSITIONS: dict[tuple[Phase, Told], Phase] = {
    (Phase.UNKNOWN, Told.NAMED): Phase.GREETING,
    (Phase.GREETING, Told.HEARD): Phase.OPEN,
    (Phase.OPEN, Told.HEARD): Phase.OPEN,
    (Phase.UNKNOWN, Told.ENDED): Phase.CLOSED,
    (Phase.GREETING, Told.ENDED): Phase.CLOSED,
    (Phase.OPEN, Told.ENDED): Phase.CLOSED,
    (Phase.CLOSED, Told.ENDED): Phase.CLOSED,
}


@dataclass(frozen=True, slots=True)
class Fact:
    """What the shell has to act on beside messages: `what` is a control of the dialect."""

    what: Pong | Subscribe | Unsubscribe | Receipt | Undelivered


class Session:
    """`id`: chosen by the side that listens, and told in its greeting; the reply address of the other side.

    max_message: bytes of one frame.
    """

    __slots__ = (
        "_bad",
        "_binary",
        "_dialled",
        "_max_message",
        "_name",
        "dialect",
        "id",
        "out",
        "peer_name",
        "phase",
        "why",
    )

    def __init__(
        self,
        session_id: str,
        *,
        dialled: bool,
        name: str = "",
        binary: bool = False,
        max_message: int = MAX_MESSAGE,
    ) -> None:
        self.id = session_id
        self.phase = Phase.UNKNOWN
        self.out: list[Frame] = []
        self.peer_name = ""
        self.why = ""  # it ended
        self.dialect: Dialect | None = None
        self._dialled = dialled
        self._name = name
        self._binary = binary
        self._max_message = max_message
        self._bad = 0

    def begin(self, dialect: str) -> None:
        """Its dialect is known: by subprotocol, by option, or by its first frame."""
        if self.phase is not Phase.UNKNOWN:
            return
        self.dialect = self._make(dialect)
        self._move(Told.NAMED)
        if self.dialect.greets:
            self._say(self.dialect.write_control(Hello("" if self._dialled else self.id, self._name)))
        if not self.dialect.greets or (dialect == FASTAPI_RPC and not self._dialled):
            self._move(Told.HEARD)

    def end(self, why: str) -> None:
        if self.phase is not Phase.CLOSED:
            self.why = why
            self._move(Told.ENDED)

    def receive(self, frame: Frame) -> Sequence[Message | Fact]:
        """What a frame means for the shell. A frame that cannot be read is answered, and harms nothing else."""
        if self.phase is Phase.UNKNOWN:
            self.begin(told_by_first_frame(frame))
        dialect = self.dialect
        if dialect is None or self.phase is Phase.CLOSED:
            return ()
        try:
            incoming = dialect.read(frame)
        except BadFrame as error:
            return self._refuse(error)
        self._bad = 0
        if self.phase is Phase.OPEN and len(incoming) == 1 and type(incoming[0]) is Message:
            return incoming  # type: ignore[return-value]  # nearly always
        return [each for item in incoming for each in self._take(item)]

    def write(self, message: Message) -> Frame | None:
        """Raises `UsageError` for what cannot be said."""
        assert self.dialect is not None  # open
        return self.dialect.write(message)

    def _take(self, item: object) -> Sequence[Message | Fact]:
        if self.phase is Phase.CLOSED:
            return ()
        if isinstance(item, Hello):
            self._greeted(item)
            return ()
        if self.phase is not Phase.OPEN and not isinstance(self.dialect, Native):
            self._move(Told.HEARD)  # those programs call before they greet, or never greet
        if self.phase is not Phase.OPEN:
            self.end(f"its first word was not a greeting of {self.dialect.name if self.dialect else 'any dialect'}")
            return ()
        if isinstance(item, Ping):
            assert self.dialect is not None
            self._say(self.dialect.write_control(Pong(item.token)))
            return ()
        return (item,) if isinstance(item, Message) else (Fact(item),)  # type: ignore[arg-type]  # the other controls

    def _greeted(self, hello: Hello) -> None:
        if self.phase is not Phase.GREETING:
            if isinstance(self.dialect, Native):
                self.end("it greeted twice")
            return
        self.peer_name = hello.name
        if self._dialled and hello.id:
            self.id = hello.id
            if isinstance(self.dialect, Native):
                self.dialect.peer = hello.id
        self._move(Told.HEARD)

    def _refuse(self, error: BadFrame) -> Sequence[Message | Fact]:
        """Told, where that can be; in `rpckit.v1` a bad frame is a broken program, and ends the session."""
        self._bad += 1
        if error.answer is not None:
            self._say(error.answer)
        elif isinstance(self.dialect, Native):
            self.end(f"a frame that cannot be read: {error}")
        if self._bad > MAX_BAD_FRAMES:
            self.end(f"{self._bad} frames in a row cannot be read; the last: {error}")
        return [each for item in error.rest for each in self._take(item)]

    def _make(self, dialect: str) -> Dialect:
        if dialect == NATIVE:
            return Native(self.id)
        if dialect == JSONRPC:
            return JsonRpc(self.id, dialled=self._dialled, binary=self._binary, max_message=self._max_message)
        return FastApiRpc(self.id, dialled=self._dialled, binary=self._binary)

    def _say(self, frame: Frame | None) -> None:
        if frame is not None:
            self.out.append(frame)

    def _move(self, told: Told) -> None:
        self.phase = TRANSITIONS[self.phase, told]


def told_by_first_frame(frame: Frame) -> str:
    """The dialect of a peer that named none: an object with `request` or `response` is fastapi_websocket_rpc's."""
    try:
        value = json.loads(frame)
    except (ValueError, RecursionError):
        return JSONRPC
    known = isinstance(value, dict) and "jsonrpc" not in value and ("request" in value or "response" in value)
    return FASTAPI_RPC if known else JSONRPC
