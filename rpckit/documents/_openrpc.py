"""OpenRPC: the methods as JSON-RPC calls them, for its explorers and generators. Pure.

OpenRPC 1.3.2 (spec.open-rpc.org), whose schemas are JSON Schema, draft 7.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rpckit.documents._types import Types, draft_7, with_default
from rpckit.fault import JSONRPC_CODES, JSONRPC_OTHER
from rpckit.schema import Document, Schema

__all__ = ["openrpc"]

VERSION = "1.3.2"
UNVERSIONED = "0"  # of a service: the specification wants some version


def openrpc(documents: Sequence[Document]) -> dict[str, Any]:
    """The OpenRPC document of some contracts: names as they are called, parameters, results, declared errors."""
    types = Types(documents, "#/components/schemas/")
    methods = [
        _method(index, document, name, types)
        for index, document in enumerate(documents)
        for name in document["methods"]
    ]
    schemas = {name: draft_7(schema) for name, schema in types.definitions.items()}
    return {
        "openrpc": VERSION,
        "info": info(documents),
        "methods": methods,
        **({"components": {"schemas": schemas}} if schemas else {}),
    }


def info(documents: Sequence[Document]) -> dict[str, str]:
    """Title, version and description, as OpenRPC and AsyncAPI want them."""
    title = ", ".join(document["service"] for document in documents) or "nothing"
    versions = dict.fromkeys(document["version"] or UNVERSIONED for document in documents)
    described = "\n\n".join(document["doc"] for document in documents if document["doc"])
    about = {"title": title, "version": ", ".join(versions) or UNVERSIONED}
    return {**about, "description": described} if described else about


def described(method: Document) -> dict[str, Any]:
    """The description of a method with what to use instead of it; a long one has a summary."""
    instead = f"Deprecated: {method['deprecated']}" if method["deprecated"] else ""
    whole = "\n\n".join(part for part in (method["doc"], instead) if part)
    summary, more, _ = whole.partition("\n")
    return {**({"summary": summary} if more else {}), **({"description": whole} if whole else {})}


def _method(index: int, document: Document, name: str, types: Types) -> dict[str, Any]:
    method = document["methods"][name]
    result = {"name": "result", "schema": draft_7(types.schema(index, method["result"]))}
    errors = [_error(each, document["errors"][each]) for each in method["raises"]]
    return {
        "name": f"{document['address']}.{name}",
        **described(method),
        "paramStructure": _structure(method),
        "params": list(_parameters(index, method, types)),
        **({} if method["no_reply"] else {"result": result}),  # without a result it is a notification
        **({"errors": errors} if errors else {}),
        **({"deprecated": True} if method["deprecated"] else {}),
        **({"x-idempotent": True} if method["idempotent"] else {}),
    }


def _parameters(index: int, method: Document, types: Types) -> Iterator[dict[str, Any]]:
    """Required ones first, as the specification wants it; where that changes their order they go by name."""
    for parameter in sorted(method["parameters"], key=lambda each: not each["required"]):
        schema: Schema = draft_7(with_default(parameter, types.schema(index, parameter["schema"])))
        yield {"name": parameter["name"], "required": parameter["required"], "schema": schema}


def _structure(method: Document) -> str:
    kinds = {each["kind"] for each in method["parameters"]}
    if "positional_only" in kinds:
        return "by-position"
    return "by-name" if "keyword" in kinds else "either"


def _error(name: str, error: Document) -> dict[str, Any]:
    """As JSON-RPC carries it: a number, and in `data` what tells this error from others of that number."""
    return {
        "code": JSONRPC_CODES.get(error["code"], JSONRPC_OTHER),
        "message": error["doc"].partition("\n")[0] or name,
        "data": {"code": error["code"], "type": name},
    }
