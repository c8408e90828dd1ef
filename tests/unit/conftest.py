"""What unit tests share: a memory broker of their own, no settings from outside, and a clock that jumps.

Invariant: a unit test starts no process, opens no socket, and its event loop waits on no real clock; what must is a
functional test.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from rpckit import Client, Server
from rpckit.memory import MemoryBroker
from rpckit.testing import VirtualTimeLoop

set_hypothesis_home_dir(Path(__file__).parents[2] / ".hypothesis")  # what it works out once, whatever the folder
settings.register_profile(
    "thorough",
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("quick", settings.get_profile("thorough"), max_examples=8, stateful_step_count=15)

# What Python tells its audit hooks of. The pair of sockets that an event loop wakes itself with is neither bound nor
# connected by Python.
OUTSIDE = {
    "os.fork",
    "os.posix_spawn",
    "os.system",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "subprocess.Popen",
}

_numbers = itertools.count()
_running = False  # a unit test


def _stay_inside(event: str, _: object) -> None:
    if _running and event in OUTSIDE:
        pytest.fail(f"{event}: a unit test starts no process and opens no socket; tests/functional is for that")


sys.addaudithook(_stay_inside)


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("thorough" if config.getoption("--thorough") else "quick")


def pytest_collection() -> None:
    gc.disable()  # all of it stays


def pytest_collection_finish() -> None:
    gc.freeze()  # what is there now stays to the end, and need not be gone through again and again
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Iterator[None]:
    with _unit_test():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Iterator[None]:
    with _unit_test():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Iterator[None]:
    with _unit_test():
        return (yield)


@contextmanager
def _unit_test() -> Iterator[None]:
    global _running
    _running = True
    try:
        yield
    finally:
        _running = False


def pytest_asyncio_loop_factories() -> Mapping[str, type[VirtualTimeLoop]]:
    """Whatever `--event-loop` says: a wait takes no time."""
    return {"virtual": VirtualTimeLoop}


@pytest.fixture(scope="module", autouse=True)
def _no_settings(no_settings_from_outside: None) -> None: ...


@pytest.fixture
def broker(url: str) -> MemoryBroker:
    """The broker behind `url`, kept for the whole test."""
    held = MemoryBroker()
    MemoryBroker.register(url.removeprefix("memory://"), held)
    return held


@pytest.fixture
def url() -> str:
    """A memory broker nobody else uses."""
    return f"memory://unit-{next(_numbers)}"


@pytest.fixture
async def serve(url: str, broker: MemoryBroker) -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """Start a server of the services given, on `url`; it is stopped after the test."""
    started: list[Server] = []

    async def serve(*services: Any, **options: Any) -> Server:
        server = Server(*services, url=options.pop("url", url), **options)
        await server.start()
        started.append(server)
        return server

    yield serve
    for server in started:
        await server.stop(grace=0)


@pytest.fixture
async def client(url: str, broker: MemoryBroker) -> AsyncIterator[Client]:
    """A connected client of `url`."""
    async with Client(url, timeout=5) as client:
        yield client
