"""Answers to queries: the asyncio shell around `rpckit.queries`.

Its invariant: an answer takes no slot of the calls, so that an overloaded server still tells how it is;
at most `MAX_ANSWERS` are under way, and what goes wrong with one is logged, never raised into a reader.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from functools import cached_property, partial
from typing import Any

from rpckit.bodies import read_arguments, write_result
from rpckit.contract import Service
from rpckit.dispatch import Dispatcher
from rpckit.errors import Code, InvalidArgument, MethodNotFound, NoResponder, RemoteError
from rpckit.fault import TOOLKIT, Fault, fault_message, fault_of
from rpckit.job import Link
from rpckit.message import Kind, Message
from rpckit.queries import SESSION_ADDRESS, TOPIC, Instance, query_service
from rpckit.replies import sent
from rpckit.stats import report
from rpckit.transport import Delivery

__all__ = ["MAX_ANSWERS", "Answerer"]

log = logging.getLogger(__name__)

MAX_ANSWERS = 64  # under way at once; whoever asks beyond them may ask again


class Answerer:
    """Answers for one instance, on each of its links, until `stop`."""

    def __init__(self, dispatcher: Dispatcher, services: Sequence[Service]) -> None:
        self.instance = Instance.here([])
        self._dispatcher = dispatcher
        self._services = services
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopped = False

    @cached_property
    def _queries(self) -> Service:
        """Made when somebody asks: compiling it takes longer than the rest of a start."""
        return query_service(self._services, self.instance, self._stats)

    async def open(self, link: Link) -> None:
        """Hear the queries of a link: on a session calls, unless a service of the user's has that address."""
        transport = link.transport
        self.instance.transports.append(transport.capabilities.name)
        if not transport.capabilities.sessions:
            await transport.subscribe(TOPIC, partial(self._on_query, link))  # ends with the transport: after the drain
        elif all(service.address != SESSION_ADDRESS for service in self._services if service.methods):
            link.receivers.append(await transport.receive(SESSION_ADDRESS, self._on_call, prefetch=MAX_ANSWERS))

    async def stop(self) -> None:
        """Whoever asked last hears nothing more."""
        self._stopped = True
        for task in self._under_way:
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _on_query(self, link: Link, message: Message) -> None:
        """From the topic of all: whoever asks has an inbox, and takes silence for an answer."""
        if self._stopped or message.kind is not Kind.REQUEST or not message.reply_to:
            return
        if len(self._under_way) < MAX_ANSWERS:
            self._own(self._answer_query(link, message))
        else:
            log.info("a query was not answered: %d others are under way", MAX_ANSWERS)

    def _on_call(self, delivery: Delivery) -> None:
        if self._stopped:
            delivery.hand_back()
        elif len(self._under_way) < MAX_ANSWERS:
            self._own(self._answer_call(delivery))
        else:
            text = f"{MAX_ANSWERS} queries are being answered here"
            fault = Fault(Code.RESOURCE_EXHAUSTED, text, details={"retry_after": 1.0}, retryable=True, origin=TOOLKIT)
            delivery.reply(fault_message(delivery.message, fault))

    async def _answer_query(self, link: Link, message: Message) -> None:
        value = await self._ask(message)
        if value is None:
            return
        try:
            await link.transport.send(_reply(message, value))
        except NoResponder as error:
            log.debug("who asked is gone: %s", error)

    async def _answer_call(self, delivery: Delivery) -> None:
        request = delivery.message
        reply = fault_message(request, Fault(Code.INTERNAL, f"{request.method} failed; the server's log says why"))
        try:
            reply = _reply(request, await self._ask(request))
        except RemoteError as error:
            reply = fault_message(request, fault_of(error))
        finally:
            replies = (reply, fault_message(request, _TOO_LARGE)) if request.reply_to else ()
            if not any(sent(delivery, each, "an answer to a query") for each in replies):
                delivery.settle()

    async def _ask(self, message: Message) -> Any:
        """What the query says. Raises `RemoteError` for what is no query, and whatever a contract raises."""
        spec = self._queries.methods.get(message.method)
        if spec is None:
            known = ", ".join(self._queries.methods)
            raise MethodNotFound(f"no query {message.method[:100]!r} here; there are {known}")
        if len(message.body) > self._dispatcher.max_body:
            raise InvalidArgument(f"{len(message.body)} bytes: over max_body ({self._dispatcher.max_body})")
        args, kwargs = spec.validate(read_arguments(message, spec))
        return await spec.function(*args, **kwargs)

    def _stats(self, address: str) -> list[dict[str, Any]]:
        return report(self._dispatcher.stats, self._services, self._dispatcher.specs_in_flight(), address)

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, RemoteError):
            log.info("a query was not answered: %s", error)
        elif error is not None:
            log.error("a query was not answered", exc_info=error)


def _reply(request: Message, value: Any) -> Message:
    body, content_type = write_result(request, value)
    return request.reply(Kind.REPLY, body, content_type)


_TOO_LARGE = Fault(Code.DATA_LOSS, "the answer cannot be sent; the server's log says why")
