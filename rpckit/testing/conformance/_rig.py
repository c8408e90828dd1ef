"""What the tests stand on: transports, clients and servers that end with their test, and patience.

Invariant: nothing a test opened through its `Rig` outlives the test, whether it passes or fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import pytest
import pytest_asyncio

from rpckit.client import Client
from rpckit.contract import Service
from rpckit.errors import NotSent, RpcError
from rpckit.ids import new_id
from rpckit.message import Kind, Message
from rpckit.registry import open_transport
from rpckit.server import Server
from rpckit.transport import Capabilities, Delivery, Receiver, State, Transport

__all__ = [
    "AT_ONCE_S",
    "PATIENCE_S",
    "Line",
    "Received",
    "Rig",
    "RigFixtures",
    "kill",
    "median_time",
    "quiet",
    "until",
]

AT_ONCE_S = 0.05  # seconds: the promise for errors and deadlines, asserted on a median
PATIENCE_S = 10.0  # seconds for what must come; a busy CI machine needs some of it
QUIET_S = 0.15  # seconds in which what must not come would have come
POLL_S = 0.002  # seconds between two looks


class RigFixtures:
    """The fixtures of every test of the suite. `url` is yours to give; `forget` where something is left."""

    @pytest.fixture
    def url(self) -> str:
        """Where the transport under test connects to: yours to give."""
        raise NotImplementedError(f"{type(self).__name__} needs a fixture `url` that returns the transport's URL")

    async def forget(self, addresses: Sequence[str]) -> None:
        """A hook: delete what the broker keeps of these addresses. Awaited after everything is closed."""

    @pytest_asyncio.fixture(loop_scope="function")
    async def rig(self, url: str) -> AsyncIterator[Rig]:
        """What a test opens its transports, servers and clients with."""
        rig = Rig(url)
        try:
            yield rig
        finally:
            await rig.close()
            await self.forget(rig.addresses)

    @pytest.fixture
    def capabilities(self, url: str) -> Capabilities:
        return open_transport(url).capabilities

    @pytest.fixture
    def address(self, rig: Rig) -> str:
        """An address nobody has used before."""
        return rig.address()


class Rig:
    """Opens what a test needs at one URL, and closes it in reverse."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.addresses: list[str] = []
        self._opened = AsyncExitStack()
        self._sessions = open_transport(url).capabilities.sessions
        self._served = False
        self._host: Line | None = None

    def address(self) -> str:
        self.addresses.append(f"conformance.{new_id()}")
        return self.addresses[-1]

    async def serving(self) -> Line:
        """The line of a server. Without a broker between, it is what the others connect to: open it first."""
        host, self._host = self._host, None
        return host or await self.line(serve=True)

    async def second(self) -> Line | None:
        """The line of one more server; None where sessions have only one, and a second is refused."""
        if not self._sessions:
            return await self.line(serve=True)
        with pytest.raises(NotSent):
            await self.line(serve=True)
        return None

    async def line(self, *, inbox: bool = True, serve: bool = False) -> Line:
        """A connected transport, with an open inbox unless told otherwise."""
        if not serve:
            await self._ensure_host()
        line = Line(open_transport(self.url))
        self._served = self._served or serve
        self._opened.push_async_callback(line.transport.close)
        await line.transport.connect(serve=serve)
        if inbox:
            await line.transport.open_inbox(line.inbox.append)
        return line

    async def client(self, **settings: Any) -> Client:
        await self._ensure_host()
        client = Client(self.url, **settings)
        self._opened.push_async_callback(client.close)
        await client.connect()
        return client

    async def server(self, *services: Service, **settings: Any) -> Server:
        host, self._host, self._served = self._host, None, True
        if host is not None:
            await host.transport.close()
        server = Server(*services, url=self.url, **settings)
        self._opened.push_async_callback(server.stop, grace=0)
        await server.start()
        return server

    async def second_server(self, *services: Service, **settings: Any) -> Server | None:
        """One more server of the same address; None where sessions have only one, and a second is refused."""
        if not self._sessions:
            return await self.server(*services, **settings)
        with pytest.raises(NotSent):
            await self.server(*services, **settings)
        return None

    async def close(self) -> None:
        await self._opened.aclose()

    async def _ensure_host(self) -> None:
        """Without a broker, somebody must listen before anybody can connect: for now one that serves nothing."""
        if self._sessions and not self._served:
            self._host = await self.line(serve=True)


class Line:
    """One transport, and everything it told."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.states: list[State] = []
        self.inbox: list[Message] = []
        self.undelivered: list[tuple[str, RpcError]] = []
        self.gone: list[str] = []
        transport.on_state(lambda state, why: self.states.append(state))
        transport.on_undelivered(lambda *told: self.undelivered.append(told))
        transport.on_gone(self.gone.append)

    def request(self, address: str, body: bytes = b"", **fields: Any) -> Message:
        """A request that wants its reply here."""
        fields = {
            "message_id": new_id(),
            "correlation_id": new_id(),
            "reply_to": self.transport.inbox,
            **fields,
        }
        return Message(Kind.REQUEST, address, body=body, **fields)

    async def send(self, address: str, body: bytes = b"", *, must_be_served: bool = True, **fields: Any) -> Message:
        message = self.request(address, body, **fields)
        await self.transport.send(message, must_be_served=must_be_served)
        return message

    async def receive(self, address: str, *, prefetch: int = 100) -> Received:
        received = Received()
        received.receiver = await self.transport.receive(address, received.all.append, prefetch=prefetch)
        return received

    async def refusal(self, address: str) -> RpcError:
        """The error of a request nobody can take, whichever way it comes."""
        try:
            sent = await self.send(address, b"to nobody")
        except RpcError as error:
            return error
        await until(lambda: sent.correlation_id in dict(self.undelivered), "on_undelivered")
        return dict(self.undelivered)[sent.correlation_id]


class Received:
    """What came in at one address, in order."""

    receiver: Receiver

    def __init__(self) -> None:
        self.all: list[Delivery] = []

    def __len__(self) -> int:
        return len(self.all)

    @property
    def bodies(self) -> list[bytes]:
        return [delivery.message.body for delivery in self.all]

    async def first(self, count: int = 1) -> Delivery:
        """The last of the first `count` deliveries, as soon as there are as many."""
        await until(lambda: len(self.all) >= count, f"{count} deliveries")
        return self.all[count - 1]


async def until(condition: Callable[[], Any], what: str = "it", timeout: float = PATIENCE_S) -> None:
    """Return as soon as `condition()` is true; after `timeout` seconds the test fails."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout
    while not condition():
        if loop.time() > end:
            pytest.fail(f"{what} did not come within {timeout:g} s")
        await asyncio.sleep(POLL_S)


async def quiet() -> None:
    """Long enough for what must not come to have come."""
    await asyncio.sleep(QUIET_S)


async def median_time(attempt: Callable[[], Awaitable[None]], *, tries: int = 5) -> float:
    """Seconds that `attempt` takes, the median of a few tries: one hiccup of a machine proves nothing."""
    loop = asyncio.get_running_loop()
    times = []
    for _ in range(tries):
        began = loop.time()
        await attempt()
        times.append(loop.time() - began)
    return median(times)


async def kill(server: Server) -> None:
    """Take the connection from under a server, as its death would; what it has begun goes on, unheard."""
    assert server._dispatcher is not None  # it is running
    for link in server._dispatcher.links:
        await link.transport.close()
