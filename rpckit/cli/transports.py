"""`rpckit transports`: what each transport promises, from its `Capabilities`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from rpckit.errors import UsageError
from rpckit.registry import known_schemes, open_transport
from rpckit.transport import Capabilities

__all__ = ["markdown", "transports"]

PROMISES = {
    "settles": "a request stays the broker's until it is answered",
    "redelivers": "what a dead server left goes to another one",
    "balances": "servers of one address share its work",
    "claims": "a server claims a request before it runs it: only one can",
    "persists": "idempotent calls outlive a restart of the broker",
    "queue_wait": 'a call may wait for its server: `no_server="wait"`',
    "stores_replies": "a reply may wait for a caller that comes back: `collect`",
    "knows_no_responder": "nobody serves is told at once",
    "knows_caller_gone": "work of a caller that left is stopped",
    "orders": "requests of one caller arrive in the order sent",
    "event_groups": "an event reaches one of each group, wherever they run",
    "sessions": "no broker: clients dial the server, and either side calls the other",
}
YES, NO = "✓", "-"


def transports(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print it as a table for a README.")] = False,
) -> None:
    """Show what each transport installed here promises."""
    if as_markdown:
        typer.echo(markdown())
        return
    columns = list(_installed())
    table = Table("promise", *(each.name for each in columns))
    for field, promise in PROMISES.items():
        table.add_row(promise.replace("`", ""), *(_mark(each, field) for each in columns))
    Console().print(table)


def markdown() -> str:
    """The table as the README shows it."""
    columns = list(_installed())
    lines = [["", *(f"`{each.name}`" for each in columns)], ["---", *("---" for _ in columns)]]
    lines += [[promise, *(_mark(each, field) for each in columns)] for field, promise in PROMISES.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _mark(capabilities: Capabilities, field: str) -> str:
    return YES if getattr(capabilities, field) else NO


def _installed() -> Iterator[Capabilities]:
    """One of each name: `amqps://` is `amqp://` in this."""
    seen = set()
    for scheme in known_schemes():
        try:
            capabilities = open_transport(f"{scheme}://localhost").capabilities
        except UsageError:  # its driver is not installed
            continue
        if capabilities.name not in seen:
            seen.add(capabilities.name)
            yield capabilities
