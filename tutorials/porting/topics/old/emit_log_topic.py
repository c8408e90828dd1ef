"""Tells a log line with a key as it was, with pika.

python tutorials/porting/topics/old/emit_log_topic.py URL KEY LINE…
"""

import sys

import pika

url, key, *words = sys.argv[1:]
line = " ".join(words)
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare("topic_logs", exchange_type="topic")
channel.basic_publish("topic_logs", key, line)
print(f" [x] Sent {key}:{line}")
connection.close()
