"""Prints the log lines of some severities as it was, with pika.

python tutorials/porting/routing/old/receive_logs_direct.py URL SEVERITY…
"""

import sys

import pika


def callback(ch, method, properties, body):
    print(f" [x] {method.routing_key}:{body.decode()}", flush=True)


url, *severities = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare("direct_logs", exchange_type="direct")
queue_name = channel.queue_declare("", exclusive=True).method.queue
for severity in severities:
    channel.queue_bind(queue_name, "direct_logs", severity)
channel.basic_consume(queue_name, callback, auto_ack=True)
print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
channel.start_consuming()
