"""One AMQP connection, kept alive: dialled host by host, watched, and dialled again with back-off.

Its invariant: after `open`, the state is told at each change, exactly one task reconnects, and
`close` ends everything within `CLOSE_S`.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import aioamqp

from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit.redial import CredentialsRefused, dial_in_turn, redial
from rpckit.tls import client_context, untrusted
from rpckit.transport import State
from rpckit.url import Host, Url

from ._driver import DRIVER_ERRORS, CloseReason, FastChannel, FastProtocol
from ._errors import ACCESS_REFUSED, Refused, refused_connection
from ._options import AmqpOptions

__all__ = ["Connection", "Session", "being_cancelled"]

log = logging.getLogger(__name__)

T = TypeVar("T")
OPERATION_S = 10.0  # seconds for a broker to answer a declaration; longer means it is not well
CLOSE_S = 2.0  # seconds for a clean goodbye, then abort

CLIENT_CAPABILITIES = {
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
    "publisher_confirms": True,
    "basic.nack": True,
}


class Session:
    """A live connection with a data channel for messages and a control channel for questions.

    The control channel, and that for exchanges of other programs, may be closed by the broker (404, 406) and are
    opened anew; when another one closes, the connection is given up and dialled again.
    """

    def __init__(self, protocol: FastProtocol) -> None:
        self.protocol = protocol
        self.blocked = False
        self._control: FastChannel | None = None
        self._foreign: FastChannel | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.data: FastChannel = None  # type: ignore[assignment]  # set by open, before anybody sees this

    async def open(self) -> None:
        self.data = await self._lasting_channel()

    async def open_confirmed(self) -> FastChannel:
        """One more channel, on which the broker confirms what it has."""
        channel = await self._lasting_channel()
        await self._bounded(channel.confirm_select(), channel, "confirms")
        return channel

    async def _lasting_channel(self) -> FastChannel:
        channel = await self._new_channel()
        channel.on_closed = self._lasting_closed
        return channel

    @property
    def alive(self) -> bool:
        return self.protocol.alive

    @property
    def server_version(self) -> tuple[int, ...]:
        """Of RabbitMQ; empty for another broker."""
        properties = self.protocol.server_properties or {}
        numbers = str(properties.get("version", "")).split("-")[0].split(".")
        return tuple(int(number) for number in numbers if number.isdecimal()) if "RabbitMQ" in str(properties) else ()

    async def control(self, what: str, operation: Callable[[FastChannel], Awaitable[T]]) -> T:
        """Ask on the control channel. Raises `Refused` or `ConnectionLost`. Cancelling is safe: the answer is read."""
        return await self._own(self._serialised(what, operation, control=True))

    async def foreign_channel(self) -> FastChannel:
        """For exchanges of other programs: if one is deleted, what is told there closes this channel, and no other."""
        return await self._own(self._open_foreign())

    async def _open_foreign(self) -> FastChannel:
        async with self._lock:
            if self._foreign is None or not self._foreign.usable:
                self._foreign = await self._new_channel()
                self._foreign.on_closed = _told_nobody
            return self._foreign

    async def on_data(self, what: str, operation: Callable[[FastChannel], Awaitable[T]]) -> T:
        """The same on the data channel; a refusal ends the connection."""
        return await self._own(self._serialised(what, operation, control=False))

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _own(self, work: Awaitable[T]) -> T:
        """The driver keeps one waiter for each kind of question: a cancelled caller must not leave one behind."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not being_cancelled():  # by `end`, not by our caller
                raise self._lost() from None
            raise

    async def _serialised(self, what: str, operation: Callable[[FastChannel], Awaitable[T]], *, control: bool) -> T:
        async with self._lock:
            channel = await self._control_channel() if control else self.data
            return await self._bounded(operation(channel), channel, what)

    async def _bounded(self, answer: Awaitable[T], channel: FastChannel | None, what: str) -> T:
        try:
            async with asyncio.timeout(OPERATION_S):
                return await answer
        except TimeoutError:
            self.protocol.abort(f"the broker did not answer ({what}) within {OPERATION_S:.0f} s")
            raise self._lost() from None
        except ValueError as error:  # the driver checks names before it writes anything
            raise UsageError(f"{what} cannot be asked for: {error}") from error
        except DRIVER_ERRORS as error:
            refusal = channel.close_reason if channel is not None else None
            if refusal is not None and (self.alive or refusal.code == ACCESS_REFUSED):  # a lasting one ends them all
                raise Refused(refusal, what) from None
            if isinstance(error, TypeError | AttributeError) and self.alive:
                raise
            raise self._lost() from error

    def _lost(self) -> ConnectionLost:
        return ConnectionLost(str(self.protocol.close_reason or "the connection was lost"))

    async def _control_channel(self) -> FastChannel:
        if self._control is None or self._control.close_reason is not None:
            self._control = await self._new_channel()
        return self._control

    async def _new_channel(self) -> FastChannel:
        channel: FastChannel = await self._bounded(self.protocol.channel(), None, "a channel")
        return channel

    def _lasting_closed(self, reason: CloseReason) -> None:
        if self.protocol.alive:
            self.protocol.abort(f"RabbitMQ closed the channel: {reason}", reason.code)


def _told_nobody(reason: CloseReason) -> None:
    if reason.code:
        log.warning("what was told to an exchange of other programs is lost: %s", reason)


class Connection:
    """Dials, watches and dials again. `prepare(session)` sets up what must be there before it counts as connected."""

    def __init__(
        self,
        url: Url,
        options: AmqpOptions,
        *,
        name: str,
        prepare: Callable[[Session], Awaitable[None]],
        on_state: Callable[[State, str], None],
    ) -> None:
        self.url = url
        self.options = options
        self.session: Session | None = None
        self.state = State.CONNECTING
        self._name = name
        self._prepare = prepare
        self._on_state = on_state
        self._reconnecting: asyncio.Task[None] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._closing = False

    async def open(self) -> None:
        """Connect once, each host tried in turn. Raises `NotSent` or `UsageError`.

        A connection that is open, or is coming back by itself, is left as it is.
        """
        if self.session is None and (self._reconnecting is None or self._reconnecting.done()):
            await self._connect()

    async def close(self) -> None:
        """Say goodbye, for at most `CLOSE_S`. Twice is once."""
        self._closing = True
        self._stop_watchdog()
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        session, self.session = self.session, None
        if session is not None:
            await _say_goodbye(session)
        if self.state is not State.CLOSED:
            self._enter(State.CLOSED, "closed by this process")

    async def _connect(self) -> None:
        session, host = await dial_in_turn(self.url.hosts or (Host("localhost"),), self._dial)
        self._adopt(session, host)

    async def _dial(self, host: Host) -> Session:
        """One host: connection, channel and what `prepare` wants. Nothing is left of an attempt that fails."""
        made: list[FastProtocol] = []
        where = f"{self.url.scheme}://{host}"
        try:
            async with asyncio.timeout(self.options.connect_timeout):
                session = await self._shake_hands(host, made)
                session.protocol.on_blocked = partial(self._blocked, session)
                await session.open()
                await self._prepare(session)
                if not session.alive:
                    raise ConnectionLost(str(session.protocol.close_reason))
                return session
        except BaseException as error:
            reason = made[0].close_reason if made else None
            for protocol in made:
                protocol.abort("the attempt to connect was given up")
            raise self._explain(error, where, reason) from (None if reason and reason.code else error)

    def _explain(self, error: BaseException, where: str, reason: CloseReason | None) -> BaseException:
        if isinstance(error, TimeoutError) and not (reason and reason.code):
            return NotSent(
                f"{where} did not answer within {self.options.connect_timeout:g} s: is it RabbitMQ, and well?"
            )
        if isinstance(error, UsageError):
            return error
        if isinstance(error, ssl.SSLCertVerificationError):
            return untrusted(where, error)
        if isinstance(error, (RpcError, *DRIVER_ERRORS)):
            return refused_connection(where, self.url.username or "guest", self._vhost, reason, error)
        return error

    async def _shake_hands(self, host: Host, made: list[FastProtocol]) -> Session:
        def factory(**kwargs: Any) -> FastProtocol:
            made.append(FastProtocol(**kwargs))
            return made[-1]

        tls = client_context("amqps", self.options) if self.url.scheme == "amqps" else None
        _, protocol = await aioamqp.connect(
            host=host.name,
            port=host.port or (5671 if tls else 5672),
            login=self.url.username if self.url.username is not None else "guest",
            password=self.url.password if self.url.password is not None else "guest",
            virtualhost=self._vhost,
            ssl=tls,
            protocol_factory=factory,
            heartbeat=self.options.heartbeat,
            client_properties={
                "capabilities": CLIENT_CAPABILITIES,
                "connection_name": self._name,
                "product": "rpckit",
            },
        )
        return Session(protocol)

    @property
    def _vhost(self) -> str:
        return self.url.path or "/"

    def _adopt(self, session: Session, host: Host) -> None:
        self.session = session
        session.protocol.on_lost = partial(self._lost, session)
        self._watch(session)
        self._enter(State.CONNECTED, f"connected to {host}")
        if session.blocked:
            self._enter(State.BLOCKED, "the broker takes no messages: an alarm for memory or disk")

    def _lost(self, session: Session, reason: CloseReason) -> None:
        session.end()
        if self.session is not session:
            return
        self.session = None
        self._stop_watchdog()
        if self._closing:
            return
        if session.protocol.loop_ends:  # a task made now would never run, and be complained about
            self._enter(State.CLOSED, str(reason))
            return
        self._enter(State.RECONNECTING, str(reason))
        self._reconnecting = asyncio.ensure_future(self._reconnect())

    async def _reconnect(self) -> None:
        try:
            await redial(self._connect)
        except CredentialsRefused as error:
            self._enter(State.CLOSED, str(error))

    def _blocked(self, session: Session, why: str | None) -> None:
        session.blocked = why is not None
        if self.session is session:
            if why is None:
                self._enter(State.CONNECTED, "the broker takes messages again")
            else:
                self._enter(State.BLOCKED, f"the broker takes no messages: {why}")

    def _enter(self, state: State, why: str) -> None:
        self.state = state
        self._on_state(state, why)

    # -- the watchdog: heartbeats out, and a silent broker found within two of them ----------------------

    def _watch(self, session: Session) -> None:
        loop = asyncio.get_running_loop()
        self._expected = loop.time() + self._beat_every
        self._watchdog = loop.call_later(self._beat_every, self._look_at, session)

    @property
    def _beat_every(self) -> float:
        return self.options.heartbeat / 4

    def _look_at(self, session: Session) -> None:
        if self.session is not session:
            return
        protocol, now = session.protocol, asyncio.get_running_loop().time()
        if now - self._expected > self._beat_every:
            protocol.last_read = now  # this loop slept, not the broker: what came in meanwhile is still to be read
        if now - protocol.last_read > 1.75 * self.options.heartbeat:
            protocol.abort(f"no sign of life from the broker for {now - protocol.last_read:.1f} s")
            return
        if now - protocol.last_write > self.options.heartbeat / 2 - self._beat_every / 2:
            protocol.beat()
        self._watch(session)

    def _stop_watchdog(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None


def being_cancelled() -> bool:
    """Whether somebody cancels the running task, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _say_goodbye(session: Session) -> None:
    protocol = session.protocol
    try:
        async with asyncio.timeout(CLOSE_S):
            await protocol.close()
    except (TimeoutError, *DRIVER_ERRORS) as error:
        log.debug("no clean goodbye: %r", error)
    finally:
        session.end()
        protocol.abort("closed by this process")
        await asyncio.sleep(0)
