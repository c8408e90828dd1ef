"""What a program publishes, byte by byte: a TCP tap before the broker, and its reading by pamqp.

The reading shares no code with the transport under test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pamqp.frame
from pamqp import body as pamqp_body
from pamqp import commands, header

__all__ = ["Published", "Tap", "tapped"]

PROTOCOL_HEADER = 8  # bytes a client begins with: AMQP 0-0-9-1
CHUNK = 65_536  # bytes
_NAMES = {"message_type": "type"}  # of properties: pamqp's, and everybody else's


@dataclass(frozen=True, slots=True)
class Published:
    """One message as it went over the wire. `header` is the content header; `properties` is its reading."""

    exchange: str
    routing_key: str
    mandatory: bool
    properties: dict[str, Any]
    header: bytes
    body: bytes


class Tap:
    """What clients sent to the broker through it."""

    def __init__(self) -> None:
        self._sent: list[bytearray] = []
        self._tasks: set[asyncio.Task[Any] | None] = set()
        self.url = ""

    def published(self) -> list[Published]:
        """Everything published so far, connection by connection."""
        return [message for sent in self._sent for message in _read(bytes(sent[PROTOCOL_HEADER:]))]

    async def find(self, **wanted: Any) -> Published:
        """The first message whose fields or properties are as wanted, once it is there."""
        async with asyncio.timeout(5):
            while True:
                for message in self.published():
                    if all(_field(message, name) == value for name, value in wanted.items()):
                        return message
                await asyncio.sleep(0.01)

    async def forward(self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self._sent.append(sent := bytearray())
        broker_reader, broker_writer = await asyncio.open_connection(host, port)
        both = _pump(reader, broker_writer, sent), _pump(broker_reader, writer, bytearray())
        await asyncio.gather(*both)
        for end in (writer, broker_writer):
            end.close()
            with suppress(OSError):
                await end.wait_closed()

    async def end(self) -> None:
        await asyncio.gather(*(task for task in self._tasks if task is not None))


@asynccontextmanager
async def tapped(url: str) -> AsyncIterator[Tap]:
    """A tap before the broker at `url`; close every connection through it before the block ends."""
    parts = urlsplit(url)
    tap = Tap()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await tap.forward(parts.hostname or "localhost", parts.port or 5672, reader, writer)

    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    login = f"{parts.username}:{parts.password}@" if parts.username else ""
    tap.url = f"amqp://{login}127.0.0.1:{port}{parts.path}"
    try:
        yield tap
    finally:
        server.close()
        await tap.end()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: bytearray) -> None:
    """Until either side ends; then the other is told."""
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            kept += data
            writer.write(data)
            await writer.drain()
    writer.close()


def _read(data: bytes) -> Iterator[Published]:
    method: commands.Basic.Publish | None = None
    content = b""
    properties: dict[str, Any] = {}
    missing = 0
    body = b""
    while len(data) >= 8:
        size, _, frame = pamqp.frame.unmarshal(data)
        raw, data = data[7 : size - 1], data[size:]
        if isinstance(frame, commands.Basic.Publish):
            method = frame
        elif isinstance(frame, header.ContentHeader):
            content, missing, body = raw, frame.body_size, b""
            properties = {_NAMES.get(name, name): value for name, value in frame.properties if value}
        elif isinstance(frame, pamqp_body.ContentBody):
            body += frame.value
        else:
            continue
        if method is not None and content and len(body) == missing:
            yield Published(method.exchange, method.routing_key, method.mandatory, properties, content, body)
            method, content = None, b""


def _field(message: Published, name: str) -> Any:
    return getattr(message, name) if hasattr(message, name) else message.properties.get(name)
