"""The plugin for pytest: services in a test, over memory, with the real encode, route and error path.

    @pytest.fixture
    def rpc_service():
        return service

    def test_fib(rpc_client):
        assert rpc_client.call("fibonacci.fib", 30) == 832040

It needs no plugin for asyncio. pytest imports this module in every run of everybody who has rpckit, so it imports
nothing else until a test asks; and it stands outside the package, because importing that one takes its time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rpckit import BlockingClient, Service

__all__ = ["rpc_client", "rpc_serve", "rpc_service"]

HOW_TO_OVERRIDE = """\
rpc_client does not know what to serve. Say it in the test's module or in conftest.py:

    @pytest.fixture
    def rpc_service():
        return service  # or several: [orders, stock]"""


@pytest.fixture
def rpc_service() -> Service | Sequence[Service]:
    """What `rpc_client` calls: override it with a fixture that returns a service, or several."""
    pytest.fail(HOW_TO_OVERRIDE, pytrace=False)


@pytest.fixture
def rpc_client(rpc_service: Service | Sequence[Service], rpc_serve: Callable[..., BlockingClient]) -> BlockingClient:
    """A `BlockingClient` of what the fixture `rpc_service` returns, served anew for this test."""
    services = rpc_service if isinstance(rpc_service, (list, tuple)) else [rpc_service]
    return rpc_serve(*services)


@pytest.fixture
def rpc_serve() -> Iterator[Callable[..., BlockingClient]]:
    """``rpc_serve(*services, **settings)`` serves them until the test ends, and returns their `BlockingClient`.

    The settings are those of `rpckit.testing.blocking_pair`: timeout, concurrency, middleware …
    """
    from rpckit.testing import blocking_pair

    with ExitStack() as pairs:
        yield lambda *services, **settings: pairs.enter_context(blocking_pair(*services, **settings))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A call that fails is shown where the test makes it, not in the depths of the client; --full-trace shows all."""
    outcome = yield
    if "rpc_serve" in getattr(item, "fixturenames", ()) and not item.config.getoption("fulltrace"):
        from rpckit import RpcError

        _, error, trace = outcome.excinfo or (None, None, None)  # type: ignore[attr-defined]  # pluggy's Result
        if isinstance(error, RpcError):
            _end_at_the_call(trace)


def _end_at_the_call(trace: TracebackType | None) -> None:
    while trace is not None:
        if trace.tb_next is not None and trace.tb_next.tb_frame.f_globals.get("__name__") == "rpckit.blocking":
            trace.tb_next = None
        trace = trace.tb_next
