"""Fibonacci numbers as it was, with pika: python tutorials/porting/rpc/old/rpc_server.py URL"""

import sys

import pika


def fib(n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a


def on_request(ch, method, props, body):
    n = int(body)
    print(f" [.] fib({n})", flush=True)
    properties = pika.BasicProperties(correlation_id=props.correlation_id)
    ch.basic_publish("", props.reply_to, str(fib(n)), properties)
    ch.basic_ack(delivery_tag=method.delivery_tag)


connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.queue_declare("rpc_queue", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("rpc_queue", on_request)
print(" [x] Awaiting RPC requests", flush=True)
channel.start_consuming()
