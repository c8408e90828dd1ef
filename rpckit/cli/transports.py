"""`rpckit transports`: what each transport promises, from its `Capabilities`, and what a swap would change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rpckit.cli import swap
from rpckit.cli.failures import reported
from rpckit.cli.services import find_service, put_on_path, references_there
from rpckit.errors import UsageError
from rpckit.registry import known_schemes, open_transport
from rpckit.transport import Capabilities

__all__ = ["markdown", "transports"]

PROMISES = {
    "settles": "a request stays the broker's until it is answered",
    "redelivers": "what a dead server left goes to another one",
    "keeps_unbegun": "what a dead server had not begun goes to another one, whatever its methods",
    "balances": "servers of one address share its work",
    "claims": "a server claims a request before it runs it: only one can",
    "persists": "idempotent calls outlive a restart of the broker",
    "queue_wait": 'a call may wait for its server: `no_server="wait"`',
    "stores_replies": "a reply may wait for a caller that comes back: `collect`",
    "knows_no_responder": "nobody serves is told at once",
    "knows_caller_gone": "a reply that finds its caller gone stops that caller's other work",
    "orders": "requests of one caller arrive in the order sent",
    "event_groups": "an event reaches one of each group, wherever they run",
    "event_patterns": "one may listen to a pattern of topics: `user.*`, `#.created`",
    "foreign_topics": "a topic may be an exchange or a channel of other programs",
    "sessions": "no broker: clients dial the server, and either side calls the other",
}
PLAIN_PROMISES = {field: promise.replace("`", "") for field, promise in PROMISES.items()}
YES, NO = "✓", "-"

AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print it as a table for a README.")]
Pair = Annotated[
    tuple[str, str] | None,
    typer.Option("--compare", metavar="A B", help="Show what changes from one to another, such as amqp redis+pubsub."),
]
References = Annotated[
    list[str] | None,
    typer.Option(
        "--service",
        "-s",
        metavar="MODULE:SERVICE",
        autocompletion=references_there,
        help="With --compare: what it means for this service; may be repeated.",
    ),
]


def transports(as_markdown: AsMarkdown = False, compare: Pair = None, references: References = None) -> None:
    """Show what each transport installed here promises, or what changes from one to another.

    Exits with 1 if a service that is named cannot be served on the second one at all.

    [bold]rpckit transports[/bold]
    [bold]rpckit transports --compare amqp redis+pubsub[/bold]
    [bold]rpckit transports --compare amqp ws --service shop.orders:service[/bold]
    """
    with reported():
        if compare is not None:
            _compare(_named(compare[0]), _named(compare[1]), references or [])
        elif references:
            raise UsageError("--service goes with --compare A B: it says what a swap means for the service")
        elif as_markdown:
            typer.echo(markdown())
        else:
            Console().print(_table(list(_installed())))


def markdown() -> str:
    """The table as the README shows it."""
    columns = list(_installed())
    lines = [["", *(f"`{each.name}`" for each in columns)], ["---", *("---" for _ in columns)]]
    lines += [[promise, *(_mark(each, field) for each in columns)] for field, promise in PROMISES.items()]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _table(columns: list[Capabilities]) -> Table:
    """At 80 columns too: names break behind their +, promises between words."""
    table = Table(box=SIMPLE, show_lines=True, padding=(0, 1, 0, 0))
    table.add_column("promise", min_width=24)
    for each in columns:
        table.add_column(each.name.replace("+", "+\n"), justify="center", no_wrap=True)
    for field, promise in PLAIN_PROMISES.items():
        table.add_row(promise, *(_mark(each, field) for each in columns))
    return table


def _compare(before: Capabilities, after: Capabilities, references: list[str]) -> None:
    put_on_path(os.getcwd())
    services = [find_service(reference) for reference in references]
    refusals = swap.refusals(after, services)
    console = Console(highlight=False)
    console.print(f"[bold]{escape(before.name)} → {escape(after.name)}[/bold]")
    _list(console, "[red]lost[/red]", swap.lost(before, after, PLAIN_PROMISES) or ["nothing"])
    _list(console, "[green]gained[/green]", swap.gained(before, after, PLAIN_PROMISES) or ["nothing"])
    if services:
        console.print(f"[bold]{escape(', '.join(service.name for service in services))}[/bold]")
        _list(console, "[red]cannot be served[/red]", refusals)
        _list(console, "[yellow]warning[/yellow]", list(swap.warnings(before, after, services)))
        if refusals:
            raise typer.Exit(1)
        console.print(f"  can be served on {escape(after.name)}", soft_wrap=True)


def _list(console: Console, label: str, sentences: list[str]) -> None:
    for sentence in sentences:
        console.print(f"  {label}: {escape(sentence)}", soft_wrap=True)


def _mark(capabilities: Capabilities, field: str) -> str:
    return YES if getattr(capabilities, field) else NO


def _named(name: str) -> Capabilities:
    """By its URL scheme, or by the name that the table shows."""
    shown = {each.name: each for each in _installed()}
    return shown.get(name) or open_transport(f"{name}://localhost").capabilities


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
