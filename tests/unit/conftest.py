"""What unit tests share: a memory broker of their own, and no settings from outside."""

from __future__ import annotations

import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

from rpckit import Client, Server
from rpckit.memory import MemoryBroker

set_hypothesis_home_dir(Path(__file__).parents[2] / ".hypothesis")  # what it works out once, whatever the folder
settings.register_profile(
    "unit",
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("unit")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def _empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unit")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("RPCKIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(_empty_folder)


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
