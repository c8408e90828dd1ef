"""Prints the log lines whose keys fit a pattern as it was, with pika.

python tutorials/porting/topics/old/receive_logs_topic.py URL PATTERN…
"""

import sys

import pika


def callback(ch, method, properties, body):
    print(f" [x] {method.routing_key}:{body.decode()}", flush=True)


url, *patterns = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare("topic_logs", exchange_type="topic")
queue_name = channel.queue_declare("", exclusive=True).method.queue
for pattern in patterns:
    channel.queue_bind(queue_name, "topic_logs", pattern)
channel.basic_consume(queue_name, callback, auto_ack=True)
print(" [*] Waiting for logs. To exit press CTRL+C", flush=True)
channel.start_consuming()
