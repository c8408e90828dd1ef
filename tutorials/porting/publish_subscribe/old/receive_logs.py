"""Prints every log line as it was, with pika: python tutorials/porting/publish_subscribe/old/receive_logs.py URL"""

import sys

import pika


def callback(ch, method, properties, body):
    print(f" [x] {body.decode()}", flush=True)


connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.exchange_declare("logs", exchange_type="fanout")
queue_name = channel.queue_declare("", exclusive=True).method.queue
channel.queue_bind(queue_name, "logs")
channel.basic_consume(queue_name, callback, auto_ack=True)
print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
channel.start_consuming()
