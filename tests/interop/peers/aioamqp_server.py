"""The server of aioamqp's RPC tutorial: python aioamqp_server.py URL

A transient queue; the reply is the result's text, published before the request is acknowledged. The
tutorial publishes a str, which aioamqp 0.15 refuses; hence the `.encode()`.
"""

import asyncio
import sys

import aioamqp


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


async def on_request(channel, body, envelope, properties):
    n = int(body)
    print(f"fib({n})", flush=True)
    await channel.basic_publish(
        payload=str(fib(n)).encode(),
        exchange_name="",
        routing_key=properties.reply_to,
        properties={"correlation_id": properties.correlation_id},
    )
    await channel.basic_client_ack(delivery_tag=envelope.delivery_tag)


async def main(url):
    _, protocol = await aioamqp.from_url(url)
    channel = await protocol.channel()
    await channel.queue_declare(queue_name="rpc_queue")
    await channel.basic_qos(prefetch_count=1, prefetch_size=0, connection_global=False)
    await channel.basic_consume(on_request, queue_name="rpc_queue")
    print("ready", flush=True)
    await protocol.wait_closed()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
