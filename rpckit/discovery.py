"""What a side offers, as an OpenRPC document: the answer to `rpc.discover` on a session. Pure.

OpenRPC 1.3 (spec.open-rpc.org); `rpc.` is the prefix that JSON-RPC 2.0 keeps for such methods.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from rpckit.contract import MethodSpec, Service

__all__ = ["ADDRESS", "describe", "discovery"]

ADDRESS = "rpc"
VERSION = "1.3.2"


def discovery(services: Sequence[Service]) -> Service:
    """A service whose `discover` describes the others."""
    service = Service("discovery", address=ADDRESS)

    @service.method
    async def discover() -> dict[str, Any]:
        """The methods that can be called here."""
        return describe(services)

    return service


def describe(services: Sequence[Service]) -> dict[str, Any]:
    """The document for some services: names as they are called, parameters, results, docs."""
    title = ", ".join(service.name for service in services) or "nothing"
    return {
        "openrpc": VERSION,
        "info": {"title": title, "version": "1"},
        "methods": [
            {
                "name": f"{service.address}.{spec.name}",
                "description": spec.doc,
                "params": list(_parameters(spec)),
                "result": {"name": "result", "schema": _schema(spec.signature.return_annotation)},
            }
            for service in services
            for spec in service.methods.values()
        ],
    }


def _parameters(spec: MethodSpec) -> Iterator[dict[str, Any]]:
    for parameter in spec.parameters.values():
        required = parameter.default is inspect.Parameter.empty
        yield {"name": parameter.name, "required": required, "schema": _schema(parameter.annotation)}


def _schema(annotation: Any) -> dict[str, Any]:
    """JSON Schema of a type; what has none is anything."""
    if annotation in (Any, inspect.Parameter.empty, object):
        return {}
    try:
        return TypeAdapter(annotation).json_schema()
    except PydanticUserError:
        return {}
