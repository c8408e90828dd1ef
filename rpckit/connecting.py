"""Whether a call can leave now; and if it cannot, who waits, until when, and who tries to connect meanwhile."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rpckit.backoff import Backoff
from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit.gate import Gate
from rpckit.pending import PendingCalls
from rpckit.transport import State, Transport
from rpckit.url import Url

__all__ = ["Connecting"]

log = logging.getLogger(__name__)

CONNECTED = State.CONNECTED  # see `rpckit.message.REQUEST`

Own = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Connecting:
    """What a client knows of its connection, and the calls that wait for one or for room in its table.

    `open_transport` makes one attempt; once it has succeeded, the transport comes back by itself, and tells.
    `own` starts a task that ends with the client.
    """

    def __init__(
        self,
        url: Url,
        transport: Transport,
        pending: PendingCalls[Any],
        open_transport: Callable[[], Awaitable[None]],
        own: Own,
    ) -> None:
        self.state = State.CONNECTING
        self.why = ""
        self.closed = False
        self.gate = Gate()
        self._url = url
        self._transport = transport
        self._pending = pending
        self._open_transport = open_transport
        self._own = own
        self._attempt: asyncio.Task[None] | None = None  # under way, or the last one
        self._trying: asyncio.Task[None] | None = None
        self._opened = False

    def ready(self) -> str:
        """Where the reply to a call sent now is to go; empty when none can be sent."""
        return self._transport.inbox if self.state is CONNECTED and not self._pending.full() else ""

    def told(self, state: State, why: str) -> None:
        """By the transport."""
        self.state, self.why = state, why
        if state in (State.CONNECTED, State.CLOSED):
            self.gate.let_all()

    def close(self) -> None:
        """For good: whoever waits is refused."""
        self.closed = True
        self.told(State.CLOSED, "the client is closed")

    async def wait(self, until: float) -> str:
        """`ready`, when it is; at `until` (the loop's clock) `NotSent` that says why not. Raises `UsageError`."""
        while not (inbox := self.ready()):
            await self._wait(until)
        return inbox

    async def wait_connected(self, until: float) -> None:
        """As `wait`, for what takes no place in the table."""
        while self.state is not CONNECTED or not self._transport.inbox:
            await self._wait(until)

    async def _wait(self, until: float) -> None:
        """Until it is worth looking again."""
        if self.closed or self.state is State.CLOSED:
            raise self.not_connected()
        if not self._opened and (self._trying is None or self._trying.done()):
            self._trying = self._own(self._connect_patiently())
        await self.gate.wait(until, self._not_ready)
        asyncio.get_running_loop().call_soon(self._pass_on)

    async def connect(self) -> None:
        """One attempt, shared by all who want one meanwhile. Raises what it ended with; cancelled, it goes on."""
        if self._opened:
            return
        if self._attempt is None or self._attempt.done():
            self._attempt = self._own(self._open())
        attempt = self._attempt
        await asyncio.wait([attempt])
        if attempt.cancelled():  # by closing
            raise self.not_connected()
        attempt.result()

    def not_connected(self) -> NotSent:
        return NotSent(f"{self._url}: {self.why}")

    async def _open(self) -> None:
        try:
            await self._open_transport()
        except BaseException as error:
            if not self.closed:
                self.why = str(error)
            if isinstance(error, ConnectionLost):  # nothing of a caller's had left
                raise NotSent(str(error)) from error
            raise
        self._opened = True
        if self.state is State.CONNECTING:  # else the transport told, and maybe more since then
            self.state = State.CONNECTED
        self.gate.let_all()

    async def _connect_patiently(self) -> None:
        """For calls that came before the connection: each waits its own time, this tries while any does."""
        backoff, attempt, began = Backoff(), 0, asyncio.get_running_loop().time()
        await asyncio.sleep(0)  # for tasks that begin at once: whoever wants it is to wait at the gate by then
        while not self.closed:
            try:
                return await self.connect()
            except UsageError as error:
                return self.gate.refuse_all(UsageError(str(error)))
            except RpcError:
                if not self.gate:
                    return None
            except Exception as error:
                log.exception("connecting to %s failed in a way that nobody expected", self._url)
                return self.gate.refuse_all(NotSent(f"{self._url}: {error!r}"))
            elapsed = asyncio.get_running_loop().time() - began
            await asyncio.sleep(backoff.delay(attempt, elapsed, random.random))
            attempt += 1
        return None

    def _pass_on(self) -> None:
        """Who was let through may have taken no place in the table."""
        if self.gate and self.ready():
            self.gate.let_one()

    def _not_ready(self) -> NotSent:
        if self._opened and self.state is State.CONNECTED:  # the place that has come free just now is another's
            return NotSent(f"{self._pending.limit} calls are already pending; raise max_pending or call less at once")
        if self.state is State.CONNECTING and self.why:  # of an attempt to connect: it names the place itself
            return NotSent(self.why)
        return NotSent(f"{self._url} is {self.state}: {self.why or 'not connected yet'}")
