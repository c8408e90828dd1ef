"""FastStream's page on Redis RPC, the servers: python faststream_redis_server.py URL PREFIX

Its names begin with PREFIX instead of `test`. Its requests run one after the other.
"""

import asyncio
import sys

from faststream import Logger, Response
from faststream.redis import RedisBroker, RedisMessage, RedisResponse

URL, PREFIX = sys.argv[1:]
TOKEN = {"x-token": "some-token"}

broker = RedisBroker(URL, logger=None)


@broker.subscriber(channel=f"{PREFIX}-channel")
async def handle_channel(msg: str, logger: Logger):
    return msg


@broker.subscriber(list=f"{PREFIX}-list")
async def handle_list(msg: str, logger: Logger):
    print("ran", msg, flush=True)
    return msg


@broker.subscriber(stream=f"{PREFIX}-stream")
async def handle_stream(msg: str, logger: Logger):
    return msg


@broker.subscriber(channel=f"{PREFIX}-channel-response")
async def handle_response(msg):
    return Response(body=f"Processed: {msg}", headers=TOKEN, correlation_id="some-correlation-id")


@broker.subscriber(stream=f"{PREFIX}-redis-response")
async def handle_redis_response(msg):
    return RedisResponse(body=f"Processed: {msg}", headers=TOKEN, maxlen=1000)


@broker.subscriber(channel=f"{PREFIX}-any")
async def handle_any(msg):
    return msg


@broker.subscriber(channel=f"{PREFIX}-bytes")
async def handle_bytes(message: RedisMessage):
    return message.body


@broker.subscriber(channel=f"{PREFIX}-headers")
async def handle_headers(message: RedisMessage):
    return Response("heard", headers={"x-heard": message.headers["x-said"], "x-after": "plain"})


@broker.subscriber(channel=f"{PREFIX}-raises")
async def handle_raises(msg):
    raise ValueError("they never hear this")


@broker.subscriber(list=f"{PREFIX}-no-reply", no_reply=True)
async def handle_no_reply(msg):
    print("heard", msg, flush=True)


async def main():
    async with broker:
        await broker.start()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
