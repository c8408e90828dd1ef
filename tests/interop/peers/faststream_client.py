"""A FastStream program as a client: python faststream_client.py URL BODY…

Its requests use direct reply-to. Prints the body of each reply, and the status header of a fault.
"""

import asyncio
import sys

from faststream.rabbit import RabbitBroker


async def main(url, bodies):
    async with RabbitBroker(url, logger=None) as broker:
        for body in bodies:
            value = int(body) if body.lstrip("-").isdigit() else body
            message = await broker.request(value, queue="rpc_queue", timeout=10)
            print(message.headers.get("x-rpckit-status", "OK"), message.body.decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
