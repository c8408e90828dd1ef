"""The server of RabbitMQ's RPC tutorial, with pika: python pika_server.py URL

A durable quorum queue, one request at a time, acknowledged after its reply.
"""

import sys

import pika


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def on_request(ch, method, props, body):
    n = int(body)
    print(f"fib({n})", flush=True)
    properties = pika.BasicProperties(correlation_id=props.correlation_id)
    ch.basic_publish("", props.reply_to, str(fib(n)), properties)
    ch.basic_ack(delivery_tag=method.delivery_tag)


if __name__ == "__main__":
    connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
    channel = connection.channel()
    channel.queue_declare("rpc_queue", durable=True, arguments={"x-queue-type": "quorum"})
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume("rpc_queue", on_request)
    print("ready", flush=True)
    channel.start_consuming()
