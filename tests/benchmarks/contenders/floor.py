"""The floor: the least a program can do on the same driver, and so the measure of everything else.

The driver makes the handshake and the declarations; from then on each frame is laid by hand. All ids and
numbers have a fixed width, so that every delivery has one size and one layout: a read is taken apart by one
compiled `Struct`, and a message is one `%` on a template. The server answers inside `data_received`; what
belongs to one read or one tick of the loop leaves in one write. There are no headers, deadlines, confirms,
acks, mandatory flags or error paths: whatever a usable library adds to this is what it costs.

Layouts: AMQP 0-9-1, 2.3.5 (frames) and 4.2.6 (content).
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from secrets import token_hex
from typing import Any

import aioamqp
from aioamqp.protocol import AmqpProtocol

__all__ = ["connect", "serve"]

QUEUE = "bench_floor"
TAG = "f"  # consumer tag, repeated by the broker in each delivery
HEARTBEAT = 3600  # seconds: no timer of the driver falls due within a run. With 0 its heartbeat task spins.

# Holes in the templates; their lengths are the widths on the wire.
ID = b"<corrid>"  # correlation id: a counter in hexadecimal
NUMBER = b"<number>"  # the body: eight decimal digits
REPLY_TO = b"<reply-to-name>"

METHOD, HEADER, BODY = 1, 2, 3  # frame types
BASIC, PUBLISH, DELIVER = 60, 40, 60
CHANNEL = 1
PREFIX_SIZE = 11  # frame header (7), class (2), method (2): tells a delivery from any other frame
HAS_CORRELATION_ID, HAS_REPLY_TO = 1 << 10, 1 << 9  # property flags


def frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, CHANNEL, len(payload)) + payload + b"\xce"


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def content(reply_to: bytes) -> bytes:
    """Header and body frame of a message; an empty `reply_to` means a reply, which has none."""
    flags = HAS_CORRELATION_ID | (HAS_REPLY_TO if reply_to else 0)
    properties = short(ID) + (short(reply_to) if reply_to else b"")
    return frame(HEADER, struct.pack(">HHQH", BASIC, 0, len(NUMBER), flags) + properties) + frame(BODY, NUMBER)


def publication(routing_key: bytes, reply_to: bytes = b"") -> bytes:
    """A template to be filled with `%`: everything but the holes is laid out once."""
    method = struct.pack(">HHH", BASIC, PUBLISH, 0) + short(b"") + short(routing_key) + b"\0"
    raw = frame(METHOD, method) + content(reply_to)
    return raw.replace(b"%", b"%%").replace(ID, b"%b").replace(REPLY_TO, b"%b").replace(NUMBER, b"%08d")


def delivery(routing_key: bytes, reply_to: bytes = b"") -> bytes:
    """A delivery as the broker will send it, with the holes in their places."""
    method = struct.pack(">HH", BASIC, DELIVER) + short(TAG.encode()) + bytes(9) + short(b"") + short(routing_key)
    return frame(METHOD, method) + content(reply_to)


def layout(sample: bytes, *holes: bytes) -> struct.Struct:
    """The struct that yields the prefix and the holes of a delivery laid out like `sample`."""
    fields, at = f">{PREFIX_SIZE}s", PREFIX_SIZE
    for hole in holes:
        start = sample.index(hole, at)
        fields += f"{start - at}x{len(hole)}s"
        at = start + len(hole)
    return struct.Struct(f"{fields}{len(sample) - at}x")


class FloorProtocol(AmqpProtocol):  # type: ignore[misc]
    """Takes deliveries straight from the bytes received and hands every other frame to the driver."""

    _unpack: struct.Struct | None = None
    _prefix = b""
    _rest = b""

    def connection_made(self, transport: Any) -> None:
        self.out = transport
        super().connection_made(transport)

    def expect(self, sample: bytes, *holes: bytes) -> None:
        """From now on deliveries look like `sample`."""
        self._unpack = layout(sample, *holes)
        self._prefix = sample[:PREFIX_SIZE]

    def data_received(self, data: bytes) -> None:
        if self._unpack is None:
            super().data_received(data)
            return
        if self._rest:
            data = self._rest + data
        size, end, at = self._unpack.size, len(data), 0
        while True:
            whole = end - (end - at) % size
            at += size * self.take(self._unpack.iter_unpack(memoryview(data)[at:whole]), self._prefix)
            foreign = self._foreign(data, at)
            if not foreign:
                break
            super().data_received(foreign)
            at += len(foreign)
        self._rest = data[at:]

    def take(self, deliveries: Iterator[tuple[bytes, ...]], prefix: bytes) -> int:
        """Handle deliveries up to the first one with another prefix; return how many they were."""
        raise NotImplementedError

    def _foreign(self, data: bytes, at: int) -> bytes:
        """The whole frame at `at` that is no delivery; empty when it is one or has not all arrived."""
        if len(data) - at < 7 or data.startswith(self._prefix, at):
            return b""
        size = int.from_bytes(data[at + 3 : at + 7], "big") + 8
        return data[at : at + size] if len(data) - at >= size else b""


class ServerProtocol(FloorProtocol):
    """Answers every request of a read in one write."""

    reply = publication(REPLY_TO)

    def take(self, deliveries: Iterator[tuple[bytes, ...]], prefix: bytes) -> int:
        reply = self.reply
        replies = []
        for found, correlation_id, reply_to, body in deliveries:
            if found != prefix:
                break
            replies.append(reply % (reply_to, correlation_id, int(body) + 1))
        if replies:
            self.out.write(b"".join(replies))
        return len(replies)


class ClientProtocol(FloorProtocol):
    """Settles the futures of the replies in a read; requests of one tick leave in one write."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._loop = asyncio.get_running_loop()
        self._futures: dict[bytes, asyncio.Future[int]] = {}
        self._requests: list[bytes] = []
        self._ids = map("%08x".__mod__, count())

    def call_from(self, reply_to: bytes) -> None:
        self._template = publication(QUEUE.encode(), reply_to)

    def call(self, n: int) -> Awaitable[int]:
        correlation_id = next(self._ids).encode()
        future = self._futures[correlation_id] = self._loop.create_future()
        if not self._requests:
            self._loop.call_soon(self._flush)
        self._requests.append(self._template % (correlation_id, n))
        return future

    def take(self, deliveries: Iterator[tuple[bytes, ...]], prefix: bytes) -> int:
        futures, taken = self._futures, 0
        for found, correlation_id, body in deliveries:
            if found != prefix:
                break
            futures.pop(correlation_id).set_result(int(body))
            taken += 1
        return taken

    def _flush(self) -> None:
        self.out.write(b"".join(self._requests))
        self._requests.clear()


class FloorCaller:
    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self.call = protocol.call

    async def close(self) -> None:
        await self._protocol.close(timeout=2)


async def serve(url: str, ready: Callable[[], None]) -> None:
    _, protocol = await aioamqp.from_url(url, protocol_factory=ServerProtocol, heartbeat=HEARTBEAT)
    channel = await protocol.channel()
    await channel.queue_declare(QUEUE, auto_delete=True)
    protocol.expect(delivery(QUEUE.encode(), REPLY_TO), ID, REPLY_TO, NUMBER)
    await channel.basic_consume(_unused, QUEUE, consumer_tag=TAG, no_ack=True)
    ready()
    await protocol.wait_closed()


async def connect(url: str) -> FloorCaller:
    _, protocol = await aioamqp.from_url(url, protocol_factory=ClientProtocol, heartbeat=HEARTBEAT)
    channel = await protocol.channel()
    reply_to = token_hex(len(REPLY_TO) // 2 + 1)[: len(REPLY_TO)]
    await channel.queue_declare(reply_to, exclusive=True)
    protocol.expect(delivery(reply_to.encode()), ID, NUMBER)
    protocol.call_from(reply_to.encode())
    await channel.basic_consume(_unused, reply_to, consumer_tag=TAG, no_ack=True)
    return FloorCaller(protocol)


async def _unused(*_: object) -> None:
    """The driver wants a callback; no delivery ever reaches it."""
