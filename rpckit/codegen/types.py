"""JSON Schema → the Python types, data classes and default values that a hand would have written. Pure."""

from __future__ import annotations

import json
import keyword
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from rpckit.codegen.names import Names, safe
from rpckit.errors import UsageError
from rpckit.schema import REF, Schema

__all__ = ["Types", "docstring", "quoted"]

INDENT = "    "
_FORMATS = {
    "date-time": ("datetime", "datetime"),
    "date": ("date", "datetime"),
    "time": ("time", "datetime"),
    "duration": ("timedelta", "datetime"),
    "uuid": ("UUID", "uuid"),
    "decimal": ("Decimal", "decimal"),
    "binary": ("bytes", "builtins"),
}
_SCALARS = {"boolean": "bool", "integer": "int", "number": "float", "string": "str"}
_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
_ISO = ("date-time", "date", "time")  # their classes read it


class Types:
    """The types of a contract in Python. `OMITTED` stands for defaults that only the other side knows."""

    def __init__(
        self, definitions: Mapping[str, Schema], names: Names, reserved: set[str], schemas: Iterable[Any] = ()
    ) -> None:
        self._definitions = definitions
        self._names = names
        self._classes = {name: safe(name, reserved) for name in definitions}
        self._frozen = {self._classes[name] for name in _members_of_sets([*definitions.values(), *schemas])}
        self._spelling: list[str] = []  # definitions that are no classes and are being spelt now

    @property
    def classes(self) -> list[str]:
        """The names of those that are defined as classes."""
        return [self._classes[name] for name, schema in self._definitions.items() if _is_class(schema)]

    def spell(self, schema: Schema) -> str:
        """The type of a schema."""
        if "$ref" in schema:
            name = schema["$ref"].removeprefix(REF)
            return self._classes[name] if _is_class(self._definitions[name]) else self._spell_alias(name)
        if members := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
            return self._union([self.spell(member) for member in members])
        if "const" in schema or "enum" in schema:
            values = [schema["const"]] if "const" in schema else schema["enum"]
            return f"{self._typing('Literal')}[{', '.join(map(_plain, values))}]"
        return self._spell_kind(schema)

    def literal(self, schema: Schema, value: Any) -> str:
        """A default as an expression; empty where Python has no immutable one that is short."""
        if "$ref" in schema:
            return self._definition_literal(schema["$ref"].removeprefix(REF), value)
        for member in schema.get("anyOf") or schema.get("oneOf") or ():
            if found := self.literal(member, value):
                return found
        if value is None or "enum" in schema or "const" in schema:
            return _plain(value) if value is not None or schema.get("type") == "null" else ""
        if _JSON_TYPES.get(type(value)) != schema.get("type") and schema != {}:
            return _plain(float(value)) if schema.get("type") == "number" and isinstance(value, int) else ""
        return self._scalar(schema, value)

    def definitions(self) -> Iterator[str]:
        """The classes, enums first: defaults name their members."""
        enums = [name for name, schema in self._definitions.items() if "x-names" in schema]
        for name in enums:
            yield self._enum(self._classes[name], self._definitions[name])
        for name, schema in self._definitions.items():
            if "x-names" not in schema and _is_class(schema):
                yield self._dataclass(self._classes[name], schema)

    def _spell_alias(self, name: str) -> str:
        """What has no class is spelt out; where it contains itself it is anything."""
        if name in self._spelling:
            return self._typing("Any")
        self._spelling.append(name)
        spelt = self.spell(self._definitions[name])
        self._spelling.pop()
        return spelt

    def _spell_kind(self, schema: Schema) -> str:
        kind, form = schema.get("type"), schema.get("format")
        if kind == "string" and form in _FORMATS:
            return self._names.get(*_FORMATS[form])
        if kind in _SCALARS:
            return self._builtin(_SCALARS[kind])
        if kind == "null":
            return "None"
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            keys = self.spell(schema["propertyNames"]) if "propertyNames" in schema else self._builtin("str")
            values = schema.get("additionalProperties")
            return f"{self._builtin('dict')}[{keys}, {self.spell(values if isinstance(values, dict) else {})}]"
        return self._typing("Any")

    def _array(self, schema: Schema) -> str:
        if "prefixItems" in schema:
            return f"{self._builtin('tuple')}[{', '.join(map(self.spell, schema['prefixItems']))}]"
        if schema.get("maxItems") == 0:
            return f"{self._builtin('tuple')}[()]"
        kind = "set" if schema.get("uniqueItems") else "list"
        return f"{self._builtin(kind)}[{self.spell(schema.get('items', {}))}]"

    def _union(self, spelt: list[str]) -> str:
        anything = self._typing("Any") if "Any" in spelt else ""
        return anything or " | ".join(dict.fromkeys(spelt))

    def _definition_literal(self, name: str, value: Any) -> str:
        schema = self._definitions[name]
        if "x-names" not in schema:
            return "" if _is_class(schema) else self.literal(schema, value)
        if value not in schema["enum"]:
            return ""
        return f"{self._classes[name]}.{_member(schema['x-names'][schema['enum'].index(value)])}"

    def _scalar(self, schema: Schema, value: Any) -> str:
        form = schema.get("format")
        if isinstance(value, list | dict):
            return ""
        if form == "duration":
            return self._duration(value)
        if form == "binary":
            return f"b{quoted(value)}" if value.isascii() else ""
        if form in _FORMATS:
            reader = ".fromisoformat" if form in _ISO else ""
            return f"{self._names.get(*_FORMATS[form])}{reader}({quoted(value)})"
        return _plain(value)

    def _duration(self, value: str) -> str:
        """Days, seconds and microseconds, as timedelta has them."""
        read = TypeAdapter(timedelta).validate_python(value)
        parts = {part: getattr(read, part) for part in ("days", "seconds", "microseconds")}
        given = ", ".join(f"{part}={number}" for part, number in parts.items() if number)
        return f"{self._names.get('timedelta', 'datetime')}({given})"

    def _enum(self, name: str, schema: Schema) -> str:
        base = self._names.get(schema["x-base"], "enum")
        members = [
            f"{_member(member)} = {_plain(value)}"
            for member, value in zip(schema["x-names"], schema["enum"], strict=True)
        ]
        return _class(f"class {name}({base}):", schema.get("description", ""), members)

    def _dataclass(self, name: str, schema: Schema) -> str:
        """Fields without a default first, as Python wants them."""
        frozen = "(frozen=True)" if name in self._frozen else ""
        decorator = f"@{self._names.get('dataclass', 'dataclasses')}{frozen}\n"
        needed = set(schema.get("required", ()))
        fields = schema.get("properties", {}).items()
        lines = [self._field(name, field, inner, field in needed) for field, inner in fields if field in needed]
        lines += [self._field(name, field, inner, False) for field, inner in fields if field not in needed]
        return decorator + _class(f"class {name}:", schema.get("description", ""), lines)

    def _field(self, owner: str, name: str, schema: Schema, needed: bool) -> str:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise UsageError(
                f"{owner} has a field {name!r}, which cannot be a name in Python: give it an alias that can"
            )
        spelt = f"{name}: {self.spell(schema)}"
        return spelt if needed else f"{spelt} = {self._field_default(schema)}"

    def _field_default(self, schema: Schema) -> str:
        if "default" in schema:
            if found := self.literal(schema, schema["default"]):
                return found
            kind, _, inner = self.spell(schema).partition("[")
            if kind in ("list", "dict", "set") and schema["default"] in ([], {}):
                return f"{self._names.get('field', 'dataclasses')}(default_factory={kind})"
            if kind == "list" and inner.rstrip("]") in _SCALARS.values() and isinstance(schema["default"], list):
                written = ", ".join(map(_plain, schema["default"]))
                return f"{self._names.get('field', 'dataclasses')}(default_factory=lambda: [{written}])"
        return self._names.get("OMITTED", "rpckit.typed")

    def _builtin(self, name: str) -> str:
        return self._names.get(name, "builtins")

    def _typing(self, name: str) -> str:
        return self._names.get(name, "typing")


def docstring(text: str, indent: str = INDENT) -> list[str]:
    """The lines of a docstring; none for an empty text."""
    text = text.strip().replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    if not text:
        return []
    text = f"{text} " if text.endswith('"') else text
    first, *rest = text.splitlines()
    if not rest:
        return [f'{indent}"""{first}"""']
    return [f'{indent}"""{first}', *(f"{indent}{line}".rstrip() for line in rest), f'{indent}"""']


def quoted(text: str) -> str:
    """A string as formatters want it: in double quotes, unless that needs more escapes."""
    if '"' in text:
        return json.dumps(text, ensure_ascii=False) if "'" in text else repr(text)
    return '"' + repr("'" + text)[2:]


def _class(head: str, doc: str, lines: list[str]) -> str:
    described = docstring(doc)
    gap = [""] if described and lines else []
    body = [*described, *gap, *(f"{INDENT}{line}" for line in lines)] or [f"{INDENT}pass"]
    return "\n".join([head, *body])


def _members_of_sets(schema: Any) -> Iterator[str]:
    """The definitions that stand in sets: they must be hashable."""
    if isinstance(schema, dict):
        items = schema.get("items", {})
        if schema.get("uniqueItems") and "$ref" in items:
            yield items["$ref"].removeprefix(REF)
    for each in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from _members_of_sets(each)


def _member(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) else name


def _is_class(schema: Schema) -> bool:
    return "x-names" in schema or (schema.get("type") == "object" and "properties" in schema)


def _plain(value: Any) -> str:
    """A value of JSON as Python; empty for what neither has."""
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return ""
    return repr(value)
