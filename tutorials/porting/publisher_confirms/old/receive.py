"""Counts what was sent as it was, with pika: python tutorials/porting/publisher_confirms/old/receive.py URL"""

import sys

import pika

MESSAGES = 1_000
numbers = []


def callback(ch, method, properties, body):
    numbers.append(body)
    if len(numbers) % MESSAGES == 0:
        print(f" [x] {len(numbers)} messages have come", flush=True)


connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.queue_declare("confirms", durable=True)
channel.basic_consume("confirms", callback, auto_ack=True)
print(" [*] Waiting for messages. To exit press CTRL+C", flush=True)
channel.start_consuming()
