"""One call in flight, and the transport it came by."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from time import perf_counter  # finer than the clock of every event loop
from typing import TYPE_CHECKING, Any

from rpckit.bodies import read_arguments
from rpckit.context import Context
from rpckit.contract import Arguments, MethodSpec, Service
from rpckit.deadline import Deadline
from rpckit.errors import UsageError
from rpckit.inflight import CallKey
from rpckit.message import Message
from rpckit.transport import Delivery, Receiver, Transport

if TYPE_CHECKING:
    from rpckit.dispatch import Dispatcher

__all__ = ["Job", "Link", "Stop", "call_key"]


class Stop(Enum):
    """Why a call was ended before its handler did."""

    CANCELLED = "its caller cancelled it"
    GONE = "its caller is gone"
    DEADLINE = "its time is up"
    DRAIN = "the server is stopping"


class Link:
    """One transport of a server, by name, with the receivers on it."""

    def __init__(self, name: str, transport: Transport) -> None:
        self.name = name
        self.transport = transport
        self.receivers: list[Receiver] = []
        self.claims = transport.capabilities.claims
        self.shares = transport.capabilities.balances
        self.gives_back = transport.capabilities.redelivers or transport.capabilities.sessions  # what closing leaves
        self.skew_logged = False
        self.other: Callable[[str], Any] | None = None  # the methods of the peer with a reply address


class Job:
    """One call in flight. It is the `Slot` of its context."""

    __slots__ = (
        "_context",
        "arguments",
        "arrived",
        "deadline",
        "delivery",
        "finished",
        "key",
        "lent",
        "link",
        "message",
        "owner",
        "placed",
        "service",
        "settled",
        "spec",
        "started",
        "stop",
        "task",
    )

    def __init__(
        self,
        owner: Dispatcher,
        link: Link,
        service: Service,
        spec: MethodSpec,
        delivery: Delivery,
        deadline: Deadline | None,
    ) -> None:
        self.message = message = delivery.message
        self.owner = owner
        self.link = link
        self.service = service
        self.spec = spec
        self.delivery = delivery
        self.deadline = deadline
        self.key = call_key(link, message)
        self.arguments: Arguments = ((), {})
        self._context: Context | None = None
        self.task: asyncio.Task[Any] | None = None  # while its handler runs; to be cancelled only while that waits
        self.stop: Stop | None = None
        self.placed = False  # it has got a slot
        self.settled = False  # its delivery: by its reply or without one, or another server has it
        self.finished = False  # its task is over
        self.lent = 0  # nested calls it awaits now
        self.arrived = perf_counter()
        self.started = 0.0  # when it was claimed and its handler began; 0 before

    @property
    def context(self) -> Context:
        """Made when somebody looks at it, as few handlers do."""
        if self._context is None:
            context = Context(self.message, self.service.name, self.spec.name, self.deadline, self.owner.loop)
            context.slot, context.arguments = self, self.arguments
            self._context = context
        return self._context

    def read(self) -> None:
        """Its arguments, converted and checked. Raises `InvalidArgument`."""
        self.arguments = self.spec.validate(read_arguments(self.message, self.spec))
        if self._context is not None:  # a validator has looked at it
            self._context.arguments = self.arguments

    def needs_claim(self) -> bool:
        """It may not run twice, or every server has it."""
        return self.link.claims and not (self.spec.idempotent and self.link.shares)

    @property
    def other(self) -> Any:
        if self.link.other is None:
            name = self.link.transport.capabilities.name
            raise UsageError(f"callers over {name} have no methods of their own: only sessions (ws://) have two sides")
        return self.link.other(self.message.to)

    async def emit(self, topic: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        await self.owner.emit([self.link], topic, args, kwargs)

    def lend(self) -> None:
        self.lent += 1
        if self.lent == 1 and not self.finished:
            self.owner.lending.lend()

    async def reclaim(self) -> None:
        self.lent -= 1
        if self.lent == 0 and not self.finished:
            await self.owner.lending.reclaim()

    def reclaim_now(self) -> None:
        self.lent -= 1
        if self.lent == 0 and not self.finished:
            self.owner.lending.reclaim_now()


def call_key(link: Link, message: Message) -> CallKey:
    return (link.name, message.reply_to, message.correlation_id)
