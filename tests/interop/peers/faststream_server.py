"""A FastStream program as a server: python faststream_server.py URL

Its queue is durable and classic. It never sends an error reply.
"""

import asyncio
import sys

from faststream.rabbit import RabbitBroker, RabbitQueue


async def fib(n: int) -> int:
    if n < 0:
        raise ValueError("n must not be negative")
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


async def main(url):
    broker = RabbitBroker(url, logger=None)
    broker.subscriber(RabbitQueue("rpc_queue", durable=True))(fib)
    async with broker:
        await broker.start()
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
