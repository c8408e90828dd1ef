"""Contracts from outside: a file that `rpckit schema --format contract` wrote, or the answer of whoever answers.

What is none is told, before anything is compared with it or written from it: names stand in code as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from rpckit.errors import UsageError
from rpckit.schema import REF, Document, Schema, names_in

__all__ = ["is_file", "problem_in", "read_contracts"]

HOW = "one is made by: rpckit schema TARGET --format contract --out FILE"


def _name(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"{text[:40]!r} cannot be a name")
    return text


_Name = Annotated[str, AfterValidator(_name)]
_Schemas = list["_Schema"]

_Schema = TypedDict(
    "_Schema",
    {
        "$ref": str,
        "type": str,
        "format": str,
        "description": str,
        "properties": dict[str, "_Schema"],
        "required": list[str],
        "additionalProperties": "bool | _Schema",
        "propertyNames": "_Schema",
        "items": "bool | _Schema",
        "prefixItems": _Schemas,
        "anyOf": _Schemas,
        "oneOf": _Schemas,
        "allOf": _Schemas,
        "enum": list[Any],
        "x-names": list[_Name],
        "x-base": Literal["Enum", "IntEnum", "StrEnum"],
    },
    total=False,
)


class _Parameter(TypedDict):
    name: _Name
    kind: Literal["positional", "positional_only", "keyword"]
    required: bool
    schema: _Schema


class _Method(TypedDict):
    doc: str
    deprecated: str
    parameters: list[_Parameter]
    result: _Schema
    raises: list[str]
    idempotent: bool
    no_reply: bool
    timeout: float | None


class _Error(TypedDict):
    code: str
    doc: str


class _Event(TypedDict):
    topic: str
    group: str
    doc: str
    parameters: list[_Parameter]


class _Contract(TypedDict):
    """What the commands read; more may be there."""

    rpckit: Literal[1]
    service: str
    address: str
    version: str
    doc: str
    fingerprint: str
    default: str | None
    methods: dict[_Name, _Method]
    errors: dict[_Name, _Error]
    events: list[_Event]
    definitions: dict[str, _Schema]


@cache
def _checker() -> TypeAdapter[_Contract]:
    """Made when the first contract is read: that takes long."""
    return TypeAdapter(_Contract)


def is_file(old: str) -> bool:
    """Whether OLD means a file, not a target."""
    return Path(old).exists() or old.endswith(".json")


def read_contracts(name: str) -> list[Document]:
    """The contracts in a file: one, or a list. Raises `UsageError`."""
    try:
        content = json.loads(Path(name).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}; {HOW}") from error
    except ValueError as error:
        raise UsageError(f"{name} is not a contract, for it is not JSON: {error!s:.100}; {HOW}") from error
    except RecursionError as error:
        raise UsageError(f"{name} is not a contract: it is nested too deeply; {HOW}") from error
    documents = content if isinstance(content, list) else [content]
    for document in documents:
        if problem := problem_in(document):
            raise UsageError(f"{name} is not a contract: {problem}; {HOW}")
    return documents


def problem_in(document: Any) -> str:
    """Why it is no contract; empty for one."""
    try:
        _checker().validate_python(document)
        return _problem_of_names(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        return f"{where}: {first['msg']}"
    except RecursionError:
        return "it is nested too deeply"


def _problem_of_names(document: Document) -> str:
    """Of what one part mentions and another should have; empty for none."""
    definitions = document["definitions"]
    try:
        names_in([document["methods"], document["events"], definitions], definitions)
    except KeyError as missing:
        return f"it mentions a type {missing}, which is not in it"
    if itself := [name for name in definitions if _stands_for_itself(name, definitions)]:
        return f"{itself[0]} stands for itself"
    default, methods = document["default"], document["methods"]
    if default is not None and default not in methods:
        return f"its default method {default[:40]!r} is not in it"
    lost = [error for method in methods.values() for error in method["raises"] if error not in document["errors"]]
    enums = [name for name, each in definitions.items() if len(each.get("x-names", ())) > len(each.get("enum", ()))]
    if lost or enums:
        return f"it mentions {(lost or enums)[0][:40]!r}, and does not say what that is"
    return ""


def _stands_for_itself(name: str, definitions: Mapping[str, Schema]) -> bool:
    """Whether its references, and those of the members of its unions, lead back to it: then it says nothing."""
    waiting, found = [definitions[name]], set[str]()
    while waiting:
        here = waiting.pop()
        waiting += (each for key in ("anyOf", "oneOf", "allOf") for each in here.get(key, ()))
        other = here.get("$ref", "").removeprefix(REF)
        if other and other not in found:
            found.add(other)
            waiting.append(definitions[other])
    return name in found
