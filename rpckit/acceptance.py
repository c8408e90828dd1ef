"""Whether one side takes all that the other may send, asked of two JSON Schemas: if not, where and why. Pure.

A difference that cannot be shown to be harmless is a problem.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rpckit.schema import REF, Schema

__all__ = ["Acceptance"]

_LOWER = {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
_UPPER = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
_SHAPE = {  # keywords that are compared in a way of their own, or mean nothing to a caller; all others are limits
    *("type", "format", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "properties", "required", "items"),
    *("prefixItems", "additionalProperties", "propertyNames", "default", "x-names", "x-base", "x-factory"),
    *("discriminator", "uniqueItems", "deprecated", "readOnly", "writeOnly", "description", "title", "examples"),
}
_TEXT = {"type": "string"}

_Pair = tuple[str, str]  # references to a definition of each side


class Acceptance:
    """Whether a consumer accepts all that a producer may send, and if not, where and why.

    new_accepts: the consumer is the new contract (arguments), or it is the old one (results).

    Each pair of definitions is reported once, and fails a try once, so that unions of types that contain themselves
    take no longer than the number of their pairs.
    """

    def __init__(self, produced: Mapping[str, Schema], consumed: Mapping[str, Schema], *, new_accepts: bool) -> None:
        self._produced = produced
        self._consumed = consumed
        self._new_accepts = new_accepts
        self._seen: set[_Pair] = set()  # taken to fit, or reported: types may contain themselves
        self._failed: set[_Pair] = set()
        self._trying = False  # to find out whether, not why

    def problems(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        """Each member of what may come must fit one of those that are taken."""
        taken = list(_members(consumer, self._consumed))
        for sent in _members(producer, self._produced):
            kind = _resolve(sent, self._produced)
            alike = [each for each in taken if _could_fit(kind, _resolve(each, self._consumed))]
            if len(alike) > 1 and any(self._fits(sent, each) for each in alike):
                continue
            if alike and not (self._trying and len(alike) > 1):
                yield from self._one(sent, _namesake(sent, alike), place)
            else:
                yield place, self._now(_words(producer), _words(consumer))

    def _one(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        """Two that are no unions, and of one kind."""
        pair = _pair(producer, consumer)
        if pair is None:
            yield from self._differences(producer, consumer, place)
        elif self._trying and pair in self._failed:
            yield place, "does not fit"
        elif pair not in self._seen:
            self._seen.add(pair)
            for problem in self._differences(producer, consumer, place):
                self._failed.add(pair)  # for good: what was taken to fit meanwhile can only have hidden problems
                yield problem

    def _fits(self, producer: Schema, consumer: Schema) -> bool:
        """Whether there is no problem. What it took to fit on the way to one does not count."""
        if not self._trying and _pair(producer, consumer) in self._seen:
            return True  # or reported already
        before, trying = set(self._seen), self._trying
        self._trying = True
        fits = next(self._one(producer, consumer, ""), None) is None
        self._trying = trying
        if not fits:
            self._seen = before
        return fits

    def _differences(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        producer, consumer = _resolve(producer, self._produced), _resolve(consumer, self._consumed)
        if not _says_anything(consumer):
            yield from self._values(producer, consumer, place)
            yield from self._limits(producer, consumer, place)
            yield from self._fields(producer, consumer, place)
            yield from self._items(producer, consumer, place)

    def _fields(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        sent, taken = producer.get("properties", {}), consumer.get("properties", {})
        sure = set(producer.get("required", ()))
        if not self._new_accepts:  # a server sends its defaults; a client may leave them to the server
            sure |= {name for name, schema in sent.items() if schema.keys() & {"default", "x-factory"}}
        for name, schema in taken.items():
            inside = f"{place}.{name}"
            if name in sent:
                yield from self.problems(sent[name], schema, inside)
            if name in consumer.get("required", ()) and name not in sure:
                missing = "may be missing now" if name in sent else "is gone"
                yield inside, "is required now" if self._new_accepts else missing
        if consumer.get("additionalProperties") is False:
            why = "is not accepted any more" if self._new_accepts else "is new, and old clients accept no more fields"
            yield from ((f"{place}.{name}", why) for name in sent if name not in taken)
        values, wanted = producer.get("additionalProperties"), consumer.get("additionalProperties")
        if isinstance(wanted, dict):
            yield from self.problems(values if isinstance(values, dict) else {}, wanted, f"{place}[]")
            keys, wanted_keys = producer.get("propertyNames", _TEXT), consumer.get("propertyNames", _TEXT)
            yield from self.problems(keys, wanted_keys, f"{place} keys")

    def _items(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        sent, taken = producer.get("prefixItems"), consumer.get("prefixItems")
        if sent is not None and taken is not None and len(sent) == len(taken):
            for index, (one, other) in enumerate(zip(sent, taken, strict=True)):
                yield from self.problems(one, other, f"{place}[{index}]")
        elif sent != taken:
            yield place, "has another number of items"
        elif "items" in consumer:
            yield from self.problems(producer.get("items", {}), consumer["items"], f"{place}[]")

    def _values(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        sent, taken = _listed(producer), _listed(consumer)
        if taken is None:
            return
        if sent is None:
            yield place, self._now("any value", f"one of {_some(taken)}")
        elif missing := [value for value in sent if value not in taken]:
            gone = f"can no longer be {_some(missing)}"
            yield place, gone if self._new_accepts else f"may now be {_some(missing)}, which old clients do not know"

    def _limits(self, producer: Schema, consumer: Schema, place: str) -> Iterator[tuple[str, str]]:
        for keyword in sorted(consumer.keys() - _SHAPE):
            given, wanted = producer.get(keyword), consumer[keyword]
            if not _within(keyword, given, wanted):
                yield f"{place} {keyword}", self._now("none" if given is None else given, wanted)

    def _now(self, producer: object, consumer: object) -> str:
        old, new = (producer, consumer) if self._new_accepts else (consumer, producer)
        return f"is now {new}, was {old}"


def _pair(producer: Schema, consumer: Schema) -> _Pair | None:
    return (producer["$ref"], consumer["$ref"]) if "$ref" in producer and "$ref" in consumer else None


def _namesake(schema: Schema, others: list[Schema]) -> Schema:
    """Which of them it most likely was, or is now."""
    return next((each for each in others if "$ref" in schema and each.get("$ref") == schema["$ref"]), others[0])


def _within(keyword: str, given: Any, wanted: Any) -> bool:
    """What is given under this limit is accepted under the other."""
    if given is None or keyword not in (*_LOWER, *_UPPER):
        return bool(given == wanted)
    return bool(given >= wanted if keyword in _LOWER else given <= wanted)


def _could_fit(producer: Schema, consumer: Schema) -> bool:
    """The same kind of value: an integer is a number, and what is listed is compared by its values."""
    if _says_anything(consumer):
        return True
    if _listed(producer) is not None and _listed(consumer) is not None:
        return True
    kinds = (producer.get("type"), consumer.get("type"))
    same_kind = kinds[0] == kinds[1] or kinds == ("integer", "number")
    free_text = kinds == ("string", "string") and "format" not in consumer and producer.get("format") != "binary"
    return same_kind and (free_text or producer.get("format") == consumer.get("format"))


def _resolve(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    for _ in range(len(definitions) + 1):
        if "$ref" not in schema:
            return schema
        schema = definitions[schema["$ref"].removeprefix(REF)]
    raise ValueError(f"{schema['$ref']} stands for itself")


def _members(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """Of a union, and of unions inside it, each definition once; itself when it is none."""
    waiting, found = [schema], set[str]()
    while waiting:
        each = waiting.pop()
        name = each.get("$ref")
        if name in found:
            continue
        if name is not None:
            found.add(name)
        resolved = _resolve(each, definitions)
        members = resolved.get("anyOf") or resolved.get("oneOf") or resolved.get("allOf")
        if members:
            waiting += reversed(members)
        else:
            yield each


def _listed(schema: Schema) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")


def _says_anything(schema: Schema) -> bool:
    return not (schema.keys() - {"default", "description", "title", "examples"})


def _words(schema: Schema) -> str:
    """A schema for people, in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REF)
    if members := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(_words(each) for each in members)
    if (listed := _listed(schema)) is not None:
        return f"one of {_some(listed)}"
    return str(schema.get("format") or schema.get("type") or "anything")


def _some(values: list[Any]) -> str:
    shown = ", ".join(repr(value) for value in values[:5])
    return f"{shown} …" if len(values) > 5 else shown
