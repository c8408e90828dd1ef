"""Typed clients, written from the contract of a service. Pure: a document in, the text of a file out."""

from rpckit.codegen.python import python_client
from rpckit.codegen.typescript import typescript_client

__all__ = ["python_client", "typescript_client"]
