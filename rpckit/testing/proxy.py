"""A TCP proxy that breaks the network on request: cut, reset, freeze, delay, refuse.

Invariant: every byte is forwarded in order or not at all, and when `async with` ends no task, no connection
and no listening socket of the proxy is left.

A reset is a close with SO_LINGER at zero seconds (tcp(7), socket(7)): the peer sees ECONNRESET, no end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit

from rpckit.testing._ports import LOOPBACK, free_port

__all__ = ["Direction", "FaultProxy"]

Direction = Literal["both", "to_server", "to_client"]

CHUNK = 65_536  # bytes read at once
QUEUED_BYTES = 1024 * 1024  # read and not yet written, each way: then the sender feels the stop
LEAST_BYTES = 256  # that a chunk counts for: a small one costs as much memory
FLUSH_TIMEOUT = 1.0  # seconds for a peer to take the last bytes of a cut connection
LINGER_ZERO = struct.pack("ii", 1, 0)  # on, 0 seconds


class FaultProxy:
    """Listens on a loopback port of its own and forwards to `target_host:target_port`.

    Faults hold for connections that are open and for those to come, until they are lifted.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self.port = free_port()
        self._to_server, self._to_client = _Lane(), _Lane()
        self._links: dict[_Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._accepted = 0

    @property
    def host(self) -> str:
        return LOOPBACK

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._links)

    @property
    def accepted(self) -> int:
        """Accepted since the start."""
        return self._accepted

    @property
    def bytes_to_server(self) -> int:
        return self._to_server.forwarded

    @property
    def bytes_to_client(self) -> int:
        return self._to_client.forwarded

    def url(self, original: str) -> str:
        """`original` with its host and port replaced by the proxy's."""
        parts = urlsplit(original)
        credentials, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{credentials}{at}{LOOPBACK}:{self.port}").geturl()

    def cut(self) -> None:
        """Close every connection: what was forwarded arrives, then both sides see the end.

        One that was still sending may see ECONNRESET in its place, as whenever a peer closes.
        """
        self._end_all(reset=False)

    def reset(self) -> None:
        """Reset every connection: both sides see ECONNRESET."""
        self._end_all(reset=True)

    def freeze(self, direction: Direction = "both") -> None:
        """Stop forwarding. Connections stay open, and new ones are accepted into the same silence."""
        for lane in self._lanes(direction):
            lane.open.clear()

    def thaw(self, direction: Direction = "both") -> None:
        """Forward again; what was held back goes first."""
        for lane in self._lanes(direction):
            lane.open.set()

    def delay(self, seconds: float, direction: Direction = "both") -> None:
        """Hold what comes from now on for `seconds`; 0 ends it. It is latency: it does not limit the rate."""
        for lane in self._lanes(direction):
            lane.delay = seconds

    def cut_after(self, n_bytes: int, direction: Direction = "both") -> None:
        """Cut every connection, once, when exactly `n_bytes` more have gone that way, all together.

        With "both" each way counts for itself and the first to get there cuts.
        """
        for lane in self._lanes(direction):
            lane.allowance = n_bytes

    async def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        server, self._server = self._server, None
        if server:
            server.close()
            await asyncio.sleep(0)  # uvloop closes the socket in its next round

    async def accept(self) -> None:
        """Accept new connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._on_client, LOOPBACK, self.port)

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()
        tasks = list(self._links.values())
        self.cut()
        if tasks:
            await asyncio.wait(tasks, timeout=2 * FLUSH_TIMEOUT)

    def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted += 1
        link = _Link(self, reader, writer)
        task = asyncio.get_running_loop().create_task(link.run(*self._target))
        self._links[link] = task
        task.add_done_callback(lambda _: self._links.pop(link, None))

    def _end_all(self, *, reset: bool) -> None:
        for link, task in self._links.items():
            link.end(reset=reset)
            task.cancel()

    def _lanes(self, direction: Direction) -> list[_Lane]:
        lanes = {"to_server": [self._to_server], "to_client": [self._to_client]}
        return lanes.get(direction, [self._to_server, self._to_client])


class _Lane:
    """What holds for one direction of every connection."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.delay = 0.0
        self.forwarded = 0
        self.allowance: int | None = None  # bytes until the cut

    def take(self, data: bytes) -> bytes:
        """The part of `data` that may pass; counts it."""
        passed = data if self.allowance is None else data[: self.allowance]
        self.forwarded += len(passed)
        if self.allowance is not None:
            self.allowance -= len(passed)
        return passed

    def exhausted(self) -> bool:
        """Whether the cut is due. True once."""
        due = self.allowance == 0
        if due:
            self.allowance = None
        return due


class _Link:
    """One accepted connection and its twin to the target."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = (reader, writer)
        self._writers = [writer]

    async def run(self, host: str, port: int) -> None:
        try:
            server = await asyncio.open_connection(host, port)
            self._writers.append(server[1])
            await self._forward(server)
        except* OSError:  # the target refuses, or a side was reset: the other one sees it close
            pass
        finally:
            await self._close()

    def end(self, *, reset: bool) -> None:
        """Begin to close both sides; the task, cancelled next, does the rest."""
        for writer in self._writers:
            connection = writer.get_extra_info("socket")  # uvloop: None once it is closed
            if reset and connection is not None:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
                writer.transport.abort()
            else:
                writer.close()

    async def _forward(self, server: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
        """Pass bytes both ways until both sides have ended."""
        to_server = _Pipe(self._proxy, self._proxy._to_server, self._client[0], server[1])
        to_client = _Pipe(self._proxy, self._proxy._to_client, server[0], self._client[1])
        async with asyncio.TaskGroup() as group:
            for pipe in (to_server, to_client):
                group.create_task(pipe.fill())
                group.create_task(pipe.drain())

    async def _close(self) -> None:
        for writer in self._writers:
            writer.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT):
                for writer in self._writers:
                    await _closed(writer)
        for writer in self._writers:
            writer.transport.abort()


class _Pipe:
    """One direction of one link: `fill` reads ahead, `drain` writes when the lane lets it."""

    def __init__(
        self, proxy: FaultProxy, lane: _Lane, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy, self._lane = proxy, lane
        self._reader, self._writer = reader, writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()  # (due, data); b"" ends it
        self._queued = 0  # bytes
        self._has_room = asyncio.Event()
        self._has_room.set()

    async def fill(self) -> None:
        """By bytes, and not by chunks: many small ones are delayed for as long as one."""
        now = asyncio.get_running_loop().time
        while data := await self._reader.read(CHUNK):
            self._queue.put_nowait((now() + self._lane.delay, data))
            self._count(data, 1)
            await self._has_room.wait()
        self._queue.put_nowait((now() + self._lane.delay, b""))

    def _count(self, data: bytes, change: int) -> None:
        """change: 1 for one more that is queued, -1 for one less."""
        self._queued += change * max(len(data), LEAST_BYTES)
        if self._queued < QUEUED_BYTES:
            self._has_room.set()
        else:
            self._has_room.clear()

    async def drain(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            due, data = await self._queue.get()
            if (wait := due - now()) > 0:
                await asyncio.sleep(wait)
            await self._lane.open.wait()
            if not data:
                break
            await self._write(data)
            self._count(data, -1)
        if not self._writer.is_closing():
            self._writer.write_eof()

    async def _write(self, data: bytes) -> None:
        self._writer.write(self._lane.take(data))
        if self._lane.exhausted():
            self._proxy.cut()
        await self._writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it ended by a reset; it ended
        await writer.wait_closed()
