"""`rpckit generate`: a typed client of a service, from its source or from a running server."""

from __future__ import annotations

from collections.abc import Callable
from difflib import unified_diff
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rpckit.cli import options
from rpckit.cli.asking import Collect
from rpckit.cli.failures import reported
from rpckit.cli.files import write_out
from rpckit.cli.services import references_there
from rpckit.cli.targets import WAIT, contract_for
from rpckit.codegen import python_client, typescript_client
from rpckit.errors import UsageError
from rpckit.schema import Document

__all__ = ["generate"]

STALE = 1  # exit code of --check
SHOWN_LINES = 20  # of a difference


class Language(StrEnum):
    python = "python"
    typescript = "typescript"


Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="MODULE:SERVICE, or the address of a running service.",
        show_default=False,
        autocompletion=references_there,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE", help="Where to write it; stdout when left out.", show_default=False),
]
Sync = Annotated[bool, typer.Option("--sync", help="Methods that block, for programs without an event loop.")]
Lang = Annotated[Language, typer.Option("--lang", "-l", help="The language of the client.")]
Module = Annotated[
    str, typer.Option("--module", metavar="PATH", help="TypeScript: where rpckit.js is, as the client imports it.")
]
Check = Annotated[bool, typer.Option("--check", help="Write nothing: exit with 1 when FILE is not up to date.")]


def generate(
    target: Target,
    out: Out = None,
    url: options.Url = None,
    profile: options.Profile = None,
    sync: Sync = False,
    lang: Lang = Language.python,
    module: Module = "./rpckit.js",
    wait: Collect = WAIT,
    check: Check = False,
    debug: options.Debug = False,
) -> None:
    """Write a typed client: methods, data types, declared errors, docs.

    [bold]rpckit generate shop.orders:service --out orders_client.py[/bold]
    [bold]rpckit generate orders --url amqp://rabbit.local --out orders_client.py[/bold]     from a running server
    [bold]rpckit generate shop.orders:service --out orders_client.py --check[/bold]     in CI
    [bold]rpckit generate shop.orders:service --lang typescript --out orders_client.ts[/bold]
    """
    with reported(debug):
        if check and out is None:
            raise UsageError("--check compares with a file: name it with --out")
        text = _writer(lang, sync, module)(contract_for(target, url, wait=wait))
        if check and out is not None:
            _check(out, text, target)
        else:
            write_out(out, text)


def _writer(lang: Language, sync: bool, module: str) -> Callable[[Document], str]:
    if lang is Language.python:
        return partial(python_client, sync=sync)
    if sync:
        raise UsageError("--sync is for Python: in TypeScript every call is awaited")
    return partial(typescript_client, module=module)


def _check(out: Path, text: str, target: str) -> None:
    """Exit with 1 and the difference when the file is another."""
    try:
        there = out.read_text("utf-8") if out.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{out} cannot be read: {error}") from error
    if there == text:
        return
    console = Console(stderr=True, highlight=False, markup=False)
    stale = f"{out} is not what {target} is now; write it again without --check"
    console.print(stale if out.exists() else f"{out} is not there: write it without --check", soft_wrap=True)
    difference = unified_diff(there.splitlines(), text.splitlines(), str(out), target, lineterm="", n=1)
    lines = list(difference)
    more = len(lines) - SHOWN_LINES
    for line in [*lines[:SHOWN_LINES], *([f"… and {more} lines more"] if more > 0 else [])]:
        console.print(line, soft_wrap=True)
    raise typer.Exit(STALE)
