"""The client: what users call, made into `Attempts` over one transport.

Its invariant: whatever is asked for ends by its time, with a result or one error of `rpckit.errors`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from rpckit import codec
from rpckit.attempts import Attempts, Pending
from rpckit.call import (
    UNSET,
    Call,
    CallOptions,
    NoServer,
    Reply,
    Timeout,
    check_carried,
    check_size,
    event_message,
    read_error,
    read_reply,
    read_value,
    seconds,
    write_body,
)
from rpckit.connecting import Connecting
from rpckit.contract import Service, check_address, check_method_name, split_target
from rpckit.discovery import ADDRESS as DISCOVERY
from rpckit.errors import (
    DeadlineExceeded,
    MethodNotFound,
    NoResponder,
    UsageError,
)
from rpckit.ids import new_id
from rpckit.message import NATIVE, PLAIN, Kind, Message
from rpckit.middleware import Middleware, compose
from rpckit.nesting import inherit
from rpckit.peer import Peer
from rpckit.peers import OnPeer, PeerBook, Peers
from rpckit.pending import PendingCalls
from rpckit.queries import Answer, Query, as_answer
from rpckit.registry import open_transport
from rpckit.serving import Serving
from rpckit.survey import Surveys, check_survey
from rpckit.transport import ReplyStore, State, Transport
from rpckit.url import Url

if TYPE_CHECKING:
    from rpckit.settings import Settings

__all__ = ["Client"]

log = logging.getLogger(__name__)

MAX_TARGETS = 1024  # targets whose address and method are remembered
CONNECTED = State.CONNECTED  # see `rpckit.message.REQUEST`


class Client:
    """Calls functions on other machines.

    url:        the broker; from the settings when left out.
    dialect:    "native"; for servers that are not rpckit's "plain", on Redis also "faststream", over WebSocket
                "jsonrpc" or "fastapi_websocket_rpc".
    middleware: ``async def m(call, call_next)`` around each call, outermost first.
    expose:     a service, or several, that the other side may call, on sessions (`ws://`).
    on_connect, on_disconnect: ``async def hook(peer)`` after each connect, and when it is lost, on sessions;
                they may call it: ``await peer.other.hello()``.
    transport:  one made already, that no other client uses; its owner opens and closes it.
    transport_options: options of the transport, as in the query of its URL: ``{"headers": {"x-token": …}}``.
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
        expose: Service | Sequence[Service] = (),
        on_connect: OnPeer | None = None,
        on_disconnect: OnPeer | None = None,
        transport: Transport | None = None,
        transport_options: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> None:
        from rpckit.settings import given_settings  # not before somebody needs one: it takes long

        self.settings = given_settings(settings, overrides)
        self.url = _with_dialect(Url.parse(url if url is not None else self.settings.url), dialect)
        self._shared = transport
        self._transport_options = dict(transport_options or {})
        self._exposed = [expose] if isinstance(expose, Service) else list(expose)
        self._hooks = (on_connect, on_disconnect)
        self.options = CallOptions(timeout=self.settings.timeout, no_server=self.settings.no_server)
        self._max_body = self.settings.max_body  # of a model: each look at it takes the long way
        self.late_replies = 0
        self._run_call = compose(middleware, self._perform)
        self._run_request = compose(middleware, self._perform_raw)
        self._run_notification = compose(middleware, self._perform_unanswered)
        self._targets: dict[str, tuple[str, str]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._start_over()
        self._check_wait(self.options.no_server)

    def _start_over(self) -> None:
        """Everything that belongs to one event loop."""
        options = {**self.settings.options_for(self.url.scheme), **self._transport_options}
        self._transport = self._shared or open_transport(self.url, options)
        self._serving: Serving | None = None
        self._book: PeerBook | None = None
        if self._exposed or any(self._hooks):
            self._check_sessions()
        self._transport.on_state(self._on_state)
        self._dialect = self._transport.options.form
        self._pending: Pending = PendingCalls(self.settings.max_pending)
        self._connecting = Connecting(self.url, self._transport, self._pending, self._open, self._own)
        self._attempts = Attempts(
            self._transport,
            self._pending,
            self._connecting,
            max_body=self._max_body,
            send_wait=self.settings.send_wait,
            own=self._own,
            on_other=self._on_other,
        )
        self._transport.on_undelivered(self._attempts.on_undelivered)
        self._closing: asyncio.Task[None] | None = None
        self._surveys = Surveys()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- life ---------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        return self._connecting.state

    @property
    def pending(self) -> int:
        """Calls sent and not yet settled."""
        return len(self._pending)

    @property
    def transport(self) -> Transport:
        return self._transport

    async def __aenter__(self) -> Self:
        try:
            await self.connect()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def connect(self) -> None:
        """Connect now instead of on first use. Raises `NotSent` when it cannot, `UsageError` when it never will."""
        self._bind_to_loop()
        if not self._connecting.closed:
            await self._connecting.connect()
        if self.state not in (State.CONNECTED, State.BLOCKED):
            raise self._connecting.not_connected()

    async def wait_ready(self, timeout: float | None) -> None:
        """Return when connected, trying for at most `timeout` seconds, or for ever with None.

        Raises `NotSent` that says why it is not, `UsageError`.
        """
        loop = self._bind_to_loop()
        limit = seconds(timeout)
        await self._connecting.wait_connected(math.inf if limit is None else loop.time() + limit)

    async def close(self) -> None:
        """End pending calls with `ConnectionLost`, then the connection. Twice is once.

        Cancelled, it goes on by itself; closing again waits for its end. In this event loop it stays closed.
        """
        loop = self._bind_to_loop()
        if self._closing is None:
            self._closing = loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._connecting.close()
        self._lose("the client was closed while the call was pending")
        await self._attempts.end()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._serving is not None:
            await self._serving.stop()
        if self._shared is None:
            await self._transport.close()
        if self._book is not None:
            await self._book.close()

    # -- calling ------------------------------------------------------------------------------

    async def call(
        self,
        target: str,
        /,
        *args: Any,
        timeout: Timeout = UNSET,
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
        options = self.options.but(timeout, headers, idempotent, no_server)
        return await self._run_call(self._prepare(address, method, args, kwargs, options))

    async def notify(
        self,
        target: str,
        /,
        *args: Any,
        timeout: Timeout = UNSET,
        headers: Mapping[str, str] | None = None,
        idempotent: bool | None = None,
        no_server: NoServer | None = None,
        reply_to: str = "",
        **kwargs: Any,
    ) -> None:
        """Call without waiting: returns when the broker has it. Whether it ran is never known, but for `reply_to`.

        Raises `NotSent`, `NoResponder`, `OutcomeUnknown` when nobody says that the broker has it, `UsageError`.
        Cancelled, it may have been sent. At most once, unless `idempotent`.
        timeout: seconds until it is not worth beginning any more; None keeps it for a server that comes late.
        idempotent: it may run twice, so that the broker keeps it over a restart, where the transport `persists`.
        reply_to: where the reply is stored for `collect`, on a transport that `stores_replies`:
        ``"list:rpckit:reply:job-7"`` on Redis.
        """
        address, method = self._split(target)
        if reply_to:
            self._check_stores()
        options = self.options.but(timeout, headers, idempotent, no_server)
        await self.notify_at(address, method, args, kwargs, options, reply_to=reply_to)

    async def notify_at(
        self,
        address: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        to: str = "",
        reply_to: str = "",
    ) -> None:
        """`notify` with everything spelt out, raising as it does.

        to: a session of the transport's; with it the call is done with once it is written.
        """
        call = self._prepare(address, method, args, kwargs, options)
        call.to, call.reply_to = to, reply_to
        if to:
            call.message_id = ""  # no receipt is wanted
        await self._run_notification(call)

    async def emit(self, topic: str, /, *args: Any, headers: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        """Tell everyone who listens to `topic`, at most once: returns when it is written.

        Never an error when nobody listens. Raises `NotSent`, or `UsageError` for what cannot be sent.
        Cancelling is safe.
        """
        loop = self._bind_to_loop()
        event = event_message(topic, new_id(), args, kwargs, self.options.headers if headers is None else headers)
        check_carried(self._transport.capabilities, topic)
        check_size(event.body, event.address, self._max_body)
        await self._connecting.wait_connected(loop.time() + self.settings.send_wait)
        await self._transport.publish(event.address, event)

    async def collect(self, reply_to: str, *, timeout: Timeout = UNSET) -> Any:
        """Wait for the oldest reply stored at `reply_to`, take it away, and return its value or raise its error.

        timeout: seconds, connecting among them; None waits for ever.
        Raises `DeadlineExceeded` when none comes, `NotSent` when not connected within `send_wait`, `ConnectionLost`,
        `BadReply`, `UsageError`. Cancelled just as a reply is taken away, it is lost.
        """
        self._check_stores()
        loop = self._bind_to_loop()
        limit = self.options.but(timeout).timeout
        end = math.inf if limit is None else loop.time() + limit
        await self._connecting.wait_connected(min(loop.time() + self.settings.send_wait, end))
        limit = None if limit is None else max(0.0, end - loop.time())
        reply = await cast(ReplyStore, self._transport).collect(reply_to, limit)
        if reply.kind is Kind.FAULT:
            raise read_error(reply)
        return read_value(reply)

    async def request(
        self,
        address: str,
        body: Any = None,
        *,
        timeout: Timeout = UNSET,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = None,
        no_server: NoServer | None = None,
    ) -> Reply:
        """The raw form: `body` to `address`, and the raw reply.

        bytes and str go as they are, None as nothing, anything else as JSON; `content_type` overrides what is said
        of it.
        Raises and cancelling as `call`, but that a server of another kind hears of no cancel. At most once.
        """
        options = self.options.but(timeout, headers, None, no_server)
        call = self._prepare(check_address(address), "", (), {}, options)
        call.dialect = PLAIN if call.dialect == NATIVE else call.dialect
        try:
            call.body, guessed = codec.encode_guess(body)
        except codec.CodecError as error:
            raise UsageError(f"the body for {address} cannot be sent: {error}") from error
        call.content_type = content_type if content_type is not None else guessed
        reply: Reply = await self._run_request(call)
        return reply

    def at(self, address: str) -> Peer:
        """The service at `address`, its methods as attributes."""
        return Peer(self, check_address(address), self.options)

    @property
    def other(self) -> Peer:
        """The other side of the session: ``await client.other.concat(a="hello", b=" world")``."""
        self._check_sessions()
        return Peer(self, "", self.options)

    async def discover(self, to: str = "") -> dict[str, Any]:
        """What the other side of the session offers: an OpenRPC document, with names, types and docs.

        Raises and cancelling as `call`.
        """
        self._check_sessions()
        document: dict[str, Any] = await self.invoke(DISCOVERY, "discover", (), {}, self.options, to)
        return document

    async def survey(self, query: Query, address: str = "", *, wait: float = 0.3, first: bool = False) -> list[Answer]:
        """Ask every instance here, or those that serve `address`, and give their answers: none when nobody answers.

        query: "ping", "info", "stats" or "schema"; see `rpckit.queries`.
        wait:  seconds in which answers are collected; with `first` only until the first one, as over a session,
               where there is one instance.
        Raises `NotSent`, `ConnectionLost`, `UsageError`. Cancelling is safe.
        """
        check_survey(query, address, wait)
        loop = self._bind_to_loop()
        await self._connecting.wait_connected(loop.time() + self.settings.send_wait)
        if self._transport.capabilities.sessions:
            return await self._ask_session(query, address, wait)
        answers = await self._surveys.run(self._transport, query, address, wait, first=first)
        if not answers and self.state is State.BLOCKED:  # it may have been so before we knew
            raise self._connecting.not_connected()
        return answers

    async def _ask_session(self, query: Query, address: str, wait: float) -> list[Answer]:
        """A ping is asked for as info: JSON-RPC answers an `rpc.ping` of its own."""
        method = "info" if query == "ping" else query
        asked_at = time.perf_counter()
        try:
            value = await self.invoke(DISCOVERY, method, (), {"address": address}, self.options.but(wait))
        except (NoResponder, MethodNotFound, DeadlineExceeded):  # switched off, or not of this version, or stuck
            return []
        answer = as_answer(value, time.perf_counter() - asked_at)
        return [answer] if answer is not None else []

    def peer(self, session_id: str) -> Peer:
        """The other side of one session of a transport that has several."""
        return Peer(self, "", self.options, session_id)

    async def invoke(
        self,
        address: str,
        method: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
        to: str = "",
    ) -> Any:
        """`call` with everything apart, for typed clients; an empty method is the service's default one.

        Raises, cancelling and guarantee as `call`.
        """
        call = self._prepare(address, method, args, kwargs, options)
        call.to = to
        return await self._run_call(call)

    # -- one call -----------------------------------------------------------------------------

    def _prepare(
        self, address: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], options: CallOptions
    ) -> Call:
        loop = self._bind_to_loop()
        if options.no_server != "fail":
            self._check_wait(options.no_server)
        deadline, depth = inherit(options.timeout, loop)
        headers = dict(options.headers) if options.headers else {}
        return Call(address, method, args, kwargs, options, headers, deadline, new_id(), depth, self._dialect)

    def _check_wait(self, no_server: NoServer) -> None:
        if no_server == "wait" and not self._transport.capabilities.queue_wait:
            name = self._transport.capabilities.name
            raise UsageError(f'no_server="wait" needs a queue, which {name} has not: a server must be there first')

    def _check_sessions(self) -> None:
        capabilities = self._transport.capabilities
        if not capabilities.sessions:
            raise UsageError(
                f"{capabilities.name} has a broker between the two sides: use client.at(ADDRESS); "
                "expose, on_connect and other need a session, such as ws://"
            )

    def _check_stores(self) -> None:
        capabilities = self._transport.capabilities
        if not capabilities.stores_replies:
            raise UsageError(f"{capabilities.name} stores no replies: wait for them with call")

    async def _perform(self, call: Call) -> Any:
        """The innermost of the middleware: the attempts of a call, and the value of its reply."""
        write_body(call)
        attempts = self._attempts
        return read_value(await (attempts.until_settled(call) if call.options.idempotent else attempts.once(call)))

    async def _perform_raw(self, call: Call) -> Reply:
        return read_reply(await self._attempts.once(call))

    async def _perform_unanswered(self, call: Call) -> None:
        write_body(call)
        await self._attempts.unanswered(call)

    # -- what the transport tells ---------------------------------------------------------------

    def _on_other(self, message: Message) -> None:
        """What no pending call waits for."""
        if not self._surveys.take(message):
            self.late_replies += 1

    def _on_state(self, state: State, why: str) -> None:
        if self._connecting.closed:
            return
        self._connecting.told(state, why)
        if state in (State.RECONNECTING, State.CLOSED):
            self._lose(f"{self.url}: {why}")

    def _lose(self, why: str) -> None:
        self._attempts.lose(why)
        self._surveys.lose()

    # -- connecting -----------------------------------------------------------------------------

    async def _open(self) -> None:
        if self._transport.capabilities.sessions:
            await self._open_session()
        if self._shared is None:
            await self._transport.connect()
        await self._transport.open_inbox(self._attempts.on_message, self._pending)

    async def _open_session(self) -> None:
        """What the other side may find as soon as it is connected: services, hooks. Once."""
        if self._exposed and self._serving is None:
            serving = Serving(self._transport, self._exposed, self.settings, lambda _: self.other)
            try:
                await serving.start()
            except BaseException:
                await serving.stop()
                raise
            self._serving = serving
        if any(self._hooks) and self._book is None:
            self._book = PeerBook(Peers(), self, self._transport, *self._hooks)

    # -- housekeeping ---------------------------------------------------------------------------

    def _bind_to_loop(self) -> asyncio.AbstractEventLoop:
        """A client serves one event loop at a time; in a new one, once that has ended, it starts over."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return loop
        if self._loop is not None:
            if self._loop.is_running():
                raise UsageError("this client serves an event loop that runs in another thread: make one for each loop")
            self._start_over()
        self._loop = loop
        self._attempts.bind(loop)
        return loop

    def _own(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_retrieve)
        return task

    def _split(self, target: str) -> tuple[str, str]:
        """Address and method; a plain peer has no method names, so its target is all address."""
        known = self._targets.get(target)
        if known is None:
            known = self._split_new(target)
            if len(self._targets) < MAX_TARGETS:
                self._targets[target] = known
        return known

    def _split_new(self, target: str) -> tuple[str, str]:
        if not isinstance(target, str):
            raise UsageError(f'a target is "address.method", not {target!r:.60}')
        if self._dialect != NATIVE:
            return check_address(target), ""
        if "." not in target and self._transport.capabilities.sessions:
            return "", check_method_name(target)
        return split_target(target)


def _with_dialect(url: Url, dialect: str | None) -> Url:
    return url if dialect is None else replace(url, query={**url.query, "dialect": dialect})


def _retrieve(task: asyncio.Task[None]) -> None:
    """Whoever awaits the task raises its error; it need not be reported a second time."""
    if not task.cancelled():
        task.exception()
