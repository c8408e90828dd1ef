"""The server: services on transports, from start to drain. A thin shell; calls live in `rpckit.dispatch`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from rpckit.answering import Answerer
from rpckit.client import Client
from rpckit.context import Context
from rpckit.contract import MethodOptions, Service
from rpckit.dispatch import Dispatcher
from rpckit.errors import ConnectionLost, NotSent, RpcError, UsageError
from rpckit.importing import being_imported
from rpckit.job import Link
from rpckit.middleware import Middleware
from rpckit.peers import OnPeer, PeerBook, Peers
from rpckit.registry import open_transport
from rpckit.serving import check_capabilities, new_dispatcher, serve_on
from rpckit.signals import on_signals
from rpckit.transport import State, Transport
from rpckit.url import Url
from rpckit.watch import LoopWatch

if TYPE_CHECKING:
    from rpckit.settings import Settings

__all__ = ["Server"]

log = logging.getLogger(__name__)

STOP_S = 2.0  # seconds for the broker to end its deliveries

F = TypeVar("F", bound=Callable[..., Any])


class Server:
    """Serves services until it is told to stop, then drains.

    url:         the broker, or several to serve on at once; from the settings when left out.
    middleware:  ``async def m(context, call_next)`` around each handler, outermost first.
    on_connect, on_disconnect: ``async def hook(peer)`` for each peer that comes or goes, on sessions (`ws://`);
                 they may call it: ``await peer.other.hello()``.
    transport:   in place of a url, one that is made already.
    transport_options: options of the transports, as in the query of their URLs.
    overrides:   any setting by name: concurrency (handlers at once), grace (seconds to drain), max_body, debug …
    """

    def __init__(
        self,
        *services: Service,
        url: str | Sequence[str] | None = None,
        settings: Settings | None = None,
        middleware: Sequence[Middleware[Context]] = (),
        on_connect: OnPeer | None = None,
        on_disconnect: OnPeer | None = None,
        transport: Transport | None = None,
        transport_options: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> None:
        from rpckit.settings import given_settings  # not before somebody needs one: it takes long

        self.settings = settings = given_settings(settings, overrides)
        urls = [url] if isinstance(url, str) else list(url or [settings.url])
        self.urls = [Url.parse(each) for each in urls] if transport is None else []
        self.peers = Peers()
        self._transport = transport
        self._transport_options = dict(transport_options or {})
        self._hooks = (on_connect, on_disconnect)
        self._callers: list[Client] = []
        self._books: list[PeerBook] = []
        self._services = list(services)
        self._middleware = middleware
        self._dispatcher: Dispatcher | None = None
        self._working: Dispatcher | None = None  # from when it serves until it is closed
        self._answerer: Answerer | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Event | None = None
        self._ended: asyncio.Event | None = None  # from a start to the end of closing it is not set
        self._fatal: str | None = None
        self._watch: LoopWatch | None = None
        self._told: dict[str, tuple[State, str]] = {}  # the last state of each transport

    @property
    def services(self) -> Sequence[Service]:
        return self._services

    @property
    def in_flight(self) -> int:
        """Calls and events delivered and not yet over."""
        return len(self._dispatcher.inflight) if self._dispatcher else 0

    async def emit(self, topic: str, /, *args: Any, **kwargs: Any) -> None:
        """Tell everyone who listens to `topic`, on each transport of this server; at most once.

        What is given by name is an argument. Raises `UsageError`, and `NotSent` where no transport took it; where some
        did not, the log tells.
        """
        if self._dispatcher is None:
            raise NotSent("the server is not running")
        await self._dispatcher.emit(self._dispatcher.links, topic, args, kwargs)

    def handler(self, address: str, **options: Unpack[MethodOptions]) -> Callable[[F], F]:
        """Serve one function at one address, without a Service: ``@server.handler("channel:test-channel")``."""

        def register(function: F) -> F:
            service = Service(address, address=address)
            service.method(**options)(function)
            self._services.append(service)
            return function

        return register

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect and receive. Raises `NotSent` or `UsageError`; nothing is left running then.

        A server that runs or still stops is left as it is, with a `UsageError`; one that is stopped meanwhile raises
        `NotSent`. Cancelling is safe.
        """
        if self._dispatcher is not None:
            raise UsageError("this server is running already: `async with server` and `run` each start it")
        if self._ended is not None and not self._ended.is_set():
            raise UsageError("this server is still stopping: `await server.stop()` returns when it may start again")
        _check_not_imported()
        self._check_contract()
        self._told.clear()
        self._stopping = asyncio.Event()
        self._dispatcher = dispatcher = new_dispatcher(self.settings, self._middleware)
        self._answerer = Answerer(dispatcher, self._services) if self.settings.discovery else None
        self._ended = asyncio.Event()
        # a task of its own, so that `stop` can end it and what comes of that is not taken for a cancel of ours
        self._starting = starting = asyncio.get_running_loop().create_task(self._open_all(dispatcher))
        try:
            await asyncio.wait([starting])
            if self._dispatcher is not dispatcher or starting.cancelled():
                raise _StoppedMeanwhile("this server was stopped while it started")
            starting.result()
        except _StoppedMeanwhile:  # on the first of several transports it may serve already
            await self.stop()
            raise
        except BaseException:
            await self.stop(grace=0)
            raise
        self._watch = LoopWatch(dispatcher.handler_of)
        self._watch.start()
        self._working = dispatcher

    async def stop(self, grace: float | None = None) -> None:
        """Drain for up to `grace` seconds (those of the settings with None), then close. Twice is once: both wait.

        Cancelled while it drains it closes at once; cancelled while it closes, that goes on by itself.
        """
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is None:
            if self._ended is not None:
                await self._ended.wait()
            return
        starting, ended = self._starting, self._ended
        assert starting is not None  # set by start
        assert ended is not None
        if self._watch is not None:
            self._watch.stop()
        try:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            for link in dispatcher.links:
                await _stop_receivers(link)
            await dispatcher.drain(self.settings.grace if grace is None else grace)
        finally:  # cancelled as well: nothing stays open
            closing = asyncio.get_running_loop().create_task(self._close(dispatcher))
            closing.add_done_callback(lambda _: ended.set())
            await asyncio.shield(closing)

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM, then drain; a second signal stops at once what still runs.

        Its callers are told; idempotent calls are given back to a broker that keeps them. The first one while it starts
        ends that at once. A third signal, or a second one while it starts, cancels every task of the process.
        Raises `NotSent` when a connection is lost for good.
        """
        remove = on_signals(self._interrupt)  # before starting: whoever sees it ready may stop it at once
        try:
            async with self:
                stopping = self._stopping
                assert stopping is not None  # set by start
                await stopping.wait()
                if self._fatal is not None:
                    raise NotSent(self._fatal)
                await self.stop()
        except _StoppedMeanwhile:
            pass
        finally:
            remove()

    def _interrupt(self) -> None:
        assert self._stopping is not None  # signals are handled only while running
        assert self._starting is not None
        if not self._stopping.is_set():
            log.info("stopping: draining for up to %s s; once more to stop at once", self.settings.grace)
            self._stopping.set()
            self._starting.cancel()  # nothing, once it has started
        elif self._working is None or not self._working.hurry():
            for task in asyncio.all_tasks():
                task.cancel()

    def _check_contract(self) -> None:
        for service in self._services:
            if not isinstance(service, Service):
                raise UsageError(f"a server serves instances of Service, not {service!r:.80}")
        if not self._services:
            raise UsageError("nothing to serve: give Server(…) a service, or use @server.handler(address)")
        addresses = [service.address for service in self._services if service.methods]
        twice = {address for address in addresses if addresses.count(address) > 1}
        if twice:
            raise UsageError(f"two services at the address {min(twice)!r}")
        for service in self._services:
            if not service.methods and not service.events:
                raise UsageError(f"service {service.name!r} has no methods, and hears no events")

    async def _open_all(self, dispatcher: Dispatcher) -> None:
        try:
            for url in self.urls:
                options = {**self.settings.options_for(url.scheme), **self._transport_options}
                await self._open(dispatcher, open_transport(url, options), url)
            if self._transport is not None:
                await self._open(dispatcher, self._transport, self._transport.capabilities.name)
        except ConnectionLost as error:  # nothing of a caller's had left
            raise NotSent(str(error)) from error

    async def _open(self, dispatcher: Dispatcher, transport: Transport, url: Url | str) -> None:
        check_capabilities(transport, self._services)
        link = Link(f"{len(dispatcher.links)}", transport)
        dispatcher.links.append(link)
        transport.on_state(partial(self._on_state, url))
        transport.on_gone(partial(dispatcher.caller_gone, link))
        if transport.capabilities.sessions:  # before anybody can connect
            await self._open_sessions(link, url)
            await self._serve_on(dispatcher, link)
            await transport.connect(serve=True)
        else:
            await transport.connect(serve=True)
            await self._serve_on(dispatcher, link)

    async def _serve_on(self, dispatcher: Dispatcher, link: Link) -> None:
        await serve_on(dispatcher, link, self._services)
        if self._answerer is not None:
            await self._answerer.open(link)

    async def _open_sessions(self, link: Link, url: Url | str) -> None:
        """Peers can be called too: by a client that shares the transport."""
        address = str(url) if isinstance(url, Url) else "ws://endpoint"
        caller = Client(address, settings=self.settings, transport=link.transport)
        self._callers.append(caller)
        self._books.append(PeerBook(self.peers, caller, link.transport, *self._hooks))
        link.other = caller.peer
        await caller.connect()

    def _on_state(self, url: Url | str, state: State, why: str) -> None:
        before, self._told[str(url)] = self._told.get(str(url)), (state, why)
        if before == (state, why) and state is not State.CLOSED:  # of another connection of the same transport
            return
        if state is State.CONNECTED and before is not None and before[0] is not State.CONNECTED:
            log.warning("%s is %s again: %s", url, state, why)  # as loud as its loss was
            return
        if state is State.CONNECTED:
            log.info("%s: %s", url, why)
            return
        if state is State.CLOSED and self._stopping is not None and self._stopping.is_set():
            log.info("%s: %s", url, why)
            return
        log.warning("%s is %s: %s", url, state, why)
        if state is State.CLOSED and self._stopping is not None:
            self._fatal = f"{url}: {why}"
            self._stopping.set()

    async def _close(self, dispatcher: Dispatcher) -> None:
        if self._stopping is not None:
            self._stopping.set()
        if self._answerer is not None:
            await self._answerer.stop()
        for link in dispatcher.links:
            try:
                await link.transport.close()
            except RpcError as error:
                log.warning("closing: %s", error)
        for book in self._books:
            await book.close()
        for caller in self._callers:
            await caller.close()
        self._books, self._callers = [], []
        dispatcher.stop_timer()
        self._working = None


class _StoppedMeanwhile(NotSent):
    """To whoever started it; `run` ends with it in order."""


def _check_not_imported() -> None:
    if module := being_imported():
        raise UsageError(
            f'{module} starts a server while it is imported: put that line under `if __name__ == "__main__":`, '
            "so that others can import its services"
        )


async def _stop_receivers(link: Link) -> None:
    """At most `STOP_S` in all: over a dead link there is nobody to tell."""
    try:
        async with asyncio.timeout(STOP_S):
            for receiver in link.receivers:
                await receiver.stop()
    except (RpcError, TimeoutError) as error:
        log.warning("stopping to receive: %s", str(error) or f"no answer within {STOP_S:.0f} s")
    except Exception:  # of a transport: whatever it is, what runs is still to be drained
        log.exception("stopping to receive")
