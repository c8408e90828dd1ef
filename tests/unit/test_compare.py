"""What a changed contract means for clients of the old one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from datetime import datetime
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from rpckit import Service
from rpckit.acceptance import Acceptance
from rpckit.compare import Change, compare, compare_method
from rpckit.schema import Document, compact, contract_of, expanded, part_of


def contract(function: Callable[..., Any], **options: Any) -> Document:
    service = Service("shop")
    service.method(name="place", **options)(function)
    return contract_of(service)


def taking(annotation: Any, *default: Any) -> Document:
    async def place(item=None) -> None: ...

    place.__annotations__ = {"item": annotation, "return": None}
    place.__defaults__ = default or None
    return contract(place)


def giving(annotation: Any) -> Document:
    async def place() -> None: ...

    place.__annotations__ = {"return": annotation}
    return contract(place)


def item(*fields: Any) -> Any:
    return make_dataclass("Item", fields)


class Colour(Enum):
    RED = "red"


class Colours(Enum):
    RED = "red"
    BLUE = "blue"


class Open(BaseModel):
    kid: Open | None = None
    n: int = 0


class Node(BaseModel):
    kid: Node | None = None
    n: str = ""


class Whole(TypedDict):
    name: str


class Partly(TypedDict):
    name: NotRequired[str]


PRICED: Any
NAMED: Any
BOTH: Any
PRICED, NAMED, BOTH = item(("price", int)), item(("name", str)), item(("name", str), ("price", int))
MAYBE = item(("name", str), ("price", int, field(default=1)))

WIDER = [  # each takes all that the one before it takes, and more
    (int, int | None),
    (int, float),
    (int, int | str),
    (Literal["a"], Literal["a", "b"]),
    (Literal["a"], str),
    (Colour, Colours),
    (datetime, str),
    (Annotated[int, Field(ge=1)], int),
    (Annotated[int, Field(ge=2, le=5)], Annotated[int, Field(ge=1, le=6)]),
    (list[int], list[float]),
    (dict[str, int], dict[str, Any]),
    (list[Colour], list[Colours]),
    (tuple[int, int], tuple[int, float]),
    (BOTH, NAMED),
    (Whole, Partly),
    (bytes, bytes | None),
    (dict[int, int], dict[int, int] | None),
    (int, Any),
    (list[BOTH], list[NAMED] | None),
]
ids = lambda value: getattr(value, "__name__", str(value))[:40]  # noqa: E731


@pytest.mark.parametrize("narrow, wide", WIDER, ids=ids)
def test_an_argument_may_become_wider(narrow: Any, wide: Any) -> None:
    assert not [change for change in compare(taking(narrow), taking(wide)) if change.breaking]
    assert [change.breaking for change in compare(taking(wide), taking(narrow))][:1] == [True]


@pytest.mark.parametrize("narrow, wide", WIDER, ids=ids)
def test_a_result_may_become_narrower(narrow: Any, wide: Any) -> None:
    assert not [change for change in compare(giving(wide), giving(narrow)) if change.breaking]
    assert [change.breaking for change in compare(giving(narrow), giving(wide))][:1] == [True]


@pytest.mark.parametrize(
    "old, new, where, what",
    [
        (taking(int), taking(str), "place(item)", "is now string, was integer"),
        (taking(PRICED), taking(item(("price", str))), "place(item.price)", "is now string, was integer"),
        (taking(NAMED), taking(BOTH), "place(item.price)", "is required now"),
        (taking(MAYBE), taking(BOTH), "place(item.price)", "is required now"),
        (taking(list[NAMED]), taking(list[BOTH]), "place(item[].price)", "is required now"),
        (taking(Colours), taking(Colour), "place(item)", "can no longer be 'blue'"),
        (taking(int), taking(Annotated[int, Field(ge=5)]), "place(item minimum)", "is now 5, was none"),
        (giving(int), giving(int | None), "place → result", "is now integer or null, was integer"),
        (giving(BOTH), giving(NAMED), "place → .price", "is gone"),
        (giving(Whole), giving(Partly), "place → .name", "may be missing now"),
        (taking(bytes), taking(str), "place(item)", "is now string, was binary"),
        (giving(str), giving(bytes), "place → result", "is now binary, was string"),
        (taking(dict[int, int]), taking(dict[str, int]), "place(item keys)", "is now string, was integer"),
        (giving(list[BOTH]), giving(list[NAMED]), "place → [].price", "is gone"),
        (giving(Colour), giving(Colours), "place → result", "may now be 'blue', which old clients do not know"),
        (giving(Open), giving(Node), "place → .n", "is now string, was integer"),
    ],
)
def test_a_breaking_change_names_the_field_and_what_became_of_it(
    old: Document, new: Document, where: str, what: str
) -> None:
    assert compare(old, new)[0] == Change(True, where, what)


async def one(a: int, b: int = 0) -> None: ...
async def swapped(b: int = 0, a: int = 0) -> None: ...
async def renamed(first: int, b: int = 0) -> None: ...
async def more(a: int, b: int = 0, *, c: int = 0) -> None: ...
async def needed(a: int, b: int = 0, *, c: int) -> None: ...
async def named(a: int, *, b: int = 0) -> None: ...
async def placed(a: int, b: int = 0, /) -> None: ...


@pytest.mark.parametrize(
    "new, breaking",
    [
        (one, []),
        (more, []),
        (swapped, ["place(a): is no longer argument 1", "place(b): is no longer argument 2"]),
        (renamed, ["place(a): is gone", "place(first): is new and required"]),
        (needed, ["place(c): is new and required"]),
        (named, ["place(b): must be given by its name now"]),
        (placed, ["place(a): must be given by its place now", "place(b): must be given by its place now"]),
    ],
)
def test_parameters_are_known_by_name_and_place(new: Any, breaking: list[str]) -> None:
    changes = compare(contract(one), contract(new))
    assert [str(change) for change in changes if change.breaking] == breaking


@pytest.mark.parametrize(
    "before, after, breaking",
    [
        ({"idempotent": True}, {}, True),
        ({}, {"idempotent": True}, False),
        ({}, {"no_reply": True}, True),
        ({}, {"deprecated": "use place2"}, False),
        ({}, {"raises": [KeyError]}, False),
    ],
)
def test_what_a_client_counts_on_apart_from_types(
    before: dict[str, Any], after: dict[str, Any], breaking: bool
) -> None:
    assert [change.breaking for change in compare(contract(one, **before), contract(one, **after))] == [breaking]


def test_a_method_may_come_but_not_go() -> None:
    both = Service("shop")
    both.method(name="place", default=True)(one)
    both.method(name="cancel")(one)
    old, new = contract(one), contract_of(both)
    assert [str(change) for change in compare(old, new)] == ["cancel: is new"]
    assert [(change.breaking, str(change)) for change in compare(new, old)] == [
        (True, "cancel: is gone; there are place")
    ]


def test_a_second_method_takes_the_default_of_an_only_one() -> None:
    """Who names no method, as RabbitMQ's tutorial does, is then refused."""
    both = Service("shop")
    both.method(name="place")(one)
    both.method(name="cancel")(one)
    assert [str(change) for change in compare(contract(one), contract_of(both)) if change.breaking] == [
        "default method: is now none, was place; keep it with default=True on place"
    ]


@dataclass
class Described:
    """Once."""

    name: str


@dataclass
class DescribedMore:
    """Once, and more."""

    name: str
    note: str = ""


DescribedMore.__name__ = DescribedMore.__qualname__ = "Described"


def test_a_client_without_prose_and_a_server_with_it_agree() -> None:
    """As a generated client compares: its own contract is the compact one."""
    old, new = expanded(compact(taking(Described))), taking(DescribedMore)
    assert compare_method(old, part_of(new, "place"), "place") == []
    old, new = expanded(compact(giving(Described))), giving(DescribedMore)
    assert compare_method(old, new, "place") == []


def test_a_default_of_a_result_is_sent() -> None:
    assert not [change for change in compare(giving(BOTH), giving(MAYBE)) if change.breaking]


def test_what_only_has_a_place_may_have_another_name() -> None:
    async def other(first: int, second: int = 0, /) -> None: ...

    assert [change for change in compare(contract(placed), contract(other)) if change.breaking] == []


def test_every_change_is_named() -> None:
    """Also those that are nobody's concern."""
    for old, new, said in [
        (taking(int, 1), taking(int, 2), "place(item): defaults to 2 now, not to 1"),
        (taking(BOTH), taking(NAMED), "place: has other types, which fit old clients"),
        (giving(NAMED), giving(BOTH), "place: has other types, which fit old clients"),
    ]:
        assert [str(change) for change in compare(old, new)] == [said]


def test_events_are_compared_too() -> None:
    def hearing(topic: str, annotation: Any) -> Document:
        async def heard(what) -> None: ...

        heard.__annotations__ = {"what": annotation}
        service = Service("shop")
        service.on(topic)(heard)
        return contract_of(service)

    assert compare(hearing("a", int), hearing("a", str)) == [
        Change(True, "event a(what)", "is now string, was integer")
    ]
    assert [str(change) for change in compare(hearing("a", int), hearing("b", int))] == [
        "event a: is not heard any more",
        "event b: is heard now",
    ]


def test_prose_is_no_change() -> None:
    old, new = taking(Described), taking(Described)
    new = {**new, "definitions": {"Described": {**new["definitions"]["Described"], "description": "Twice."}}}
    new["methods"]["place"] = {**new["methods"]["place"], "doc": "Other words."}
    assert compare(old, new) == []


KINDS = [f"Node{number}" for number in range(8)]


def nodes(**more: Any) -> Any:
    """The definitions of a tree: each kind of node has two of any kind below it, and the last kind `more` fields."""
    below = {"oneOf": [{"$ref": f"#/definitions/{kind}"} for kind in KINDS]}
    return {
        kind: {
            "type": "object",
            "properties": {
                "left": below,
                "right": below,
                "kind": {"const": kind, "type": "string"},
                **(more if kind == KINDS[-1] else {}),
            },
            "required": ["left", "right", "kind", *(more if kind == KINDS[-1] else [])],
        }
        for kind in KINDS
    }


@pytest.mark.timeout(10)
def test_a_type_of_many_kinds_that_contains_itself_is_compared_in_no_time() -> None:
    """Every path through two such trees would be more than there are atoms."""
    tree = {"oneOf": [{"$ref": f"#/definitions/{kind}"} for kind in KINDS]}
    more = nodes(price={"type": "number"})
    assert list(Acceptance(nodes(), nodes(), new_accepts=True).problems(tree, tree, "")) == []
    assert list(Acceptance(more, nodes(), new_accepts=True).problems(tree, tree, "")) == []
    ((place, problem),) = Acceptance(nodes(), more, new_accepts=True).problems(tree, tree, "")
    assert (place.rpartition(".")[2], problem) == ("price", "is required now")


@pytest.mark.timeout(10)
def test_unions_of_unions_have_each_member_once() -> None:
    """Whoever answers may send such types; also one that is a union of itself."""
    depth = 40
    types: Any = {f"U{n}": {"anyOf": [{"$ref": f"#/definitions/U{n + 1}"}] * 2} for n in range(depth)}
    types |= {f"U{depth}": {"anyOf": [{"type": "string"}, {"$ref": "#/definitions/U0"}]}}
    one, text = {"$ref": "#/definitions/U0"}, {"type": "string"}
    assert list(Acceptance(types, types, new_accepts=True).problems(one, one, "")) == []
    assert list(Acceptance(types, {}, new_accepts=True).problems(one, text, "")) == []
    assert list(Acceptance({}, types, new_accepts=True).problems(text, one, "")) == []
