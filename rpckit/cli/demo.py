"""`rpckit demo`: the bundled Fibonacci server and client, on every transport that can run here.

Server and client are processes of their own. The server's ends with its stdin, so that it ends
with us, however we end; every wait has a limit.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import typer
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from rpckit._redis_server import INSTALL, find_redis_server
from rpckit.cli import options
from rpckit.cli.demo_worker import CALLERS, FIB_N, READY, Measured, N
from rpckit.cli.failures import reported
from rpckit.errors import UsageError
from rpckit.registry import load_transport
from rpckit.url import Url

__all__ = ["Broken", "Row", "Unavailable", "demo", "rows_table"]

READY_TIMEOUT = 15.0  # seconds for a server to connect
MEASURE_TIMEOUT = 30.0  # seconds; it takes about 4
END_TIMEOUT = 3.0  # seconds for a process to end by itself
MEMORY_URL = "memory://demo"
ONE_PROCESS = "one process, as memory cannot leave it"
TWO_PROCESSES = "two processes, over "
EMBEDDED_URLS = ("redis+stream://embedded", "redis+list://embedded", "redis+pubsub://embedded")
INSTALL_RABBITMQ = (
    "Install one (apt-get install rabbitmq-server; macOS: brew install rabbitmq), or name yours with --url."
)


class Unavailable(Exception):
    """Why a transport cannot run here, in a sentence."""


class Broken(Exception):
    """What went wrong on a transport that can run here."""


@dataclass(frozen=True, slots=True)
class Row:
    """One transport's outcome: what was measured, or why nothing was."""

    transport: str
    where: str
    measured: Measured | None = None
    broken: bool = False

    @property
    def ok(self) -> bool:
        """It ran, and rightly."""
        return self.measured is not None and self.measured.result == FIB_N

    @property
    def wrong(self) -> bool:
        """It should have run, and did not, or not rightly."""
        return self.broken or (self.measured is not None and not self.ok)


def demo(url: options.Url = None, profile: options.Profile = None, debug: options.Debug = False) -> None:
    """Run the bundled Fibonacci server and client, on every transport that can run here.

    A RabbitMQ that is running is used; otherwise one is started for the demo, where it is installed. Redis is
    the embedded one, which needs a redis-server or the extra "embedded". WebSocket needs no broker.

    [bold]rpckit demo[/bold]
    [bold]rpckit demo --url amqp://user:password@rabbit.local[/bold]
    [bold]rpckit demo --url redis+list://redis.local[/bold]
    """
    from rpckit.settings import load_settings  # not for --help: it takes long

    with reported(debug):
        console = Console()
        given = url or (load_settings().url if profile else None)
        rows = asyncio.run(_run_all(console, given))
        console.print(rows_table(rows))
        if any(row.wrong for row in rows) or (given and not rows[-1].ok):
            raise typer.Exit(1)


def rows_table(rows: list[Row]) -> Table:
    table = Table(title="A Fibonacci server and its client", title_justify="left", title_style="bold")
    table.add_column("transport", no_wrap=True)
    table.add_column("how it ran")
    for heading in (f"fib({N})", "1 caller\np50 ms", f"{CALLERS} callers\ncalls/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if row.measured is None:
        label = "[red]failed:[/red]" if row.broken else "[yellow]not run:[/yellow]"
        return row.transport, f"{label} {escape(row.where)}", "-", "-", "-"
    result = f"[green]{row.measured.result}[/green]" if row.ok else f"[red]{row.measured.result}[/red]"
    return row.transport, escape(row.where), result, f"{row.measured.p50_ms:.2f}", f"{row.measured.rate:,.0f}"


async def _run_all(console: Console, given: str | None) -> list[Row]:
    """Memory, then all transports; or only that of a URL given or set, whose row is the last."""
    from rpckit.settings import family_of, load_settings  # not for --help: it takes long
    from rpckit.testing._ports import LOOPBACK, free_port

    url = given or load_settings().url
    family = family_of(Url.parse(url).scheme)
    with console.status("memory: server and client in one process …") as status:
        rows = [await _row("memory", ONE_PROCESS, _measure_alone())]
        if family == "amqp" and given is None:
            rows.append(await _rabbitmq_row(url, status))
            rows.extend(await _redis_rows(status))
            rows.append(await _given_row(f"ws://{LOOPBACK}:{free_port()}/demo", status))
        elif family != "memory":
            rows.append(await _given_row(url, status))
    return rows


async def _row(transport: str, where: str, work: Awaitable[Measured]) -> Row:
    try:
        return Row(transport, where, await work)
    except (Unavailable, Broken) as error:
        return Row(transport, str(error), broken=isinstance(error, Broken))


async def _given_row(url: str, status: Status) -> Row:
    parsed = Url.parse(url)
    status.update(f"{parsed.scheme}: server and client on {parsed} …")
    return await _row(parsed.scheme, f"{TWO_PROCESSES}{parsed}", _measure_pair(url))


async def _rabbitmq_row(url: str, status: Status) -> Row:
    """On the broker of the settings, else on one of our own."""
    from rpckit.testing.brokers import BrokerError, RabbitMq

    row = await _given_row(url, status)
    if row.measured is not None or row.broken or not _driver_installed("amqp"):
        return row
    if not RabbitMq.installed():
        return Row("amqp", f"{row.where}, and no rabbitmq-server is installed. {INSTALL_RABBITMQ}")
    status.update(f"amqp: nothing at {Url.parse(url)}; starting a RabbitMQ for the demo (some 6 s) …")
    try:
        async with RabbitMq() as broker:
            status.update("amqp: server and client on a RabbitMQ of their own …")
            return await _row("amqp", f"{TWO_PROCESSES}a RabbitMQ started for it", _measure_pair(broker.url))
    except BrokerError as error:
        return Row("amqp", f"{row.where}, and a RabbitMQ did not start: {error}")


async def _redis_rows(status: Status) -> list[Row]:
    """On the embedded broker, which the server's process starts."""
    status.update("redis: looking for a redis-server …")
    if _driver_installed("redis") and await asyncio.to_thread(find_redis_server) is None:
        return [Row("redis", f"no redis-server is installed: {INSTALL}")]
    return [await _given_row(url, status) for url in EMBEDDED_URLS]


def _driver_installed(scheme: str) -> bool:
    try:
        load_transport(scheme)
    except UsageError:
        return False
    return True


async def _measure_alone() -> Measured:
    async with _worker("both", MEMORY_URL) as process:
        return await _figures(process)


async def _measure_pair(url: str) -> Measured:
    """A server process and a client process. Raises with the last words of the one that failed."""
    async with _worker("serve", url) as server:
        if await _line(server, READY_TIMEOUT) != READY:
            raise Unavailable(await _complaint(server))
        async with _worker("measure", url) as client:
            return await _figures(client)


@asynccontextmanager
async def _worker(role: str, url: str) -> AsyncIterator[Process]:
    """A process that is gone when the block is left. Ctrl-C reaches only us; it ends with its stdin."""
    command = (sys.executable, "-m", "rpckit.cli.demo_worker", role)
    env = {**os.environ, "RPCKIT_URL": url}
    process = await asyncio.create_subprocess_exec(
        *command, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env, start_new_session=True
    )
    try:
        yield process
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), END_TIMEOUT)
    if process.returncode is None:
        process.kill()
        await process.wait()


async def _figures(process: Process) -> Measured:
    line = await _line(process, MEASURE_TIMEOUT)
    if not line:
        raise Broken(await _complaint(process))
    return Measured(**json.loads(line))


async def _line(process: Process, seconds: float) -> str:
    """The next line of its output; empty when it ended, or when `seconds` have passed."""
    assert process.stdout is not None  # a pipe
    try:
        return (await asyncio.wait_for(process.stdout.readline(), seconds)).decode().strip()
    except TimeoutError:
        process.kill()
        return ""


async def _complaint(process: Process) -> str:
    """The last line it wrote to stderr."""
    assert process.stderr is not None  # a pipe
    lines = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    return lines[-1].rstrip(".") if lines else "no answer in time"
