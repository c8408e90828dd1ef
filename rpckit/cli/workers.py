"""`rpckit serve --workers N`: N processes that serve the same job. One that ends is replaced, with back-off.

The first worker starts alone: what cannot start at all is so said once, and ends the command.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Callable
from contextlib import suppress

from rpckit.backoff import Backoff
from rpckit.cli.failures import USAGE
from rpckit.cli.job import Announce, ServeJob
from rpckit.cli.supervisor import KILLED, Supervisor, check_platform, first_of
from rpckit.errors import UsageError
from rpckit.registry import open_transport
from rpckit.url import Url

__all__ = ["Crew", "Place", "serve_in_workers"]

log = logging.getLogger(__name__)

BACKOFF = Backoff(first=0.2, most=10.0)
STEADY_S = 10.0  # seconds; a worker that was ready for so long has proved itself: the next one is not held up


def serve_in_workers(job: ServeJob, count: int, announce: Announce) -> int:
    """Serve in `count` processes until SIGINT or SIGTERM; returns the exit code. Raises `UsageError`."""
    check_platform("--workers")
    check_shared(job)
    return asyncio.run(Crew(job, announce, count).run())


def check_shared(job: ServeJob) -> None:
    """Several processes must be able to serve at each URL."""
    settings = job.settings()
    for url in map(Url.parse, job.urls or [settings.url]):
        capabilities = open_transport(url, settings.options_for(url.scheme)).capabilities
        if capabilities.sessions:
            raise UsageError(f"--workers: one process listens at {url}; leave the option out, or use a broker")
        if capabilities.name == "memory":
            raise UsageError(f"--workers: {url} is inside one process; leave the option out, or use a broker")


class Place:
    """One worker's place: whether it is filled again when its worker has ended, and when. No clock, no process.

    must_start: its first worker shows whether the job can be done at all.
    """

    def __init__(self, *, must_start: bool, uniform: Callable[[], float] = random.random) -> None:
        self._on_trial = must_start
        self._uniform = uniform
        self._attempts = 0

    def pause(self, code: int, ready_for: float | None) -> float | None:
        """Seconds until the next worker; None for never.

        code: the exit code of the last one. ready_for: seconds that it served; None when it never did.
        """
        if ready_for is None and (self._on_trial or code == USAGE):
            return None
        self._on_trial = False
        if ready_for is not None and ready_for >= STEADY_S:
            self._attempts = 0
        pause = BACKOFF.delay(self._attempts, 0.0, self._uniform)
        self._attempts += 1
        return pause


class Crew(Supervisor):
    """`count` workers; one that ends is replaced."""

    def __init__(self, job: ServeJob, announce: Announce, count: int) -> None:
        super().__init__(job, announce)
        self._count = count
        self._announced = False
        self._first_is_ready = asyncio.Event()

    async def supervise(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep(Place(must_start=True)))
            await first_of(self._first_is_ready.wait(), self.stopping.wait())
            if not self.stopping.is_set():
                for _ in range(self._count - 1):
                    group.create_task(self._keep(Place(must_start=False)))

    def on_ready(self, lines: list[str]) -> None:
        """Once all are ready it is announced; that one is replaced later is no news."""
        self._first_is_ready.set()
        ready = sum(worker.ready_for is not None for worker in self._workers)
        if ready == self._count and not self._announced:
            self._announced = True
            self._announce([f"{line} with {self._count} workers" for line in lines])

    async def _keep(self, place: Place) -> None:
        while not self.stopping.is_set():
            try:
                code, ready_for = await self.work(until=self.stopping)
            except OSError as error:  # the system has no process or file to spare: the others go on
                log.warning("a worker cannot be started: %s", error)
                code, ready_for = KILLED, None
            if self.stopping.is_set():
                return
            pause = place.pause(code, ready_for)
            if pause is None:
                self.stop(code if code > 0 else KILLED)
                return
            log.warning("a worker %s; replacing it in %.1f s", _said(code), pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), pause)


def _said(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    known = -code in signal.Signals.__members__.values()  # those for real time have no names
    return f"was ended by {signal.Signals(-code).name if known else f'signal {-code}'}"
