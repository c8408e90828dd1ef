"""Sends a thousand messages as it was, with pika: python tutorials/porting/publisher_confirms/old/publish.py URL"""

import sys

import pika

MESSAGES = 1_000

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.queue_declare("confirms", durable=True)
channel.confirm_delivery()
for number in range(MESSAGES):
    channel.basic_publish("", "confirms", str(number), mandatory=True)  # waits for the broker, each time
print(f" [x] {MESSAGES} messages are confirmed")
connection.close()
