"""`rpckit serve`: services of importable modules, until SIGINT or SIGTERM."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from rpckit.cli import options
from rpckit.cli.failures import reported
from rpckit.cli.job import ServeJob, log_to_stderr, serve_here
from rpckit.cli.services import references_there
from rpckit.errors import UsageError

__all__ = ["serve"]


class LogLevel(StrEnum):
    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


References = Annotated[
    list[str],
    typer.Argument(
        metavar="MODULE:SERVICE",
        autocompletion=references_there,
        help="Services to serve, imported from the working directory.",
    ),
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
Workers = Annotated[
    int | None,
    typer.Option("--workers", "-w", metavar="N", min=1, help="Processes to serve in; one that crashes is replaced."),
]
Reload = Annotated[
    bool,
    typer.Option("--reload", help="Start over when a .py file or rpckit.toml below the working directory changes."),
]
Level = Annotated[
    LogLevel,
    typer.Option("--log-level", metavar="LEVEL", help="Log to stderr from debug, info, warning or error on."),
]


def serve(
    references: References,
    url: options.Urls = None,
    profile: options.Profile = None,
    workers: Workers = None,
    reload: Reload = False,
    concurrency: Concurrency = None,
    grace: Grace = None,
    log_level: Level = LogLevel.warning,
    debug: options.Debug = False,
) -> None:
    """Serve services until Ctrl-C or SIGTERM, then drain; once more stops at once.

    [bold]rpckit serve rpckit.demo.service:service[/bold]
    [bold]rpckit serve shop.orders:service shop.stock:service --url amqp://rabbit.local --workers 4[/bold]
    [bold]rpckit serve shop.orders:service --url redis+stream://embedded --reload[/bold]     starts a Redis of its own
    [bold]rpckit serve shop.orders:service --url amqp://rabbit.local --url ws://0.0.0.0:9000[/bold]     on both
    """
    job = ServeJob(references, url or [], concurrency, grace, log_level.value, debug)
    if workers is None and not reload:
        serve_here(job, _announce)
        return
    log_to_stderr(job.log_level)
    with reported(debug):
        if workers is not None and reload:
            raise UsageError("--workers and --reload do not go together: reload one process, or run several")
        code = _serve_in_workers(job, workers) if workers else _serve_and_reload(job)
        if code:
            raise typer.Exit(code)


def _serve_in_workers(job: ServeJob, count: int) -> int:
    from rpckit.cli.workers import serve_in_workers

    return serve_in_workers(job, count, _announce)


def _serve_and_reload(job: ServeJob) -> int:
    from rpckit.cli.reload import serve_and_reload

    return serve_and_reload(job, _announce)


def _announce(lines: list[str]) -> None:
    console = Console(stderr=True, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
