"""The running call, as its handler sees it, and what a nested call inherits from it."""

from __future__ import annotations

import logging
import time
from asyncio import AbstractEventLoop, get_running_loop
from collections.abc import Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

from rpckit.deadline import Deadline
from rpckit.errors import UsageError
from rpckit.message import CONTRACT_HEADER, Kind, Message
from rpckit.topics import user_topic

__all__ = ["MAX_DEPTH", "CallLogFilter", "Context", "Response", "Slot", "current_context", "enter_slot"]

MAX_DEPTH = 32  # calls nested in one another; deeper is a loop

_current: ContextVar[Slot | None] = ContextVar("rpckit_slot", default=None)


@dataclass(slots=True)
class Response:
    """A handler's result with headers, and where a peer needs one, a correlation id of its own.

    maxlen: how many replies a list or stream keeps, when the caller wants its reply stored in one.
    """

    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    correlation_id: str | None = None
    maxlen: int | None = None


class Slot(Protocol):
    """A handler's share of the concurrency limit, lent to others while it awaits a nested call."""

    @property
    def context(self) -> Context: ...

    @property
    def other(self) -> Any: ...

    async def emit(self, topic: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...

    def lend(self) -> None: ...

    async def reclaim(self) -> None: ...

    def reclaim_now(self) -> None: ...


class Context:
    """One call being handled. A parameter annotated `Context` receives it.

    service, method: names.     headers: the caller's own, strings.
    deadline:        the caller's or the method's own, the sooner; None when neither set one.
    attempt:         1, or more when an idempotent call was sent again.
    caller:          the caller's reply address; empty when it wants no reply.
    topic:           on which an event was told; empty for a call.
    session:         of the caller, where there are sessions: `server.peers[ctx.session]`.
    """

    __slots__ = ("_log", "_loop", "arguments", "deadline", "message", "method", "service", "slot")

    def __init__(
        self,
        message: Message,
        service: str,
        method: str,
        deadline: Deadline | None,
        loop: AbstractEventLoop | None = None,
    ) -> None:
        self.message = message
        self.service = service
        self.method = method
        self.deadline = deadline
        self.arguments: tuple[Sequence[Any], dict[str, Any]] = ((), {})
        self._log: logging.LoggerAdapter[logging.Logger] | None = None
        self._loop = loop  # a handler in a thread has none running
        self.slot: Slot | None = None

    @property
    def runs_here(self) -> bool:
        """Whether this is the event loop that counts its slot: in a thread with a loop of its own it is not."""
        return self._loop is None or self._loop is get_running_loop()

    @property
    def headers(self) -> Mapping[str, str]:
        """The caller's own, without what a typed client says of its contract."""
        headers = self.message.headers
        if CONTRACT_HEADER not in headers:
            return headers
        return {name: value for name, value in headers.items() if name != CONTRACT_HEADER}

    @property
    def correlation_id(self) -> str:
        return self.message.correlation_id

    @property
    def message_id(self) -> str:
        return self.message.message_id

    @property
    def attempt(self) -> int:
        return self.message.attempt

    @property
    def depth(self) -> int:
        return self.message.depth

    @property
    def caller(self) -> str:
        return self.message.reply_to

    @property
    def other(self) -> Any:
        """The methods of the caller's own side: ``await ctx.other.progress(50)``. On sessions (`ws://`) only."""
        if self.slot is None:
            raise UsageError("this context does not belong to a running call")
        return self.slot.other

    async def emit(self, topic: str, /, *args: Any, **kwargs: Any) -> None:
        """Tell everyone who listens to `topic` on the transport this call came by.

        What is given by name is an argument.
        """
        if self.slot is None:
            raise UsageError("this context does not belong to a running call")
        await self.slot.emit(topic, args, kwargs)

    @property
    def topic(self) -> str:
        return user_topic(self.message.address) if self.message.kind is Kind.EVENT else ""

    @property
    def session(self) -> str:
        return self.message.to

    def time_left(self) -> float | None:
        """Seconds until the deadline; None when there is none."""
        if self.deadline is None:
            return None
        return self.deadline.remaining((self._loop or get_running_loop()).time())

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger named `rpckit.call.<service>` whose records carry correlation id, method and deadline."""
        if self._log is None:
            self._log = _CallLogger(logging.getLogger(f"rpckit.call.{self.service}"), self.log_fields())
        return self._log

    def log_fields(self) -> dict[str, Any]:
        """What log records say about this call. `deadline` is unix time in seconds, or None."""
        left = self.time_left()
        return {
            "correlation_id": self.correlation_id,
            "rpc_method": f"{self.service}.{self.method}" if self.method else self.service,
            "deadline": None if left is None else time.time() + left,
        }


class _CallLogger(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class CallLogFilter(logging.Filter):
    """Stamps every record logged inside a handler, by any logger, with the call's fields.

    Add it to a handler: ``logging.getLogger().handlers[0].addFilter(CallLogFilter())``. Outside a
    call the fields are empty, so that a format string may name them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        context = current_context()
        fields = context.log_fields() if context else {"correlation_id": "", "rpc_method": "", "deadline": None}
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


def current_context() -> Context | None:
    """The call that the running code handles; None outside a handler."""
    slot = _current.get()
    return None if slot is None else slot.context


enter_slot = _current.set  # makes the call that has it the running one, for the rest of this task
