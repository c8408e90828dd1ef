"""The service `js` on rpckit's own WebSocket servers: python rpckit_js_server.py listening|endpoint [OPTION=VALUE …]

`listening` is `Server(url="ws://…")`; `endpoint` is FastAPI on uvicorn, and has a page at / with rpckit.js beside it.
Options are those of the URL, such as origins=*. Prints `ready URL`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, HTMLResponse

from rpckit import Client, Context, RemoteError, Server, Service
from rpckit.testing._ports import LOOPBACK, free_port
from rpckit_websocket import JAVASCRIPT, WebSocketEndpoint

PAGE = """<!doctype html>
<title>rpckit.js</title>
<script type="module">
  import * as rpckit from "./rpckit.js";
  globalThis.rpckit = rpckit;
</script>
"""


def js(url: str) -> tuple[Service, Client]:
    """The service, and the client by which it publishes: a handler has no other way to."""
    service, publisher = Service("js"), Client(url)

    @service.method
    async def echo(value: Any) -> Any:
        return value

    @service.method
    async def add(a: float, b: float) -> float:
        return a + b

    @service.method
    async def slow(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    @service.method
    async def boom() -> None:
        raise RemoteError("boom")

    @service.method
    async def call_back(method: str, value: Any, ctx: Context) -> Any:
        return await getattr(ctx.other, method)(value)

    @service.method
    async def tell(topic: str, value: Any) -> None:
        await publisher.emit(topic, value)

    return service, publisher


async def listen(url: str, options: dict[str, str]) -> None:
    service, publisher = js(url)
    async with Server(service, url=url, transport_options=options), publisher:
        announce(url)
        await asyncio.Event().wait()


async def serve_endpoint(url: str, port: int, options: dict[str, str]) -> None:
    service, publisher = js(url)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await publisher.close()

    app = FastAPI(lifespan=lifespan)
    WebSocketEndpoint(service, transport_options=options).register(app, "/ws")

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return PAGE

    @app.get("/rpckit.js")
    async def client() -> FileResponse:
        return FileResponse(JAVASCRIPT)

    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    await publisher.wait_ready(20)
    announce(url)
    await serving


def announce(url: str) -> None:
    print(f"ready {url}", flush=True)


def main(kind: str, *options: str) -> None:
    port = free_port()
    url = f"ws://{LOOPBACK}:{port}/ws"
    given = dict(option.split("=", 1) for option in options)
    asyncio.run(listen(url, given) if kind == "listening" else serve_endpoint(url, port, given))


if __name__ == "__main__":
    main(*sys.argv[1:])
