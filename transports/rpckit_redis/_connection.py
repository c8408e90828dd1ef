"""The connections of one transport, kept alive together: dialled host by host, watched, dialled again with back-off.

Its invariant: after `open`, the state is told at each change, exactly one task reconnects, and
losing one link loses the session; `close` ends everything.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import hiredis

from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit.ids import new_id
from rpckit.redial import CredentialsRefused, dial_in_turn, redial
from rpckit.tls import client_context, untrusted
from rpckit.transport import State
from rpckit.url import Host, Url

from ._errors import explain, kind_of
from ._link import Link, pack
from ._options import RedisOptions
from ._scripts import SCRIPTS

__all__ = ["BLOCK_S", "Connection", "Session", "Target"]

log = logging.getLogger(__name__)

PORT = 6379
MIN_VERSION = (7, 0)
Target = Host | str  # a host, or the path of a unix socket
BLOCK_S = 2.0  # seconds of one blocking read; longer would hide a dead link


class Session:
    """The main link, and one for each receiver that blocks. Losing any of them ends it."""

    def __init__(self, main: Link, dial: Callable[[], Awaitable[Link]], consumer: str) -> None:
        self.main = main
        self.consumer = consumer  # its name among those that read an address
        self.on_lost: Callable[[str], None] = _ignore
        self.close_reason = ""
        self.alive = True  # while there is no reason
        self.fresh_since = main.loop.time()  # what is read from the main link now, Redis sent after this moment
        self._dial = dial
        self._links = [main]
        main.on_lost = self.abort

    async def open_link(self, *, apart: bool = False) -> Link:
        """One more link, for reads that block. apart: its loss is that of whoever reads there, not the session's."""
        link = await self._dial()
        link.on_lost = _ignore if apart else self.abort
        self._links.append(link)
        if self.close_reason:
            link.abort(self.close_reason)
            raise ConnectionLost(self.close_reason)
        return link

    def abort(self, why: str) -> None:
        """End all links now; the first reason stays."""
        if self.close_reason:
            return
        self.close_reason, self.alive = why, False
        for link in self._links:
            link.abort(why)
        self.on_lost(why)

    def close(self) -> None:
        self.close_reason, self.alive = self.close_reason or "closed by this process", False
        for link in self._links:
            link.close()

    def drop(self, link: Link) -> None:
        """End one link that is not needed any more."""
        if link in self._links:
            self._links.remove(link)
            link.on_lost = _ignore
            link.close()

    def look(self, now: float, heartbeat: float) -> None:
        """End links that are dead, and ask those that have been silent."""
        for link in self._links:
            silent = now - link.last_read
            blocks = BLOCK_S if link is not self.main else 0.0
            if silent > 1.75 * heartbeat + blocks and link.awaiting:
                link.abort(f"no sign of life from Redis for {silent:.1f} s")
            elif silent > heartbeat / 2 and not link.awaiting:
                link.send(PING, _ignore)

    def slept(self, now: float) -> None:
        """This loop slept, not Redis: what came in meanwhile is still to be read."""
        for link in self._links:
            link.last_read = now


class Connection:
    """Dials, watches and dials again. `prepare(session)` sets up what must be there before it counts as connected.

    `locate()` is asked before each attempt where to dial: hosts, or paths of unix sockets.
    """

    def __init__(
        self,
        url: Url,
        options: RedisOptions,
        *,
        database: int,
        prepare: Callable[[Session], Awaitable[None]],
        on_state: Callable[[State, str], None],
        locate: Callable[[], Awaitable[Sequence[Target]]],
    ) -> None:
        self.url = url
        self.options = options
        self.session: Session | None = None
        self.state = State.CONNECTING
        self._prepare = prepare
        self._on_state = on_state
        self._locate = locate
        self._name = new_id()  # of all its sessions, so that what one of them held can be told by the next
        self._sessions = 0
        self._database = database
        self._reconnecting: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self) -> None:
        """Connect once, each host tried in turn. Raises `NotSent` or `UsageError`."""
        if self.session is None and (self._reconnecting is None or self._reconnecting.done()):
            await self._connect()

    async def close(self) -> None:
        """Send what is written, then end. Twice is once."""
        self._closing = True
        ending = [task for task in (self._watching, self._reconnecting) if task is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        session, self.session = self.session, None
        if session is not None:
            session.close()
            await asyncio.sleep(0)
        if self.state is not State.CLOSED:
            self._enter(State.CLOSED, "closed by this process")

    # -- dialling -----------------------------------------------------------------------------

    async def _connect(self) -> None:
        session, target = await dial_in_turn(await self._locate(), self._open_session)
        self._adopt(session, target)

    async def _open_session(self, target: Target) -> Session:
        """One target, and what `prepare` wants. Nothing is left of an attempt that fails."""
        dial = partial(self._dial, target)
        self._sessions += 1
        session = Session(await dial(), dial, f"{self._name}-{self._sessions}")
        self._watching = asyncio.ensure_future(self._watch(session))  # already: what `prepare` asks has no other limit
        try:
            await _load_scripts(session.main)
            await self._prepare(session)
            if not session.alive:
                raise ConnectionLost(session.close_reason)
            return session
        except BaseException as error:
            session.abort("the attempt to connect was given up")
            self._watching.cancel()
            raise self._explain(error, self._where(target)) from error

    def _explain(self, error: BaseException, where: str) -> BaseException:
        if isinstance(error, TimeoutError):
            return NotSent(f"{where} did not answer within {self.options.connect_timeout:g} s: is it Redis, and well?")
        if isinstance(error, UsageError):
            return error
        if isinstance(error, ssl.SSLCertVerificationError):
            return untrusted(where, error)
        if isinstance(error, hiredis.ReplyError):
            explained = explain(error, where)
            return NotSent(str(explained)) if isinstance(explained, ConnectionLost) else explained
        if isinstance(error, RpcError | OSError | EOFError):
            return NotSent(f"cannot connect to {where}: {str(error) or type(error).__name__}")
        return error

    def _where(self, target: Target) -> str:
        return f"{self.url.scheme}://{target}"

    async def _dial(self, target: Target) -> Link:
        """One link. Raises `NotSent` or `UsageError`, within `connect_timeout`."""
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                return await self._open_link(target)
        except (RpcError, OSError, EOFError, hiredis.ReplyError) as error:
            raise self._explain(error, self._where(target)) from error

    async def _open_link(self, target: Target) -> Link:
        loop = asyncio.get_running_loop()
        if isinstance(target, Host):
            tls = client_context("rediss", self.options) if self.url.scheme.startswith("rediss") else None
            _, link = await loop.create_connection(Link, target.name, target.port or PORT, ssl=tls)
        else:
            _, link = await loop.create_unix_connection(Link, target)
        try:
            await self._shake_hands(link)
        except BaseException:
            link.abort("the attempt to connect was given up")
            raise
        return link

    async def _shake_hands(self, link: Link) -> None:
        words: list[str] = ["HELLO", "3"]
        if self.url.password is not None:
            words += ["AUTH", self.url.username or "default", self.url.password]
        words += ["SETNAME", "rpckit"]
        try:
            greeting = await link.ask(*words)
        except (hiredis.ReplyError, ConnectionLost) as error:
            if "max number of clients" in str(error):  # said as soon as it is connected
                raise NotSent("Redis takes no more clients: raise its maxclients, or close some") from None
            if isinstance(error, ConnectionLost):
                raise
            if kind_of(error) in ("WRONGPASS", "NOAUTH"):
                user = self.url.username or "default"
                raise CredentialsRefused(
                    f"Redis refused user {user!r}: check user and password in the URL; it said: {error}"
                ) from None
            if kind_of(error) in ("NOPROTO", "ERR"):
                raise UsageError(
                    f"rpckit needs Redis {_dotted(MIN_VERSION)} or newer; this one said: {error}"
                ) from None
            raise
        _check_greeting(greeting)
        link.id = greeting[b"id"]
        if self._database:
            await link.ask("SELECT", self._database)

    # -- keeping ------------------------------------------------------------------------------

    def _adopt(self, session: Session, target: Target) -> None:
        self.session = session
        session.on_lost = partial(self._lost, session)
        self._enter(State.CONNECTED, f"connected to {target}")

    def _lost(self, session: Session, why: str) -> None:
        if self.session is not session:
            return
        self.session = None
        if self._watching is not None:
            self._watching.cancel()
        if not self._closing:
            self._enter(State.RECONNECTING, why)
            self._reconnecting = asyncio.ensure_future(self._reconnect())

    async def _reconnect(self) -> None:
        try:
            await redial(self._connect)
        except CredentialsRefused as error:
            self._enter(State.CLOSED, str(error))

    def _enter(self, state: State, why: str) -> None:
        self.state = state
        self._on_state(state, why)

    # -- the watchdog: a silent Redis is found within two heartbeats ------------------------------

    async def _watch(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        every = self.options.heartbeat / 4
        try:
            while session.alive:
                began = loop.time()
                await asyncio.sleep(every)
                if loop.time() - began > 2 * every:
                    session.slept(loop.time())
                session.look(loop.time(), self.options.heartbeat)
        except asyncio.CancelledError:
            if session.alive and not self._closing:  # only a loop that ends cancels it: a new task would never run
                self._closing = True
                session.abort("its event loop is ending")
                self._enter(State.CLOSED, "its event loop is ending")
            raise


async def _load_scripts(link: Link) -> None:
    """Raises `hiredis.ReplyError` while Redis still reads its data: it greets and subscribes, but takes no call."""
    *others, last = SCRIPTS
    for script in others:
        link.send(pack("SCRIPT", "LOAD", script.source), _ignore)
    try:
        await link.ask("SCRIPT", "LOAD", last.source)
    except hiredis.ReplyError as error:  # any other refusal is for `Link.run` to go round
        if kind_of(error) == "LOADING":
            raise


def _check_greeting(greeting: dict[bytes, Any]) -> None:
    version = greeting.get(b"version", b"").decode()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < MIN_VERSION:
        raise UsageError(f"rpckit needs Redis {_dotted(MIN_VERSION)} or newer; this is {version or 'something else'}")
    if greeting.get(b"role") != b"master":
        raise NotSent("this Redis is a replica, which takes no writes: name its master, or ask Sentinel for it")
    if greeting.get(b"mode") == b"cluster":
        raise UsageError("this is a Redis Cluster, where a publish count means nothing: rpckit cannot use it yet")


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _ignore(*_: object) -> None:
    """For answers nobody waits for."""


PING = pack("PING")
