"""rpckit over RabbitMQ with uvloop in both processes; the worker picks the loop, the code is the same."""

from .rpckit_amqp import connect, serve

__all__ = ["connect", "serve"]
