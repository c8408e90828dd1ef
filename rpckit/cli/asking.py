"""What the commands that ask every instance share: their options, the asking, and what is said when nobody answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpckit.client import Client
from rpckit.contract import check_address
from rpckit.errors import NoResponder
from rpckit.queries import Answer, Instance, Query

__all__ = ["AsJson", "Collect", "OfAddress", "ask", "contents", "nobody", "print_json", "show", "where"]

Collect = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0.01,
        max=600,
        help="How long answers are collected, once connected; connecting has its connect_timeout.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answers as JSON, for programs.")]
OfAddress = Annotated[
    str, typer.Argument(metavar="[ADDRESS]", show_default=False, help="Ask only those that serve this address.")
]


def ask(url: str | None, query: Query, address: str, wait: float, *, first: bool = False) -> list[Answer]:
    """One question, in an event loop of its own. Raises `NoResponder` when nobody serves the `address` asked for."""
    if address:
        check_address(address)
    client = Client(url)
    answers = asyncio.run(_ask(client, query, address, wait, first=first))
    if address and not answers:
        raise nobody(client, address, wait)
    return answers


def nobody(client: Client, address: str, wait: float) -> NoResponder:
    what = f"who serves {address!r} " if address else ""
    others = " `rpckit services` lists what runs." if address else ""
    time = "" if client.transport.capabilities.sessions else f" within {wait:g} s"  # one server there says no at once
    return NoResponder(f"nobody {what}answered on {client.url}{time}. {_HINT}{others}")


def show(answers: list[Answer], wait: float, table: Callable[[list[Answer]], Table], as_json: list[Any] | None) -> None:
    """As JSON, if it is given, or as a table. That nobody answered is said, and is no failure: nothing may run."""
    if as_json is not None:
        print_json(as_json)
    elif answers:
        Console().print(table(answers))
    if not answers:
        Console(stderr=True).print(Text(f"Nobody answered within {wait:g} s. {_HINT}"), soft_wrap=True)


def contents(answers: list[Answer]) -> list[Any]:
    """What they said, as it came."""
    return [answer.content for answer in answers]


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value))


def where(instance: Instance, others: Sequence[Instance] = ()) -> str:
    """The process of an instance, as people look for it; with its id where another has the same host and pid."""
    name = f"{instance.host}:{instance.pid}"
    twins = [each for each in others if (each.host, each.pid) == (instance.host, instance.pid) and each != instance]
    return f"{name} #{instance.id[:4]}" if twins else name


async def _ask(client: Client, query: Query, address: str, wait: float, *, first: bool) -> list[Answer]:
    async with client:
        return await client.survey(query, address, wait=wait, first=first)


_HINT = "Servers with discovery = false do not, and a busy one may need a longer --wait."
