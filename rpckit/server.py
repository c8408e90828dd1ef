"""The server: services on transports, from start to drain. A thin shell; calls live in `rpckit.dispatch`."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from rpckit.call import cancel_topic, event_topic
from rpckit.context import Context
from rpckit.contract import Service
from rpckit.dispatch import Dispatcher, Link
from rpckit.errors import NotSent, RpcError, UsageError
from rpckit.message import Kind, Message
from rpckit.middleware import Middleware
from rpckit.registry import open_transport
from rpckit.settings import Settings, given_settings
from rpckit.transport import State, Transport
from rpckit.url import Url
from rpckit.watch import LoopWatch

__all__ = ["Server"]

log = logging.getLogger(__name__)

STOP_S = 2.0  # seconds for the broker to end its deliveries

F = TypeVar("F", bound=Callable[..., Any])


class Server:
    """Serves services until it is told to stop, then drains.

    url:         the broker, or several to serve on at once; from the settings when left out.
    middleware:  ``async def m(context, call_next)`` around each handler, outermost first.
    overrides:   any setting by name: concurrency (handlers at once), grace (seconds to drain), max_body, debug …
    """

    def __init__(
        self,
        *services: Service,
        url: str | Sequence[str] | None = None,
        settings: Settings | None = None,
        middleware: Sequence[Middleware[Context]] = (),
        **overrides: Any,
    ) -> None:
        given = {name: value for name, value in overrides.items() if value is not None}
        self.settings = settings = given_settings(settings, given)
        urls = [url] if isinstance(url, str) else list(url or [settings.url])
        self.urls = [Url.parse(each) for each in urls]
        self._services = list(services)
        self._middleware = middleware
        self._dispatcher: Dispatcher | None = None
        self._stopping: asyncio.Event | None = None
        self._fatal: str | None = None
        self._watch: LoopWatch | None = None

    @property
    def services(self) -> Sequence[Service]:
        return self._services

    @property
    def in_flight(self) -> int:
        """Calls delivered and not yet answered."""
        return len(self._dispatcher.inflight) if self._dispatcher else 0

    def handler(self, address: str, **options: Any) -> Callable[[F], F]:
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
        """Connect and receive. Raises `NotSent` or `UsageError`; nothing is left running then."""
        self._check_contract()
        settings = self.settings
        self._stopping = asyncio.Event()
        self._dispatcher = Dispatcher(
            settings.concurrency,
            max_body=settings.max_body,
            middleware=self._middleware,
            debug=settings.debug,
        )
        try:
            for url in self.urls:
                await self._open(url)
        except BaseException:
            dispatcher, self._dispatcher = self._dispatcher, None
            await self._close(dispatcher)
            raise
        self._watch = LoopWatch(self._dispatcher.handler_of)
        self._watch.start()

    async def stop(self, grace: float | None = None) -> None:
        """Drain for up to `grace` seconds, then close. Twice is once."""
        dispatcher, self._dispatcher = self._dispatcher, None
        if dispatcher is None:
            return
        if self._watch is not None:
            self._watch.stop()
        try:
            for link in dispatcher.links:
                await _stop_receivers(link)
            await dispatcher.drain(self.settings.grace if grace is None else grace)
        finally:  # cancelled as well: nothing stays open
            await self._close(dispatcher)

    async def run(self) -> None:
        """Serve until SIGINT or SIGTERM, then drain; a second signal stops at once.

        Raises `NotSent` when a connection is lost for good.
        """
        remove = _on_signals(self._interrupt)  # before starting: whoever sees it ready may stop it at once
        try:
            async with self:
                stopping = self._stopping
                assert stopping is not None  # set by start
                await stopping.wait()
                if self._fatal is not None:
                    raise NotSent(self._fatal)
                await self.stop()
        finally:
            remove()

    def _interrupt(self) -> None:
        assert self._stopping is not None  # signals are handled only while running
        if not self._stopping.is_set():
            log.info("stopping: draining for up to %s s; once more to stop at once", self.settings.grace)
            self._stopping.set()
            return
        for task in asyncio.all_tasks():
            task.cancel()

    def _check_contract(self) -> None:
        if not self._services:
            raise UsageError("nothing to serve: give Server(…) a service, or use @server.handler(address)")
        addresses = [service.address for service in self._services if service.methods]
        twice = {address for address in addresses if addresses.count(address) > 1}
        if twice:
            raise UsageError(f"two services at the address {min(twice)!r}")
        for service in self._services:
            if not service.methods and not service.events:
                raise UsageError(f"service {service.name!r} has no methods, and hears no events")

    async def _open(self, url: Url) -> None:
        assert self._dispatcher is not None  # created by start
        transport = open_transport(url, self.settings.options_for(url.scheme))
        _check_capabilities(transport, self._services)
        link = Link(f"{len(self._dispatcher.links)}", transport)
        self._dispatcher.links.append(link)
        transport.on_state(partial(self._on_state, url))
        transport.on_gone(partial(self._dispatcher.caller_gone, link))
        await transport.connect(serve=True)
        await self._receive(link)

    async def _receive(self, link: Link) -> None:
        dispatcher = self._dispatcher
        assert dispatcher is not None  # created by start
        for service in self._services:
            await self._hear(link, service)
        answering = [service for service in self._services if service.methods]
        for service in answering:
            await link.transport.subscribe(cancel_topic(service.address), partial(_on_cancel, dispatcher, link))
        for service in answering:
            accept = partial(dispatcher.accept, link, service)
            link.receivers.append(await link.transport.receive(service.address, accept, prefetch=dispatcher.prefetch))

    async def _hear(self, link: Link, service: Service) -> None:
        """The events of a service."""
        dispatcher = self._dispatcher
        assert dispatcher is not None  # created by start
        for event in service.events:
            accept = partial(dispatcher.accept_event, link, service, event.spec)
            topic = event_topic(event.topic)
            link.receivers.append(await link.transport.subscribe(topic, accept, group=event.group))

    def _on_state(self, url: Url, state: State, why: str) -> None:
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
        for link in dispatcher.links:
            try:
                await link.transport.close()
            except RpcError as error:
                log.warning("closing: %s", error)
        dispatcher.stop_timer()


def _on_cancel(dispatcher: Dispatcher, link: Link, message: Message) -> None:
    if message.kind is Kind.CANCEL:
        dispatcher.cancel(link, message)


async def _stop_receivers(link: Link) -> None:
    """At most `STOP_S` in all: over a dead link there is nobody to tell."""
    try:
        async with asyncio.timeout(STOP_S):
            for receiver in link.receivers:
                await receiver.stop()
    except (RpcError, TimeoutError) as error:
        log.warning("stopping to receive: %s", str(error) or f"no answer within {STOP_S:.0f} s")


def _check_capabilities(transport: Transport, services: Sequence[Service]) -> None:
    """What a service demands and the transport cannot do is refused at start-up."""
    capabilities = transport.capabilities
    for service in services:
        for spec in service.methods.values():
            if spec.delivery == "at_least_once" and not capabilities.redelivers:
                raise UsageError(
                    f'{service.name}.{spec.name} demands delivery="at_least_once", which {capabilities.name} '
                    "cannot give: it does not redeliver what a dead server left"
                )
        for event in service.events:
            if event.group and not capabilities.event_groups:
                raise UsageError(
                    f"{service.name} hears {event.topic!r} in the group {event.group!r}, which {capabilities.name} "
                    "cannot give: there each event reaches everyone; leave the group out"
                )


def _on_signals(callback: Callable[[], None]) -> Callable[[], None]:
    """Call back on SIGINT and SIGTERM; returns what undoes it. Without signals (Windows, threads) nothing."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        for number in numbers:
            loop.add_signal_handler(number, callback)
    except (NotImplementedError, RuntimeError, ValueError):
        return lambda: None

    def undo() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    return undo
