"""FastStream's page on Redis RPC, the full example as it stands there: python faststream_redis_page.py URL

It calls itself when it has started, and goes on serving. Of this file's own are the URL, and saying that it is ready.
"""

import asyncio
import sys

from faststream import FastStream, Logger
from faststream.redis import RedisBroker, RedisMessage

broker = RedisBroker(sys.argv[1])
app = FastStream(broker)


@broker.subscriber(channel="test-channel")
async def handle_channel(msg: str, logger: Logger):
    logger.info(msg)
    return msg


@broker.subscriber(list="test-list")
async def handle_list(msg: str, logger: Logger):
    logger.info(msg)
    return msg


@broker.subscriber(stream="test-stream")
async def handle_stream(msg: str, logger: Logger):
    logger.info(msg)
    return msg


@app.after_startup
async def t():
    msg = "Hi!"

    response: RedisMessage = await broker.request(
        "Hi!",
        channel="test-channel",
        timeout=3.0,
    )
    assert await response.decode() == msg

    response: RedisMessage = await broker.request(
        "Hi!",
        list="test-list",
        timeout=3.0,
    )
    assert await response.decode() == msg

    response: RedisMessage = await broker.request(
        "Hi!",
        stream="test-stream",
        timeout=3.0,
    )
    assert await response.decode() == msg

    print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(app.run())
