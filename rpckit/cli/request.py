"""`rpckit request`: a raw body to an address, and the raw reply: for programs that are not rpckit's."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from rpckit.call import Reply
from rpckit.cli import options
from rpckit.cli.connected import connected
from rpckit.cli.failures import reported
from rpckit.client import Client

__all__ = ["request"]

Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The queue, channel, list or stream.")]
Body = Annotated[str, typer.Argument(metavar="BODY", help="The body as it is; - reads it from stdin.")]
ShowHeaders = Annotated[bool, typer.Option("--headers", help="Show the reply's headers on stderr.")]


def request(
    address: Address,
    body: Body,
    url: options.Url = None,
    profile: options.Profile = None,
    timeout: options.Timeout = None,
    header: options.Header = None,
    dialect: options.Dialect = None,
    headers: ShowHeaders = False,
    wait: options.Wait = False,
    debug: options.Debug = False,
) -> None:
    """Send a raw request and print the raw reply.

    [bold]rpckit request rpc_queue 30[/bold]
    [bold]rpckit request rpc_queue - --headers < body.json[/bold]
    """
    with reported(debug):
        client = Client(url, dialect=dialect, **options.client_settings(timeout, wait))
        reply = asyncio.run(_request_once(client, address, _read_body(body), options.read_headers(header)))
        if headers:
            _show_headers(reply)
        _write(reply.body)


def _read_body(text: str) -> bytes | str:
    return sys.stdin.buffer.read() if text == "-" else text


async def _request_once(client: Client, address: str, body: bytes | str, headers: dict[str, str]) -> Reply:
    async with connected(client) as left:
        return await client.request(address, body, timeout=left, headers=headers)


def _show_headers(reply: Reply) -> None:
    own = {"correlation_id": reply.correlation_id, "content_type": reply.content_type}
    for name, value in {**own, **reply.headers}.items():
        if value:
            typer.echo(f"{name}: {value}", err=True)


def _write(body: bytes) -> None:
    """The bytes as they are; a line end after them only where a person reads."""
    typer.echo(body, nl=sys.stdout.isatty())
