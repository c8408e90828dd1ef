"""`rpckit bench`: how fast a method answers, from as many callers as you like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from rpckit.cli import options
from rpckit.cli.call import Target, invoke, peer_and_method
from rpckit.cli.connected import connected
from rpckit.cli.failures import reported
from rpckit.cli.load import Figures, run_load
from rpckit.cli.loop import run
from rpckit.client import Client

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

__all__ = ["bench", "figures_table"]

REFRESH = 0.1  # seconds between two looks at the progress

Concurrency = Annotated[int, typer.Option("--concurrency", "-c", metavar="N", min=1, help="Callers at once.")]
Duration = Annotated[float, typer.Option("--duration", "-d", metavar="SECONDS", min=0.1, help="How long.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead of a table.")]


def bench(
    target: Target,
    args: options.Arguments = None,
    kw: options.Kw = None,
    url: options.Url = None,
    profile: options.Profile = None,
    concurrency: Concurrency = 64,
    duration: Duration = 10.0,
    timeout: options.Timeout = None,
    dialect: options.Dialect = None,
    as_json: AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Call a method over and over and show calls a second and latencies.

    [bold]rpckit bench rpc_queue.fib 30[/bold]
    [bold]rpckit bench rpc_queue.fib 30 --concurrency 1 --duration 5 --json[/bold]
    """
    with reported(debug):
        arguments, keywords = options.read_arguments(args), options.read_keywords(kw)
        client = Client(url, dialect=dialect, **options.client_settings(timeout))
        peer, method = peer_and_method(client, target)
        one_call = partial(invoke, peer, method, arguments, keywords)
        figures = Figures()
        try:
            run(_measure(client, one_call, figures, concurrency, duration))
        finally:  # interrupted as well: what was measured until then
            if figures.calls or figures.errors:
                _print(figures, f"{target} on {client.url}, {concurrency} callers", as_json)


async def _measure(
    client: Client, call: Callable[[], Awaitable[object]], figures: Figures, concurrency: int, duration: float
) -> None:
    """One call first, so that what cannot work is said at once; then the load, its progress on stderr."""
    async with connected(client):
        await call()
        with _progress() as progress:
            watching = asyncio.create_task(_watch(progress, figures, duration))
            await run_load(call, figures, concurrency=concurrency, duration=duration)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def _watch(progress: Progress, figures: Figures, duration: float) -> None:
    task = progress.add_task("", total=duration)
    while True:
        failed = f", {figures.errors.total():,} errors" if figures.errors else ""
        progress.update(task, completed=figures.seconds, description=f"{figures.rate:,.0f} calls/s{failed}")
        await asyncio.sleep(REFRESH)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _print(figures: Figures, title: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(figures.as_dict()))
        return
    from rich.console import Console

    console = Console()
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    console.print(figures_table(figures))
    for name, count in figures.errors.most_common():
        console.print(f"[red]{name}[/red]: {count:,}")


def figures_table(figures: Figures) -> Table:
    from rich.table import Table

    table = Table()
    values = [f"{value:.2f}" for value in figures.percentiles_ms(0.5, 0.95, 0.99, 1)]
    headings = ("calls", "calls/s", "p50 ms", "p95 ms", "p99 ms", "max ms")
    for heading in headings:
        table.add_column(heading, justify="right")
    table.add_row(f"{figures.calls:,}", f"{figures.rate:,.0f}", *values)
    return table
