"""`rpckit serve`: services of importable modules, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from rpckit.cli import options
from rpckit.cli.failures import INTERRUPTED, reported
from rpckit.cli.loop import run
from rpckit.cli.services import find_service, put_on_path
from rpckit.contract import Service
from rpckit.server import Server

__all__ = ["ready_line", "serve"]

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


References = Annotated[
    list[str],
    typer.Argument(metavar="MODULE:SERVICE", help="Services to serve, imported from the working directory."),
]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", "-c", metavar="N", min=1, help=f"Handlers at once.  {options.from_settings('100')}"),
]
Grace = Annotated[
    float | None,
    typer.Option(
        "--grace",
        metavar="SECONDS",
        min=0,
        help=f"Seconds to drain when stopped.  {options.from_settings('10')}",
    ),
]
Level = Annotated[
    LogLevel,
    typer.Option("--log-level", metavar="LEVEL", help="Log to stderr from debug, info, warning or error on."),
]


def serve(
    references: References,
    url: options.Url = None,
    concurrency: Concurrency = None,
    grace: Grace = None,
    log_level: Level = LogLevel.warning,
    debug: options.Debug = False,
) -> None:
    """Serve services until Ctrl-C or SIGTERM, then drain; once more stops at once.

    [bold]rpckit serve rpckit.demo.service:service[/bold]
    [bold]rpckit serve shop.orders:service shop.stock:service --url amqp://rabbit.local[/bold]
    [bold]rpckit serve shop.orders:service --url redis+stream://embedded[/bold]     starts a Redis of its own
    """
    logging.basicConfig(format=LOG_FORMAT, level=log_level.upper())
    with reported(debug):
        put_on_path(os.getcwd())
        services = [find_service(reference) for reference in references]
        server = _AnnouncedServer(*services, url=url, concurrency=concurrency, grace=grace)
        try:
            run(server.run())
        except asyncio.CancelledError:  # the second signal
            raise typer.Exit(INTERRUPTED) from None


class _AnnouncedServer(Server):
    """Says on stderr when it is ready."""

    async def start(self) -> None:
        await super().start()
        console = Console(stderr=True, highlight=False)
        for service in self.services:
            console.print(ready_line(service, ", ".join(map(str, self.urls))), soft_wrap=True, markup=False)


def ready_line(service: Service, where: str) -> str:
    if not service.methods:
        return f"{service.name} hears {', '.join(event.topic for event in service.events)} on {where}"
    return f"serving {service.name} ({', '.join(service.methods)}) at {service.address} on {where}"
