"""`rpckit settings`: what holds here and where it was said."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from rpckit.cli import options
from rpckit.cli.failures import reported

__all__ = ["settings"]


def settings(
    profile: options.Profile = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the reference of all settings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what holds as JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Show the settings that hold here, and where each was said.

    [bold]rpckit settings[/bold]
    [bold]rpckit settings --profile staging[/bold]
    [bold]rpckit settings --markdown[/bold]     every setting and option, with its meaning
    """
    from rpckit.cli import reference  # not for --help: it takes long

    with reported(debug):
        if as_markdown:
            typer.echo(reference.markdown())
            return
        rows = list(reference.rows())
        if as_json:
            typer.echo(json.dumps({name: value for name, value, _ in rows}))
            return
        table = Table("setting", Column("value", overflow="fold"), Column("said in", overflow="fold"))
        for name, value, place in rows:
            table.add_row(name, escape(str(value)), escape(place))
        Console().print(table)
