"""JSON Schema as Python types."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from rpckit.codegen.names import Names
from rpckit.codegen.types import Types, docstring


@pytest.mark.parametrize(
    "schema, spelt",
    [
        ({}, "Any"),
        ({"type": "object"}, "dict[str, Any]"),
        ({"type": "array"}, "list[Any]"),
        ({"const": 3}, "Literal[3]"),
        ({"type": "string", "format": "duration"}, "timedelta"),
        ({"oneOf": [{"type": "integer"}, {"type": "integer"}, {"type": "null"}]}, "int | None"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "dict[str, bool]"),
        ({"$ref": "#/definitions/Tree"}, "dict[str, Any]"),
    ],
    ids=json.dumps,
)
def test_a_schema_is_spelt_as_a_type(schema: dict[str, Any], spelt: str) -> None:
    """One that contains itself, and is no class, ends in anything."""
    tree = {"type": "object", "additionalProperties": {"$ref": "#/definitions/Tree"}}
    assert Types({"Tree": tree}, Names(()), set()).spell(schema) == spelt


def test_a_name_that_is_taken_is_another_one() -> None:
    names = Names({"date", "list"})
    types = Types({}, names, set())
    assert types.spell({"type": "array", "items": {"type": "string", "format": "date"}}) == "list_[date_]"
    assert list(names.lines()) == ["from builtins import list as list_", "from datetime import date as date_"]


@pytest.mark.parametrize("text", ['"', '""""', "\\", 'ends with "', "two\nlines", "'" * 4, "\\n"])
def test_any_text_can_be_a_docstring(text: str) -> None:
    scope: dict[str, Any] = {}
    exec("\n".join(["def f():", *docstring(text)]), scope)
    assert (inspect.getdoc(scope["f"]) or "").strip() == text.strip()
