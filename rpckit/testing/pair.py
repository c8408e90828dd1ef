"""A server and a client in one process, over a broker of their own: what a unit test of a service needs.

Invariant: everything on the way is the real thing (encoding, routing, deadlines, errors) but for the
broker, and after `async with` nothing of it is left.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from rpckit.call import Call
from rpckit.client import Client
from rpckit.context import Context
from rpckit.contract import Service
from rpckit.ids import new_id
from rpckit.memory import MemoryBroker
from rpckit.middleware import Middleware
from rpckit.server import Server

__all__ = ["memory_pair"]

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
    name = f"pair-{new_id()}"
    broker = MemoryBroker(clock=clock)  # held here, so that the name means it
    MemoryBroker.register(name, broker)
    url = f"memory://{name}"
    server = Server(*services, url=url, middleware=middleware, concurrency=concurrency, grace=grace, **settings)
    async with server, Client(url, middleware=client_middleware, **settings) as client:
        yield client
