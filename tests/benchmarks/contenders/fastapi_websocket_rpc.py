"""fastapi_websocket_rpc as it comes: its endpoint on uvicorn, its client, the defaults."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from fastapi_websocket_rpc import RpcMethodsBase, WebSocketRpcClient, WebsocketRPCEndpoint

__all__ = ["connect", "serve"]


class Methods(RpcMethodsBase):  # type: ignore[misc]
    async def increment(self, n: int) -> int:
        return n + 1


class FastApiRpcCaller:
    def __init__(self, client: Any) -> None:
        self._client = client

    async def call(self, n: int) -> int:
        response = await self._client.other.increment(n=n)
        return int(response.result)

    async def close(self) -> None:
        await self._client.close()


async def serve(url: str, ready: Callable[[], None]) -> None:
    logging.disable(logging.INFO)
    app = FastAPI()
    WebsocketRPCEndpoint(Methods()).register_route(app, "/ws")
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=urlsplit(url).port or 80, log_level="warning"))
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.05)
    ready()
    await serving


async def connect(url: str) -> FastApiRpcCaller:
    logging.disable(logging.INFO)
    return FastApiRpcCaller(await WebSocketRpcClient(url, RpcMethodsBase()).__aenter__())
