"""The floor over Redis: the least a program can do with a socket, and so the measure of everything else there.

The URL's scheme says what requests wait in: `redis+pubsub`, `redis+list` or `redis+stream`. Replies are
published on one channel for each client. Commands are bytes laid by hand, one `%` on a template; the payloads
have one width, so that what comes in is taken apart by one compiled `Struct`. Only a stream's answer is left to
hiredis, since entry ids have no fixed width. The server answers inside `data_received`, and what belongs to
one read or one tick of the loop leaves in one write. Redis is told to keep the replies nobody would look at.
There are no headers, deadlines, counts of receivers, claims or error paths: whatever a usable library adds to
this is what it costs.

RESP3, so that one connection both sends and is pushed to: https://redis.io/docs/latest/develop/reference/protocol-spec/

| key or channel     | type    | lives                                     | deleted by        |
|--------------------|---------|-------------------------------------------|-------------------|
| bench_floor_pubsub | channel | while the server is subscribed            |                   |
| bench_floor_list   | list    | while requests wait                       | the server's pops |
| bench_floor_stream | stream  | with every request, acked and not deleted | the next server   |
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from itertools import count
from secrets import token_hex
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import hiredis

from ._redis_url import kind_and_url

__all__ = ["connect", "serve"]

PUBSUB, LIST, STREAM = "pubsub", "list", "stream"
ID_SIZE, INBOX_SIZE, NUMBER_SIZE = 8, 15, 8  # bytes: a counter in hexadecimal, a channel, decimal digits
REQUEST = struct.Struct(f"{ID_SIZE}s{INBOX_SIZE}s{NUMBER_SIZE}s")
PORT = 6379
MOST = 1000  # requests taken at once


def command(*words: bytes | str | int) -> bytes:
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(bulk(part) for part in parts)


def bulk(data: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(data), data)


def message(channel: bytes, size: int) -> tuple[int, int]:
    """Where the payload of a message pushed from `channel` begins, and how long the message is."""
    whole = b">3\r\n" + bulk(b"message") + bulk(channel) + bulk(bytes(size))
    return whole.index(bytes(size)), len(whole)


SILENT = command("CLIENT", "REPLY", "OFF")  # what is pushed still comes
SKIP = command("CLIENT", "REPLY", "SKIP")  # no reply to this nor to the next command
# PUBLISH to an inbox: id and number. The payload's hole comes last in each template.
REPLY = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%%b\r\n$%d\r\n%%b%%08d\r\n" % (INBOX_SIZE, ID_SIZE + NUMBER_SIZE)
PAYLOAD = b"$%d\r\n%%08x%%b%%08d\r\n" % REQUEST.size


class FloorProtocol(asyncio.Protocol):
    """A connection: hiredis reads what it is set up with, `take` what comes from then on."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._answers: list[asyncio.Future[Any]] = []
        self._running = False
        self._rest = b""
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.out = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()

    async def ask(self, *words: bytes | str | int) -> Any:
        """The reply to a command, before `run`."""
        answer = self._loop.create_future()
        self._answers.append(answer)
        self.out.write(command(*words))
        return await answer

    def run(self, first: bytes) -> None:
        self._running = True
        self.out.write(first)

    def data_received(self, data: bytes) -> None:
        if self._running:
            self.take(self._rest + data if self._rest else data)
            return
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            answer = self._answers.pop(0)
            if isinstance(reply, hiredis.ReplyError):
                answer.set_exception(reply)
            else:
                answer.set_result(reply)

    def take(self, data: bytes) -> None:
        """Handle what is whole; the rest is for the next time."""
        raise NotImplementedError


class Client(FloorProtocol):
    """Settles the futures of the replies in a read; requests of one tick leave in one write."""

    async def start(self, kind: str) -> None:
        inbox = token_hex(INBOX_SIZE // 2 + 1)[:INBOX_SIZE].encode()
        await self.ask("SUBSCRIBE", inbox)
        at, size = message(inbox, ID_SIZE + NUMBER_SIZE)
        self._reply = struct.Struct(f"{at}x{ID_SIZE}s{NUMBER_SIZE}s2x")
        assert self._reply.size == size
        self._futures: dict[bytes, asyncio.Future[int]] = {}
        self._requests: list[bytes] = []
        self._ids = count()
        self._head, self._each = requests(kind)
        self._inbox = inbox
        self.run(SILENT)

    def call(self, n: int) -> Awaitable[int]:
        number = next(self._ids)
        future = self._futures[b"%08x" % number] = self._loop.create_future()
        if not self._requests:
            self._loop.call_soon(self._flush)
        self._requests.append(self._each % (number, self._inbox, n))
        return future

    def take(self, data: bytes) -> None:
        futures, whole = self._futures, len(data) - len(data) % self._reply.size
        for correlation_id, number in self._reply.iter_unpack(memoryview(data)[:whole]):
            futures.pop(correlation_id).set_result(int(number))
        self._rest = data[whole:]

    def _flush(self) -> None:
        requests = self._requests
        if self._head:
            requests.insert(0, self._head % (len(requests) + 2))
        self.out.write(b"".join(requests))
        requests.clear()


def requests(kind: str) -> tuple[bytes, bytes]:
    """What stands once before the requests of a tick, and the template of each; a list takes all in one command."""
    key = bulk(key_of(kind))
    if kind == PUBSUB:
        return b"", b"*3\r\n$7\r\nPUBLISH\r\n" + key + PAYLOAD
    if kind == STREAM:
        return b"", b"*5\r\n$4\r\nXADD\r\n" + key + b"$1\r\n*\r\n$1\r\nd\r\n" + PAYLOAD
    return b"*%d\r\n$5\r\nRPUSH\r\n" + key, PAYLOAD


def key_of(kind: str) -> bytes:
    return f"bench_floor_{kind}".encode()


class Server(FloorProtocol):
    async def start(self) -> None:
        """From now on requests are answered."""
        raise NotImplementedError


class ChannelServer(Server):
    """Answers every request of a read in one write."""

    async def start(self) -> None:
        channel = key_of(PUBSUB)
        await self.ask("SUBSCRIBE", channel)
        at, size = message(channel, REQUEST.size)
        self._request = struct.Struct(f"{at}x{REQUEST.format}2x")
        assert self._request.size == size
        self.run(SILENT)

    def take(self, data: bytes) -> None:
        whole = len(data) - len(data) % self._request.size
        found = self._request.iter_unpack(memoryview(data)[:whole])
        self.out.write(b"".join([REPLY % (inbox, id_, int(number) + 1) for id_, inbox, number in found]))
        self._rest = data[whole:]


class ListServer(Server):
    """The replies to one pop and the next pop leave in one write."""

    head = b"*2\r\n" + bulk(key_of(LIST)) + b"*"  # then the number of items
    item = struct.Struct(f"5x{REQUEST.format}2x")
    pop = command("BLMPOP", 0, 1, key_of(LIST), "LEFT", "COUNT", MOST)
    reply = SKIP + REPLY

    async def start(self) -> None:
        await self.ask("DEL", key_of(LIST))
        self.run(self.pop)

    def take(self, data: bytes) -> None:
        begin = len(self.head)
        items = data.find(b"\r\n", begin) + 2
        end = items + self.item.size * int(data[begin : items - 2]) if items > 1 else 0
        if not 0 < end <= len(data):
            self._rest = data
            return
        reply = self.reply
        found = self.item.iter_unpack(memoryview(data)[items:end])
        replies = [reply % (inbox, id_, int(number) + 1) for id_, inbox, number in found]
        self.out.write(b"".join(replies) + self.pop)
        self._rest = b""  # nothing comes after the answer to the one pop


class StreamServer(Server):
    """The replies to one read, its acks as one command and the next read leave in one write."""

    group = b"bench"
    read = command(
        *("XREADGROUP", "GROUP", group, "c", "COUNT", MOST, "BLOCK", 0, "STREAMS", key_of(STREAM), ">"),
    )
    ack = SKIP + b"*%d\r\n$4\r\nXACK\r\n" + bulk(key_of(STREAM)) + bulk(group)
    reply = SKIP + REPLY

    async def start(self) -> None:
        await self.ask("DEL", key_of(STREAM))
        await self.ask("XGROUP", "CREATE", key_of(STREAM), self.group, "$", "MKSTREAM")
        self.run(self.read)

    def take(self, data: bytes) -> None:
        self._reader.feed(data)
        answer = self._reader.gets()
        if answer is False:
            return
        out, reply, unpack = [], self.reply, REQUEST.unpack
        (entries,) = answer.values()
        for _, (_, payload) in entries:
            id_, inbox, number = unpack(payload)
            out.append(reply % (inbox, id_, int(number) + 1))
        out.append(self.ack % (3 + len(entries)))
        out += [b"$%d\r\n%b\r\n" % (len(entry), entry) for entry, _ in entries]
        out.append(self.read)
        self.out.write(b"".join(out))


SERVERS: dict[str, type[Server]] = {PUBSUB: ChannelServer, LIST: ListServer, STREAM: StreamServer}


class FloorCaller:
    def __init__(self, protocol: Client) -> None:
        self._protocol = protocol
        self.call = protocol.call

    async def close(self) -> None:
        self._protocol.out.close()
        await self._protocol.lost.wait()


async def dial(protocol: FloorProtocol, url: str) -> None:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    tls = parts.scheme == "rediss"
    await loop.create_connection(lambda: protocol, parts.hostname or "localhost", parts.port or PORT, ssl=tls or None)
    known = ("AUTH", unquote(parts.username or "default"), unquote(parts.password)) if parts.password else ()
    await protocol.ask("HELLO", 3, *known)


async def serve(url: str, ready: Callable[[], None]) -> None:
    kind, plain = kind_and_url(url)
    protocol = SERVERS[kind]()
    await dial(protocol, plain)
    await protocol.start()
    ready()
    await protocol.lost.wait()


async def connect(url: str) -> FloorCaller:
    kind, plain = kind_and_url(url)
    protocol = Client()
    await dial(protocol, plain)
    await protocol.start(kind)
    return FloorCaller(protocol)
