"""A contract document as people read it: Python signatures, types, docs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rpckit.codegen.names import Names
from rpckit.codegen.types import INDENT, Types
from rpckit.schema import Document, Schema

__all__ = ["described"]


def described(contract: Document) -> Iterator[str]:
    """The lines that describe a service: its methods, the events it hears, its types and its errors."""
    return _Description(contract).lines()


class _Description:
    def __init__(self, contract: Document) -> None:
        self._contract = contract
        self._types = Types(contract["definitions"], Names(()), set())

    def lines(self) -> Iterator[str]:
        contract = self._contract
        yield f"{contract['service']} at {contract['address']}" + _if(contract["version"], ", version {}")
        yield from _indented(contract["doc"])
        for method, spec in contract["methods"].items():
            yield ""
            yield from self._method(
                method, spec, default=method == contract["default"] and len(contract["methods"]) > 1
            )
        for event in contract.get("events", []):
            yield ""
            yield f"on {event['topic']}({self._parameters(event['parameters'])})" + _if(
                event["group"], " in the group {}"
            )
            yield from _indented(event["doc"])
        for name, schema in contract["definitions"].items():
            yield ""
            yield from self._type(name, schema)
        for name, error in contract["errors"].items():
            yield ""
            yield f"error {name} ({error['code']})"
            yield from _indented(error["doc"])

    def _method(self, name: str, spec: Document, *, default: bool) -> Iterator[str]:
        yield f"{name}({self._parameters(spec['parameters'])}) -> {self._types.spell(spec['result'])}"
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

    def _parameters(self, parameters: Iterable[Document]) -> str:
        words, kind = list[str](), ""
        for parameter in parameters:
            if kind == "positional_only" != parameter["kind"]:
                words.append("/")
            if parameter["kind"] == "keyword" != kind:
                words.append("*")
            kind = parameter["kind"]
            declared = f"{parameter['name']}: {self._types.spell(parameter['schema'])}"
            default = "" if parameter["required"] else f" = {self._default(parameter, parameter['schema'])}"
            words.append(declared + default)
        return ", ".join([*words, *(["/"] if kind == "positional_only" else [])])

    def _default(self, described: Document, schema: Schema) -> str:
        """`...` where the document does not say it."""
        if "default" not in described:
            return "..."
        return self._types.literal(schema, described["default"]) or repr(described["default"])

    def _type(self, name: str, schema: Schema) -> Iterator[str]:
        if "properties" not in schema:
            bare = {key: value for key, value in schema.items() if not key.startswith("x-")}
            yield f"type {name} = {self._types.spell(bare)}"
            return
        yield f"type {name}"
        required = schema.get("required", [])
        for field, each in schema["properties"].items():
            default = "" if field in required else f" = {self._default(each, each)}"
            yield f"{INDENT}{field}: {self._types.spell(each)}{default}"


def _indented(text: str) -> Iterator[str]:
    yield from (f"{INDENT}{line}".rstrip() for line in text.splitlines())


def _if(word: str, sentence: str) -> str:
    return sentence.format(word) if word else ""
