"""An endpoint in an application: where its lifespan runs, and where it does not."""

from __future__ import annotations

import json
import logging

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from rpckit import Service
from rpckit_websocket import WebSocketEndpoint

ASKED = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "add", "params": [1, 2]})

pytestmark = [pytest.mark.timeout(30), pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def application() -> FastAPI:
    service = Service("calculator")

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    app = FastAPI()
    WebSocketEndpoint(service).register(app, "/ws")
    return app


def answer(client: TestClient) -> object:
    with client.websocket_connect("/ws") as session:
        session.send_text(ASKED)
        return json.loads(session.receive_text())["result"]


def test_it_starts_and_drains_with_the_application_again_and_again() -> None:
    app = application()
    for _ in range(3):
        with TestClient(app) as client:
            assert [answer(client) for _ in range(2)] == [3, 3]


def test_without_a_lifespan_it_serves_each_event_loop() -> None:
    """As a mounted application's: each connection of this client has a loop of its own."""
    logging.disable(logging.WARNING)
    try:
        client = TestClient(application())
        assert [answer(client) for _ in range(3)] == [3, 3, 3]
    finally:
        logging.disable(logging.NOTSET)


def test_what_the_application_has_open_is_there_while_it_drains() -> None:
    order: list[str] = []
    service = Service("calculator")

    @service.method
    async def add(a: int, b: int) -> int:
        return a + b

    async def on_disconnect(peer: object) -> None:
        order.append("a peer left")

    from collections.abc import AsyncIterator
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        order.append("the database is closed")

    app = FastAPI(lifespan=lifespan)
    WebSocketEndpoint(service, on_disconnect=on_disconnect).register(app, "/ws")
    with TestClient(app) as client:
        assert answer(client) == 3
    assert order == ["a peer left", "the database is closed"]
