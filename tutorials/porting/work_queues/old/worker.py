"""The worker as it was, with pika: python tutorials/porting/work_queues/old/worker.py URL"""

import sys
import time

import pika


def callback(ch, method, properties, body):
    task = body.decode()
    print(f" [x] Received {task}", flush=True)
    time.sleep(task.count("."))
    print(f" [x] Done {task}", flush=True)
    ch.basic_ack(delivery_tag=method.delivery_tag)


connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.queue_declare("task_queue", durable=True)
channel.basic_qos(prefetch_count=1)
channel.basic_consume("task_queue", callback)
print(" [*] Waiting for tasks. To exit press CTRL+C", flush=True)
channel.start_consuming()
