"""`rpckit schema`: the documents, and what a change breaks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rpckit import Service
from rpckit.cli.contract_file import problem_in
from rpckit.demo.service import service as fibonacci
from rpckit.documents import asyncapi, json_schema, openrpc
from rpckit.schema import contract_of
from rpckit.testing.conformance._types_service import shop as types_shop
from tests.every_type import service

Rpckit = Callable[..., Any]

NOW = """
from rpckit import Service

service = Service("shop")
other = Service("other")

@service.method
async def place(item: str, count: int = 1) -> str: ...

@service.method
async def cancel(order: str) -> None: ...
"""
OLD = NOW.replace("count: int = 1", "").replace("other", "another")  # `place` had no count
BROKEN = NOW.replace("-> str", "-> int").replace("item: str", "item: str, urgent: bool")


@pytest.fixture(autouse=True)
def modules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same service at three times."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name, text in {"now": NOW, "old": OLD, "broken": BROKEN}.items():
        (folder / f"schema_{name}.py").write_text(text)
    yield
    for name in [name for name in sys.modules if name.startswith("schema_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    "words,expected",
    [
        ((), openrpc([contract_of(service)])),
        (("--format", "openrpc"), openrpc([contract_of(service)])),
        (("--format", "asyncapi"), asyncapi([contract_of(service)])),
        (("--format", "asyncapi", "--url", "redis://h"), asyncapi([contract_of(service)], ["redis://h"])),
        (("--format", "jsonschema"), json_schema([contract_of(service)])),
        (("--format", "contract"), contract_of(service)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_document_is_json_on_stdout(rpckit: Rpckit, words: tuple[str, ...], expected: Any) -> None:
    ran = rpckit("schema", "tests.every_type:service", *words)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == json.loads(json.dumps(expected))


def test_several_services_are_one_document(rpckit: Rpckit) -> None:
    ran = rpckit("schema", "schema_now:service", "tests.every_type:shop")
    assert {each["name"].split(".")[1] for each in json.loads(ran.out)["methods"]} == {
        "place",
        "cancel",
        "fill",
        "weigh",
    }


def test_out_is_a_file_and_stdout_stays_empty(rpckit: Rpckit, folder: Path) -> None:
    ran = rpckit("schema", "schema_now:service", "--out", "shop.json")
    assert (ran.code, ran.out, ran.err) == (0, "", "wrote shop.json\n")
    assert json.loads((folder / "shop.json").read_text())["openrpc"]


def test_out_may_be_the_dash_that_means_stdout(rpckit: Rpckit, folder: Path) -> None:
    assert rpckit("schema", "schema_now:service", "--out", "-") == rpckit("schema", "schema_now:service")
    assert not (folder / "-").exists()


def test_a_file_that_cannot_be_written_is_a_usage_error(rpckit: Rpckit) -> None:
    ran = rpckit("schema", "schema_now:service", "--out", "no/folder/shop.json")
    assert ran.code == 2
    assert "no/folder/shop.json cannot be written" in ran.err


# --- --diff ----------------------------------------------------------------------------------


@pytest.fixture
def kept(rpckit: Rpckit) -> str:
    """A contract that was kept in a file."""
    assert rpckit("schema", "schema_old:service", "--format", "contract", "--out", "kept.json").code == 0
    return "kept.json"


def test_no_changes_exit_with_0(rpckit: Rpckit, kept: str) -> None:
    assert rpckit("schema", "schema_old:service", "--diff", kept) == (0, "no changes\n", "")


def test_additive_changes_exit_with_0(rpckit: Rpckit, kept: str) -> None:
    ran = rpckit("schema", "schema_now:service", "--diff", kept)
    assert (ran.code, ran.out) == (0, "additive  place(count): is new and optional\n")


def test_breaking_changes_come_first_and_exit_with_1(rpckit: Rpckit, kept: str) -> None:
    ran = rpckit("schema", "schema_broken:service", "--diff", kept)
    assert ran.code == 1
    labels = [line.split()[0] for line in ran.out.splitlines()]
    assert labels == ["breaking", "breaking", "additive"]
    assert "place(urgent): is new and required" in ran.out


def test_old_may_be_a_target(rpckit: Rpckit) -> None:
    assert rpckit("schema", "schema_now:service", "--diff", "schema_old:service").code == 0
    assert rpckit("schema", "schema_old:service", "--diff", "schema_now:service").code == 1


def test_json_is_for_programs(rpckit: Rpckit, kept: str) -> None:
    ran = rpckit("schema", "schema_now:service", "--diff", kept, "--json")
    assert json.loads(ran.out) == [{"breaking": False, "where": "place(count)", "what": "is new and optional"}]
    assert json.loads(rpckit("schema", "schema_old:service", "--diff", kept, "--json").out) == []


def test_several_services_are_compared_by_their_names(rpckit: Rpckit) -> None:
    words = ("--format", "contract", "--out", "both.json")
    assert rpckit("schema", "schema_old:service", "schema_old:another", *words).code == 0
    ran = rpckit("schema", "schema_now:service", "schema_now:other", "--diff", "both.json")
    assert ran.code == 1
    assert ran.out.splitlines() == [
        "breaking  another: is gone; there are shop, other",
        "additive  shop: place(count): is new and optional",
        "additive  other: is new",
    ]


@pytest.mark.parametrize(
    "content,said",
    [
        ("[1, 2", "it is not JSON"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"openrpc": "1.3.2"}', "rpckit: Field required"),
        ("[3]", "the whole: "),
        ('{"rpckit": 2}', "rpckit: Input should be 1"),
    ],
)
def test_a_file_that_is_no_contract_says_so(rpckit: Rpckit, folder: Path, content: str, said: str) -> None:
    (folder / "other.json").write_text(content)
    ran = rpckit("schema", "schema_now:service", "--diff", "other.json")
    assert ran.code == 2
    assert "other.json is not a contract" in ran.err
    assert said in ran.err
    assert "rpckit schema TARGET --format contract --out FILE" in ran.err


def test_a_contract_that_mentions_what_is_not_in_it_says_so(rpckit: Rpckit, folder: Path, kept: str) -> None:
    contract = json.loads((folder / kept).read_text())
    contract["methods"]["place"]["result"] = {"$ref": "#/definitions/Order"}
    (folder / kept).write_text(json.dumps(contract))
    ran = rpckit("schema", "schema_now:service", "--diff", kept)
    assert ran.code == 2
    assert "'Order'" in ran.err


@pytest.mark.parametrize(
    "place,value,said",
    [
        (("events",), None, "events: Input should be a valid list"),
        (("events", 0), {"group": ""}, "events.0.topic: Field required"),
        (("default",), "nosuch", "its default method 'nosuch' is not in it"),
        (("methods", "place", "raises"), ["Lost"], "it mentions 'Lost', and does not say what that is"),
        (("methods", "place", "result"), {"properties": []}, "methods.place.result.properties: "),
        (("methods", "place", "parameters", 0, "name"), "a): import os", "'a): import os' cannot be a name"),
        (("methods", "a(self): import os"), {}, "'a(self): import os' cannot be a name"),
        (("definitions", "A"), {"anyOf": [{"$ref": "#/definitions/A"}]}, "A stands for itself"),
        (("definitions", "A"), {"x-names": ["a = 1; import os"]}, "'a = 1; import os' cannot be a name"),
        (("definitions", "A"), {"x-names": ["a"], "enum": []}, "it mentions 'A', and does not say what that is"),
        (("definitions", "A"), {"x-base": "Popen"}, "definitions.A.x-base: Input should be"),
    ],
    ids=str,
)
def test_what_is_no_contract_is_told_before_anything_is_made_of_it(place: Any, value: Any, said: str) -> None:
    """Of a contract that somebody else may have sent, names would stand in code as they are."""
    document = json.loads(json.dumps(contract_of(types_shop())))
    document["events"] = [{"topic": "t", "group": "", "doc": "", "parameters": []}]
    assert problem_in(document) == ""
    inner: Any = document
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    assert said in problem_in(document)


@pytest.mark.parametrize("made", [service, types_shop(), fibonacci], ids=lambda made: made.name)
def test_what_rpckit_makes_is_a_contract(made: Service) -> None:
    assert problem_in(contract_of(made)) == ""


def test_a_file_that_is_not_there_says_so(rpckit: Rpckit) -> None:
    ran = rpckit("schema", "schema_now:service", "--diff", "gone.json")
    assert ran.code == 2
    assert "gone.json cannot be read" in ran.err


def test_diff_writes_no_file(rpckit: Rpckit, kept: str) -> None:
    ran = rpckit("schema", "schema_now:service", "--diff", kept, "--out", "x.json")
    assert ran.code == 2
    assert "--diff prints changes" in ran.err
