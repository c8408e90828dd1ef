"""The client of aioamqp's RPC tutorial: python aioamqp_client.py URL N…

An exclusive callback queue, and an asyncio.Event that is set when the response has come.
"""

import asyncio
import sys
import uuid

import aioamqp


class FibonacciRpcClient:
    def __init__(self, url):
        self.url = url
        self.waiter = asyncio.Event()

    async def connect(self):
        _, self.protocol = await aioamqp.from_url(self.url)
        self.channel = await self.protocol.channel()
        result = await self.channel.queue_declare(exclusive=True)
        self.callback_queue = result["queue"]
        await self.channel.basic_consume(self.on_response, no_ack=True, queue_name=self.callback_queue)

    async def on_response(self, channel, body, envelope, properties):
        if self.corr_id == properties.correlation_id:
            self.response = body
            self.waiter.set()

    async def call(self, n):
        self.waiter.clear()
        self.corr_id = str(uuid.uuid4())
        await self.channel.basic_publish(
            payload=str(n).encode(),
            exchange_name="",
            routing_key="rpc_queue",
            properties={"reply_to": self.callback_queue, "correlation_id": self.corr_id},
        )
        await self.waiter.wait()
        return int(self.response)


async def main(url, numbers):
    fibonacci_rpc = FibonacciRpcClient(url)
    await fibonacci_rpc.connect()
    for n in numbers:
        print(await fibonacci_rpc.call(int(n)))
    await fibonacci_rpc.protocol.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
