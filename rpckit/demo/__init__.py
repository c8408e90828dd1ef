"""The bundled Fibonacci service and its client, so that everybody has something to call."""

from rpckit.demo.client import FibonacciRpcClient
from rpckit.demo.service import service

__all__ = ["FibonacciRpcClient", "service"]
