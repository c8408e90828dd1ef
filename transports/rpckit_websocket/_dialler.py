"""The side that dials: one session, kept alive. tenacity's policies say how often it is tried, and when it ends."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from urllib.parse import quote

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_never
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidURI
from websockets.typing import Subprotocol

from rpckit.backoff import Backoff
from rpckit.errors import ConnectionLost, RpcError, UsageError
from rpckit.message import NATIVE
from rpckit.redial import LOG_EVERY
from rpckit.tls import client_context
from rpckit.transport import State
from rpckit.url import Url

from ._errors import Refused, explain
from ._hub import Hub
from ._link import Link
from ._options import SUBPROTOCOL, WebSocketOptions
from ._wires import CLOSE_S, NORMAL, ClientWire

__all__ = ["Dialler"]

log = logging.getLogger(__name__)

STEADY_S = 5.0  # seconds after which a session counts as one that lasted


class Dialler:
    """Connects, and connects again when the session is lost. `on_state` is told of each change."""

    def __init__(self, url: Url, options: WebSocketOptions, hub: Hub, on_state: Callable[[State, str], None]) -> None:
        self.link: Link | None = None
        self._url = url
        self._options = options
        self._hub = hub
        self._on_state = on_state
        self._closing = False
        self._connected_at = 0.0
        self._short = 0  # sessions in a row that did not last: a server that accepts and drops is not to be stormed
        self._reconnecting: asyncio.Task[None] | None = None
        self._where = f"{url.scheme}://{','.join(map(str, url.hosts)) or 'localhost'}/{url.path or ''}"

    async def open(self) -> None:
        """One session, tried once. Raises `NotSent` or `UsageError`."""
        if self.link is None:
            await self._connect_with("connected to")

    async def close(self) -> None:
        self._closing = True
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        link, self.link = self.link, None
        if link is not None and isinstance(link.wire, ClientWire):
            try:
                async with asyncio.timeout(CLOSE_S):
                    await link.wire.close(NORMAL)
            except TimeoutError:
                link.wire.abort()
            link.end("closed by this process")

    def give_up(self) -> None:
        """Connect no more, and start nothing."""
        self._closing = True

    def lost(self, link: Link, why: str) -> None:
        """The hub says that a session is gone."""
        if link is not self.link or self._closing:
            return
        self.link = None
        self._short = self._short + 1 if self._hub.loop.time() - self._connected_at < STEADY_S else 0
        self._on_state(State.RECONNECTING, why)
        self._reconnecting = self._hub.loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        policy = self._options.retry or _policy(self._options.attempts)
        try:
            await asyncio.sleep(Backoff().delay(self._short, 0.0, random.random))
            await policy.copy(retry=retry_if_exception(_may_help), reraise=True)(
                self._connect_with, "connected again to"
            )
        except asyncio.CancelledError:
            raise
        except RpcError as error:
            self._on_state(State.CLOSED, str(error))
        except Exception as error:  # of a policy that its user wrote
            log.exception("reconnecting to %s has failed for good", self._where)
            self._on_state(State.CLOSED, f"{self._where}: {error}")

    async def _connect_with(self, words: str) -> None:
        self.link = await self._dial()
        self._connected_at = self._hub.loop.time()
        self._on_state(State.CONNECTED, f"{words} {self._where}")

    async def _dial(self) -> Link:
        """A session that is open. Raises `NotSent` or `UsageError`; nothing is left of an attempt that fails."""
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                wire = await self._connect()
                return await self._begin(wire)
        except InvalidURI as error:  # whose text has the password in it
            raise explain(error, self._where) from None
        except Exception as error:  # `websockets`, a proxy, TLS and the system raise many kinds
            raise explain(error, self._where) from error

    async def _connect(self) -> ClientWire:
        native = self._options.dialect == NATIVE
        connecting = connect(
            _address(self._url),
            subprotocols=[Subprotocol(SUBPROTOCOL)] if native else None,
            compression="deflate" if self._options.compression else None,
            additional_headers=self._options.headers or None,
            proxy=True if self._options.proxy else None,
            open_timeout=None,
            ping_interval=None,  # the hub watches
            close_timeout=CLOSE_S,
            max_size=self._options.max_message,
            create_connection=ClientWire,
            ssl=client_context("wss", self._options) if self._url.scheme == "wss" else None,
        )
        wire = await connecting
        assert isinstance(wire, ClientWire)  # it was asked for
        if native and wire.subprotocol != SUBPROTOCOL:
            wire.abort()
            raise UsageError(
                f"{self._where} does not speak {SUBPROTOCOL}: say ?dialect=jsonrpc or ?dialect=fastapi_websocket_rpc"
            )
        return wire

    async def _begin(self, wire: ClientWire) -> Link:
        link = self._hub.new_link(wire, {}, dialled=True)
        link.keeper = self._hub.loop.create_task(_end_with(wire, link))
        link.begin(self._options.dialect)
        try:
            await link.ready
            if self._options.dialect == NATIVE:
                await link.caught_up()  # the other side knows of us, and of what we hear
            if link.gone:  # lost since it answered, when nobody looked after it yet
                raise ConnectionLost(link.session.why)
        except BaseException:
            link.lose("the attempt to connect was given up")
            raise
        return link


async def _end_with(wire: ClientWire, link: Link) -> None:
    """Ends with the connection, whatever ends that."""
    await wire.wait_closed()
    link.end(wire.why_closed)


def _address(url: Url) -> str:
    """What `websockets` dials: without our options, with the credentials."""
    login = ""
    if url.username is not None:
        login = f"{quote(url.username, safe='')}:{quote(url.password or '', safe='')}@"
    return f"{url.scheme}://{login}{url.hosts[0] if url.hosts else 'localhost'}/{quote(url.path or '')}"


def _policy(attempts: int) -> AsyncRetrying:
    """As on every transport: 0.05 to 0.5 s with jitter for five minutes, then up to 5 s; a refusal ends it."""
    backoff = Backoff()

    def wait(state: RetryCallState) -> float:
        return backoff.delay(state.attempt_number - 1, state.seconds_since_start or 0.0, random.random)

    return AsyncRetrying(
        wait=wait, stop=stop_after_attempt(attempts) if attempts else stop_never, before_sleep=_log_failure
    )


def _log_failure(state: RetryCallState) -> None:
    if state.attempt_number % LOG_EVERY == 1 and state.outcome is not None:
        log.warning("attempt %d to reconnect failed: %s", state.attempt_number, state.outcome.exception())


def _may_help(error: BaseException) -> bool:
    """What was good once may be so again when the server is whole, whatever it says meanwhile."""
    return isinstance(error, RpcError) and not isinstance(error, Refused)
