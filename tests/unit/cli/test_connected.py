"""The time of a command's call begins before it connects."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from rpckit import Client, DeadlineExceeded, NotSent, Server, Service
from rpckit.cli.call import _call_once
from rpckit.cli.connected import connected
from rpckit.cli.request import _request_once
from rpckit.memory import MemoryTransport


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Clients take the last of these seconds to connect."""
    seconds, connect = [0.0], MemoryTransport.connect

    async def slowly(self: MemoryTransport, *, serve: bool = False) -> None:
        await asyncio.sleep(0 if serve else seconds[-1])
        await connect(self, serve=serve)

    monkeypatch.setattr(MemoryTransport, "connect", slowly)
    return seconds


def sleeper() -> Service:
    service = Service("s")

    @service.method
    async def sleep() -> None:
        await asyncio.sleep(60)

    return service


def call_once(client: Client) -> Awaitable[object]:
    return _call_once(client, "s.sleep", [], {}, {"headers": {}, "idempotent": False})


def request_once(client: Client) -> Awaitable[object]:
    return _request_once(client, "s", "", {})


@pytest.mark.parametrize("once", [call_once, request_once])
async def test_connecting_ends_with_the_time_of_the_call(
    once: Callable[[Client], Awaitable[object]], url: str, slow: list[float]
) -> None:
    slow.append(10)
    began = asyncio.get_running_loop().time()
    with pytest.raises(NotSent, match=f"no connection to {url} within 2 s, the time of the call"):
        await once(Client(url, timeout=2))
    assert asyncio.get_running_loop().time() - began == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize("once", [call_once, request_once])
async def test_what_connecting_took_is_taken_from_the_call(
    once: Callable[[Client], Awaitable[object]], url: str, slow: list[float]
) -> None:
    slow.append(1.5)
    began = asyncio.get_running_loop().time()
    async with Server(sleeper(), url=url):
        with pytest.raises(DeadlineExceeded):
            await once(Client(url, timeout=2))
        assert asyncio.get_running_loop().time() - began == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    "timeout, spent, left", [(2, 0.4, 2), (0.25, 0.2, 0.25), (2, 0.61, 1.4), (3, 1.91, 1.1), (None, 9, None)]
)
async def test_what_is_left_is_in_tenths_and_all_of_it_when_connecting_was_quick(
    timeout: float | None, spent: float, left: float | None, url: str, slow: list[float]
) -> None:
    slow.append(spent)
    client = Client(url, timeout=timeout)
    async with connected(client) as seconds:
        assert seconds == left
    with pytest.raises(NotSent, match="closed"):
        await client.connect()
