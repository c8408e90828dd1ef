"""Tells a log line as it was, with pika: python tutorials/porting/publish_subscribe/old/emit_log.py URL LINE…"""

import sys

import pika

url, *words = sys.argv[1:]
line = " ".join(words) or "info: Hello World!"
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.exchange_declare("logs", exchange_type="fanout")
channel.basic_publish("logs", "", line)
print(f" [x] Sent {line}")
connection.close()
