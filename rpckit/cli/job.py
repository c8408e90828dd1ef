"""What a process of `rpckit serve` does: the words of the command line, and serving as they say."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from rpckit.cli.failures import INTERRUPTED, reported
from rpckit.cli.loop import run
from rpckit.cli.services import find_service, put_on_path
from rpckit.contract import Service
from rpckit.server import Server

if TYPE_CHECKING:
    from rpckit.settings import Settings

__all__ = ["Announce", "ServeJob", "log_to_stderr", "ready_line", "serve_here"]

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Announce = Callable[[list[str]], None]


@dataclass(frozen=True, slots=True)
class ServeJob:
    """What is to be served: services by reference, and the options of the command; None where the settings decide."""

    references: list[str]
    urls: list[str] = field(default_factory=list)
    concurrency: int | None = None
    grace: float | None = None
    log_level: str = "warning"
    debug: bool = False

    @classmethod
    def from_json(cls, text: str | bytes) -> ServeJob:
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    def overrides(self) -> dict[str, Any]:
        """The settings that its options override."""
        given = {"concurrency": self.concurrency, "grace": self.grace}
        return {name: value for name, value in given.items() if value is not None}

    def settings(self) -> Settings:
        """Those it is served by. Raises `UsageError`."""
        from rpckit.settings import load_settings  # not for --help: it takes long

        return load_settings(**self.overrides())


def serve_here(job: ServeJob, announce: Announce, *, before: Callable[[], None] | None = None) -> None:
    """Serve in this process until SIGINT or SIGTERM; `announce` gets a line for each service when all are ready.

    before: called when the services are imported, and nothing is served yet.

    Raises `typer.Exit` with the exit code when that is not 0, after saying on stderr why.
    """
    log_to_stderr(job.log_level)
    with reported(job.debug, serving=True):
        put_on_path(os.getcwd())
        services = [find_service(reference) for reference in job.references]
        server = _AnnouncedServer(*services, url=job.urls or None, **job.overrides())
        server.announce = announce
        if before is not None:
            before()
        try:
            run(server.run())
        except asyncio.CancelledError:  # the third signal, or a second one while it started
            raise typer.Exit(INTERRUPTED) from None
        if server.interrupts > 1:
            raise typer.Exit(INTERRUPTED)


def log_to_stderr(level: str) -> None:
    logging.basicConfig(format=LOG_FORMAT, level=level.upper())


def ready_line(service: Service, where: str) -> str:
    heard = ", ".join(event.topic for event in service.events)
    if not service.methods:
        return f"{service.name} hears {heard} on {where}"
    also = f", hearing {heard}" if heard else ""
    return f"serving {service.name} ({', '.join(service.methods)}) at {service.address}{also} on {where}"


class _AnnouncedServer(Server):
    """Says when it is ready, and counts its signals."""

    announce: Announce
    interrupts = 0

    async def start(self) -> None:
        await super().start()
        where = ", ".join(map(str, self.urls))
        for url in self.urls:
            if url.scheme == "memory":
                log.warning("%s is inside this process: no other one can reach it; use a broker for that", url)
        self.announce([ready_line(service, where) for service in self.services])

    def _interrupt(self) -> None:
        self.interrupts += 1
        super()._interrupt()
        if self.in_flight and self.interrupts == 1:
            calls = "1 call" if self.in_flight == 1 else f"{self.in_flight} calls"
            words = f"draining {calls} for up to {self.settings.grace:g} s; once more stops at once"
            Console(stderr=True, highlight=False).print(words)
