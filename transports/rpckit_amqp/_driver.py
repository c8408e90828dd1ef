"""aioamqp, with its slow path bypassed and its traps closed. The only module that touches the driver's inside.

`FastProtocol` scans frames straight from the bytes received: deliveries, confirms and returns go to
the channel at once, every other frame goes on to the driver. However the connection ends, it ends in
`transport.abort()` and one call of `on_lost`.

aioamqp has had no release since 2022; the names leaned on here are checked at import.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import aioamqp
import pamqp.frame
from aioamqp import exceptions as driver_errors
from aioamqp.channel import Channel
from aioamqp.protocol import CLOSED, CONNECTING, AmqpProtocol

from rpckit.readbuffer import ReadBuffer
from rpckit.tickwriter import TickWriter

from ._frames import (
    BODY,
    FRAME_END,
    FRAME_HEAD,
    HEAD_SIZE,
    HEADER,
    HEADER_START,
    HEARTBEAT_FRAME,
    METHOD,
    OVERHEAD,
    TAG_BIT,
    Properties,
    ReturnMethod,
    parse_ack,
    parse_properties,
    parse_return,
)

__all__ = ["DRIVER_ERRORS", "FRAME_MAX", "CloseReason", "FastChannel", "FastProtocol"]

log = logging.getLogger(__name__)

CHANNEL_MAX = 64  # far more than the three we open
CONVOY = 24  # messages of one tick that leave together: the broker divides them anew, so counting calls gains nothing
FRAME_MAX = 131_072  # bytes; RabbitMQ's default, and an upper bound for what we accept

_DELIVER, _RETURN, _ACK, _NACK = (
    b"\x00\x3c\x00\x3c",
    b"\x00\x3c\x00\x32",
    b"\x00\x3c\x00\x50",
    b"\x00\x3c\x00\x78",
)
_CONFIRMS = (_ACK, _NACK)
_BLOCKED, _UNBLOCKED = b"\x00\x0a\x00\x3c", b"\x00\x0a\x00\x3d"
_read_head = FRAME_HEAD.unpack_from  # looked up once, not for each frame

# Everything the driver has been seen to raise for one and the same event: the connection is gone.
DRIVER_ERRORS = (
    driver_errors.AioamqpException,
    OSError,
    EOFError,
    AttributeError,
    TypeError,
    AssertionError,
)


class NotAmqpError(ValueError):
    """Something else than AMQP came in."""


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection or a channel ended; code 0 when the broker gave none."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}" if self.code else self.text


# consumer tag, delivery tag, whether it is redelivered, exchange and routing key as they came
Deliver = tuple[bytes, int, bool, bytes]


@dataclass(slots=True)
class _Content:
    """A message whose frames are still coming in."""

    method: Deliver | ReturnMethod
    property_list: bytes = b""
    missing: int = 0
    chunks: list[bytes] = field(default_factory=list)


class FastChannel(Channel):  # type: ignore[misc]  # the driver has no types
    """A channel whose deliveries, confirms and returns go to plain callbacks."""

    def __init__(self, protocol: FastProtocol, channel_id: int, **kwargs: Any) -> None:
        super().__init__(protocol, channel_id, **kwargs)
        # a delivery by where its frames begin, its header frame begins and the bytes end: where it ends, or 0
        self.take: Callable[[bytes, int, int, int], int] = _not_taken
        # the parts of `Deliver`, its property list, and its body
        self.on_deliver: Callable[[bytes, int, bool, bytes, bytes, bytes], None] = _ignore
        self.on_confirm: Callable[[int, bool, bool], None] = _ignore
        self.on_return: Callable[[ReturnMethod, Properties], None] = _ignore
        self.on_consumer_cancelled: Callable[[str], None] = _ignore
        self.on_closed: Callable[[CloseReason], None] = _ignore
        self.close_reason: CloseReason | None = None
        self.content: _Content | None = None
        self._closing = False

    def _get_waiter(self, rpc_name: str) -> asyncio.Future[Any]:
        """Whoever asked may have given up in this turn of the loop; the driver would answer even so, and fail."""
        waiter: asyncio.Future[Any] = super()._get_waiter(rpc_name)
        return self.protocol.loop.create_future() if waiter.done() else waiter

    @property
    def usable(self) -> bool:
        """Whether something may be written to it."""
        return self.close_reason is None and not self._closing

    async def server_channel_close(self, frame: Any) -> None:
        """What is written from here on comes behind the close-ok, which may have to wait for room to be sent."""
        self._closing = True
        await super().server_channel_close(frame)

    async def server_basic_cancel(self, frame: Any) -> None:
        self.on_consumer_cancelled(frame.consumer_tag)

    def connection_closed(
        self,
        server_code: int | None = None,
        server_reason: str | None = None,
        exception: BaseException | None = None,
    ) -> None:
        """The channel is gone, alone or with its connection: everything that waits on it is told, once."""
        if self.close_reason is not None:
            return
        self.close_reason = CloseReason(server_code or 0, server_reason or "the connection was lost")
        super().connection_closed(server_code, server_reason, exception)
        for waiter in self._futures.values():  # asyncio complains of those whose asker was cancelled meanwhile
            if not waiter.cancelled():
                waiter.exception()
        self.on_closed(self.close_reason)

    def method_frame(self, payload: bytes) -> bool:
        """Take a method frame off the slow path; False for the driver's own."""
        kind = payload[:4]
        if kind == _DELIVER:
            self.content = _Content(_read_deliver(payload, 0, len(payload)))
        elif kind in _CONFIRMS:
            tag, multiple = parse_ack(payload)
            self.on_confirm(tag, multiple, kind == _ACK)
        elif kind == _RETURN:
            self.content = _Content(parse_return(payload))
        else:
            return False
        return True

    def header_frame(self, payload: bytes) -> None:
        content = self.content
        if content is None:
            raise ValueError("a header frame without its method")
        content.missing = int.from_bytes(payload[4:12], "big")
        content.property_list = payload[12:]
        if not content.missing:
            self._complete(content)

    def body_frame(self, payload: bytes) -> None:
        content = self.content
        if content is None:
            raise ValueError("a body frame without its method")
        content.chunks.append(payload)
        content.missing -= len(payload)
        if content.missing <= 0:
            self._complete(content)

    def _complete(self, content: _Content) -> None:
        self.content = None
        method, chunks = content.method, content.chunks
        if isinstance(method, tuple):
            self.on_deliver(*method, content.property_list, chunks[0] if len(chunks) == 1 else b"".join(chunks))
            return
        try:
            properties = parse_properties(content.property_list)
        except Exception as error:  # any property of a stranger's may be undecodable, in any way
            log.warning("a returned message whose header cannot be decoded was passed over: %s", error)
        else:
            self.on_return(method, properties)


class FastProtocol(TickWriter, AmqpProtocol, ReadBuffer):  # type: ignore[misc]  # the driver has no types
    """One connection. Made by `aioamqp.connect(protocol_factory=…)`, which does handshake and tuning."""

    CHANNEL_FACTORY = FastChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, convoy=CONVOY, **kwargs)
        self.on_lost: Callable[[CloseReason], None] = _ignore
        self.on_blocked: Callable[[str | None], None] = _ignore
        self.close_reason: CloseReason | None = None
        self.last_write = self.loop.time()
        self._rest = b""
        self.loop_ends = False

    def _hand_over(self, data: bytes) -> None:
        self.last_write = self.loop.time()
        super()._hand_over(data)

    def beat(self) -> None:
        self.write(HEARTBEAT_FRAME)

    # -- life -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._stream_writer.__class__ = _QuietWriter
        self._stream_writer.write = self.write  # the driver's own frames keep their place among ours

    def abort(self, why: str, code: int = 0) -> None:
        """End the connection now. Safe from anywhere, any number of times; the first reason stays."""
        self.close_reason = self.close_reason or CloseReason(code, why)
        self.stop_now.set()
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._end_writing():
            return
        reason = self.close_reason or CloseReason(0, f"the connection was lost ({exc or 'closed by the other side'})")
        self.close_reason = reason
        self.stop_now.set()
        self._close_channels(reason.code, reason.text)
        super().connection_lost(None)  # the reason is told by on_lost, not logged once more by the driver
        self.on_lost(reason)

    async def tune(self, frame: Any) -> None:
        """The lower of both sides' limits, where 0 is none: the driver would answer with ours alone."""
        await super().tune(frame)
        ours = self.connection_tunning
        ours["frame_max"] = min(frame.frame_max or FRAME_MAX, FRAME_MAX)
        ours["channel_max"] = min(frame.channel_max or CHANNEL_MAX, CHANNEL_MAX)

    async def server_close(self, frame: Any) -> None:
        """The broker closes the connection: keep what it says, confirm, and go."""
        self.close_reason = CloseReason(frame.reply_code, frame.reply_text)
        await self._close_ok()
        self._flush()
        self.abort(frame.reply_text, frame.reply_code)

    async def run(self) -> None:
        """The driver's reader. However it ends, the connection ends."""
        why = "the reader ended"
        try:
            while not self.stop_now.is_set():
                await self.dispatch_frame()
        except driver_errors.AmqpClosedConnection:
            why = "the connection was closed by the other side"
        except asyncio.CancelledError:  # only a loop that ends cancels it
            self.loop_ends = True
            why = "its event loop is ending"
            raise
        except Exception as error:  # the driver raises anything on a frame it does not expect
            log.exception("a frame could not be handled; the connection is given up")
            why = f"a frame could not be handled: {error}"
        finally:
            self.abort(why)

    def _heartbeat_timer_recv_reset(self) -> None:
        """The driver's timers are replaced by the connection's own watchdog."""

    def _heartbeat_timer_send_reset(self) -> None:
        """See `_heartbeat_timer_recv_reset`."""

    # -- receiving ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """All complete frames of what came in; callbacks are plain calls that return at once."""
        self.heard()
        buffer = self._rest + data if self._rest else bytes(data)
        position, end = 0, len(buffer)
        try:
            while end - position >= OVERHEAD:
                kind, channel_id, size = _read_head(buffer, position)
                stop = position + OVERHEAD + size
                if stop > end:
                    self._check_head(kind, size)
                    break
                if buffer[stop - 1] != FRAME_END:
                    raise ValueError("a frame without its end")
                if kind == METHOD and buffer.startswith(_DELIVER, position + HEAD_SIZE):
                    position = self._take_delivery(channel_id, buffer, position, stop, end)
                else:
                    self._take_frame(kind, channel_id, buffer, position, stop)
                    position = stop
        except Exception as error:  # not AMQP, or a callback of ours failed: either way the stream is lost
            told = self.state == CONNECTING and isinstance(error, NotAmqpError)  # to who connects
            if self.state != CLOSED and self.close_reason is None and not told:
                log.exception("what came in could not be read; the connection is given up")
            self.abort(f"what came in could not be read as AMQP: {error}")
            return
        self._rest = buffer[position:] if position < end else b""

    def _take_delivery(self, channel_id: int, buffer: bytes, position: int, header: int, end: int) -> int:
        """A delivery whose frames have all come, one after the other, as nearly all do; returns where it ends.

        Anything else goes frame by frame.
        """
        channel: FastChannel | None = self.channels.get(channel_id)
        if channel is not None and (stop := channel.take(buffer, position, header, end)):
            return stop
        if channel is not None and end - header >= HEADER_START.size:
            kind, of, size, whole = HEADER_START.unpack_from(buffer, header)
            body = header + OVERHEAD + size
            stop = int(body + OVERHEAD + whole)
            if stop <= end and kind == HEADER and of == channel_id and buffer[body - 1] == FRAME_END:
                kind, of, size = _read_head(buffer, body)
                if size == whole and kind == BODY and of == channel_id and buffer[stop - 1] == FRAME_END:
                    channel.on_deliver(
                        *_read_deliver(buffer, position + HEAD_SIZE, header - 1),
                        buffer[header + HEADER_START.size : body - 1],
                        buffer[body + HEAD_SIZE : stop - 1],
                    )
                    return stop
        self._take_frame(METHOD, channel_id, buffer, position, header)
        return header

    def _check_head(self, kind: int, size: int) -> None:
        if kind not in (METHOD, HEADER, BODY, 8) or size > FRAME_MAX:
            raise NotAmqpError("this is not an AMQP 0-9-1 server")

    def _take_frame(self, kind: int, channel_id: int, buffer: bytes, position: int, stop: int) -> None:
        payload = buffer[position + HEAD_SIZE : stop - 1]
        channel = self.channels.get(channel_id)
        if channel is None:
            if channel_id == 0 and kind == METHOD and self._connection_method(payload):
                return
            if kind in (HEADER, BODY):
                return  # of a channel that is gone
        elif kind == METHOD:
            if channel.method_frame(payload):
                return
        elif kind == HEADER:
            channel.header_frame(payload)
            return
        elif kind == BODY:
            channel.body_frame(payload)
            return
        super().data_received(buffer[position:stop])

    def _connection_method(self, payload: bytes) -> bool:
        if payload[:4] == _BLOCKED:
            self.on_blocked(payload[5 : 5 + payload[4]].decode(errors="replace"))
        elif payload[:4] == _UNBLOCKED:
            self.on_blocked(None)
        else:
            return False
        return True

    async def get_frame(self) -> tuple[int, Any]:
        """A whole frame first, then decode: a frame that cannot be decoded must not put the reader out of step."""
        reader = self._stream_reader
        if reader is None:
            raise driver_errors.AmqpClosedConnection
        try:
            head = await reader.readexactly(HEAD_SIZE)
            rest = await reader.readexactly(FRAME_HEAD.unpack(head)[2] + 1)
        except (asyncio.IncompleteReadError, OSError) as error:
            raise driver_errors.AmqpClosedConnection from error
        _, channel_id, frame = pamqp.frame.unmarshal(head + rest)
        return channel_id, frame


class _QuietWriter(asyncio.StreamWriter):
    """The driver's, but does not complain when it is collected: of a connection left open its transport does.

    uvloop closes a connection that is cancelled as it is made, and its transport says that it is open even so.
    """

    def __del__(self) -> None:
        """Not asyncio's, which asks the transport."""


def _read_deliver(payload: bytes, start: int, end: int) -> Deliver:
    """Of a method frame whose class id stands at `start`."""
    consumer_tag = start + 5
    tag_at = consumer_tag + payload[consumer_tag - 1]
    tag, redelivered = TAG_BIT.unpack_from(payload, tag_at)
    return payload[consumer_tag:tag_at], tag, redelivered & 1 == 1, payload[tag_at + TAG_BIT.size : end]


def _ignore(*_: object) -> None:
    """For what nobody listens to yet."""


def _not_taken(*_: object) -> int:
    return 0


def _check_driver() -> None:
    """The driver's names that this module leans on. Raises `ImportError` naming what is missing."""
    wanted = {
        AmqpProtocol: "CHANNEL_FACTORY _close_channels _close_ok _heartbeat_timer_recv_reset"
        " dispatch_frame get_frame run tune",
        Channel: "_get_waiter connection_closed server_basic_cancel server_channel_close queue_declare basic_consume"
        " basic_cancel confirm_select",
        aioamqp: "connect",
    }
    for owner, names in wanted.items():
        missing = [name for name in names.split() if not hasattr(owner, name)]
        if missing:
            raise ImportError(f"aioamqp has no {', '.join(missing)}; rpckit needs aioamqp>=0.15,<0.16")


_check_driver()
