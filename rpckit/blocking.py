"""The clients for programs that wait: scripts, threads, a plain `def`.

Invariant: every call is the asyncio `Client`'s, run in an event loop in a thread of its own; nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Concatenate, ParamSpec, Self, TypeVar

from pydantic import TypeAdapter

from rpckit.client import Client
from rpckit.errors import RemoteError
from rpckit.loopthread import LoopThread
from rpckit.transport import State
from rpckit.typed import TypedClient
from rpckit.url import Url

__all__ = ["BlockingClient", "BlockingTypedClient"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[BlockingClient, P], T]:
    """A method of `Client` that returns when it is done."""

    @wraps(method)
    def blocking(self: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(method, self.client, *args, **kwargs)

    return blocking


class BlockingClient:
    """`Client` for programs that wait: the same arguments, methods and errors, without `await`.

    ::

        with BlockingClient("amqp://localhost") as client:
            print(client.call("rpc_queue.fib", 20, timeout=3))

    Or simply call: it connects on first use, and ends silently with the interpreter. Any number of threads may
    share one. Ctrl-C in a thread that waits cancels its call, and the work. Where an event loop runs, it refuses
    with `UsageError`: a `Client` belongs there. What is given to it (middleware, `expose`, hooks) runs in its own
    thread. A handler that waits here for a nested call keeps its thread, and its place among those that run.
    """

    def __init__(self, url: str | None = None, **options: Any) -> None:
        self.client = Client(url, **options)
        self._thread = LoopThread(f"BlockingClient({str(self.client.url)!r})", self.client.close)

    @property
    def url(self) -> Url:
        return self.client.url

    @property
    def state(self) -> State:
        return self.client.state

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End pending calls with `ConnectionLost`, then the connection and its thread. Twice is once."""
        self._thread.stop()

    connect = _blocking(Client.connect)
    wait_ready = _blocking(Client.wait_ready)
    call = _blocking(Client.call)
    notify = _blocking(Client.notify)
    emit = _blocking(Client.emit)
    collect = _blocking(Client.collect)
    request = _blocking(Client.request)
    survey = _blocking(Client.survey)

    def run(self, work: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Await `work(…)` in this client's event loop, where `self.client` may be used, and return its result."""
        return self._thread.run(work, *args, **kwargs)

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter `manager`, such as a `Server`, in this client's event loop; it is left before the client closes."""
        return self._thread.enter(manager)


class BlockingTypedClient:
    """The base of typed clients that wait: `TypedClient` with the same arguments, without `await`.

    `client` shares a `BlockingClient` that exists.
    """

    address: ClassVar[str]
    contract: ClassVar[str]
    errors: ClassVar[Mapping[str, type[RemoteError]]]

    def __init__(self, url: str | None = None, *, client: BlockingClient | None = None, **options: Any) -> None:
        self.client = client if client is not None else BlockingClient(url, **options)
        self._typed = _awaiting(type(self))(client=self.client.client)
        self._owns_client = client is None

    def __enter__(self) -> Self:
        try:
            self.client.connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the client, unless it was given from outside."""
        if self._owns_client:
            self.client.close()

    def using(self, **options: Any) -> Self:
        """The same client with other call options: timeout, headers, idempotent, no_server."""
        other = object.__new__(type(self))
        other.client, other._owns_client = self.client, False
        other._typed = self._typed.using(**options)
        return other

    def _call(self, method: str, returns: TypeAdapter[T], *args: Any, **kwargs: Any) -> T:
        """As `TypedClient._call`, of which these are the arguments."""
        value: T = self.client.run(self._typed._call, method, returns, *args, **kwargs)
        return value

    def _notify(self, method: str, *args: Any, **kwargs: Any) -> None:
        """As `TypedClient._notify`, of which these are the arguments."""
        self.client.run(self._typed._notify, method, *args, **kwargs)


def _awaiting(blocking: type[BlockingTypedClient]) -> type[TypedClient]:
    """The class that does the work. It is made late: a generated contract stands below its class."""
    said = {name: getattr(blocking, name) for name in TypedClient.__annotations__ if hasattr(blocking, name)}
    return type(blocking.__name__, (TypedClient,), {**said, "__module__": blocking.__module__})
