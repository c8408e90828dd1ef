"""A file with contracts, as `rpckit schema --format contract` writes it. What is none is a `UsageError`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rpckit.errors import UsageError
from rpckit.schema import Document, Schema, names_in

__all__ = ["is_file", "read_contracts"]

HOW = "one is made by: rpckit schema TARGET --format contract --out FILE"


class _Parameter(TypedDict):
    name: str
    kind: Literal["positional", "positional_only", "keyword"]
    required: bool
    schema: Schema


class _Method(TypedDict):
    deprecated: str
    parameters: list[_Parameter]
    result: Schema
    raises: list[str]
    idempotent: bool
    no_reply: bool


class _Contract(TypedDict):
    """What comparing reads; more may be there."""

    rpckit: Literal[1]
    service: str
    address: str
    default: str | None
    methods: dict[str, _Method]
    definitions: dict[str, Schema]


@cache
def _checker() -> TypeAdapter[_Contract]:
    """Made when the first file is read: that takes long."""
    return TypeAdapter(_Contract)


def is_file(old: str) -> bool:
    """Whether OLD means a file, not a target."""
    return Path(old).exists() or old.endswith(".json")


def read_contracts(name: str) -> list[Document]:
    """The contracts in a file: one, or a list."""
    try:
        content = json.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}; {HOW}") from error
    except ValueError as error:
        raise UsageError(f"{name} is not a contract, for it is not JSON: {error!s:.100}; {HOW}") from error
    documents = content if isinstance(content, list) else [content]
    for document in documents:
        _check(name, document)
    return documents


def _check(name: str, document: Any) -> None:
    try:
        _checker().validate_python(document)
        for method in document["methods"].values():
            names_in(method, document["definitions"])
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UsageError(f"{name} is not a contract: {where}: {first['msg']}; {HOW}") from error
    except KeyError as error:
        raise UsageError(f"{name} is not a contract: it mentions a type {error}, which is not in it; {HOW}") from error
