"""The contract of a service as plain data."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from rpckit import RemoteError, Response, Service, codec, schema
from rpckit.schema import (
    Document,
    compact,
    contract_of,
    expanded,
    fingerprint_of,
    method_fingerprint,
    names_in,
    without_docs,
)
from rpckit.testing.conformance._types_service import shop


class Kind(Enum):
    A = "a"


class Leaf(BaseModel):
    kind: Kind = Kind.A


class Tree(BaseModel):
    leaves: list[Leaf] = Field(default_factory=list)
    left: Tree | None = None


class Refused(RemoteError):
    """Not this time."""

    default_code = "ABORTED"


async def grow(tree: Tree, /, height: int, *, by: Decimal = Decimal("1.5")) -> Tree:
    """Grow a tree."""
    return tree


def document(function: Callable[..., Any] = grow, **options: Any) -> Document:
    service = Service("garden", address="garden.1", version="3", doc="Trees.")
    service.method(**options)(function)
    return contract_of(service)


def test_it_says_everything_a_caller_can_know() -> None:
    contract = document(idempotent=True, raises=[Refused, KeyError], deprecated="buy one", timeout=5)
    assert (contract["service"], contract["address"], contract["version"]) == ("garden", "garden.1", "3")
    assert (contract["doc"], contract["default"]) == ("Trees.", "grow")
    method = contract["methods"]["grow"]
    assert [(each["name"], each["kind"], each["required"]) for each in method["parameters"]] == [
        ("tree", "positional_only", True),
        ("height", "positional", True),
        ("by", "keyword", False),
    ]
    assert method["parameters"][2] | {"schema": 0} == {
        "name": "by",
        "kind": "keyword",
        "required": False,
        "schema": 0,
        "default": "1.5",
    }
    assert (method["doc"], method["deprecated"], method["timeout"]) == ("Grow a tree.", "buy one", 5)
    assert (method["idempotent"], method["raises"]) == (True, ["Refused", "KeyError"])
    assert contract["errors"]["Refused"] == {"code": "ABORTED", "doc": "Not this time."}
    assert contract["errors"]["KeyError"]["code"] == "UNKNOWN"


def test_types_are_defined_once_and_say_what_json_schema_leaves_out() -> None:
    definitions = document()["definitions"]
    assert list(definitions) == ["Kind", "Leaf", "Tree"]
    assert definitions["Kind"] == {"enum": ["a"], "type": "string", "x-names": ["A"], "x-base": "Enum"}
    assert definitions["Tree"]["properties"]["leaves"]["default"] == []
    assert definitions["Leaf"]["properties"]["kind"]["default"] == "a"


async def anything(a, b: Any, c: Callable[[], int] | None = None) -> Response:
    return Response(a)


def test_what_has_no_schema_is_anything() -> None:
    method = document(anything)["methods"]["anything"]
    assert [each["schema"] for each in method["parameters"][:2]] == [{}, {}]
    assert method["result"] == {}


@pytest.mark.parametrize("content_type", [codec.JSON, codec.MSGPACK])
def test_a_contract_is_the_same_once_it_has_travelled(content_type: str) -> None:
    """The order of what is in it too: what is made of it is the same file."""
    contract = contract_of(shop())
    travelled = codec.decode(content_type, codec.encode(content_type, contract))
    assert json.dumps(travelled) == json.dumps(contract)


def test_a_fingerprint_is_that_of_what_matters() -> None:
    once, again = document(), document()
    again = {**again, "doc": "Other words.", "definitions": {**again["definitions"]}}
    again["definitions"]["Tree"] = {**again["definitions"]["Tree"], "description": "Other words."}
    assert fingerprint_of(once) == fingerprint_of(again) == once["fingerprint"]
    again["definitions"]["Leaf"] = {"type": "object", "properties": {}}
    assert fingerprint_of(once) != fingerprint_of(again)
    assert len(once["fingerprint"]) == 16


def test_a_methods_fingerprint_knows_every_type_it_mentions() -> None:
    """Also one that only another type mentions; and of the others none."""
    contract = document()
    other = {**contract, "definitions": {**contract["definitions"], "Kind": {"enum": ["b"]}, "Unused": {}}}
    assert method_fingerprint(contract, "grow") != method_fingerprint(other, "grow")
    other["definitions"]["Kind"] = contract["definitions"]["Kind"]
    assert method_fingerprint(contract, "grow") == method_fingerprint(other, "grow")
    assert names_in(contract["methods"]["grow"], contract["definitions"]) == ["Kind", "Leaf", "Tree"]


def test_compact_is_the_same_contract() -> None:
    contract = contract_of(shop())
    again = expanded(json.loads(json.dumps(compact(contract))))
    assert fingerprint_of(again) == contract["fingerprint"]
    assert len(json.dumps(compact(contract))) < 0.8 * len(json.dumps(contract))


def test_a_service_that_grew_has_another_contract() -> None:
    service = Service("garden")
    service.method(grow)
    before = contract_of(service)
    assert contract_of(service) is before
    service.method(anything)
    assert list(contract_of(service)["methods"]) == ["grow", "anything"]


def test_two_types_of_one_name_are_two_definitions() -> None:
    def leaf(field: Any) -> Any:
        return type("Same", (BaseModel,), {"__annotations__": {"value": field}, "__module__": f"m{field.__name__}"})

    async def both(one, other) -> None: ...

    both.__annotations__ = {"one": leaf(int), "other": leaf(str), "return": None}
    assert len(document(both)["definitions"]) == 2


async def errors(methods: dict[str, list[str]] = {"methods": ["GET"]}, properties: str = "") -> str:  # noqa: B006
    return properties


class Opaque:
    """Nobody's schema."""


class Odd(Enum):
    A = Opaque()


async def odd(a: Odd, ratio: float = math.inf, raw: Literal[b"\xff"] = b"\xff") -> int:
    return 0


def test_a_users_names_are_no_words_of_the_format() -> None:
    service = Service("errors")
    for name in ("errors", "methods", "definitions", "doc", "description", "title"):
        service.method(name=name)(errors)
    contract = contract_of(service)
    for name in contract["methods"]:
        fewer = {**contract, "methods": {key: value for key, value in contract["methods"].items() if key != name}}
        assert fingerprint_of(fewer) != contract["fingerprint"]
    assert fingerprint_of(expanded(compact(contract))) == contract["fingerprint"]
    assert without_docs(contract)["methods"]["doc"]["parameters"][0]["default"] == {"methods": ["GET"]}


def test_a_type_that_json_schema_cannot_say_is_anything(caplog: pytest.LogCaptureFixture) -> None:
    """The others of its service are what they are."""
    service = Service("odd")
    service.method(odd)
    service.method(grow)
    contract = contract_of(service)
    json.dumps(contract, allow_nan=False)
    assert [each["schema"] for each in contract["methods"]["odd"]["parameters"]][:2] == [{}, {"type": "number"}]
    assert "Tree" in contract["definitions"]


def test_what_every_client_asks_is_worked_out_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the event loop of a server: it would stand still for seconds when a thousand clients start."""
    service = Service("shop")
    service.method(name="place")(lambda item: item)
    known = schema.fingerprint_in(service, "place"), schema.part_in(service, "place")
    with monkeypatch.context() as patched:
        patched.delattr(schema, "_digest")
        assert (schema.fingerprint_in(service, "place"), schema.part_in(service, "place")) == known
    assert schema.part_in(service, "place") is known[1]
    service.method(name="cancel")(lambda item: item)
    assert schema.part_in(service, "cancel")["methods"]["place"] == {}
    assert schema.part_in(service, "no such")["methods"] == {"place": {}, "cancel": {}}
