"""A WebSocket of an ASGI server as a wire: what it is told at once, it writes by and by in a task of its own.

Invariant: frames leave in the order they were written; however the connection ends, `run` returns and `why` says why.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from ._dialect import Frame, frame_size
from ._options import WebSocketOptions
from ._wires import TOO_BIG, OnFrame, fitting

__all__ = ["AsgiWire"]

log = logging.getLogger(__name__)


class AsgiWire:
    """A WebSocket of an ASGI server, which can neither send ping frames nor write without waiting."""

    pings = False

    __slots__ = (
        "_aborted",
        "_loop",
        "_max_message",
        "_on_frame",
        "_out",
        "_reading",
        "_unsent",
        "_websocket",
        "_writing",
        "last_read",
        "why",
    )

    def __init__(self, websocket: WebSocket, options: WebSocketOptions) -> None:
        self.why = "the connection was closed"
        self._websocket = websocket
        self._loop = asyncio.get_running_loop()
        self.last_read = self._loop.time()
        self._max_message = options.max_message
        self._on_frame: OnFrame | None = None
        self._out: deque[Frame | tuple[int, str]] = deque()  # bounded by what the link lets wait
        self._unsent = 0
        self._reading: asyncio.Task[Any] | None = None  # the endpoint's own, which ends with the connection
        self._aborted = False
        self._writing: asyncio.Task[None] | None = None

    def attach(self, on_frame: OnFrame, on_pong: Callable[[], None]) -> None:
        self._on_frame = on_frame

    async def run(self) -> None:
        """Until the connection is gone."""
        self._reading = asyncio.current_task()
        try:
            await self._read()
        except asyncio.CancelledError:
            if not self._aborted or self._reading is None or self._reading.uncancel():
                raise
        finally:
            self._aborted = True  # from here on the task is the framework's, and there is nothing left to cut off
            if self._writing is not None:
                self._writing.cancel()
                await asyncio.gather(self._writing, return_exceptions=True)

    async def _read(self) -> None:
        while True:
            event = await self._websocket.receive()
            self.last_read = self._loop.time()
            if event["type"] != "websocket.receive":
                self.why = f"the connection was closed ({event.get('code')})"
                return
            frame: Frame = event["bytes"] if event.get("bytes") is not None else event["text"]
            if frame_size(frame) > self._max_message:
                self.shut(TOO_BIG, f"a message over {self._max_message} bytes")
            elif self._on_frame is not None:
                self._on_frame(frame)

    def write(self, frame: Frame) -> None:
        self._unsent += frame_size(frame)
        self._put(frame)

    def send_ping(self) -> None:
        """Its server does, if anybody."""

    @property
    def unsent(self) -> int:
        return self._unsent

    def shut(self, code: int, reason: str) -> None:
        self._put((code, fitting(reason)))

    def abort(self) -> None:
        if self._reading is not None and not self._aborted:
            self._aborted = True
            self._reading.cancel()

    def _put(self, item: Frame | tuple[int, str]) -> None:
        if self._aborted:
            return
        self._out.append(item)
        if self._writing is None or self._writing.done():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._out:
                item = self._out.popleft()
                if isinstance(item, tuple):
                    await self._websocket.close(*item)
                    self.abort()
                    return
                if isinstance(item, str):
                    await self._websocket.send_text(item)
                else:
                    await self._websocket.send_bytes(item)
                self._unsent -= frame_size(item)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:  # it has just gone, as reading will tell
            self.why = f"the connection was lost while writing: {str(error) or type(error).__name__}"
            self.abort()
        except Exception as error:  # whatever its ASGI server raises: nobody else hears how this task ends
            log.exception("writing to %s failed: the connection is cut off", self._websocket.client)
            self.why = f"writing failed: {error!r:.200}"
            self.abort()
