"""A contract document as people read it: Python signatures, types, docs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rpckit.schema import REF, Document, Schema

__all__ = ["annotation", "described", "signature"]

INDENT = "    "

_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None", "object": "dict"}
_FORMATS = {
    "binary": "bytes",
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
    "uuid": "UUID",
    "decimal": "Decimal",
}


def described(contract: Document) -> Iterator[str]:
    """The lines that describe a service: its methods, the events it hears, its types and its errors."""
    yield f"{contract['service']} at {contract['address']}" + _if(contract["version"], ", version {}")
    yield from _indented(contract["doc"])
    for method, spec in contract["methods"].items():
        yield ""
        yield from _method(method, spec, default=method == contract["default"] and len(contract["methods"]) > 1)
    for event in contract.get("events", []):
        yield ""
        yield f"on {event['topic']}({_parameters(event['parameters'])})" + _if(event["group"], " in the group {}")
        yield from _indented(event["doc"])
    for name, schema in contract["definitions"].items():
        yield ""
        yield from _type(name, schema)
    for name, error in contract["errors"].items():
        yield ""
        yield f"error {name} ({error['code']})"
        yield from _indented(error["doc"])


def signature(name: str, spec: Document) -> str:
    return f"{name}({_parameters(spec['parameters'])}) -> {annotation(spec['result'])}"


def annotation(schema: Schema) -> str:
    """A JSON Schema as a Python type; `Any` for what has no words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REF)
    if "const" in schema or "enum" in schema:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        return f"Literal[{', '.join(map(repr, values))}]"
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return " | ".join(dict.fromkeys(annotation(each) for each in options))
    kind = schema.get("type", "")
    if kind == "array":
        return _array(schema)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        keys = annotation(schema.get("propertyNames", {"type": "string"}))
        return f"dict[{keys}, {annotation(schema['additionalProperties'])}]"
    return _FORMATS.get(schema.get("format", ""), _SCALARS.get(kind, "Any"))


def _array(schema: Schema) -> str:
    if "prefixItems" in schema:
        return f"tuple[{', '.join(annotation(each) for each in schema['prefixItems'])}]"
    return f"{'set' if schema.get('uniqueItems') else 'list'}[{annotation(schema.get('items', {}))}]"


def _method(name: str, spec: Document, *, default: bool) -> Iterator[str]:
    yield signature(name, spec)
    yield from _indented(spec["doc"])
    said = {
        "the default method": default,
        "idempotent": spec["idempotent"],
        "no reply": spec["no_reply"],
        f"runs for {spec['timeout']} s at most": spec["timeout"] is not None,
        f"raises {', '.join(spec['raises'])}": bool(spec["raises"]),
        f"deprecated: {spec['deprecated']}": bool(spec["deprecated"]),
    }
    yield from (f"{INDENT}- {fact}" for fact, holds in said.items() if holds)


def _parameters(parameters: Iterable[Document]) -> str:
    words, kind = list[str](), ""
    for parameter in parameters:
        if kind == "positional_only" != parameter["kind"]:
            words.append("/")
        if parameter["kind"] == "keyword" != kind:
            words.append("*")
        kind = parameter["kind"]
        words.append(_parameter(parameter))
    return ", ".join([*words, *(["/"] if kind == "positional_only" else [])])


def _parameter(parameter: Document) -> str:
    declared = f"{parameter['name']}: {annotation(parameter['schema'])}"
    return declared if parameter["required"] else f"{declared} = {_default(parameter, parameter['schema'])}"


def _default(described: Document, schema: Schema) -> str:
    """`...` where the document does not say it."""
    default = described.get("default", ...)
    if default is ...:
        return "..."
    return repr(default.encode() if annotation(schema) == "bytes" else default)


def _type(name: str, schema: Schema) -> Iterator[str]:
    if "properties" not in schema:
        yield f"type {name} = {annotation(schema)}"
        return
    yield f"type {name}"
    required = schema.get("required", [])
    for field, each in schema["properties"].items():
        default = "" if field in required else f" = {_default(each, each)}"
        yield f"{INDENT}{field}: {annotation(each)}{default}"


def _indented(text: str) -> Iterator[str]:
    yield from (f"{INDENT}{line}".rstrip() for line in text.splitlines())


def _if(word: str, sentence: str) -> str:
    return sentence.format(word) if word else ""
