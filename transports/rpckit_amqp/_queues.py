"""Finding and declaring queues and exchanges, asked on a session's control channel."""

from __future__ import annotations

import re
from itertools import count
from typing import Any

from rpckit.errors import UsageError

from ._connection import Session
from ._driver import FastChannel
from ._errors import ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, Refused
from ._presence import passive_look
from ._topology import DIRECT_REPLY_TO, EVENTS, Declare, ExchangeSpec, QueueSpec, request_queue

__all__ = ["Queues", "may_be_mandatory"]

MAX_EXCHANGES = 4096  # remembered; then forgotten all at once
_TYPE = re.compile(r"arg 'type' for exchange .*current is '([\w-]+)'")  # in RabbitMQ's refusal of another type
_DEAF = {  # by the type of a topic: those of exchanges that mean something else by its key
    "fanout": ("direct", "topic", "headers"),
    "direct": ("headers",),
    "topic": ("direct", "headers"),
}
DIRECT_RETURNS_BEFORE = (4, 2)  # RabbitMQ below returns what it delivers to a direct reply-to


class Queues:
    """What exists is used as it is; what is missing is declared as the options say."""

    def __init__(self, declare: Declare) -> None:
        self._declare = declare
        self._session: Session | None = None
        self._exchanges: set[str] = set()  # that exist, as this session knows
        self._tags = count(1)

    def next_consumer_tag(self) -> str:
        return f"c{next(self._tags)}"

    async def ensure_queue(self, session: Session, address: str) -> None:
        """The queue of an address, as it is; declared only where there is none."""
        if await passive_look(session, address) is None:
            await self.declare(session, request_queue(address, self._declare))

    async def declare(self, session: Session, queue: QueueSpec) -> None:
        async def ask(channel: FastChannel) -> Any:
            return await channel.queue_declare(
                queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=queue.arguments,
            )

        try:
            await session.control(f"to declare the queue {queue.name!r}", ask)
        except Refused as refusal:
            # somebody else declared it between our look and this, in another way: it is used as it is
            if refusal.code != PRECONDITION_FAILED or await passive_look(session, queue.name) is None:
                raise

    async def ensure_exchange(self, session: Session, exchange: ExchangeSpec) -> None:
        """Once a session: publishing to a missing exchange would close the channel.

        One of other programs is used as it is, if it can be heard by what its topic says.
        """
        if self._session is not session:
            self._session = session
            self._exchanges.clear()
        if exchange.name in self._exchanges:
            return
        if exchange is EVENTS:
            await self._declare_exchange(session, exchange)
        elif self._declare != "never":
            await self._declare_foreign(session, exchange)
        elif not await self._exists(session, exchange):
            raise UsageError(f"the exchange {exchange.name!r} does not exist, and declare=never forbids creating it")
        if len(self._exchanges) >= MAX_EXCHANGES:
            self._exchanges.clear()
        self._exchanges.add(exchange.name)

    def forget_exchanges(self) -> None:
        """One of them is perhaps not there any more."""
        self._exchanges.clear()

    async def _declare_foreign(self, session: Session, exchange: ExchangeSpec) -> None:
        """A refusal says that it exists, in another way or beyond our rights: then it is used, if it can be heard."""
        try:
            await self._declare_exchange(session, exchange)
        except Refused as refusal:
            current = _TYPE.search(str(refusal))
            if current is not None and current[1] in _DEAF.get(exchange.type, ()):
                raise UsageError(
                    f"the exchange {exchange.name!r} is of the type {current[1]}, not {exchange.type}: what is told "
                    "there would reach nobody; name it by its own type"
                ) from None
            in_another_way = refusal.code == PRECONDITION_FAILED
            if not in_another_way and not (refusal.code == ACCESS_REFUSED and await self._exists(session, exchange)):
                raise

    async def _exists(self, session: Session, exchange: ExchangeSpec) -> bool:
        async def ask(channel: FastChannel) -> Any:
            return await channel.exchange_declare(exchange.name, exchange.type, passive=True)

        try:
            await session.control(f"a look at the exchange {exchange.name!r}", ask)
        except Refused as refusal:
            if refusal.code != NOT_FOUND:
                raise
            return False
        return True

    async def _declare_exchange(self, session: Session, exchange: ExchangeSpec) -> None:
        async def ask(channel: FastChannel) -> Any:
            return await channel.exchange_declare(exchange.name, exchange.type, durable=exchange.durable)

        await session.control(f"to declare the exchange {exchange.name!r}", ask)


def may_be_mandatory(session: Session | None, address: str) -> bool:
    """Whether a message that cannot be delivered would be told from one that was."""
    if not address.startswith(DIRECT_REPLY_TO):
        return True
    return session is not None and session.server_version >= DIRECT_RETURNS_BEFORE
