"""Sends tasks as it was, with pika: python tutorials/porting/work_queues/old/new_task.py URL TASK…"""

import sys

import pika

url, *tasks = sys.argv[1:]
connection = pika.BlockingConnection(pika.URLParameters(url))
channel = connection.channel()
channel.queue_declare("task_queue", durable=True)
for task in tasks or ["Hello..."]:
    properties = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
    channel.basic_publish("", "task_queue", task, properties)
    print(f" [x] Sent {task}")
connection.close()
