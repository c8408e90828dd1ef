"""What carries frames: a connection of `websockets`, on either side, with its slow paths taken out.

`process_event` and `send_data` are where `websockets` hands over what its Sans-I/O layer found, and takes what
that wants written. Here frames go straight to the session, without a queue and a task to empty it, and what
is written in one tick leaves as one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.protocol import OPEN

from ._dialect import Frame

__all__ = [
    "CLOSE_S",
    "GOING_AWAY",
    "NORMAL",
    "POLICY",
    "PROTOCOL_ERROR",
    "TOO_BIG",
    "ClientWire",
    "OnFrame",
    "ServerWire",
    "Wire",
    "fitting",
]

log = logging.getLogger(__name__)

CLOSE_S = 2.0  # seconds for a closing handshake
CONVOY = 16  # frames of one tick that leave together: the other side works on them while we write more
NORMAL, GOING_AWAY, PROTOCOL_ERROR, NOT_UTF8, POLICY, TOO_BIG = 1000, 1001, 1002, 1007, 1008, 1009  # RFC 6455, 7.4.1
MAX_REASON = 123  # bytes of a close frame beside its code: RFC 6455, 5.5
MAX_EARLY = 1024  # frames that come before the session is there; far more than one tick brings

OnFrame = Callable[[Frame], None]


class Wire(Protocol):
    """One connection as a session sees it."""

    pings: bool  # it can send ping frames
    last_read: float  # on the loop's clock

    def attach(self, on_frame: OnFrame, on_pong: Callable[[], None]) -> None:
        """Frames go here from now on, those that came before first; `on_pong` is told of answers to `send_ping`."""
        ...

    def write(self, frame: Frame) -> None: ...

    def send_ping(self) -> None: ...

    @property
    def unsent(self) -> int:
        """Bytes written that have not left this process."""
        ...

    def shut(self, code: int, reason: str) -> None:
        """Begin the closing handshake; the connection is gone a moment later."""
        ...

    def abort(self) -> None:
        """Gone now."""
        ...


class _FastConnection(Connection):
    pings = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.last_read = self.loop.time()
        self._on_frame: OnFrame | None = None
        self._on_pong: Callable[[], None] | None = None
        self._early: list[Frame] = []
        self._parts = bytearray()  # of a message that comes in fragments; `websockets` bounds it
        self._text = False
        self._flushing = False
        self._shutting: asyncio.Task[None] | None = None

    def attach(self, on_frame: OnFrame, on_pong: Callable[[], None]) -> None:
        self._on_frame, self._on_pong = on_frame, on_pong
        early, self._early = self._early, []
        for frame in early:
            on_frame(frame)

    def data_received(self, data: bytes) -> None:
        self.last_read = self.loop.time()
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        if type(event) is not WebSocketFrame or event.opcode not in _DATA:
            super().process_event(event)
            if self._on_pong is not None and type(event) is WebSocketFrame and event.opcode is Opcode.PONG:
                self._on_pong()
            return
        if event.opcode is not Opcode.CONT:
            self._text = event.opcode is Opcode.TEXT
            if event.fin:
                self._hand_over(bytes(event.data))
                return
        self._parts += event.data
        if event.fin:
            parts, self._parts = self._parts, bytearray()
            self._hand_over(bytes(parts))

    def _hand_over(self, data: bytes) -> None:
        frame: Frame = data
        if self._text:
            try:
                frame = data.decode()
            except UnicodeDecodeError:
                self.shut(NOT_UTF8, "text that is not UTF-8")
                return
        if self._on_frame is not None:
            self._on_frame(frame)
        elif len(self._early) < MAX_EARLY:
            self._early.append(frame)
        else:
            self.abort()

    def write(self, frame: Frame) -> None:
        if self.protocol.state is not OPEN:
            return
        if type(frame) is str:
            self.protocol.send_text(frame.encode())
        else:
            self.protocol.send_binary(frame)  # type: ignore[arg-type]  # bytes, then
        if not self._flushing:
            self._flushing = True
            self.loop.call_soon(self._flush)
        elif len(self.protocol.writes) >= CONVOY:
            self.send_data()

    def send_ping(self) -> None:
        if self.protocol.state is OPEN:
            self.protocol.send_ping(b"")
            self.send_data()

    @property
    def unsent(self) -> int:
        return self.transport.get_write_buffer_size()

    @property
    def why_closed(self) -> str:
        reason = f": {self.close_reason}" if self.close_reason else ""
        return f"the connection was closed ({self.close_code}{reason})"

    def shut(self, code: int, reason: str) -> None:
        if self._shutting is None:
            self._shutting = self.loop.create_task(self.close(code, fitting(reason)))
            self._shutting.add_done_callback(self._was_shut)

    def _was_shut(self, shutting: asyncio.Task[None]) -> None:
        error = None if shutting.cancelled() else shutting.exception()
        if error is not None:
            log.error("the connection with %s could not be closed: it is cut off", self.remote_address, exc_info=error)
            self.abort()

    def abort(self) -> None:
        self.transport.abort()

    def send_data(self) -> None:
        """As in `websockets`, but that what stands before the end of the data leaves as one write."""
        parts = self.protocol.data_to_send()
        if len(parts) > 1 and all(parts):
            if not self.transport.is_closing():
                self.transport.write(b"".join(parts))
            return
        for part in parts:
            self._send_part(part)

    def _send_part(self, part: bytes) -> None:
        if part:
            if not self.transport.is_closing():
                self.transport.write(part)
        elif self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except (OSError, RuntimeError):  # it is gone already, as connection_lost will tell
                return
        else:
            self.transport.close()

    def _flush(self) -> None:
        self._flushing = False
        self.send_data()


class ClientWire(_FastConnection, ClientConnection):
    pass


class ServerWire(_FastConnection, ServerConnection):
    pass


def fitting(reason: str) -> str:
    """As much of it as a close frame holds."""
    return reason[:MAX_REASON].encode(errors="replace")[:MAX_REASON].decode(errors="ignore")


_DATA = frozenset((Opcode.TEXT, Opcode.BINARY, Opcode.CONT))
