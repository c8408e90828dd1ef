"""A pair is the real thing but for the broker, and leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest

from rpckit import Call, Context, InvalidArgument, MethodNotFound, NoResponder, Service, UsageError
from rpckit.memory import MemoryBroker
from rpckit.settings import Settings
from rpckit.testing import FakeClock, blocking_pair, memory_pair

PREFETCH_AHEAD: int = Settings.model_fields["prefetch_ahead"].default


def adder() -> Service:
    service = Service("adder")

    @service.method(default=True)
    async def add(a: int, b: int) -> int:
        return a + b

    @service.method
    async def fail() -> None:
        raise RuntimeError("no")

    return service


async def test_calls_go_all_the_way() -> None:
    async with memory_pair(adder()) as client:
        assert await client.call("adder.add", 1, "2") == 3
        with pytest.raises(InvalidArgument):
            await client.call("adder.add", 1, "two")
        with pytest.raises(MethodNotFound):
            await client.call("adder.subtract", 1, 2)
        with pytest.raises(NoResponder):
            await client.call("subtractor.subtract", 1, 2)


async def test_pairs_are_apart() -> None:
    async with memory_pair(adder()), memory_pair(Service.from_object(Echo(), name="echo")) as client:
        assert await client.call("echo.say", "hi") == "hi"
        with pytest.raises(NoResponder):
            await client.call("adder.add", 1, 2)


async def test_several_services_may_share_a_pair() -> None:
    async with memory_pair(adder(), Service.from_object(Echo(), name="echo")) as client:
        assert await client.call("echo.say", await client.call("adder.add", 1, 2)) == 3


async def test_concurrency_is_the_servers() -> None:
    service, running, most = Service("busy"), 0, 0

    @service.method
    async def work() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    async with memory_pair(service, concurrency=2) as client:
        await asyncio.gather(*(client.call("busy.work") for _ in range(10)))
    assert most == 2


async def test_middleware_surrounds_handlers_and_calls() -> None:
    seen: list[str] = []

    async def around_handler(context: Context, call_next: Any) -> Any:
        seen.append(f"handler {context.method}")
        return await call_next(context)

    async def around_call(call: Call, call_next: Any) -> Any:
        seen.append(f"call {call.method}")
        return await call_next(call)

    async with memory_pair(adder(), middleware=[around_handler], client_middleware=[around_call]) as client:
        await client.call("adder.add", 1, 2)
    assert seen == ["call add", "handler add"]


async def test_the_clock_decides_what_expires_at_the_broker() -> None:
    """One runs, as many as a server takes ahead wait with it, the rest expires."""
    clock, gate, ran = FakeClock(), asyncio.Event(), []
    service = Service("slow")

    @service.method
    async def work(number: int) -> None:
        await gate.wait()
        ran.append(number)

    async with memory_pair(service, concurrency=1, clock=clock, timeout=60) as client:
        for number in range(PREFETCH_AHEAD + 11):
            await client.notify("slow.work", number)
        clock.advance(61)
        gate.set()
        await asyncio.sleep(0.05)
    assert ran == list(range(PREFETCH_AHEAD + 1))


async def test_settings_reach_both_sides() -> None:
    async with memory_pair(adder(), debug=True, timeout=5) as client:
        assert client.options.timeout == 5
        with pytest.raises(Exception, match="RuntimeError"):
            await client.call("adder.fail")


async def test_a_contract_that_cannot_be_served_is_refused() -> None:
    with pytest.raises(UsageError, match="no methods"):
        async with memory_pair(Service("empty")):
            pass


async def test_a_pair_takes_its_broker_along() -> None:
    async with memory_pair(adder()) as client:
        name = str(client.url.hosts[0])
        assert name in MemoryBroker._named
    del client
    for _ in range(100):  # the thread that watches the loop ends a moment later
        gc.collect()
        if name not in MemoryBroker._named:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the broker outlived its pair")


class Echo:
    async def say(self, text: Any) -> Any:
        return text


def test_a_blocking_pair_is_the_same_for_tests_that_wait() -> None:
    with blocking_pair(adder(), debug=True, timeout=5) as client:
        assert client.call("adder.add", 1, "2") == 3
        assert client.client.options.timeout == 5
        with pytest.raises(InvalidArgument):
            client.call("adder.add", 1, "two")
        with pytest.raises(Exception, match="RuntimeError"):
            client.call("adder.fail")


def test_a_contract_that_a_blocking_pair_cannot_serve_is_refused() -> None:
    with pytest.raises(UsageError, match="no methods"), blocking_pair(Service("empty")):
        pass
    assert not [thread for thread in threading.enumerate() if "memory://pair-" in thread.name]
