"""`rpckit stats`: what each instance counted, now or once a second."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from rpckit.cli import options
from rpckit.cli.asking import AsJson, Collect, OfAddress, ask, contents, print_json, show, where
from rpckit.cli.failures import reported
from rpckit.client import Client
from rpckit.errors import ConnectionLost, NotSent
from rpckit.queries import Answer

__all__ = ["Rates", "stats", "stats_table"]

_SHORT = {"UNIMPLEMENTED": "no such method"}  # its one word is too long for the column of a narrow terminal
EVERY_S = 1.0  # seconds from one look to the next

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Look again once a second, until Ctrl-C.")]
Show = Callable[[list[Answer]], None]


def stats(
    address: OfAddress = "",
    watch: Watch = False,
    url: options.Url = None,
    profile: options.Profile = None,
    wait: Collect = 0.3,
    as_json: AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show calls, errors, and times to wait and to run, of each method and instance.

    Counted since the instance started; times are p50/p99 of its last 1,000 calls.
    A call counts when it has ended.

    [bold]rpckit stats[/bold]
    [bold]rpckit stats rpc_queue --watch[/bold]
    [bold]rpckit stats --watch --json[/bold]     one JSON document a line
    """
    with reported(debug):
        if watch:
            _watch_until_interrupted(Client(url), address, wait, as_json)
            return
        answers = ask(url, "stats", address, wait)
        show(answers, wait, stats_table, contents(answers) if as_json else None)


class Rates:
    """Calls a second, by what was counted at the last two looks."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, ...], int] = {}
        self._looked_at: float | None = None

    def add(self, answers: list[Answer], now: float) -> None:
        """Put `per_second` into each entry; None where there was no earlier look at it."""
        span = None if self._looked_at is None else now - self._looked_at
        counted = {_key(answer, entry): entry for answer in answers for entry in _entries(answer)}
        for key, entry in counted.items():
            before = self._before.get(key)
            entry["per_second"] = None if before is None or not span else round((entry["calls"] - before) / span, 1)
        self._before = {key: entry["calls"] for key, entry in counted.items()}
        self._looked_at = now


def stats_table(answers: list[Answer], *, watching: bool = False) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("method", "instance"):
        table.add_column(heading, overflow="fold")
    for heading in ("calls", *(["calls/s"] if watching else []), "errors", "in\nflight"):
        table.add_column(heading, justify="right", overflow="fold")
    for heading in ("wait ms\np50/p99", "run ms\np50/p99"):
        table.add_column(heading, justify="right", no_wrap=True)
    instances = [answer.instance for answer in answers]
    rows = [
        (_name(entry), where(answer.instance, instances), entry) for answer in answers for entry in _entries(answer)
    ]
    for name, place, entry in sorted(rows, key=lambda row: row[:2]):
        rate = [_rate(entry.get("per_second"))] if watching else []
        flying, times = str(entry["in_flight"]), (_times(entry["wait_ms"]), _times(entry["run_ms"]))
        table.add_row(name, place, f"{entry['calls']:,}", *rate, _errors(entry["errors"]), flying, *times)
    return table


def _watch_until_interrupted(client: Client, address: str, wait: float, as_json: bool) -> None:
    try:
        if as_json:
            asyncio.run(_watch(client, address, wait, lambda answers: print_json(contents(answers))))
        else:
            asyncio.run(_watch_tables(client, address, wait))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # whoever read it has gone; nothing more may be flushed to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _watch_tables(client: Client, address: str, wait: float) -> None:
    console = Console()
    if not console.is_terminal:
        await _watch(client, address, wait, lambda answers: console.print(stats_table(answers, watching=True)))
    with Live(console=console, auto_refresh=False) as live:
        await _watch(
            client, address, wait, lambda answers: live.update(stats_table(answers, watching=True), refresh=True)
        )


async def _watch(client: Client, address: str, wait: float, show: Show) -> None:
    """A connection that cannot be made is an error; one that is lost later comes back."""
    rates = Rates()
    async with client:
        while True:
            began = time.monotonic()
            try:
                answers = await client.survey("stats", address, wait=wait)
            except (ConnectionLost, NotSent):
                answers = []
            rates.add(answers, began)
            show(answers)
            await asyncio.sleep(max(0.0, began + EVERY_S - time.monotonic()))


def _entries(answer: Answer) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = answer.content.get("stats", [])
    return entries


def _key(answer: Answer, entry: dict[str, Any]) -> tuple[str, ...]:
    return (answer.instance.id, *(entry.get(name, "") for name in ("service", "address", "method", "event")))


def _name(entry: dict[str, Any]) -> str:
    if "event" in entry:
        return f"{entry['service']} on {entry['event']}"
    return f"{entry['address']}.{entry['method']}" if entry["method"] else f"{entry['address']} (unknown)".strip()


def _rate(per_second: float | None) -> str:
    return "-" if per_second is None else f"{per_second:,.0f}"


def _errors(errors: dict[str, int]) -> str:
    """Codes as words, which a narrow column can break."""
    words = {code: _SHORT.get(code, code.replace("_", " ").lower()) for code in errors}
    return "\n".join(f"{count:,} {words[code]}" for code, count in sorted(errors.items())) or "0"


def _times(times: dict[str, float] | None) -> str:
    return "-" if times is None else f"{_ms(times['p50'])}/{_ms(times['p99'])}"


def _ms(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"
