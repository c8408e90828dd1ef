"""The types of several contracts in one document."""

from __future__ import annotations

from typing import Any

from rpckit.documents._types import Types, draft_7
from rpckit.schema import contract_of
from tests.every_type import service, shop

DOCUMENTS = [contract_of(service), contract_of(shop)]


def test_types_of_one_name_that_differ_have_two() -> None:
    types = Types(DOCUMENTS, "#/types/")
    assert types.schema(0, {"$ref": "#/definitions/Item"}) == {"$ref": "#/types/Item"}
    assert types.schema(1, {"$ref": "#/definitions/Item"}) == {"$ref": "#/types/Item_2"}
    assert list(types.definitions["Item_2"]["properties"]) == ["weight"]


def test_a_type_that_is_the_same_in_two_contracts_is_there_once() -> None:
    types = Types(DOCUMENTS, "#/types/")
    assert [name for name in types.definitions if name.startswith("Point")] == ["Point"]


def test_two_types_that_differ_only_in_what_they_mention_are_two() -> None:
    def contract(inner: str) -> dict[str, Any]:
        outer = {"properties": {"inner": {"$ref": "#/definitions/Inner"}}}
        return {"definitions": {"Outer": outer, "Inner": {"type": inner}}}

    types = Types([contract("string"), contract("integer")], "#/types/")
    assert set(types.definitions) == {"Outer", "Inner", "Outer_2", "Inner_2"}
    assert types.definitions["Outer_2"]["properties"]["inner"] == {"$ref": "#/types/Inner_2"}


def test_a_field_called_as_a_keyword_is_a_field_and_a_default_is_a_value() -> None:
    types = Types([{"definitions": {"A": {}}}], "#/types/")
    schema = {"properties": {"default": {"$ref": "#/definitions/A"}}, "default": {"$ref": "text"}}
    assert types.schema(0, schema) == {"properties": {"default": {"$ref": "#/types/A"}}, "default": {"$ref": "text"}}


def test_draft_7_reads_tuples_and_what_stands_beside_a_reference() -> None:
    assert draft_7({"type": "array", "prefixItems": [{"type": "string"}], "maxItems": 1}) == {
        "type": "array",
        "items": [{"type": "string"}],
        "maxItems": 1,
    }
    assert draft_7({"$ref": "#/x", "default": 1}) == {"allOf": [{"$ref": "#/x"}], "default": 1}
    assert draft_7({"properties": {"discriminator": {"$ref": "#/x"}}}) == {
        "properties": {"discriminator": {"$ref": "#/x"}}
    }
