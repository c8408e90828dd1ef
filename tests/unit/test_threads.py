"""Threads for plain functions: made when they are needed, as many as are allowed, and with what a handler may know."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator

import pytest

from rpckit.threads import HandlerThreads


@pytest.fixture
async def threads() -> AsyncIterator[HandlerThreads]:
    two = HandlerThreads(asyncio.get_running_loop(), 2)
    yield two
    two.stop()


def handler_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("rpckit-handler")]


async def test_no_thread_is_made_before_a_function_is_called(threads: HandlerThreads) -> None:
    before = len(handler_threads())
    assert await threads.call(lambda: len(handler_threads())) == before + 1


async def test_a_function_gets_its_arguments_and_the_context_variables_of_its_caller(threads: HandlerThreads) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("kept")

    def work(n: int, *, function: int) -> tuple[int, int, str]:
        return n, function, variable.get()

    assert await threads.call(work, 1, function=2) == (1, 2, "kept")


async def test_what_it_raises_is_raised_and_a_stop_iteration_as_of_a_coroutine(threads: HandlerThreads) -> None:
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wait_for(threads.call(next, iter(())), 5)


async def test_no_more_run_at_once_than_there_are_slots(threads: HandlerThreads) -> None:
    running, go_on = threading.Semaphore(0), threading.Event()

    def work() -> None:
        running.release()
        go_on.wait()

    calls = [asyncio.ensure_future(threads.call(work)) for _ in range(3)]
    try:
        for _ in range(2):
            await asyncio.to_thread(running.acquire)
        assert not running.acquire(timeout=0.02)
    finally:
        go_on.set()
    await asyncio.gather(*calls)


async def test_stopping_begins_nothing_more_and_waits_for_nothing(threads: HandlerThreads) -> None:
    running, go_on = threading.Event(), threading.Event()

    def work() -> str:
        running.set()
        go_on.wait()
        return "done"

    first, second, third = (asyncio.ensure_future(threads.call(work)) for _ in range(3))
    await asyncio.to_thread(running.wait)
    threads.stop()
    assert not first.done()
    go_on.set()
    assert [await first, await second] == ["done", "done"]
    with pytest.raises(asyncio.CancelledError):
        await third
