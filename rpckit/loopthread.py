"""An event loop in a thread of its own, for programs that wait.

Invariant: what was entered is left, and the thread ends, by `stop`, or with the interpreter, or when nobody
holds the loop any more; whoever waits for a piece of work gets its result, its error, or `ConnectionLost`.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, ParamSpec, TypeVar

from rpckit.errors import ConnectionLost, NotSent, UsageError

__all__ = ["LoopThread"]

log = logging.getLogger(__name__)

STOP_S = 15.0  # seconds to leave what was entered: more than a server's default grace
EXIT_S = 2.0  # seconds the same may take when the interpreter exits: nobody waits for results any more

P = ParamSpec("P")
T = TypeVar("T")


class LoopThread:
    """Runs coroutines for threads that wait for them. Begins on first use; any thread may use it.

    name:  says whose it is, in errors.
    close: awaited in the loop before it ends, after what was entered has been left.
    """

    def __init__(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        self._name = name
        self._close = close
        self._lock = threading.Lock()
        self._running: _Running | None = None
        self._stopped = False

    def run(self, work: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """What `work(…)` returns or raises in the loop. An exception here, such as Ctrl-C, cancels it.

        Raises `UsageError` in a thread that runs an event loop itself and for what is no function, `NotSent` after
        `stop`.
        """
        if asyncio.iscoroutine(work):
            work.close()
            raise UsageError(f"{self._name} runs functions: give it {work.__name__}, and its arguments, without a call")
        self._check_may_wait()
        future: Future[T] | None = None
        try:
            with self._lock:  # what is submitted before the loop is asked to stop is begun before it does
                future = self._begun().submit(work(*args, **kwargs))
            return future.result()
        except CancelledError:  # by nobody but the end of the loop
            raise ConnectionLost(f"{self._name} was closed while the call was pending") from None
        except BaseException:
            if future is not None:
                future.cancel()
            raise
        finally:
            del future  # its error's traceback holds this frame

    def enter(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Enter `manager` in the loop. It is left when the loop stops, the last one entered first."""
        self._check_may_wait()
        with self._lock:
            entered = self._begun().entered
        return self.run(entered.enter_async_context, manager)

    def stop(self) -> None:
        """Leave what was entered, close, and end the thread. Twice is once. Raises what these raise."""
        self._check_may_wait()
        with self._lock:
            running, self._running, self._stopped = self._running, None, True
            if running is not None:
                running.ask_to_stop()
        if running is not None:
            running.wait(STOP_S)

    def _begun(self) -> _Running:
        if self._stopped or (self._running is not None and self._running.loop.is_closed()):
            raise NotSent(f"{self._name} is closed")
        if self._running is None:
            self._running = _Running(self._name, self._close)
            weakref.finalize(self, self._running.ask_to_stop).atexit = False
        return self._running

    def _check_may_wait(self) -> None:
        if self._running is not None and self._running.pid != os.getpid():  # its thread stayed in the parent
            raise UsageError(f"{self._name} was used before this process was forked: make a new one here")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise UsageError(f"{self._name} would block this thread's event loop: await the calls of a Client here")


class _Running:
    """The thread while it runs. It holds nothing of the `LoopThread`, so that it ends with it."""

    def __init__(self, name: str, close: Callable[[], Awaitable[None]]) -> None:
        self.pid = os.getpid()
        self.entered = AsyncExitStack()
        self._close = close
        self._begun: Future[None] = Future()
        self._ended: Future[None] = Future()
        self._waited_for: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        try:
            self._thread.start()
            self._begun.result()
            atexit.register(self._exit)
        except BaseException:  # such as Ctrl-C: nobody will ever know of this thread
            self._begun.add_done_callback(self._end_unknown)
            raise

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it in the loop. If the loop ends by itself meanwhile, it is cancelled. Raises `NotSent` afterwards."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self.loop)
        except RuntimeError as error:  # the loop is closed
            work.close()
            raise NotSent(f"{self._thread.name} is closed") from error
        try:
            self._waited_for.add(future)
            future.add_done_callback(self._waited_for.discard)
            if self._ended.done():  # just now, and perhaps before it knew of this one
                _cancel(future)
        except BaseException:  # such as Ctrl-C: nobody waits for it
            future.cancel()
            raise
        return future

    def ask_to_stop(self) -> None:
        if self.pid == os.getpid() and not self._ended.done():
            try:
                self.loop.call_soon_threadsafe(self._stopping.set)
            except RuntimeError:  # it has just ended by itself
                pass

    def wait(self, seconds: float) -> None:
        """Until it has ended. Raises what closing raises; TimeoutError when it takes too long."""
        self._thread.join(seconds)
        atexit.unregister(self._exit)
        if self._thread.is_alive():
            raise TimeoutError(f"{self._thread.name} did not close within {seconds:g} s")
        self._ended.result()

    def _exit(self) -> None:
        if self.pid != os.getpid():
            return
        self.ask_to_stop()
        try:
            self.wait(EXIT_S)
        except Exception as error:  # nobody is left to handle it
            log.info("closing at exit: %r", error)

    def _main(self) -> None:
        try:
            with asyncio.Runner() as runner:
                runner.run(self._live())
        except BaseException as error:  # also a SystemExit of what ran here: whoever waits is told
            (self._ended if self._begun.done() else self._begun).set_exception(error)
        else:
            self._ended.set_result(None)
        finally:
            atexit.unregister(self._exit)  # nobody may hold it any more
            for future in list(self._waited_for):  # came while the loop was ending
                _cancel(future)

    def _end_unknown(self, begun: Future[None]) -> None:
        atexit.unregister(self._exit)
        if begun.exception() is None:
            self.loop.call_soon_threadsafe(self._stopping.set)

    async def _live(self) -> None:
        self._stopping = asyncio.Event()
        self.entered.push_async_callback(self._close)
        async with self.entered:
            self.loop = asyncio.get_running_loop()
            self._begun.set_result(None)
            await self._stopping.wait()


def _cancel(future: Future[Any]) -> None:
    """Unlike its own `cancel`, this asks nothing of a loop that is closed."""
    with suppress(InvalidStateError):
        future.set_exception(CancelledError())
