"""The side that listens, on its own: `rpckit serve … --url ws://0.0.0.0:9000/ws`."""

from __future__ import annotations

import asyncio
import errno
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from rpckit.errors import NotSent
from rpckit.message import NATIVE
from rpckit.tls import server_context
from rpckit.url import Host, Url

from ._hub import Hub
from ._options import SUBPROTOCOL, WebSocketOptions
from ._wires import CLOSE_S, GOING_AWAY, ServerWire

__all__ = ["DEFAULT_PORTS", "Listener", "allowed_origin"]

DEFAULT_PORTS = {"ws": 80, "wss": 443}


class Listener:
    """Accepts connections at one path, and begins a session on each."""

    def __init__(self, url: Url, options: WebSocketOptions, hub: Hub) -> None:
        self._url = url
        self._options = options
        self._hub = hub
        self._server: Server | None = None
        self._path = f"/{url.path or ''}"

    async def open(self) -> str:
        """Listen; returns where. Raises `NotSent` that says why, such as at a port that is taken, and `UsageError`."""
        host = self._url.hosts[0] if self._url.hosts else Host("localhost")
        port = host.port or DEFAULT_PORTS[self._url.scheme]
        try:
            self._server = await serve(
                self._keep,
                host.name,
                port,
                process_request=self._check,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                select_subprotocol=_select,
                compression="deflate" if self._options.compression else None,
                open_timeout=self._options.connect_timeout,
                ping_interval=None,  # the hub watches
                close_timeout=CLOSE_S,
                max_size=self._options.max_message,
                create_connection=ServerWire,
                ssl=server_context(self._options) if self._url.scheme == "wss" else None,
                start_serving=False,  # which waits: cancelled then, nobody would have the server to close it
            )
            await self._server.start_serving()
        except OSError as error:
            where = f"{self._url.scheme}://{Host(host.name, port)}"
            raise NotSent(f"cannot listen on {where}: {_why(error, port)}") from error
        return f"listening on {self._url.scheme}://{Host(host.name, port)}{self._path}"

    async def close(self) -> None:
        """No more connections, and those that are there are closed in good order."""
        if self._server is None:
            return
        self._server.close(code=GOING_AWAY)
        try:
            async with asyncio.timeout(2 * CLOSE_S):
                await self._server.wait_closed()
        except TimeoutError:
            for link in list(self._hub.every):
                link.lose("it did not close in time")

    async def _keep(self, connection: ServerConnection) -> None:
        """A connection's own task: it ends with the connection."""
        assert isinstance(connection, ServerWire)  # it was asked for
        assert connection.request is not None  # the handshake is over
        headers = {name.lower(): value for name, value in connection.request.headers.raw_items()}
        link = self._hub.new_link(connection, headers)
        try:
            link.begin(NATIVE if connection.subprotocol == SUBPROTOCOL else None)
            await connection.wait_closed()
        finally:
            link.end(connection.why_closed)

    def _check(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refused before it is a WebSocket: another path, or a page of another site."""
        if urlsplit(request.path).path != self._path:
            return connection.respond(HTTPStatus.NOT_FOUND, f"The WebSocket is at {self._path}\n")
        if not allowed_origin(request.headers.get("Origin"), request.headers.get("Host", ""), self._options.origins):
            return connection.respond(HTTPStatus.FORBIDDEN, "Pages of other sites may not connect: see ?origins=\n")
        return None


def _why(error: OSError, port: int) -> str:
    """asyncio's own words repeat where."""
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use by another program there: end that one, or name another port in the URL"
    if error.errno == errno.EADDRNOTAVAIL:
        return "that is no address of this machine: name one that is, localhost, or 0.0.0.0 for all"
    if error.errno == errno.EACCES:
        return f"the system does not allow port {port} to this user: name one from 1024 on in the URL"
    return f"{error.strerror}: name an address of this machine in the URL"


def allowed_origin(origin: str | None, host: str, allowed: str) -> bool:
    """Programs send no origin; a page's must be of the same host, or among those allowed. Pure."""
    if origin is None or allowed == "*":
        return True
    if origin and origin in [each.strip() for each in allowed.split(",")]:
        return True
    try:
        of = urlsplit(origin).netloc
    except ValueError:  # an address in brackets that is none
        return False
    return of != "" and of == host


def _select(connection: ServerConnection, offered: object) -> Subprotocol | None:
    """Ours if it is offered; without any the first frame tells."""
    assert isinstance(offered, list | tuple)
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
