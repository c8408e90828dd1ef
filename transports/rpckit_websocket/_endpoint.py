"""An endpoint of FastAPI or Starlette: connections come from the framework, sessions and calls are as ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self

from starlette.websockets import WebSocket

from rpckit.contract import Service
from rpckit.errors import UsageError
from rpckit.message import NATIVE
from rpckit.peers import Peers
from rpckit.registry import transport_options
from rpckit.server import Server
from rpckit.url import Url

from ._asgi_wire import AsgiWire
from ._listener import allowed_origin
from ._options import SUBPROTOCOL, WebSocketOptions
from ._transport import WebSocketTransport
from ._wires import GOING_AWAY, POLICY

__all__ = ["WebSocketEndpoint"]


class WebSocketEndpoint:
    """Serves services at a WebSocket route::

        endpoint = WebSocketEndpoint(service)
        endpoint.register(app, "/ws", dependencies=[Depends(check_token)])

    A dependency that raises before the WebSocket is accepted refuses it with HTTP 403, which clients report and do
    not retry. `settings` are those of `Server` (on_connect, middleware, concurrency, grace …); `transport_options`
    those of the URL (heartbeat, peer_limit, ordered, origins …). It starts and drains with the application.
    """

    def __init__(self, *services: Service, transport_options: dict[str, Any] | None = None, **settings: Any) -> None:
        self._services = services
        self._options = dict(transport_options or {})
        self._settings = settings
        self._server: Server | None = None
        self._transport: WebSocketTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting: asyncio.Task[WebSocketTransport] | None = None
        self._draining = False

    @property
    def peers(self) -> Peers:
        """Who is connected: to find, call and broadcast to."""
        return self._server.peers if self._server is not None else Peers()

    async def emit(self, topic: str, /, *args: Any, **kwargs: Any) -> None:
        """Tell every peer that listens to `topic`; at most once."""
        if self._server is not None:
            await self._server.emit(topic, *args, **kwargs)

    @property
    def in_flight(self) -> int:
        return self._server.in_flight if self._server is not None else 0

    def register(self, app: Any, path: str = "/ws", *, dependencies: Sequence[Any] = ()) -> None:
        """Add the route to a FastAPI or Starlette application, or to one of its routers."""
        if hasattr(app, "add_api_websocket_route"):
            app.add_api_websocket_route(path, self.serve, dependencies=list(dependencies))
        elif dependencies:
            raise UsageError("dependencies need a FastAPI application or APIRouter; Starlette has none")
        else:
            getattr(app, "router", app).add_websocket_route(path, self.serve)
        router = getattr(app, "router", app)
        router.lifespan_context = self._around(router.lifespan_context)

    async def serve(self, websocket: WebSocket) -> None:
        """One connection, from the request to its end: what `register` adds as a route."""
        if self._draining:
            await websocket.close(GOING_AWAY, "the server is stopping")
            return
        transport = await self._started()
        headers = dict(websocket.headers)
        if not allowed_origin(headers.get("origin"), headers.get("host", ""), transport.options.origins):
            await websocket.close(POLICY, "pages of other sites may not connect: see origins")
            return
        native = SUBPROTOCOL in websocket.scope.get("subprotocols", ())
        await websocket.accept(SUBPROTOCOL if native else None)
        wire = AsgiWire(websocket, transport.options)
        link = transport.adopt(wire, headers)
        try:
            link.begin(NATIVE if native else None)
            await wire.run()
        finally:
            link.end(wire.why)

    async def __aenter__(self) -> Self:
        self._draining = False
        await self._started()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._draining = True
        if self._server is not None:
            await self._server.stop()
        self._server = self._transport = self._starting = None

    async def _started(self) -> WebSocketTransport:
        """With the application's lifespan; where that does not run, with the first connection in an event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop, self._server, self._transport, self._starting = loop, None, None, None
        if self._transport is not None:
            return self._transport
        if self._starting is None or self._starting.done():
            self._starting = loop.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> WebSocketTransport:
        url = Url.parse("ws://endpoint")
        options = transport_options(url, WebSocketOptions, self._options)
        transport = WebSocketTransport(url, options, endpoint=True)
        server = Server(*self._services, transport=transport, **self._settings)
        await server.start()
        self._server, self._transport = server, transport
        return transport

    def _around(self, lifespan: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[Any]:
            async with lifespan(app) as state, self:  # drained before what its handlers use is closed
                yield state

        return both
