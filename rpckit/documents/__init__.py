"""Documents for others' tools, made of the contracts of services. Pure: contracts in, plain data out."""

from rpckit.documents._asyncapi import asyncapi
from rpckit.documents._jsonschema import json_schema
from rpckit.documents._openrpc import openrpc

__all__ = ["asyncapi", "json_schema", "openrpc"]
