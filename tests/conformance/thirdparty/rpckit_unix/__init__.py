"""rpckit over Unix sockets, without a broker: processes meet in the directory of `unix:///run/mine`.

| path                       | what                                             | lifetime      |
|----------------------------|--------------------------------------------------|---------------|
| `<process>`                | the socket a process listens on                  | its transport |
| `<hash of name>/<process>` | it serves that address, or listens to that topic | its receiver  |

A connection carries one message, a msgpack array, and one byte back when it was taken. Nobody keeps a
message: what a killed process had is lost, as `CAPABILITIES` says.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sized
from contextlib import suppress
from dataclasses import fields
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import msgpack

from rpckit.errors import NoResponder, NotSent, UsageError
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.transport import (
    Capabilities,
    OnBegun,
    OnDelivery,
    OnGone,
    OnMessage,
    OnState,
    OnUndelivered,
    State,
    TransportOptions,
)
from rpckit.url import Url

__all__ = ["UnixTransport"]

MAX_BODY = 4 * 1024 * 1024  # bytes
MAX_CONNECTIONS = 64  # at once and outgoing; more wait
BACKLOG = 1024  # connections that wait to be accepted
FLUSH_S = 2.0  # seconds for the last replies when closing
REQUEST, INBOX, EVENT, UNDELIVERED = range(4)
FIELDS = [field.name for field in fields(Message)]
CAPABILITIES = Capabilities(
    name="unix",
    settles=False,
    redelivers=False,
    keeps_unbegun=False,
    balances=True,
    persists=False,
    claims=False,
    queue_wait=False,
    knows_no_responder=True,
    knows_caller_gone=True,
    orders=False,
    max_body=MAX_BODY,
    event_groups=False,
    event_patterns=False,
)


class UnixTransport:
    options_model: ClassVar[type[TransportOptions]] = TransportOptions
    capabilities = CAPABILITIES

    def __init__(self, url: Url, options: TransportOptions) -> None:
        self.options = options
        self.inbox = ""
        self.root = Path("/", url.path or "")
        self.me = new_id()
        self.receivers: dict[tuple[int, str], list[_Receiver]] = {}
        self._on_message: OnMessage | None = None
        self._on_state: list[OnState] = []
        self._on_undelivered: list[OnUndelivered] = []
        self._on_gone: list[OnGone] = []
        self._work: set[asyncio.Task[None]] = set()
        self._few = asyncio.Semaphore(MAX_CONNECTIONS)
        self._listening: asyncio.Server | None = None
        self._turn = count()

    async def connect(self, *, serve: bool = False) -> None:
        try:
            self._listening = await asyncio.start_unix_server(self._accept, self.root / self.me, backlog=BACKLOG)
        except OSError as error:
            raise NotSent(f"cannot listen in {self.root}: {error.strerror}") from error
        self._tell_state(State.CONNECTED, f"listening in {self.root}")

    async def close(self) -> None:
        if self._listening is None:
            return
        for receiver in [receiver for receivers in self.receivers.values() for receiver in receivers]:
            await receiver.stop()
        if self._work:
            await asyncio.wait(self._work, timeout=FLUSH_S)
        listening, self._listening = self._listening, None
        if listening is None:
            return
        listening.close()
        (self.root / self.me).unlink(missing_ok=True)
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        self._tell_state(State.CLOSED, "closed by this process")

    def on_state(self, callback: OnState) -> None:
        self._on_state.append(callback)

    def on_undelivered(self, callback: OnUndelivered) -> None:
        self._on_undelivered.append(callback)

    def on_gone(self, callback: OnGone) -> None:
        self._on_gone.append(callback)

    async def open_inbox(self, on_message: OnMessage, pending: Sized = ()) -> None:
        self._on_message = on_message
        self.inbox = self.me

    async def send(self, message: Message, *, must_be_served: bool = True) -> None:
        if self._listening is None:
            raise NotSent("not connected")
        if not must_be_served:
            raise UsageError("nobody keeps a request here until its server comes")
        if message.kind is Kind.REQUEST:
            taken = await self.hand_over(message)
        else:
            taken = await self.write(message.address, frame(INBOX, "", message))
        if not taken:
            raise NoResponder(f"nobody serves {message.address!r} in {self.root}")

    async def publish(self, topic: str, message: Message) -> None:
        if self._listening is None:
            raise NotSent("not connected")
        for process in self._processes(EVENT, topic):
            await self.write(process, frame(EVENT, topic, message))

    def capabilities_at(self, address: str) -> Capabilities:
        return self.capabilities

    async def receive(
        self, address: str, on_delivery: OnDelivery, *, prefetch: int, at_most_once: bool = False
    ) -> _Receiver:
        return _Receiver(self, (REQUEST, address), on_delivery, prefetch)

    async def subscribe(self, topic: str, on_message: OnMessage, *, group: str = "") -> _Receiver:
        if group:
            raise UsageError("processes hear of each other here, not of each other's groups")
        return _Receiver(self, (EVENT, topic), lambda delivery: on_message(delivery.message), None)

    # -- between processes ------------------------------------------------------------------------

    def own(self, work: Coroutine[Any, Any, None]) -> None:
        if self._listening is None:
            return work.close()  # the dead do not answer
        task = asyncio.ensure_future(work)
        self._work.add(task)
        return task.add_done_callback(self._work.discard)

    async def hand_over(self, message: Message, *, but: str = "") -> bool:
        """To the servers of its address in turn; False when none of them takes it."""
        data = frame(REQUEST, message.address, message)
        processes = [process for process in self._processes(REQUEST, message.address) if process != but]
        first = next(self._turn) % len(processes) if processes else 0
        for process in processes[first:] + processes[:first]:
            if await self.write(process, data):
                return True
        return False

    async def pass_on(self, message: Message) -> None:
        """What will not run here: to another server, else its caller is told."""
        if not await self.hand_over(message, but=self.me) and message.reply_to:
            await self.write(message.reply_to, frame(UNDELIVERED, message.address, message))

    async def reply(self, address: str, data: bytes) -> None:
        if not await self.write(address, data):
            for callback in self._on_gone:
                callback(address)

    async def write(self, process: str, data: bytes) -> bool:
        """False when that process is gone."""
        async with self._few:
            try:
                reader, writer = await asyncio.open_unix_connection(self.root / process)
            except OSError:
                return False
            try:
                writer.write(data)
                writer.write_eof()
                return await reader.read(1) != b""
            except OSError:
                return False
            finally:
                writer.close()

    def place(self, what: int, name: str) -> Path:
        return self.root / sha256(f"{what} {name}".encode()).hexdigest()[:32]

    def _processes(self, what: int, name: str) -> list[str]:
        place = self.place(what, name)
        return sorted(path.name for path in place.iterdir()) if place.exists() else []

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._listening is None:
            writer.transport.abort()
        else:
            self.own(self._read(reader, writer))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                what, name, (kind, *values) = msgpack.unpackb(await reader.read())
                writer.write(b"\x01")
                self._take(what, name, Message(Kind(kind), *values))
            finally:
                writer.close()

    def _take(self, what: int, name: str, message: Message) -> None:
        if what == INBOX and self._on_message is not None:
            self._on_message(message)
        elif what == UNDELIVERED:
            for callback in self._on_undelivered:
                callback(message.correlation_id, NoResponder(f"nobody serves {name!r} any more"))
        elif receivers := self.receivers.get((what, name)):
            for receiver in receivers if what == EVENT else receivers[:1]:
                receiver.offer(message)
        elif what == REQUEST:
            self.own(self.pass_on(message))

    def _tell_state(self, state: State, why: str) -> None:
        for callback in self._on_state:
            callback(state, why)


class _Receiver:
    """Of requests, or of events: those are never settled (prefetch None), and lost during a pause."""

    def __init__(
        self, transport: UnixTransport, key: tuple[int, str], on_delivery: OnDelivery, prefetch: int | None
    ) -> None:
        self.transport = transport
        self.unsettled = 0
        self._key = key
        self._on_delivery = on_delivery
        self._prefetch = prefetch
        self._paused = False
        self._waiting: deque[Message] = deque()
        self._sign = transport.place(*key) / transport.me
        self._sign.parent.mkdir(exist_ok=True)
        self._sign.touch()
        transport.receivers.setdefault(key, []).append(self)

    def offer(self, message: Message) -> None:
        if self._prefetch is not None or not self._paused:
            self._waiting.append(message)
            self.deal()

    def deal(self) -> None:
        while self._waiting and not self._paused:
            if self._prefetch is not None and self.unsettled >= self._prefetch:
                return
            self.unsettled += 1
            self._on_delivery(_Delivery(self, self._waiting.popleft()))

    def set_prefetch(self, prefetch: int) -> None:
        self._prefetch = prefetch
        self.deal()

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self.deal()

    async def stop(self) -> None:
        self._paused = True
        others = [other for other in self.transport.receivers.pop(self._key, []) if other is not self]
        if others:
            self.transport.receivers[self._key] = others
        else:
            self._sign.unlink(missing_ok=True)
        while self._waiting:
            self.transport.own(self.transport.pass_on(self._waiting.popleft()))


class _Delivery:
    redelivered = False

    def __init__(self, receiver: _Receiver, message: Message) -> None:
        self.message = message
        self._receiver = receiver

    def begin(self, told: OnBegun, *, again: bool = False) -> None:
        told(True)

    def reply(self, message: Message, *, confirmed: bool = False) -> None:
        transport = self._receiver.transport
        transport.own(transport.reply(message.address, frame(INBOX, "", message)))
        self.settle()

    def settle(self) -> None:
        self._receiver.unsettled -= 1
        asyncio.get_running_loop().call_soon(self._receiver.deal)

    def hand_back(self) -> None:
        self._receiver.transport.own(self._receiver.transport.pass_on(self.message))
        self.settle()

    def reject(self) -> None:
        self.settle()


def frame(what: int, name: str, message: Message) -> bytes:
    """Raises `UsageError` for what cannot be sent."""
    if len(message.body) > MAX_BODY:
        raise UsageError(f"the body has {len(message.body)} bytes; a frame carries {MAX_BODY}")
    try:
        data: bytes = msgpack.packb([what, name, [getattr(message, field) for field in FIELDS]])
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"the message cannot be sent: {error}") from error
    return data
