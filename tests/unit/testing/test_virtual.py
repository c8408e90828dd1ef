"""Virtual time: it jumps when nothing else is left to do, stands still while threads work, and never hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from inspect import iscoroutinefunction
from typing import Any

import pytest

from rpckit import DeadlineExceeded, Service
from rpckit.settings import Settings
from rpckit.testing import Deadlock, VirtualTimeLoop, memory_pair, virtual, virtual_time

HOUR = 3600.0
PREFETCH_AHEAD: int = Settings.model_fields["prefetch_ahead"].default

kitchen = Service("kitchen")
baked: list[str] = []
stopped_at: list[float] = []


@kitchen.method
async def bake(cake: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    baked.append(cake)
    return cake


@kitchen.method
async def roast() -> None:
    try:
        await asyncio.sleep(HOUR)
    except asyncio.CancelledError:
        stopped_at.append(asyncio.get_running_loop().time())
        raise


@kitchen.method
def wash(seconds: float) -> str:
    time.sleep(seconds)
    return "clean"


@pytest.fixture(autouse=True)
def _nothing_baked() -> None:
    baked.clear()
    stopped_at.clear()


# -- the clock ----------------------------------------------------------------------------------


@virtual_time
async def test_sleeping_takes_no_time() -> None:
    loop, began, really = asyncio.get_running_loop(), asyncio.get_running_loop().time(), time.perf_counter()
    await asyncio.sleep(24 * HOUR)
    assert loop.time() - began == pytest.approx(24 * HOUR)
    assert time.perf_counter() - really < 5


@virtual_time
async def test_timers_fire_in_order_at_their_moment() -> None:
    loop, began, fired = asyncio.get_running_loop(), asyncio.get_running_loop().time(), []
    for seconds in (3, 1, 2, 0.5):
        loop.call_later(seconds, lambda: fired.append(loop.time() - began))
    await asyncio.sleep(4)
    assert fired == pytest.approx([0.5, 1, 2, 3])


@virtual_time
async def test_while_something_is_ready_the_clock_stands_still() -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(0.000_001, lambda: None)
    began = loop.time()
    for _ in range(100):
        await asyncio.sleep(0)
    assert loop.time() == began


@virtual_time
async def test_the_wall_clock_moves_along() -> None:
    began = time.time()
    await asyncio.sleep(HOUR)
    assert time.time() - began == pytest.approx(HOUR)


def test_the_wall_clock_is_right_again_afterwards() -> None:
    real = time.time
    virtual_time(asyncio.sleep)(HOUR)
    assert time.time is real


# -- as a decorator -----------------------------------------------------------------------------


def test_what_it_makes_is_a_plain_function_with_the_arguments_of_the_test() -> None:
    @virtual_time
    async def test(a: int, *, b: int) -> int:
        """Says so."""
        await asyncio.sleep(HOUR)
        return a + b

    assert not iscoroutinefunction(test)
    assert test.__doc__ == "Says so."
    assert test(1, b=2) == 3


def test_a_plain_function_is_refused() -> None:
    with pytest.raises(TypeError, match="is for an async def"):
        virtual_time(lambda: None)  # type: ignore[arg-type, return-value]


class TestMethods:
    @virtual_time
    async def test_methods_and_fixtures_work(self, tmp_path: Any) -> None:
        await asyncio.sleep(HOUR)
        assert tmp_path.exists()


# -- with a service -----------------------------------------------------------------------------


@virtual_time
async def test_a_deadline_passes_at_once_and_stops_the_handler() -> None:
    async with memory_pair(kitchen) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await client.call("kitchen.bake", "pie", 60, timeout=30)
        assert asyncio.get_running_loop().time() - began == pytest.approx(30, abs=0.01)
        await asyncio.sleep(60)
    assert baked == []


@virtual_time
async def test_an_answer_within_its_time_comes() -> None:
    async with memory_pair(kitchen) as client:
        assert await client.call("kitchen.bake", "pie", 29.9, timeout=30) == "pie"


@virtual_time
async def test_a_deadline_travels_through_a_queue_by_the_wall_clock() -> None:
    """What waits at the broker for 20 of its 30 s has 10 left when it is delivered."""
    loop = asyncio.get_running_loop()
    async with memory_pair(kitchen, concurrency=1) as client:
        before = [client.notify("kitchen.bake", "pie", 20 if n == 0 else 0) for n in range(PREFETCH_AHEAD + 1)]
        await asyncio.gather(*before)
        sent, late = loop.time(), asyncio.create_task(client.call("kitchen.roast", timeout=30))
        with pytest.raises(DeadlineExceeded):
            await late
        await asyncio.sleep(60)
    (stopped,) = stopped_at
    assert stopped - sent == pytest.approx(30, abs=0.1)


# -- threads ------------------------------------------------------------------------------------


@virtual_time
async def test_while_a_thread_works_the_clock_stands_still() -> None:
    async with memory_pair(kitchen) as client:
        began = asyncio.get_running_loop().time()
        assert await client.call("kitchen.wash", 0.05, timeout=0.01) == "clean"
        assert asyncio.get_running_loop().time() == began


@virtual_time
async def test_a_thread_whose_caller_was_cancelled_still_counts() -> None:
    loop, ended = asyncio.get_running_loop(), threading.Event()

    def work() -> None:
        time.sleep(0.05)
        ended.set()

    task = asyncio.create_task(asyncio.to_thread(work))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(HOUR)
    assert ended.is_set()
    with ThreadPoolExecutor() as pool:
        assert await loop.run_in_executor(pool, len, "four") == 4


def test_a_thread_that_never_ends_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "OUTSIDE_S", 0.05)
    end = threading.Event()

    @virtual_time
    async def test() -> None:
        await asyncio.to_thread(end.wait)

    try:
        with pytest.raises(Deadlock, match=r"1 threads have worked for 0\.05 real seconds"):
            test()
    finally:
        end.set()


# -- deadlocks ----------------------------------------------------------------------------------


def test_a_deadlock_is_told_at_the_line_that_waits() -> None:
    @virtual_time
    async def test() -> None:
        async with memory_pair(kitchen):
            await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="nothing can ever happen") as raised:
        test()
    assert raised.value.__cause__ is not None
    trace = raised.value.__cause__.__traceback__
    lines = []
    while trace is not None:
        lines.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert "test" in lines


def test_a_deadlock_that_is_ignored_fails_all_the_same() -> None:
    @virtual_time
    async def test() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

    with pytest.raises(Deadlock):
        test()


def test_a_deadlock_in_the_clean_up_fails_too() -> None:
    @virtual_time
    async def test() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        test()


def test_what_repeats_itself_for_ever_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "MAX_JUMPS", 100)

    @virtual_time
    async def test() -> None:
        while True:
            await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="100 timers"):
        test()


def test_a_socket_is_waited_for_only_while_there_is_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual, "OUTSIDE_S", 0.05)

    @virtual_time
    async def test(timeout: float | None) -> None:
        here, there = socket.socketpair()
        with here, there:
            reader, writer = await asyncio.open_connection(sock=here)
            try:
                async with asyncio.timeout(timeout):
                    await reader.read()
            finally:
                writer.close()

    with pytest.raises(TimeoutError):
        test(HOUR)
    with pytest.raises(Deadlock, match="sockets have been waited for"):
        test(None)


def test_the_loop_can_be_run_without_the_decorator() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(asyncio.sleep(HOUR))
        with pytest.raises(Deadlock):
            runner.run(asyncio.Event().wait())
        runner.run(asyncio.sleep(HOUR))


@pytest.mark.timeout(10)
@virtual_time
async def test_timers_are_due_also_after_years() -> None:
    """As on a machine that has run for long: the clock begins with its own."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for _ in range(3):
        await asyncio.sleep(365 * 24 * HOUR)
        await asyncio.sleep(0.001)
    assert loop.time() - began == pytest.approx(3 * 365 * 24 * HOUR)
