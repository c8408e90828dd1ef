"""The sender as it was, with pika: python tutorials/porting/hello/old/send.py URL"""

import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.queue_declare("hello", durable=True)
channel.basic_publish("", "hello", "Hello World!")
print(" [x] Sent 'Hello World!'")
connection.close()
