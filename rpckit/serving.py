"""Services on one transport: what a server does on each of its own, and a client on a session for what it exposes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from rpckit.answering import Answerer
from rpckit.call import cancel_topic, check_carried
from rpckit.context import Context
from rpckit.contract import Service
from rpckit.dispatch import Dispatcher
from rpckit.errors import UsageError
from rpckit.job import Link
from rpckit.message import Kind, Message
from rpckit.middleware import Middleware
from rpckit.topics import event_topic, is_pattern
from rpckit.transport import Capabilities, Transport

if TYPE_CHECKING:
    from rpckit.settings import Settings

__all__ = ["Serving", "check_capabilities", "new_dispatcher", "problems", "serve_on"]


def new_dispatcher(settings: Settings, middleware: Sequence[Middleware[Context]] = ()) -> Dispatcher:
    """One that runs as many handlers, and takes as much, as the settings say."""
    return Dispatcher(
        settings.concurrency,
        max_body=settings.max_body,
        prefetch_ahead=settings.prefetch_ahead,
        middleware=middleware,
        debug=settings.debug,
    )


async def serve_on(dispatcher: Dispatcher, link: Link, services: Sequence[Service]) -> None:
    """Receive for `services` on a link: events, requests, cancels; on sessions also methods without an address."""
    transport = link.transport
    for service in services:
        await _hear(dispatcher, link, service)
    answering = [service for service in services if service.methods]
    for service in answering:
        await transport.subscribe(cancel_topic(service.address), partial(_on_cancel, dispatcher, link))
    for service in answering:
        await _receive(dispatcher, link, service)
    if transport.capabilities.sessions:
        accept_bare = partial(dispatcher.accept_bare, link, answering)
        link.receivers.append(await transport.receive("", accept_bare, prefetch=dispatcher.lending.prefetch))


class Serving:
    """What a client exposes on its session, from start to stop."""

    def __init__(
        self, transport: Transport, services: Sequence[Service], settings: Settings, other: Callable[[str], Any]
    ) -> None:
        check_capabilities(transport, services)
        self._services = services
        self._dispatcher = new_dispatcher(settings)
        self._answerer = Answerer(self._dispatcher, services) if settings.discovery else None
        self._link = Link("session", transport)
        self._link.other = other
        self._dispatcher.links.append(self._link)
        transport.on_gone(partial(self._dispatcher.caller_gone, self._link))

    async def start(self) -> None:
        await serve_on(self._dispatcher, self._link, self._services)
        if self._answerer is not None:
            await self._answerer.open(self._link)

    async def stop(self) -> None:
        """The session ends: what runs for the other side has nobody to answer."""
        for receiver in self._link.receivers:
            await receiver.stop()
        if self._answerer is not None:
            await self._answerer.stop()
        await self._dispatcher.drain(0)


def check_capabilities(transport: Transport, services: Sequence[Service]) -> None:
    """What a service demands and the transport cannot do is refused at start-up."""
    for problem in problems(transport.capabilities, services):
        raise UsageError(problem)


def problems(capabilities: Capabilities, services: Sequence[Service]) -> Iterator[str]:
    """What the services demand and such a transport cannot do, a sentence for each method and event."""
    for service in services:
        for spec in service.methods.values():
            if spec.delivery == "at_least_once" and not capabilities.redelivers:
                yield (
                    f'{service.name}.{spec.name} demands delivery="at_least_once", which {capabilities.name} '
                    "cannot give: it does not redeliver what a dead server left"
                )
        for event in service.events:
            yield from _uncarried(capabilities, event.topic)
            if is_pattern(event.topic) and not capabilities.event_patterns:
                yield (
                    f"{service.name} hears {event.topic!r}, a pattern, which {capabilities.name} cannot give: "
                    "there a topic is a name; listen to each"
                )
            if event.group and not capabilities.event_groups:
                yield (
                    f"{service.name} hears {event.topic!r} in the group {event.group!r}, which {capabilities.name} "
                    "cannot give: there each event reaches everyone; leave the group out"
                )


def _uncarried(capabilities: Capabilities, topic: str) -> Iterator[str]:
    try:
        check_carried(capabilities, topic)
    except UsageError as error:
        yield str(error)


async def _hear(dispatcher: Dispatcher, link: Link, service: Service) -> None:
    """The events of a service."""
    for event in service.events:
        accept = partial(dispatcher.accept_event, link, service, event.spec)
        topic = event_topic(event.topic)
        link.receivers.append(await link.transport.subscribe(topic, accept, group=event.group))


async def _receive(dispatcher: Dispatcher, link: Link, service: Service) -> None:
    """The requests of a service. Of what counts as begun once it is here no more is taken than there are slots."""
    once = not any(spec.idempotent for spec in service.methods.values())
    begun = once and link.transport.capabilities_at(service.address).takes_begun
    prefetch = dispatcher.slots.limit if begun else dispatcher.lending.prefetch
    accept = partial(dispatcher.accept, link, service)
    receiver = await link.transport.receive(service.address, accept, prefetch=prefetch, at_most_once=once)
    link.receivers.append(receiver)
    if begun:
        dispatcher.lending.add_exact(receiver)


def _on_cancel(dispatcher: Dispatcher, link: Link, message: Message) -> None:
    if message.kind is Kind.CANCEL:
        dispatcher.cancel(link, message)
