"""`rpckit ping`: which instances are there, and how soon they answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.table import Table

from rpckit.cli import options
from rpckit.cli.asking import AsJson, Collect, OfAddress, ask, show, where
from rpckit.cli.failures import NO_RESPONDER, reported
from rpckit.queries import Answer

__all__ = ["ping"]


def ping(
    address: OfAddress = "",
    url: options.Url = None,
    profile: options.Profile = None,
    wait: Collect = 0.3,
    as_json: AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show who answers, and how soon. Exits 3 when nobody does.

    [bold]rpckit ping[/bold]
    [bold]rpckit ping rpc_queue --url redis+stream://localhost[/bold]
    """
    with reported(debug):
        answers = ask(url, "ping", address, wait)
        said = [{"instance": asdict(each.instance), "ms": round(1000 * each.seconds, 3)} for each in answers]
        show(answers, wait, _table, said if as_json else None)
        if not answers:
            raise typer.Exit(NO_RESPONDER)


def _table(answers: Sequence[Answer]) -> Table:
    table = Table("instance", "transports", "rpckit")
    table.add_column("up", justify="right")
    table.add_column("ms", justify="right")
    instances = [answer.instance for answer in answers]
    for answer in sorted(answers, key=lambda each: each.seconds):
        instance = answer.instance
        cells = where(instance, instances), ", ".join(instance.transports), instance.rpckit
        table.add_row(*cells, _span(time.time() - instance.started), f"{1000 * answer.seconds:.1f}")
    return table


def _span(seconds: float) -> str:
    """A time span as people say it: its two largest units at most."""
    whole = max(0, round(seconds))
    days, hours, minutes = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if minutes else f"{whole} s"
