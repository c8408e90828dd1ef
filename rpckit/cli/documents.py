"""`rpckit schema`: documents made of contracts, and what a change of one breaks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from rpckit.cli import options
from rpckit.cli.asking import Collect
from rpckit.cli.contract_file import is_file, read_contracts
from rpckit.cli.failures import reported
from rpckit.cli.files import write_out
from rpckit.cli.services import references_there
from rpckit.cli.targets import WAIT, contract_for
from rpckit.compare import Change, compare
from rpckit.documents import asyncapi, json_schema, openrpc
from rpckit.errors import UsageError
from rpckit.schema import Document

__all__ = ["schema"]

BREAKING = 1  # exit code of --diff


class Format(StrEnum):
    openrpc = "openrpc"
    asyncapi = "asyncapi"
    jsonschema = "jsonschema"
    contract = "contract"


Targets = Annotated[
    list[str],
    typer.Argument(
        metavar="TARGET",
        help="MODULE:SERVICE, or the address of a running service.",
        show_default=False,
        autocompletion=references_there,
    ),
]
As = Annotated[Format, typer.Option("--format", "-f", help="Which document; contract is rpckit's own.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="Where to write it; stdout when left out.", show_default=False),
]
Diff = Annotated[
    str | None,
    typer.Option(
        "--diff",
        metavar="OLD",
        help="Show what changed since OLD instead: a file of --format contract, or a TARGET. Exits 1 if that breaks.",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="The changes as JSON, for programs.")]


def schema(
    targets: Targets,
    format: As = Format.openrpc,
    out: Out = None,
    url: options.Url = None,
    profile: options.Profile = None,
    diff: Diff = None,
    wait: Collect = WAIT,
    as_json: AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Print a document that describes services, or what a change of them breaks.

    [bold]rpckit schema shop.orders:service[/bold]     OpenRPC
    [bold]rpckit schema shop.orders:service shop.stock:service --format asyncapi --url amqp://rabbit.local[/bold]
    [bold]rpckit schema shop.orders:service --format contract --out orders.json[/bold]
    [bold]rpckit schema shop.orders:service --diff orders.json[/bold]     exits 1 if old clients break
    """
    with reported(debug):
        if diff is not None and out is not None:
            raise UsageError("--diff prints changes: leave --out away, or redirect them")
        contracts = [contract_for(target, url, wait=wait) for target in targets]
        if diff is not None:
            old = read_contracts(diff) if is_file(diff) else [contract_for(diff, url, wait=wait)]
            _report(_changes(old, contracts), as_json)
            return
        text = json.dumps(_document(format, contracts, url), indent=2, ensure_ascii=False) + "\n"
        write_out(out, text)


def _document(format: Format, contracts: Sequence[Document], url: str | None) -> Any:
    writers: dict[Format, Callable[[Sequence[Document]], Any]] = {
        Format.openrpc: openrpc,
        Format.asyncapi: partial(asyncapi, urls=[url] if url else []),
        Format.jsonschema: json_schema,
        Format.contract: lambda contracts: contracts[0] if len(contracts) == 1 else list(contracts),
    }
    return writers[format](contracts)


def _changes(old: Sequence[Document], new: Sequence[Document]) -> list[Change]:
    """Of one service whatever its name; of several by their names."""
    if len(old) == len(new) == 1:
        return compare(old[0], new[0])
    return sorted(_by_name(old, new), key=lambda change: not change.breaking)


def _by_name(old: Sequence[Document], new: Sequence[Document]) -> Iterator[Change]:
    there = {document["service"]: document for document in new}
    known = {document["service"] for document in old}
    for document in old:
        name = document["service"]
        if name not in there:
            yield Change(True, name, f"is gone; there are {', '.join(there)}")
            continue
        for change in compare(document, there[name]):
            yield Change(change.breaking, f"{name}: {change.where}", change.what)
    yield from (Change(False, name, "is new") for name in there if name not in known)


def _report(changes: Sequence[Change], as_json: bool) -> None:
    """Breaking ones first; they are the exit code."""
    if as_json:
        shown = [{"breaking": each.breaking, "where": each.where, "what": each.what} for each in changes]
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        _print(changes)
    if any(change.breaking for change in changes):
        raise typer.Exit(BREAKING)


def _print(changes: Sequence[Change]) -> None:
    console = Console(highlight=False)
    for change in changes:
        label = ("breaking", "bold red") if change.breaking else ("additive", "green")
        console.print(Text.assemble(label, "  ", str(change)), soft_wrap=True)
    if not changes:
        console.print("no changes")
