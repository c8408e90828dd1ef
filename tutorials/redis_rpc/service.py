"""The subscribers of FastStream's page on Redis RPC, as handlers.

::

    python tutorials/redis_rpc/service.py
"""

from __future__ import annotations

import asyncio
import logging
import os

from rpckit import Context, Response, Server
from rpckit_redis import RedisResponse

URL = os.environ.get("RPCKIT_URL", "redis://localhost:6379")

server = Server(url=URL)


@server.handler("channel:test-channel")
async def handle_channel(msg: str, ctx: Context) -> str:
    ctx.log.info(msg)
    return msg


@server.handler("list:test-list")
async def handle_list(msg: str, ctx: Context) -> str:
    ctx.log.info(msg)
    return msg


@server.handler("stream:test-stream")
async def handle_stream(msg: str, ctx: Context) -> str:
    ctx.log.info(msg)
    return msg


@server.handler("channel:test-response")
async def handle_with_response(msg: str) -> Response:
    return Response(
        body=f"Processed: {msg}",
        headers={"x-token": "some-token"},
        correlation_id="some-correlation-id",
    )


@server.handler("stream:test-redis-response")
async def handle_with_redis_response(msg: str) -> Response:
    return RedisResponse(
        body=f"Processed: {msg}",
        headers={"x-token": "some-token"},
        correlation_id="some-correlation-id",
        maxlen=1000,
    )


@server.handler("list:test-no-reply", no_reply=True)
async def handle_without_reply(msg: str, ctx: Context) -> None:
    ctx.log.info(msg)


@server.handler("list:test-divide")
async def divide(n: int) -> float:
    return 1 / n


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    asyncio.run(server.run())
