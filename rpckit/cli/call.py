"""`rpckit call`: one call from a shell; its result is JSON on stdout."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any

import typer
from pydantic_core import to_json

from rpckit.cli import options
from rpckit.cli.connected import connected
from rpckit.cli.failures import reported
from rpckit.client import Client
from rpckit.contract import split_target
from rpckit.errors import InvalidArgument
from rpckit.message import NATIVE
from rpckit.peer import Peer

__all__ = ["Target", "call", "invoke", "peer_and_method", "render"]

Target = Annotated[
    str, typer.Argument(metavar="ADDRESS.METHOD", help="What to call; ADDRESS alone for the default method.")
]
Idempotent = Annotated[
    bool, typer.Option("--idempotent", help="It may run twice: send it again after a lost connection.")
]


def call(
    target: Target,
    args: options.Arguments = None,
    kw: options.Kw = None,
    url: options.Url = None,
    profile: options.Profile = None,
    timeout: options.Timeout = None,
    header: options.Header = None,
    dialect: options.Dialect = None,
    idempotent: Idempotent = False,
    wait: options.Wait = False,
    debug: options.Debug = False,
) -> None:
    """Call a method and print its result as JSON.

    [bold]rpckit call rpc_queue.fib 30[/bold]
    [bold]rpckit call rpc_queue.fib --kw n=30 --timeout 3[/bold]
    [bold]rpckit call rpc_queue.fib 30 --url redis+stream://embedded[/bold]
    [bold]rpckit call rpc_queue 30 --dialect plain[/bold]     a server from RabbitMQ's tutorial
    """
    with reported(debug):
        arguments, keywords = options.read_arguments(args), options.read_keywords(kw)
        using = {"headers": options.read_headers(header), "idempotent": idempotent}
        client = Client(url, dialect=dialect, **options.client_settings(timeout, wait))
        try:
            result = asyncio.run(_call_once(client, target, arguments, keywords, using))
        except InvalidArgument as error:
            for note in options.misread(args, kw):
                error.add_note(note)
            raise
        typer.echo(render(result, indent=2 if sys.stdout.isatty() else None))


async def _call_once(
    client: Client, target: str, args: list[Any], kwargs: dict[str, Any], using: dict[str, Any]
) -> object:
    peer, method = peer_and_method(client, target)
    async with connected(client) as left:
        return await invoke(peer.using(timeout=left, **using), method, args, kwargs)


def peer_and_method(client: Client, target: str) -> tuple[Peer, str]:
    """Where a target points. Without a dot it is an address, or a method where there is a session."""
    if client.transport.capabilities.sessions and "." not in target:
        return client.other, target
    if "." not in target or client.transport.options.form != NATIVE:
        return client.at(target), ""
    address, method = split_target(target)
    return client.at(address), method


async def invoke(peer: Peer, method: str, args: list[Any], kwargs: dict[str, Any]) -> object:
    """Call `method`, the default one when empty."""
    return await (peer.invoke(method, *args, **kwargs) if method else peer.call(*args, **kwargs))


def render(value: object, indent: int | None = None) -> str:
    """JSON; bytes as base64, infinities and NaN as Python's and JavaScript's words for them."""
    return to_json(value, indent=indent, bytes_mode="base64", inf_nan_mode="constants", fallback=str).decode()
