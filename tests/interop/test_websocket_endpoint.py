"""An endpoint in an application: where its lifespan runs, and where it does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from rpckit import Service
from rpckit_websocket import WebSocketEndpoint

ASKED = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]})
SCOPE: dict[str, Any] = {
    "type": "websocket",
    "path": "/ws",
    "raw_path": b"/ws",
    "query_string": b"",
    "headers": [],
    "subprotocols": [],
    "scheme": "ws",
    "server": ("here", 80),
    "client": ("there", 1),
    "root_path": "",
}

pytestmark = pytest.mark.timeout(30)


def application(lifespan: Any = None, **settings: Any) -> FastAPI:
    service = Service("calculator")

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    app = FastAPI(lifespan=lifespan)
    WebSocketEndpoint(service, **settings).register(app, "/ws")
    return app


async def answer(app: FastAPI) -> object:
    """One connection, one call, by an ASGI server that is only this."""
    come: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    gone: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    for event in ({"type": "websocket.connect"}, {"type": "websocket.receive", "text": ASKED}):
        come.put_nowait(event)
    serving = asyncio.create_task(app(dict(SCOPE), come.get, gone.put))  # type: ignore[arg-type]  # plain dicts
    try:
        async with asyncio.timeout(5):
            assert (await gone.get())["type"] == "websocket.accept"
            return json.loads((await gone.get())["text"])["result"]
    finally:
        come.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(serving, 5)


def test_it_starts_and_drains_with_the_application_again_and_again() -> None:
    app = application()

    async def live() -> list[object]:
        async with app.router.lifespan_context(app):
            return [await answer(app), await answer(app)]

    for _ in range(3):
        assert asyncio.run(live()) == [3, 3]


def test_without_a_lifespan_it_serves_each_event_loop() -> None:
    """As one that is mounted in another application."""
    app = application()
    for _ in range(3):
        assert asyncio.run(answer(app)) == 3


def test_what_the_application_has_open_is_there_while_it_drains() -> None:
    order: list[str] = []

    async def on_disconnect(peer: object) -> None:
        order.append("a peer left")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        order.append("the database is closed")

    app = application(lifespan, on_disconnect=on_disconnect)

    async def live() -> object:
        async with app.router.lifespan_context(app):
            return await answer(app)

    assert asyncio.run(live()) == 3
    assert order == ["a peer left", "the database is closed"]
