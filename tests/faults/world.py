"""A small world to break: proxied brokers, waiting for facts, and a swarm of callers with its history."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any, Self

from rpckit import Client, Server, Service
from rpckit.testing import FaultProxy
from rpckit.url import Url

from .history import History

__all__ = [
    "KINDS",
    "Figure",
    "LoopLag",
    "Swarm",
    "eventually",
    "of_kind",
    "proxied",
    "publishing",
    "session_of",
    "with_options",
]

KINDS = ("stream", "list", "pubsub")  # of places in Redis

Figure = Callable[[str, float], None]

CALLERS = 64
CALL_TIMEOUT = 3.0  # seconds
SEND_WAIT = 1.0
PAUSE = 0.03  # seconds between two calls of one caller: about 1,500 calls a second in all
WARM = 0.4  # seconds of calling before anything breaks
LAG_EVERY = 0.01

_serial = count(1)


def with_options(url: str, **options: object) -> str:
    return f"{url}?{'&'.join(f'{name}={value}' for name, value in options.items())}"


def of_kind(url: str, kind: str, **options: object) -> str:
    """The URL of a Redis whose addresses are streams, lists or channels."""
    url = url.replace("redis://", f"redis+{kind}://")
    return with_options(url, **options) if options else url


@asynccontextmanager
async def proxied(url: str, **options: object) -> AsyncIterator[tuple[FaultProxy, str]]:
    """A fault proxy in front of the broker at `url`, and the URL through it."""
    host = Url.parse(url).hosts[0]
    async with FaultProxy(host.name, host.port or 5672) as proxy:
        through = proxy.url(url)
        yield proxy, with_options(through, **options) if options else through


async def eventually(condition: Callable[[], object], timeout: float = 5.0) -> float:
    """Wait until `condition()` holds; the seconds it took."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not condition():
        assert loop.time() - began < timeout, "it did not come true in time"
        await asyncio.sleep(0.005)
    return loop.time() - began


def publishing(transport: Any) -> Any:
    """The connection of an `AmqpTransport` that publishes and holds the replies."""
    return transport._publishing


def session_of(client: Client) -> Any:
    """The live session of a client: what of it must be the same after something harmless."""
    return publishing(client.transport).session


class LoopLag:
    """How long this event loop did not run, at its longest: a starting broker takes both of two cores."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._measure())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _measure(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            self.longest = max(self.longest, loop.time() - due)


class Swarm:
    """64 callers of one service, on a client and a server that may reach the broker by different ways.

    Half of the calls are idempotent. Everything is logged in `history`.
    """

    def __init__(
        self, client_url: str, server_url: str, *, callers: int = CALLERS, timeout: float = CALL_TIMEOUT
    ) -> None:
        self.history = History()
        self.address = f"faults.swarm.{next(_serial)}"
        self.server = Server(self.service(), url=server_url, grace=2.0)
        self.client = Client(client_url, timeout=timeout, send_wait=SEND_WAIT)
        self._callers = callers
        self._timeout = timeout
        self._lag = LoopLag()
        self._tasks: list[asyncio.Task[None]] = []
        self._served: dict[int, float] = {}  # caller: when its last successful call began

    async def __aenter__(self) -> Self:
        await self.server.start()
        await self.client.connect()
        await self._lag.__aenter__()
        self._tasks = [asyncio.create_task(self._call_on(caller)) for caller in range(self._callers)]
        await self.served_since(asyncio.get_running_loop().time())
        await asyncio.sleep(WARM)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Let the calls end, then close: what is left in no table is checked here, the history by `check`."""
        for task in self._tasks:
            task.cancel() if kind else None
        self._going = False
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lag.__aexit__()
        await self.client.close()
        await self.server.stop()
        if kind is None:
            assert results == [None] * self._callers
            assert self.client.pending == 0

    _going = True

    async def served_since(self, since: float) -> float:
        """Until each caller has had a result of a call begun since then; the seconds to the first of them."""
        await eventually(
            lambda: len(self._served) == self._callers and all(began >= since for began in self._served.values()),
            2 * self._timeout,  # a call lost with its queue waits for its deadline
        )
        entries = self.history.entries.values()
        return min(entry.ended - since for entry in entries if entry.ended and entry.ok and entry.invoked >= since)

    def problems(self) -> list[str]:
        return self.history.problems(slept=self._lag.longest)

    def check(self) -> None:
        assert self.problems() == []

    def service(self) -> Service:
        service = Service("swarm", address=self.address)

        async def work(call_id: str) -> str:
            self.history.executed(call_id)
            await asyncio.sleep(random.random() * 0.02)
            return call_id

        service.method(work, name="once")
        service.method(work, name="again", idempotent=True)
        return service

    async def _call_on(self, caller: int) -> None:
        peer = self.client.at(self.address)
        for serial in count():
            if not self._going:
                return
            again = (caller + serial) % 2 == 0
            call = peer.using(idempotent=True).again if again else peer.once
            await self._one(caller, f"{caller}-{serial}", again, call)
            await asyncio.sleep(PAUSE * (0.5 + random.random()))

    async def _one(self, caller: int, call_id: str, idempotent: bool, call: Callable[[str], Awaitable[object]]) -> None:
        loop = asyncio.get_running_loop()
        entry = self.history.invoke(call_id, idempotent=idempotent, now=loop.time(), timeout=self._timeout)
        try:
            entry.value = await call(call_id)
            self._served[caller] = entry.invoked
        except asyncio.CancelledError as error:
            entry.error = error
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except Exception as error:  # judged by the history
            entry.error = error
        finally:
            entry.ended = loop.time()
