"""The contract of a service as plain data: its types as JSON Schema, and a fingerprint. Pure.

Everything that is made of a service (typed clients, documents, what a running server answers when it is asked)
is made of this document, so that it is the same from source and over the wire::

    {"rpckit": 1, "service": "shop", "address": "shop", "version": "", "doc": "", "fingerprint": "…", "default": None,
     "methods": {"place": {"doc": "", "parameters": […], "result": {…}, "raises": [], "idempotent": False, …}},
     "errors": {"OutOfStock": {"code": "UNKNOWN", "doc": ""}},
     "events": [{"topic": "…", "group": "", "doc": "", "parameters": […]}],
     "definitions": {"Item": {…}}}

A parameter is ``{"name", "kind": "positional" | "positional_only" | "keyword", "required", "schema"}``, and its
``"default"`` where JSON can say it. Schemas are JSON Schema 2020-12 as pydantic writes it, with what it leaves out:
the format `decimal`, empty defaults, that a default comes from a factory (`x-factory`), and of an enum the names of its
members (`x-names`) and its base (`x-base`).
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
from collections.abc import Collection, Iterator, Mapping
from enum import IntEnum, StrEnum
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import PydanticSerializationError, core_schema

from rpckit.context import Response
from rpckit.contract import EventSpec, MethodSpec, Service
from rpckit.errors import Code, RemoteError

__all__ = [
    "REF",
    "Document",
    "Schema",
    "compact",
    "contract_of",
    "expanded",
    "fingerprint_in",
    "fingerprint_of",
    "method_fingerprint",
    "names_in",
    "part_in",
    "part_of",
    "without_docs",
]

Document = dict[str, Any]
Schema = dict[str, Any]

log = logging.getLogger(__name__)

VERSION = 1  # of the document's form
REF = "#/definitions/"
FINGERPRINT_CHARS = 16  # of a SHA-256 in hexadecimal: it tells contracts apart, it protects nothing
_TITLES = ("title",)  # they repeat names
_PROSE = ("title", "description", "examples")  # of a schema: what may change without changing the contract
_BY_NAME = ("properties", "patternProperties", "$defs")  # of a schema: schemas by the user's names
_VALUES = ("default", "const", "enum", "required", "discriminator", "x-names")  # of a schema: no schemas
_KINDS: dict[Any, str] = {
    inspect.Parameter.POSITIONAL_ONLY: "positional_only",
    inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
    inspect.Parameter.KEYWORD_ONLY: "keyword",
}
_METHOD = {"doc": "", "deprecated": "", "raises": [], "idempotent": False, "no_reply": False, "timeout": None}
_PARAMETER = {"kind": "positional", "required": True}


class _Known:
    """What was worked out of a service while it had as many methods and handlers of events. Not to be changed."""

    def __init__(self, size: int, document: Document) -> None:
        self.size = size
        self.document = document
        self.fingerprints: dict[str, str] = {}  # by method
        self.parts: dict[str, Document] = {}  # by method


_known: WeakKeyDictionary[Service, _Known] = WeakKeyDictionary()


def contract_of(service: Service) -> Document:
    """The contract of a service. It is remembered: do not change it. What has no JSON Schema is anything, `{}`."""
    return _known_of(service).document


def fingerprint_in(service: Service, method: str) -> str:
    """Of a method that the service has. Remembered, as every client asks, and large types take milliseconds."""
    known = _known_of(service)
    if method not in known.fingerprints:
        known.fingerprints[method] = method_fingerprint(known.document, method)
    return known.fingerprints[method]


def part_in(service: Service, method: str) -> Document:
    """What one method needs of the contract, remembered where there is such a method. Do not change it."""
    known = _known_of(service)
    if method not in known.document["methods"]:
        return part_of(known.document, method)
    if method not in known.parts:
        known.parts[method] = part_of(known.document, method)
    return known.parts[method]


def fingerprint_of(document: Document) -> str:
    """What tells this contract from another: 16 hexadecimal characters; prose does not count."""
    return _digest({name: method_fingerprint(document, name) for name in document["methods"]})


def method_fingerprint(document: Document, method: str) -> str:
    """The same of one method, with every type it mentions."""
    spec = _bare_method(document["methods"][method])
    definitions = document["definitions"]
    return _digest([spec, {name: _bare(definitions[name]) for name in names_in(spec, definitions)}])


def names_in(schema: Any, definitions: Mapping[str, Any]) -> list[str]:
    """The definitions that a schema mentions, and those that they mention, in order."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        new = set(_references(waiting.pop())) - found
        found |= new
        waiting += [definitions[name] for name in new]
    return sorted(found)


def part_of(document: Document, method: str) -> Document:
    """What one method needs of a document, without prose: the others are there by name only."""
    methods = {name: _bare_method(spec) if name == method else {} for name, spec in document["methods"].items()}
    definitions = document["definitions"]
    needed = {name: _bare(definitions[name]) for name in names_in(methods.get(method), definitions)}
    return {**document, "doc": "", "methods": methods, "errors": {}, "events": [], "definitions": needed}


def without_docs(document: Document) -> Document:
    """A document without its prose."""
    events = ({**event, "parameters": _bare_parameters(event)} for event in document.get("events", ()))
    errors = document.get("errors", {})
    return {
        **{key: value for key, value in document.items() if key != "doc"},
        "methods": {name: _bare_method(method) for name, method in document["methods"].items()},
        "errors": {name: {key: each for key, each in error.items() if key != "doc"} for name, error in errors.items()},
        "events": [{key: value for key, value in event.items() if key != "doc"} for event in events],
        "definitions": {name: _bare(schema) for name, schema in document["definitions"].items()},
    }


def compact(document: Document) -> Document:
    """A document as a generated client carries it: without prose and events, and without what goes without saying."""
    methods = {
        name: {
            "parameters": [_without(_PARAMETER, each) for each in method["parameters"]],
            **_without(_METHOD, {key: value for key, value in method.items() if key != "parameters"}),
        }
        for name, method in document["methods"].items()
    }
    kept = {key: document[key] for key in ("rpckit", "service", "address", "default")}
    bare = without_docs({**kept, "methods": methods, "definitions": document["definitions"]})
    return {key: value for key, value in bare.items() if key not in ("errors", "events")}


def expanded(document: Document) -> Document:
    """What `compact` left unsaid, said again."""
    methods = {
        name: {**_METHOD, **method, "parameters": [{**_PARAMETER, **each} for each in method["parameters"]]}
        for name, method in document["methods"].items()
    }
    return {**document, "methods": methods}


def _known_of(service: Service) -> _Known:
    size = len(service.methods) + len(service.events)
    known = _known.get(service)
    if known is None or known.size != size:
        known = _known[service] = _Known(size, _document(service))
    return known


def _without(usual: Document, value: Document) -> Document:
    return {key: each for key, each in value.items() if key not in usual or each != usual[key]}


def _document(service: Service) -> Document:
    types = _Types()
    for spec in service.methods.values():
        types.add(spec, returns=True)
    for event in service.events:
        types.add(event.spec)
    schemas, definitions = types.schemas()
    default = service.default_method
    document = {
        "rpckit": VERSION,
        "service": service.name,
        "address": service.address,
        "version": service.version,
        "doc": service.doc,
        "default": default.name if default else None,
        "methods": {spec.name: _method(spec, schemas) for spec in service.methods.values()},
        "errors": {error.__name__: _error(error) for spec in service.methods.values() for error in spec.raises},
        "events": [_event(event, schemas) for event in service.events],
        "definitions": definitions,
    }
    return {**document, "fingerprint": fingerprint_of(document)}


def _method(spec: MethodSpec, schemas: Mapping[str, Schema]) -> Document:
    return {
        "doc": spec.doc,
        "deprecated": spec.deprecated,
        "parameters": list(_parameters(spec, schemas)),
        "result": schemas[_key(spec, "return")],
        "raises": [error.__name__ for error in spec.raises],
        "idempotent": spec.idempotent,
        "no_reply": spec.no_reply,
        "timeout": spec.timeout,
    }


def _event(event: EventSpec, schemas: Mapping[str, Schema]) -> Document:
    parameters = list(_parameters(event.spec, schemas))
    return {"topic": event.topic, "group": event.group, "doc": event.spec.doc, "parameters": parameters}


def _error(error: type[Exception]) -> Document:
    code = error.default_code if issubclass(error, RemoteError) else Code.UNKNOWN
    return {"code": str(code), "doc": inspect.cleandoc(error.__doc__ or "")}


def _parameters(spec: MethodSpec, schemas: Mapping[str, Schema]) -> Iterator[Document]:
    for parameter in spec.parameters.values():
        described = {
            "name": parameter.name,
            "kind": _KINDS[parameter.kind],
            "required": parameter.default is inspect.Parameter.empty,
            "schema": schemas[_key(spec, parameter.name)],
        }
        yield described if described["required"] else {**described, **_default(parameter)}


def _default(parameter: inspect.Parameter) -> Document:
    """Empty where JSON cannot say it."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(parameter.annotation)
        default = adapter.dump_python(parameter.default, mode="json", warnings=False)
    except (PydanticSerializationError, PydanticUserError, ValueError):
        return {}
    return {"default": default} if _is_json(default) else {}


class _Types:
    """The annotations of a service, described together so that each type is defined once."""

    def __init__(self) -> None:
        self._adapters: dict[str, TypeAdapter[Any]] = {}
        self._keys: list[str] = []

    def add(self, spec: MethodSpec, *, returns: bool = False) -> None:
        for parameter in spec.parameters.values():
            self._add(_key(spec, parameter.name), parameter.annotation)
        if returns:
            self._add(_key(spec, "return"), spec.signature.return_annotation)

    def schemas(self) -> tuple[dict[str, Schema], dict[str, Schema]]:
        """By key, and the definitions they refer to."""
        try:
            found, shared = self._describe(self._adapters)
        except Exception as error:  # a type's own hooks, or a value that JSON cannot say
            log.warning("a type has no JSON Schema, and is described as anything: %s", error)
            found, shared = self._describe({key: each for key, each in self._adapters.items() if self._describes(each)})
        described = {key: _bare(schema, _TITLES) for (key, _), schema in found.items()}
        definitions = {name: _bare(schema, _TITLES) for name, schema in sorted(shared.get("$defs", {}).items())}
        return {key: described.get(key, {}) for key in self._keys}, definitions

    def _describe(self, adapters: Mapping[str, TypeAdapter[Any]]) -> tuple[dict[tuple[str, Any], Any], Schema]:
        inputs = [(key, "validation", adapter) for key, adapter in adapters.items()]
        return TypeAdapter.json_schemas(
            inputs,  # type: ignore[arg-type]  # the literal "validation"
            ref_template=REF + "{model}",
            schema_generator=_Generator,
        )

    def _describes(self, adapter: TypeAdapter[Any]) -> bool:
        try:
            self._describe({"": adapter})
        except Exception:  # said already
            return False
        return True

    def _add(self, key: str, annotation: Any) -> None:
        self._keys.append(key)
        if annotation in (Any, object, inspect.Parameter.empty, Response):
            return
        try:
            self._adapters[key] = TypeAdapter(annotation)
        except (PydanticUserError, PydanticSchemaGenerationError):
            return  # checked by nobody, so anything


class _Generator(GenerateJsonSchema):
    """pydantic's, saying also what a typed client needs to write the same type again."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> Schema:
        return {}

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> Schema:
        return {"type": "string", "format": "decimal"}

    def enum_schema(self, schema: core_schema.EnumSchema) -> Schema:
        base = next((each for each in (StrEnum, IntEnum) if issubclass(schema["cls"], each)), None)
        names = [member.name for member in schema["members"]]
        return {**super().enum_schema(schema), "x-names": names, "x-base": base.__name__ if base else "Enum"}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """What a factory gives is said where it is empty; else that there is one."""
        described = super().default_schema(schema)
        factory = schema.get("default_factory")
        if factory in (list, dict, set):
            return {**described, "default": {} if factory is dict else []}
        return {**described, "x-factory": True} if factory is not None else described

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """With the type of its keys, if it is not text."""
        described = super().dict_schema(schema)
        keys = self.generate_inner(schema["keys_schema"]) if "keys_schema" in schema else {}
        keys.pop("title", None)
        return {**described, "propertyNames": keys} if keys not in ({}, {"type": "string"}) else described


def _bare_method(method: Document) -> Document:
    """A method of a document without its prose."""
    bare = {key: value for key, value in method.items() if key != "doc"}
    return {**bare, "parameters": _bare_parameters(method), "result": _bare(method["result"])}


def _bare_parameters(described: Document) -> list[Document]:
    return [{**each, "schema": _bare(each["schema"])} for each in described["parameters"]]


def _bare(schema: Any, prose: Collection[str] = _PROSE) -> Any:
    """A schema without its prose. What is a name or a value of the user's is left alone."""
    if isinstance(schema, list):
        return [_bare(each, prose) for each in schema]
    if not isinstance(schema, dict):
        return schema
    bare = {}
    for key, value in schema.items():
        if key == "default" and not _is_json(value):
            continue
        if key in _BY_NAME:
            bare[key] = {name: _bare(each, prose) for name, each in value.items()}
        elif key in _VALUES:
            bare[key] = value
        elif key not in prose:
            bare[key] = _bare(value, prose)
    return bare


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _key(spec: MethodSpec, part: str) -> str:
    return f"{id(spec)}.{part}"


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _references(each)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == "$ref" and isinstance(inner, str):
                yield inner.removeprefix(REF)
            else:
                yield from _references(inner)


def _digest(value: Any) -> str:
    said = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()[:FINGERPRINT_CHARS]
