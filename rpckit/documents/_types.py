"""The types of several contracts in one document: one name for each, and references that fit the place. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rpckit.schema import REF, Document, Schema, names_in

__all__ = ["Types", "draft_7", "object_of", "with_default"]

_VALUES = {"default", "const", "enum", "examples"}  # what they hold are values, not schemas
_BY_NAME = {"properties", "patternProperties", "$defs"}  # their keys are names of the user's


class Types:
    """The definitions of some contracts. Two that are called the same and differ get different names.

    place: where the document keeps its types, such as ``#/components/schemas/``.
    """

    def __init__(self, documents: Sequence[Document], place: str) -> None:
        self._place = place
        self._names: dict[tuple[str, str], str] = {}  # by name and meaning
        self._meanings = [
            {name: _meaning(name, each["definitions"]) for name in each["definitions"]} for each in documents
        ]
        self.definitions: dict[str, Schema] = {}
        for index, document in enumerate(documents):
            for name in document["definitions"]:
                self._name(index, name)
            for name, schema in document["definitions"].items():
                self.definitions[self._name(index, name)] = self.schema(index, schema)

    def schema(self, index: int, schema: Any) -> Any:
        """A schema of the contract at `index`, referring to types as this document keeps them."""
        if isinstance(schema, list):
            return [self.schema(index, each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        rewritten: Schema = {}
        for key, value in schema.items():
            if key == "$ref":
                rewritten[key] = self._place + self._name(index, value.removeprefix(REF))
            elif key in _BY_NAME:
                rewritten[key] = {name: self.schema(index, each) for name, each in value.items()}
            else:
                rewritten[key] = value if key in _VALUES else self.schema(index, value)
        return rewritten

    def _name(self, index: int, name: str) -> str:
        meaning = (name, self._meanings[index][name])
        if meaning not in self._names:
            alike = sum(known == name for known, _ in self._names)
            self._names[meaning] = f"{name}_{alike + 1}" if alike else name
        return self._names[meaning]


def object_of(parameters: Sequence[Document], schemas: Mapping[str, Schema]) -> Schema:
    """The schema of arguments given by their names."""
    return {
        "type": "object",
        "properties": {each["name"]: schemas[each["name"]] for each in parameters},
        "required": [each["name"] for each in parameters if each["required"]],
        "additionalProperties": False,
    }


def with_default(parameter: Document, schema: Schema) -> Schema:
    """A parameter's schema, with its default where JSON can say it."""
    return {**schema, "default": parameter["default"]} if "default" in parameter else schema


def draft_7(schema: Any) -> Any:
    """The same in draft 7: tuples are `items`, and what stands beside a `$ref` would not be read."""
    if isinstance(schema, list):
        return [draft_7(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    written: Schema = {}
    for key, value in schema.items():
        if key == "prefixItems":
            written["items"] = draft_7(value)
        elif key in _BY_NAME:
            written[key] = {name: draft_7(each) for name, each in value.items()}
        elif key != "discriminator":  # of OpenAPI; elsewhere it is something else
            written[key] = value if key in _VALUES else draft_7(value)
    if "$ref" in written and len(written) > 1:
        return {"allOf": [{"$ref": written.pop("$ref")}], **written}
    return written


def _meaning(name: str, definitions: Mapping[str, Any]) -> str:
    """A type with all that it mentions."""
    mentioned = names_in({"$ref": REF + name}, definitions)
    return json.dumps({each: definitions[each] for each in mentioned}, sort_keys=True)
