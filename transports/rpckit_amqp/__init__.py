"""RabbitMQ (AMQP 0-9-1) as a transport of rpckit, on aioamqp. Found through the entry points `amqp` and `amqps`."""

from ._transport import AmqpTransport

__all__ = ["AmqpTransport"]
