"""A server and a client in one process, over a broker of their own: what a unit test of a service needs.

Invariant: everything on the way is the real thing (encoding, routing, deadlines, errors) but for the
broker, and after the `with` nothing of it is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from rpckit.blocking import BlockingClient
from rpckit.call import Call
from rpckit.client import Client
from rpckit.context import Context
from rpckit.contract import Service
from rpckit.ids import new_id
from rpckit.memory import MemoryBroker
from rpckit.middleware import Middleware
from rpckit.server import Server

__all__ = ["blocking_pair", "memory_pair"]

GRACE_S = 1.0  # seconds: a test that leaves a handler running should not wait the ten of a server


@asynccontextmanager
async def memory_pair(
    *services: Service,
    concurrency: int = 100,
    middleware: Sequence[Middleware[Context]] = (),
    client_middleware: Sequence[Middleware[Call]] = (),
    clock: Callable[[], float] | None = None,
    grace: float = GRACE_S,
    **settings: Any,
) -> AsyncIterator[Client]:
    """Serve `services` and give the client that calls them::

        async with memory_pair(service) as client:
            assert await client.call("fibonacci.fib", 30) == 832040

    concurrency:       handlers at once.
    middleware:        around each handler; `client_middleware` around each call.
    clock:             by which messages that wait at the broker expire, in seconds, such as a `FakeClock`.
    grace:             seconds that handlers still running at the end get.
    settings:          any other setting by name, for both: timeout, max_body, debug …

    Raises what the server raises at start-up: `UsageError` for a contract that cannot be served.
    """
    url, _broker = _own_broker(clock)  # held here, so that the URL means it
    server = Server(*services, url=url, middleware=middleware, concurrency=concurrency, grace=grace, **settings)
    async with server, Client(url, middleware=client_middleware, **settings) as client:
        yield client


@contextmanager
def blocking_pair(
    *services: Service,
    middleware: Sequence[Middleware[Context]] = (),
    client_middleware: Sequence[Middleware[Call]] = (),
    grace: float = GRACE_S,
    **settings: Any,
) -> Iterator[BlockingClient]:
    """`memory_pair` for tests that wait, both sides in one thread of their own.

    ::

        with blocking_pair(service) as client:
            assert client.call("fibonacci.fib", 30) == 832040
    """
    url, _broker = _own_broker()  # held here, so that the URL means it
    server = Server(*services, url=url, middleware=middleware, grace=grace, **settings)
    with BlockingClient(url, middleware=client_middleware, **settings) as client:
        client.enter(server)
        yield client


def _own_broker(clock: Callable[[], float] | None = None) -> tuple[str, MemoryBroker]:
    """A broker nobody else uses, and the URL that means it as long as somebody holds it."""
    name, broker = f"pair-{new_id()}", MemoryBroker(clock=clock)
    MemoryBroker.register(name, broker)
    return f"memory://{name}", broker
