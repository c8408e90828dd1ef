"""JSON Schema → the TypeScript types of what JSON-RPC carries: text for dates, decimals and bytes. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rpckit.schema import REF, Document, Schema, names_in

__all__ = ["FORMATS", "INDENT", "Names", "TypeScriptTypes", "comment", "exploded", "literal"]

INDENT = "  "
WIDTH = 100  # columns
FORMATS = {  # the types of text that Python knows by others: name and meaning
    "date-time": ("DateTime", 'A date and a time, ISO 8601: "2024-05-01T12:00:00Z".'),
    "date": ("CalendarDate", 'A date, ISO 8601: "2024-05-01".'),
    "time": ("TimeOfDay", 'A time of day, ISO 8601: "12:00:00".'),
    "duration": ("Duration", 'A length of time, ISO 8601: "PT1H30M".'),
    "uuid": ("Uuid", 'A UUID: "123e4567-e89b-12d3-a456-426614174000".'),
    "decimal": ("DecimalText", 'A decimal number, exact as text: "19.90".'),
    "binary": ("Utf8Bytes", "Bytes of the server's, which JSON carries as text: they must be UTF-8."),
}
_SCALARS = {"boolean": "boolean", "integer": "number", "number": "number", "string": "string", "null": "null"}
_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


class Names:
    """Names of one scope: whoever takes one that is gone gets ``name_``."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def take(self, name: str) -> str:
        name = re.sub(r"\W", "_", name)
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


class TypeScriptTypes:
    """The types of a contract in TypeScript."""

    def __init__(self, document: Document, names: Names) -> None:
        self._definitions: Mapping[str, Schema] = document["definitions"]
        self._names = {name: names.take(name) for name in self._definitions}
        callers = [method["parameters"] for method in document["methods"].values()]
        self._sent = set(names_in([callers, document["events"]], self._definitions))
        self._formats: set[str] = set()

    def spell(self, schema: Schema) -> str:
        """The type of a schema."""
        if "$ref" in schema:
            return self._names[schema["$ref"].removeprefix(REF)]
        if members := schema.get("anyOf") or schema.get("oneOf"):
            return " | ".join(dict.fromkeys(map(self.spell, members)))
        if members := schema.get("allOf"):
            return " & ".join(map(self._in_brackets, members))
        if "const" in schema or "enum" in schema:
            return " | ".join(map(literal, [schema["const"]] if "const" in schema else schema["enum"]))
        if schema.get("format") in FORMATS and schema.get("type") == "string":
            self._formats.add(schema["format"])
            return FORMATS[schema["format"]][0]
        return self._spell_kind(schema)

    def definitions(self) -> Iterator[str]:
        """Enums, interfaces and other types by their names."""
        for name, schema in self._definitions.items():
            yield "\n".join([*comment(schema.get("description", "")), *self._definition(name, schema)])

    def formats(self) -> Iterator[str]:
        """Names for the kinds of text that were spelt."""
        for form in FORMATS:
            if form in self._formats:
                name, meaning = FORMATS[form]
                yield f"/** {meaning} */\nexport type {name} = string;"

    def _spell_kind(self, schema: Schema) -> str:
        kind = schema.get("type")
        if kind in _SCALARS:
            return _SCALARS[kind]
        if kind == "array":
            return self._array(schema)
        if kind == "object" and "properties" in schema:
            return f"{{ {' '.join(self._fields(schema, always=False))} }}"
        if kind == "object":
            values = schema.get("additionalProperties")
            return f"Record<string, {self.spell(values) if isinstance(values, dict) else 'unknown'}>"
        return "unknown"

    def _array(self, schema: Schema) -> str:
        rest = [f"{self._in_brackets(schema['items'])}[]"] if isinstance(schema.get("items"), dict) else []
        if "prefixItems" in schema:
            return f"[{', '.join([*map(self.spell, schema['prefixItems']), *(f'...{each}' for each in rest)])}]"
        if schema.get("maxItems") == 0:
            return "[]"
        return rest[0] if rest else "unknown[]"

    def _in_brackets(self, schema: Schema) -> str:
        """What may stand before `[]` or `&`."""
        spelt = self.spell(schema)
        return f"({spelt})" if " | " in spelt or " & " in spelt else spelt

    def _definition(self, name: str, schema: Schema) -> Iterator[str]:
        here = self._names[name]
        if "x-names" in schema:
            members = zip(schema["x-names"], schema["enum"], strict=True)
            entries = [f"{member}: {literal(value)}" for member, value in members]
            yield from exploded(f"export const {here} = {{", entries, "} as const;", spaced=True)
            yield f"export type {here} = (typeof {here})[keyof typeof {here}];"
        elif schema.get("type") == "object" and "properties" in schema:
            yield f"export interface {here} {{"
            yield from (f"{INDENT}{line}" for line in self._fields(schema, always=name not in self._sent))
            yield "}"
        else:
            yield f"export type {here} = {self.spell(schema)};"

    def _fields(self, schema: Schema, always: bool) -> Iterator[str]:
        """always: the type only ever comes from the server, which leaves no field with a default out."""
        needed = set(schema.get("required", ()))
        for name, inner in schema["properties"].items():
            yield from comment(inner.get("description", ""))
            sure = name in needed or (always and "default" in inner)
            key = name if _IDENTIFIER.fullmatch(name) else literal(name)
            yield f"{key}{'' if sure else '?'}: {self.spell(inner)};"
        if schema.get("additionalProperties"):
            yield "[name: string]: unknown;"


def comment(text: str, *more: str) -> list[str]:
    """The lines of a doc comment, `more` after an empty one; none for no text at all."""
    lines = text.strip().splitlines()
    lines += ["", *more] if lines and more else more
    lines = [line.replace("*/", "*\\/") for line in lines]
    if len(lines) < 2:
        return [f"/** {line} */" for line in lines]
    return ["/**", *(f" * {line}".rstrip() for line in lines), " */"]


def exploded(opening: str, parts: list[str], closing: str, *, spaced: bool = False) -> list[str]:
    """On one line if it fits, else one part on each."""
    space = " " if spaced and parts else ""
    line = f"{opening}{space}{', '.join(parts)}{space}{closing}"
    if len(line) + len(INDENT) <= WIDTH or not parts:
        return [line]
    return [opening, *(f"{INDENT}{part}," for part in parts), closing]


def literal(value: Any) -> str:
    """A value of JSON, which is TypeScript too."""
    return json.dumps(value, ensure_ascii=False)
