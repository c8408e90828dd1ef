"""A client with aio-pika, in the manner of the tutorial: python aio_pika_client.py URL N…"""

import asyncio
import sys
import uuid

import aio_pika


class FibonacciRpcClient:
    def __init__(self):
        self.futures = {}

    async def connect(self, url):
        self.connection = await aio_pika.connect(url)
        self.channel = await self.connection.channel()
        self.callback_queue = await self.channel.declare_queue(exclusive=True)
        await self.callback_queue.consume(self.on_response, no_ack=True)

    async def on_response(self, message):
        future = self.futures.pop(message.correlation_id, None)
        if future is not None:
            future.set_result(message.body)

    async def call(self, n):
        correlation_id = str(uuid.uuid4())
        future = self.futures[correlation_id] = asyncio.get_running_loop().create_future()
        message = aio_pika.Message(
            str(n).encode(),
            content_type="text/plain",
            correlation_id=correlation_id,
            reply_to=self.callback_queue.name,
        )
        await self.channel.default_exchange.publish(message, routing_key="rpc_queue")
        return int(await future)


async def main(url, numbers):
    fibonacci_rpc = FibonacciRpcClient()
    await fibonacci_rpc.connect(url)
    for result in await asyncio.gather(*(fibonacci_rpc.call(int(n)) for n in numbers)):
        print(result)
    await fibonacci_rpc.connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
