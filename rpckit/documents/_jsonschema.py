"""JSON Schema: every type, and each method's arguments and result, for validators and forms. Pure.

Draft 2020-12. The root itself accepts anything: refer to ``#/$defs/NAME``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rpckit.documents._openrpc import info
from rpckit.documents._types import Types, object_of, with_default
from rpckit.schema import Document, Schema

__all__ = ["json_schema"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(documents: Sequence[Document]) -> Schema:
    """One document with the types by name, and ``ADDRESS.METHOD.params`` and ``….result`` of each method."""
    types = Types(documents, "#/$defs/")
    definitions = dict(types.definitions)
    for index, document in enumerate(documents):
        definitions |= _methods(index, document, types)
    return {"$schema": DIALECT, "title": info(documents)["title"], "$defs": definitions}


def _methods(index: int, document: Document, types: Types) -> Iterator[tuple[str, Schema]]:
    for name, method in document["methods"].items():
        called = f"{document['address']}.{name}"
        schemas = {
            each["name"]: with_default(each, types.schema(index, each["schema"])) for each in method["parameters"]
        }
        yield f"{called}.params", object_of(method["parameters"], schemas)
        if not method["no_reply"]:
            yield f"{called}.result", types.schema(index, method["result"])
