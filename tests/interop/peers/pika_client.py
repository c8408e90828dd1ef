"""The client of RabbitMQ's RPC tutorial, with pika: python pika_client.py URL N…

An exclusive callback queue, a correlation id for each call, and a loop over the connection's events.
"""

import sys
import uuid

import pika


class FibonacciRpcClient:
    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        declared = self.channel.queue_declare(queue="", exclusive=True)
        self.callback_queue = declared.method.queue
        self.channel.basic_consume(self.callback_queue, self.on_response, auto_ack=True)
        self.response = None
        self.corr_id = None

    def on_response(self, ch, method, props, body):
        if props.correlation_id == self.corr_id:
            self.response = body

    def call(self, n):
        self.response = None
        self.corr_id = str(uuid.uuid4())
        properties = pika.BasicProperties(reply_to=self.callback_queue, correlation_id=self.corr_id)
        self.channel.basic_publish("", "rpc_queue", str(n), properties)
        while self.response is None:
            self.connection.process_data_events(time_limit=None)
        return int(self.response)


if __name__ == "__main__":
    url, *numbers = sys.argv[1:]
    fibonacci_rpc = FibonacciRpcClient(url)
    for n in numbers:
        print(fibonacci_rpc.call(int(n)))
    fibonacci_rpc.connection.close()
