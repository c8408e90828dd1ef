"""The receiver as it was, with pika: python tutorials/porting/hello/old/receive.py URL"""

import sys

import pika


def callback(ch, method, properties, body):
    print(f" [x] Received {body.decode()}", flush=True)


connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.queue_declare("hello", durable=True)
channel.basic_consume("hello", callback, auto_ack=True)
print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
channel.start_consuming()
