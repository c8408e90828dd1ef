"""A loop in a thread: what runs there ends, and so does the thread."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager

import pytest

from rpckit import loopthread
from rpckit.errors import ConnectionLost, NotSent, UsageError
from rpckit.loopthread import LoopThread

SOON = 5.0  # seconds: a generous limit for what takes milliseconds


async def nothing() -> None: ...


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread("the loop", nothing)
    yield thread
    thread.stop()


def threads_called(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def wait_until(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not fact():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_work_runs_in_a_thread_of_its_own(loop: LoopThread) -> None:
    async def where() -> tuple[str, int]:
        return threading.current_thread().name, id(asyncio.get_running_loop())

    assert threads_called("the loop") == []
    name, first = loop.run(where)
    assert name == "the loop"
    assert loop.run(where) == (name, first)


def test_an_error_of_the_work_is_raised_with_the_frames_of_both_sides(loop: LoopThread) -> None:
    async def fails() -> None:
        raise KeyError("no")

    with pytest.raises(KeyError) as raised:
        loop.run(fails)
    functions = [entry.name for entry in raised.traceback]
    assert functions[0] == "test_an_error_of_the_work_is_raised_with_the_frames_of_both_sides"
    assert functions[-1] == "fails"


def test_a_coroutine_in_place_of_its_function_is_refused(loop: LoopThread) -> None:
    with pytest.raises(UsageError, match="the loop runs functions: give it nothing, and its arguments, without a call"):
        loop.run(nothing())  # type: ignore[arg-type]


def test_several_threads_wait_at_once(loop: LoopThread) -> None:
    """Each goes on only when all have come."""
    barrier, results = asyncio.Barrier(8), []

    async def meet(number: int) -> int:
        await barrier.wait()
        return number

    threads = [threading.Thread(target=lambda n=n: results.append(loop.run(meet, n))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(results) == list(range(8))


def test_stopping_ends_the_thread_and_twice_is_once() -> None:
    loop = LoopThread("stopped", nothing)
    loop.run(nothing)
    loop.stop()
    assert threads_called("stopped") == []
    loop.stop()
    with pytest.raises(NotSent, match="stopped is closed"):
        loop.run(nothing)


def test_one_that_never_began_can_be_stopped() -> None:
    loop = LoopThread("unused", nothing)
    loop.stop()
    with pytest.raises(NotSent, match="closed"):
        loop.run(nothing)


def test_what_still_runs_when_it_stops_is_told(loop: LoopThread) -> None:
    begun, told = threading.Event(), []

    async def forever() -> None:
        begun.set()
        await asyncio.Event().wait()

    def wait() -> None:
        with pytest.raises(ConnectionLost, match="the loop was closed") as raised:
            loop.run(forever)
        told.append(raised.value)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert begun.wait(SOON)
    loop.stop()
    waiting.join(SOON)
    assert len(told) == 1


def test_work_that_comes_while_the_loop_ends_by_itself_is_told() -> None:
    """It ends without being asked when something in it raises SystemExit."""
    loop, told = LoopThread("dying", nothing), []

    def wait() -> None:
        with pytest.raises((ConnectionLost, NotSent)) as raised:
            loop.run(asyncio.sleep, 600)
        told.append(raised.value)

    late = threading.Thread(target=wait, daemon=True)

    async def linger() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            late.start()
            time.sleep(0.1)  # the loop goes on ending when the other thread has come  # noqa: ASYNC251

    async def die() -> None:
        lingering = asyncio.ensure_future(linger())
        asyncio.get_running_loop().call_soon(sys.exit, 1)
        await lingering

    with pytest.raises((ConnectionLost, SystemExit)):
        loop.run(die)
    late.join(SOON)
    assert len(told) == 1
    with pytest.raises(NotSent, match="closed"):
        loop.run(nothing)


def test_an_exception_while_the_thread_begins_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Future[None]):
        def result(self, timeout: float | None = None) -> None:
            raise KeyboardInterrupt

    loop = LoopThread("interrupted", nothing)
    with monkeypatch.context() as patched:
        patched.setattr(loopthread, "Future", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(nothing)
    wait_until(lambda: threads_called("interrupted") == [])
    loop.run(nothing)
    loop.stop()


def test_what_was_entered_is_left_in_turn_before_it_closes() -> None:
    left: list[str] = []

    @asynccontextmanager
    async def manager(name: str) -> AsyncIterator[str]:
        yield name
        left.append(name)

    async def close() -> None:
        left.append("closed")

    loop = LoopThread("entered", close)
    assert loop.enter(manager("first")) == "first"
    loop.enter(manager("second"))
    loop.stop()
    assert left == ["second", "first", "closed"]


def test_what_closing_raises_is_raised() -> None:
    async def close() -> None:
        raise OSError("it would not")

    loop = LoopThread("broken", close)
    loop.run(nothing)
    with pytest.raises(OSError, match="it would not"):
        loop.stop()
    assert threads_called("broken") == []


def test_closing_that_takes_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    enough = threading.Event()

    async def close() -> None:
        await asyncio.to_thread(enough.wait)

    monkeypatch.setattr(loopthread, "STOP_S", 0.01)
    loop = LoopThread("slow", close)
    loop.run(nothing)
    try:
        with pytest.raises(TimeoutError, match=r"slow did not close within 0\.01 s"):
            loop.stop()
    finally:
        enough.set()
    wait_until(lambda: threads_called("slow") == [])


def test_its_thread_ends_when_nobody_holds_it() -> None:
    closed = threading.Event()

    async def close() -> None:
        closed.set()

    loop = LoopThread("forgotten", close)
    loop.run(nothing)
    del loop
    gc.collect()
    assert closed.wait(SOON)
    wait_until(lambda: threads_called("forgotten") == [])


def test_an_exception_in_the_waiting_thread_cancels_the_work(loop: LoopThread, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    loop.run(nothing)
    with monkeypatch.context() as patched:
        patched.setattr("concurrent.futures.Future.result", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(forever)
    assert cancelled.wait(SOON)


async def test_where_a_loop_runs_it_refuses(loop: LoopThread) -> None:
    for use in (lambda: loop.run(nothing), loop.stop):
        with pytest.raises(UsageError, match="the loop would block this thread's event loop"):
            use()
