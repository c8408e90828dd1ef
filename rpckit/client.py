"""The client: an asyncio shell around `PendingCalls`.

Its invariant: a call is added to the table before it is sent, leaves it exactly once, and ends by
its deadline with a result or one error of `rpckit.errors`, whatever breaks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from rpckit import codec
from rpckit.backoff import Backoff
from rpckit.context import MAX_DEPTH, current_context
from rpckit.contract import check_address, split_target, write_arguments
from rpckit.deadline import Deadline
from rpckit.errors import (
    DID_NOT_RUN,
    BadReply,
    ConnectionLost,
    DeadlineExceeded,
    NotSent,
    OutcomeUnknown,
    RpcError,
    UsageError,
)
from rpckit.fault import read_fault
from rpckit.ids import new_id
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit.middleware import Middleware, compose
from rpckit.pending import PendingCalls
from rpckit.registry import open_transport
from rpckit.settings import Settings, load_settings
from rpckit.timer import TableTimer
from rpckit.transport import State, Transport
from rpckit.url import Url
from rpckit.waiter import Waiter

__all__ = ["Call", "CallOptions", "Client", "Peer", "Reply", "TypedClient", "cancel_topic"]

log = logging.getLogger(__name__)

T = TypeVar("T")
NoServer = Literal["fail", "wait"]
MAX_TARGETS = 1024  # targets whose address and method are remembered
CORRELATION_HEADER = "x-correlation-id"  # a Response's own id; the wire's joins reply to call


class _Unset:
    def __repr__(self) -> str:
        return "<from the settings>"


UNSET = _Unset()


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What may be said of a call apart from its arguments.

    timeout:    seconds; None waits for ever, and must be spelt.
    headers:    the user's own, strings.
    idempotent: it may run twice: after a lost connection it is sent again.
    no_server:  "fail" raises `NoResponder` when nobody serves; "wait" queues for a server to come.
    """

    timeout: float | None
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = False
    no_server: NoServer = "fail"


@dataclass(slots=True)
class Call:
    """One call as client middleware sees it. `attempt` counts the attempts made so far."""

    address: str
    method: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: CallOptions
    headers: dict[str, str]
    deadline: Deadline | None
    message_id: str
    depth: int
    dialect: str
    content_type: str = ""
    body: bytes | None = None
    attempt: int = 0
    may_have_run: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A raw reply: `body` as it came, `headers`, and the correlation id."""

    body: bytes
    headers: Mapping[str, str]
    correlation_id: str
    content_type: str

    def decode(self) -> Any:
        """The body's value by its content type; without one JSON, else text, else bytes. Raises `BadReply`."""
        try:
            return codec.decode_guess(self.content_type, self.body)
        except codec.CodecError as error:
            raise BadReply(f"the reply cannot be read: {error}") from error


class Client:
    """Calls functions on other machines.

    url:        the broker; from the settings when left out.
    dialect:    "native", or "plain" for a server that is not rpckit's.
    middleware: ``async def m(call, call_next)`` around each call, outermost first.
    overrides:  any setting by name: timeout, send_wait, no_server, max_pending, max_body …

    Use it as ``async with Client(…) as client`` or simply call: it connects on first use, and
    ends silently with its event loop.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        settings: Settings | None = None,
        dialect: str | None = None,
        middleware: Sequence[Middleware[Call]] = (),
        transport: Transport | None = None,
        **overrides: Any,
    ) -> None:
        if settings is None:
            settings = load_settings(**overrides)
        elif overrides:
            raise UsageError(f"settings and {', '.join(overrides)} are both given; put them into the settings")
        self.settings = settings
        self.url = _with_dialect(Url.parse(url if url is not None else settings.url), dialect)
        self.options = CallOptions(timeout=settings.timeout, no_server=settings.no_server)
        self.late_replies = 0
        self._given_transport = transport
        self._transport = self._open_transport()
        self._run_call = compose(middleware, self._perform)
        self._targets: dict[str, tuple[str, str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forget_connection()

    # -- life ---------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._state

    @property
    def pending(self) -> int:
        """Calls sent and not yet settled."""
        return len(self._pending)

    @property
    def transport(self) -> Transport:
        return self._transport

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect now instead of on first use. Raises `NotSent` when it cannot, `UsageError` when it never will."""
        self._bind_to_loop()
        if self._connecting is None:
            self._connecting = self._owned(self._connect())
        await asyncio.shield(self._connecting)

    async def close(self) -> None:
        """End calls pending with `ConnectionLost`, and the connection. Twice is once."""
        self._closed = True
        self._fail_pending(ConnectionLost("the client was closed while the call was pending"))
        self._timer_stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()
        self._wake_all()

    # -- calling ------------------------------------------------------------------------------

    async def call(
        self,
        target: str,
        /,
        *args: Any,
        timeout: float | None | _Unset = UNSET,  # noqa: ASYNC109 - part of the call's contract
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        no_server: NoServer | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call ``"address.method"`` with the arguments given, and return its result.

        Raises one error of `rpckit.errors`. Cancelling is safe, and cancels the work as well.
        At most once, unless `idempotent`.
        """
        address, method = self._split(target)
        options = self._options(self.options, timeout, headers, idempotent, no_server)
        return await self._invoke(address, method, args, kwargs, options)

    async def notify(
        self,
        target: str,
        /,
        *args: Any,
        headers: Mapping[str, str] | None = None,
        no_server: NoServer | None = None,
        **kwargs: Any,
    ) -> None:
        """Call without a reply: returns when the broker has it. Whether it ran is never known."""
        address, method = self._split(target)
        options = self._options(self.options, UNSET, headers, None, no_server)
        call = self._prepare(address, method, args, kwargs, options)
        write_body(call)
        await self._send_only(call)

    async def request(
        self,
        address: str,
        body: Any = None,
        *,
        timeout: float | None | _Unset = UNSET,  # noqa: ASYNC109
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        no_server: NoServer | None = None,
    ) -> Reply:
        """The raw form: `body` (bytes and str as they are, anything else as JSON) to `address`, and the raw reply."""
        options = self._options(self.options, timeout, headers, None, no_server)
        call = self._prepare(check_address(address), "", (), {}, options)
        call.dialect = PLAIN if call.dialect == NATIVE else call.dialect
        call.body, guessed = codec.encode_guess(body)
        call.content_type = content_type if content_type is not None else guessed
        message = await self._attempt(call)
        own_id = message.headers.get(CORRELATION_HEADER, message.correlation_id)
        return Reply(message.body, message.headers, own_id, message.content_type)

    def at(self, address: str) -> Peer:
        """The service at `address`, its methods as attributes."""
        return Peer(self, check_address(address), self.options)

    # -- one call -----------------------------------------------------------------------------

    async def _invoke(
        self, address: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Any:
        return await self._run_call(self._prepare(address, method, args, kwargs, options))

    def _prepare(
        self, address: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Call:
        """The call with its deadline: its own, or the sooner one of the call that it is nested in."""
        deadline, depth = self._inherit(options.timeout)
        dialect = self._transport.options.dialect
        headers = dict(options.headers)
        return Call(address, method, args, kwargs, options, headers, deadline, new_id(), depth, dialect)

    def _inherit(self, timeout: float | None) -> tuple[Deadline | None, int]:
        now = asyncio.get_running_loop().time()
        deadline = None if timeout is None else Deadline(now + timeout)
        context = current_context()
        if context is None:
            return deadline, 0
        if context.depth >= MAX_DEPTH:
            raise UsageError(f"calls are nested {MAX_DEPTH} deep: does this service call itself in a circle?")
        if context.deadline is not None and (deadline is None or context.deadline < deadline):
            deadline = context.deadline
        return deadline, context.depth + 1

    async def _perform(self, call: Call) -> Any:
        """The innermost of the middleware: the attempts of a call, and the value of its reply."""
        write_body(call)
        reply = await self._attempt_until_settled(call)
        return _read_value(reply, self.settings.max_body)

    async def _attempt_until_settled(self, call: Call) -> Message:
        """An idempotent call is sent again after a lost connection, until its deadline."""
        while True:
            try:
                return await self._attempt(call)
            except ConnectionLost as error:
                if not call.options.idempotent or self._closed or self._overdue(call):
                    raise
                log.info("sending %s again: %s", call.message_id, error)
            except DID_NOT_RUN as error:
                if call.may_have_run:
                    raise OutcomeUnknown(f"attempt {call.attempt} did not run, an earlier one may have: {error}") from error
                raise

    async def _attempt(self, call: Call) -> Message:
        """Send once and wait. The table is entered before sending and left exactly once."""
        if self._state is not State.CONNECTED or self._pending.full or self._loop is not asyncio.get_running_loop():
            await self._wait_ready(call)
        call.attempt += 1
        waiter: Waiter[Message] = Waiter()
        message = self._message(call)
        message.correlation_id = correlation_id = new_id()
        message.reply_to = self._transport.inbox
        self._enter(correlation_id, waiter, call.deadline)
        try:
            await self._transport.send(message, must_be_served=call.options.no_server == "fail")
            reply = await self._await_reply(waiter)
        except asyncio.CancelledError:
            self._abandon(message)
            raise
        except BaseException as error:
            self._leave(correlation_id)
            call.may_have_run = call.may_have_run or not isinstance(error, DID_NOT_RUN)
            raise
        if reply.kind is Kind.FAULT:
            call.may_have_run = True
            raise _read_error(reply)
        return reply

    async def _await_reply(self, waiter: Waiter[Message]) -> Message:
        """A handler that waits for a nested call lends its slot meanwhile."""
        context = current_context()
        if context is None or context.slot is None:
            return await waiter.wait()
        context.slot.lend()
        try:
            reply = await waiter.wait()
        except BaseException:
            context.slot.reclaim_now()
            raise
        await context.slot.reclaim()
        return reply

    async def _send_only(self, call: Call) -> None:
        if self._state is not State.CONNECTED or self._loop is not asyncio.get_running_loop():
            await self._wait_ready(call)
        await self._transport.send(self._message(call), must_be_served=call.options.no_server == "fail")

    def _message(self, call: Call) -> Message:
        body = call.body or b""
        if len(body) > self.settings.max_body:
            raise UsageError(f"{len(body)} bytes for {call.address}: over max_body ({self.settings.max_body})")
        message = Message(
            Kind.REQUEST,
            call.address,
            call.method,
            call.message_id,
            content_type=call.content_type,
            attempt=call.attempt,
            depth=call.depth,
            headers=call.headers,
            body=body,
            dialect=call.dialect,
            persistent=call.options.idempotent,
        )
        if call.deadline is not None:
            now = asyncio.get_running_loop().time()
            message.time_left_ms = call.deadline.time_left_ms(now)
            message.deadline_ms = call.deadline.unix_ms(now, time.time())
        return message

    def _enter(self, correlation_id: str, waiter: Waiter[Message], deadline: Deadline | None) -> None:
        if deadline is None:
            self._pending.add(correlation_id, waiter, deadline=None)
            return
        self._pending.add(correlation_id, waiter, deadline=deadline.at)
        if self._timer is not None:
            self._timer.cover(deadline.at)

    def _leave(self, correlation_id: str) -> Waiter[Message] | None:
        waiter = self._pending.settle(correlation_id)
        if self._gate:
            self._wake_one()
        return waiter

    def _abandon(self, message: Message) -> None:
        """The caller was cancelled: so is its work, unless a reply was already there."""
        if self._leave(message.correlation_id) is None or message.dialect != NATIVE:
            return
        cancel = Message(
            Kind.CANCEL, message.address, correlation_id=message.correlation_id, reply_to=message.reply_to
        )
        self._cancels.append(cancel)
        if self._cancelling is None or self._cancelling.done():
            self._cancelling = self._owned(self._send_cancels())

    async def _send_cancels(self) -> None:
        while self._cancels:
            cancel = self._cancels.popleft()
            try:
                await self._transport.publish(cancel_topic(cancel.address), cancel)
            except RpcError as error:
                self._cancels.clear()
                log.debug("cancels not sent, the deadline will stop the work: %s", error)

    # -- what the transport tells ---------------------------------------------------------------

    def _on_message(self, message: Message) -> None:
        waiter = self._leave(message.correlation_id)
        if waiter is None:
            self.late_replies += 1
        else:
            waiter.succeed(message)

    def _on_undelivered(self, correlation_id: str, error: RpcError) -> None:
        waiter = self._leave(correlation_id)
        if waiter is not None:
            waiter.fail(error)

    def _on_state(self, state: State, why: str) -> None:
        self._state = state
        if state is State.CONNECTED:
            self._wake_all()
        elif state in (State.RECONNECTING, State.CLOSED):
            self._why = why
            self._fail_pending(ConnectionLost(f"{self.url}: {why}"))
            if state is State.CLOSED:
                self._wake_all()
        else:
            self._why = why

    def _expire(self, now: float) -> None:
        for _, waiter in self._pending.expire(now):
            waiter.fail(DeadlineExceeded("no reply within the call's time; it may have run"))
        self._wake_all()

    def _fail_pending(self, error: RpcError) -> None:
        for _, waiter in self._pending.drain():
            waiter.fail(error)

    # -- being ready ----------------------------------------------------------------------------

    async def _wait_ready(self, call: Call) -> None:
        """At most `send_wait` of the call's time, then `NotSent`."""
        self._bind_to_loop()
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings.send_wait
        if call.deadline is not None:
            until = min(until, call.deadline.at)
        while self._state is not State.CONNECTED or self._pending.full:
            if self._closed or self._state is State.CLOSED:
                raise NotSent(f"{self.url}: {self._why or 'the client is closed'}")
            if self._connecting is None:
                self._connecting = self._owned(self._connect_patiently())
            await self._wait_at_gate(until)

    async def _wait_at_gate(self, until: float) -> None:
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[None] = loop.create_future()
        timer = loop.call_at(until, _give_up, waiting, self._not_ready)
        self._gate.append(waiting)
        try:
            await waiting
        finally:
            timer.cancel()
            if waiting in self._gate:
                self._gate.remove(waiting)

    def _not_ready(self) -> NotSent:
        if self._pending.full and self._state is State.CONNECTED:
            return NotSent(f"{self._pending.limit} calls are already pending; raise max_pending or call less at once")
        return NotSent(f"{self.url} is {self._state}: {self._why or 'not connected'}")

    def _wake_one(self) -> None:
        while self._gate:
            waiting = self._gate.popleft()
            if not waiting.done():
                waiting.set_result(None)
                return

    def _wake_all(self) -> None:
        gate, self._gate = self._gate, deque()
        for waiting in gate:
            if not waiting.done():
                waiting.set_result(None)

    async def _connect(self) -> None:
        try:
            await self._transport.connect()
            await self._transport.open_inbox(self._on_message)
        except BaseException as error:
            self._connecting = None
            self._why = str(error)
            raise
        self._state = State.CONNECTED
        self._wake_all()

    async def _connect_patiently(self) -> None:
        """For calls that came before the connection: each waits its own time, this tries while any does."""
        backoff, attempt, began = Backoff(), 0, asyncio.get_running_loop().time()
        while not self._closed:
            try:
                return await self._connect()
            except NotSent:
                if not self._gate:
                    return
            except UsageError as error:
                self._fail_gate(error)
                return
            self._connecting = asyncio.current_task()
            elapsed = asyncio.get_running_loop().time() - began
            await asyncio.sleep(backoff.delay(attempt, elapsed, _uniform))
            attempt += 1

    def _fail_gate(self, error: RpcError) -> None:
        gate, self._gate = self._gate, deque()
        for waiting in gate:
            if not waiting.done():
                waiting.set_exception(error)

    # -- housekeeping ---------------------------------------------------------------------------

    def _open_transport(self) -> Transport:
        transport = self._given_transport or open_transport(self.url, self.settings.options_for(self.url.scheme))
        transport.on_state(self._on_state)
        transport.on_undelivered(self._on_undelivered)
        return transport

    def _forget_connection(self) -> None:
        self._pending: PendingCalls[Waiter[Message]] = PendingCalls(self.settings.max_pending)
        self._state = State.CONNECTING
        self._why = ""
        self._closed = False
        self._gate: deque[asyncio.Future[None]] = deque()
        self._cancels: deque[Message] = deque(maxlen=self.settings.max_pending)
        self._cancelling: asyncio.Task[None] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: TableTimer | None = None

    def _bind_to_loop(self) -> None:
        """A client serves one event loop at a time; in a new one it starts over."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None:
            self._transport = self._open_transport()
            self._forget_connection()
        self._loop = loop
        self._timer = TableTimer(loop, self._expire, self._pending.next_deadline)

    def _owned(self, work: Awaitable[None]) -> asyncio.Task[None]:
        task = cast("asyncio.Task[None]", asyncio.ensure_future(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_retrieve)
        return task

    def _timer_stop(self) -> None:
        if self._timer is not None:
            self._timer.stop()

    def _overdue(self, call: Call) -> bool:
        return call.deadline is not None and call.deadline.remaining(asyncio.get_running_loop().time()) <= 0

    def _split(self, target: str) -> tuple[str, str]:
        known = self._targets.get(target)
        if known is None:
            known = (check_address(target), "") if self._all_address(target) else split_target(target)
            if len(self._targets) < MAX_TARGETS:
                self._targets[target] = known
        return known

    def _all_address(self, target: str) -> bool:
        """A plain peer has no method names: the target is all address."""
        return self._transport.options.dialect != NATIVE

    def _options(
        self,
        base: CallOptions,
        timeout: float | None | _Unset,
        headers: Mapping[str, str] | None,
        idempotent: bool | None,
        no_server: NoServer | None,
    ) -> CallOptions:
        if headers is None and idempotent is None and no_server is None and isinstance(timeout, _Unset):
            return base
        return CallOptions(
            timeout=base.timeout if isinstance(timeout, _Unset) else timeout,
            headers=_check_headers(headers) if headers is not None else base.headers,
            idempotent=base.idempotent if idempotent is None else idempotent,
            no_server=base.no_server if no_server is None else no_server,
        )


class Peer:
    """A service at an address: ``peer.fib(30)``, ``peer.call(30)``, ``peer.using(timeout=3).fib(30)``."""

    def __init__(self, client: Client, address: str, options: CallOptions) -> None:
        self._client = client
        self._address = address
        self._options = options

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        if method.startswith("__"):
            raise AttributeError(method)

        def call(*args: Any, **kwargs: Any) -> Awaitable[Any]:
            return self._client._invoke(self._address, method, args, kwargs, self._options)

        return call

    async def call(self, *args: Any, **kwargs: Any) -> Any:
        """Call the service's only method, or its default one."""
        return await self._client._invoke(self._address, "", args, kwargs, self._options)

    def using(
        self,
        *,
        timeout: float | None | _Unset = UNSET,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        no_server: NoServer | None = None,
    ) -> Peer:
        """The same peer with other call options, kept apart from the arguments."""
        options = self._client._options(self._options, timeout, headers, idempotent, no_server)
        return Peer(self._client, self._address, options)

    def __repr__(self) -> str:
        return f"<Peer {self._address!r} on {self._client.url}>"


class TypedClient:
    """The base of typed clients: a generated class adds a typed method for each of the service's.

    url, settings, dialect, middleware and overrides are those of `Client`; `client` shares one that exists.
    """

    address: ClassVar[str]

    def __init__(self, url: str | None = None, *, client: Client | None = None, **options: Any) -> None:
        self.client = client if client is not None else Client(url, **options)
        self._options = self.client.options
        self._owns_client = client is None

    async def __aenter__(self) -> Self:
        await self.client.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the client, unless it was given from outside."""
        if self._owns_client:
            await self.client.close()

    def using(self, **options: Any) -> Self:
        """The same client with other call options: timeout, headers, idempotent, no_server."""
        other = object.__new__(type(self))
        other.client, other._owns_client = self.client, False
        other._options = replace(self._options, **options)
        return other

    async def _call(
        self,
        method: str,
        returns: TypeAdapter[T],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        *,
        idempotent: bool = False,
    ) -> T:
        options = replace(self._options, idempotent=True) if idempotent else self._options
        value = await self.client._invoke(self.address, method, args, kwargs or {}, options)
        try:
            return returns.validate_python(value)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise BadReply(f"{self.address}.{method} returned something else than it promises: {problem}") from error


def cancel_topic(address: str) -> str:
    """Where the servers of an address hear of cancelled calls."""
    return f"rpckit.cancel.{address}"


def write_body(call: Call) -> None:
    """Encode a call's arguments, once for all its attempts."""
    if call.body is not None:
        return
    message = Message(Kind.REQUEST, call.address, call.method, dialect=call.dialect, content_type=call.content_type)
    write_arguments(message, call.args, call.kwargs)
    call.body, call.content_type = message.body, message.content_type


def _read_value(reply: Message, max_body: int) -> Any:
    if len(reply.body) > max_body:
        raise BadReply(f"the reply has {len(reply.body)} bytes: over max_body ({max_body})")
    try:
        if reply.dialect == NATIVE:
            return codec.decode(reply.content_type, reply.body)
        return codec.decode_guess(reply.content_type, reply.body)
    except codec.CodecError as error:
        raise BadReply(f"the reply cannot be read: {error}") from error


def _read_error(reply: Message) -> RpcError:
    try:
        return read_fault(reply).to_error()
    except codec.CodecError as error:
        return BadReply(f"the other side reported a fault that cannot be read: {error}")


def _check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError(f"headers are strings both ways; {name!r:.60} is {type(value).__name__}")
    return headers


def _with_dialect(url: Url, dialect: str | None) -> Url:
    return url if dialect is None else replace(url, query={**url.query, "dialect": dialect})


def _give_up(waiting: asyncio.Future[None], reason: Callable[[], NotSent]) -> None:
    if not waiting.done():
        waiting.set_exception(reason())


def _retrieve(task: asyncio.Task[None]) -> None:
    """Whoever awaits the task raises its error; nobody need to be warned of it twice."""
    if not task.cancelled():
        task.exception()


def _uniform() -> float:
    return random.random()
