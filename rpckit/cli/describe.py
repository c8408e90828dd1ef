"""`rpckit describe`: what is at an address, from the contract that a running instance gives."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from rpckit.cli import options
from rpckit.cli.asking import AsJson, Collect, print_json
from rpckit.cli.failures import reported
from rpckit.cli.signatures import described
from rpckit.cli.targets import WAIT, running_contract

__all__ = ["describe"]

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="Where the service is: its queue, list, stream …")]


def describe(
    address: Address,
    url: options.Url = None,
    profile: options.Profile = None,
    wait: Collect = WAIT,
    as_json: AsJson = False,
    debug: options.Debug = False,
) -> None:
    """Show the methods at an address: signatures, docs, errors, types. The first instance to answer is believed.

    [bold]rpckit describe rpc_queue[/bold]
    [bold]rpckit describe rpc_queue --json[/bold]     the contract document
    """
    with reported(debug):
        contract = running_contract(address, url, wait)
        if as_json:
            print_json(contract)
            return
        for line in described(contract):
            style = "" if line.startswith(" ") else "bold"
            Console(highlight=False).print(Text(line, style), soft_wrap=True)
