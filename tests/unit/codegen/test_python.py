"""Generated Python: it runs, its types are those of the service, and it says what the service says."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, Field

from rpckit import BlockingClient, BlockingTypedClient, Client, RemoteError, Service, TypedClient, UsageError
from rpckit.codec import OMITTED
from rpckit.codegen import python_client
from rpckit.schema import contract_of
from rpckit.testing import memory_pair
from rpckit.testing.conformance._types_service import OutOfStock, shop
from tests.odd_service import fib, odd


class Move(BaseModel):
    origin: str = Field(alias="from")


@pytest.fixture
def made() -> Iterator[ModuleType]:
    """The module generated for the shop."""
    module = ModuleType("made_for_a_test")
    sys.modules[module.__name__] = module  # where the types of its classes are looked up
    exec(compile(python_client(contract_of(shop())), "made.py", "exec"), module.__dict__)
    yield module
    del sys.modules[module.__name__]


@pytest.fixture
async def client() -> Any:
    async with memory_pair(shop()) as client:
        yield client


async def test_every_type_comes_back_as_it_was_sent(made: Any, client: Client) -> None:
    made_shop = made.ShopRpcClient(client=client)
    item = made.Item("tea", Decimal("3.10"), made.Colour.BLUE, made.Size.LARGE, ["green"])
    order = made.Order(
        id=uuid4(),
        at=datetime.now(UTC),
        items=[item],
        attachment=b"\x00\xff",
        counts={1: "one"},
        point=(1, "x"),
        labels={"a", "b"},
        choice=item,
        origin="here",
    )
    order.takes = made.timedelta(minutes=5)
    order.parent = replace(order, id=uuid4())
    placed = await made_shop.place(order, made.Priority.HIGH, note="quick")
    assert placed == order
    assert type(placed.items[0].colour) is made.Colour
    assert await made_shop.call(order) == order


async def test_what_is_left_out_is_the_other_sides_default(made: Any, client: Client) -> None:
    """Also where Python cannot write it: of a list of two, of a field from a factory."""
    made_shop = made.ShopRpcClient(client=client)
    with pytest.deprecated_call(match="use place"):
        result = await made_shop.scalars(7)
    assert result == (7, 0.5, made.date(2020, 1, 2), made.time(9, 30), UUID(int=7), Decimal("9.99"))
    assert await made_shop.others() == ("a", b"x", None, ["one", "two"], None)
    placed = await made_shop.place(made.Order(id=uuid4(), at=datetime.now(UTC), items=[]))
    assert (placed.takes, placed.point) == (made.timedelta(hours=1), (0, "zero"))


async def test_declared_errors_are_raised_as_themselves(made: Any, client: Client) -> None:
    made_shop = made.ShopRpcClient(client=client)
    with pytest.raises(made.OutOfStock, match="only 9 of tea") as raised:
        await made_shop.reserve(made.Item("tea"), 10)
    assert (raised.value.code, raised.value.details) == ("FAILED_PRECONDITION", {"left": 9})
    with pytest.raises(made.RemoteKeyError, match="tea"):
        await made_shop.reserve(made.Item("tea"), -1)
    assert not issubclass(made.OutOfStock, OutOfStock)
    assert issubclass(made.OutOfStock, RemoteError)


async def test_odd_services_have_clients_too() -> None:
    module: Any = ModuleType("made_for_odd")
    sys.modules[module.__name__] = module
    exec(compile(python_client(contract_of(odd())), "odd.py", "exec"), module.__dict__)
    async with memory_pair(odd()) as client:
        rpc = module.OddRpcClient(client=client)
        points = {module.Point(1), module.Point(2)}
        for method in (rpc.import_, rpc.call_, rpc.call__, rpc.list):
            assert await method(points) == points
        assert await rpc.tree({"a": {"b": {}}}) == {"a": {"b": {}}}
        assert await rpc.steps(module.Steps()) == "['a', 'b'] 0:00:03 ('x', 'y')"
        assert module.Steps().pause == timedelta(days=1, seconds=2)
        assert await rpc.placed() == ["x", "y", "1"]
        assert await rpc.placed(["z"]) == ["z", "1"]
        with pytest.raises(UsageError, match="argument 1 must be given"):
            await rpc.placed(OMITTED, [2])
    del sys.modules[module.__name__]


async def test_names_that_mean_something_here_are_still_those_of_the_service(made: Any, client: Client) -> None:
    made_shop = made.ShopRpcClient(client=client)
    assert await made_shop.call_(2.0, [1]) == [2, 1]
    assert await made_shop.using(timeout=9).call_(3.0, []) == [3]
    assert await made_shop.note("x") is None
    assert await made_shop.quotes() == 'a "quoted" \\ wordit\'s'


@pytest.mark.parametrize("sync", [False, True])
def test_methods_leave_alone_what_a_typed_client_is_made_of(sync: bool) -> None:
    typed = BlockingTypedClient(client=BlockingClient("memory://")) if sync else TypedClient(client=Client("memory://"))
    parts = [name for name in {*dir(type(typed)), *vars(typed)} if not name.startswith("__") and "_abc_" not in name]
    service = Service("odd")
    for name in parts:
        service.method(fib, name=name)
    module: dict[str, Any] = {}
    exec(compile(python_client(contract_of(service), sync=sync), "odd.py", "exec"), module)
    assert {"_call", "using"} <= set(parts)
    assert set(parts) & vars(module["OddRpcClient"]).keys() <= {"address", "contract"}


def test_the_signature_is_the_methods_with_the_options_of_a_call(made: Any) -> None:
    place = inspect.signature(made.ShopRpcClient.place)
    assert list(place.parameters) == ["self", "order", "priority", "note", "timeout", "headers"]
    assert place.parameters["priority"].default is made.Priority.LOW
    assert str(place.return_annotation) == "Order"
    assert inspect.getdoc(made.ShopRpcClient.place) == "Place an order.\n\nReturns it as it was placed."
    assert inspect.getdoc(made.Item) == "One line of an order.\n\nThe price is that of one piece."
    assert [each.name for each in fields(made.Order)][:3] == ["id", "at", "items"]


def test_a_contract_makes_the_same_file_wherever_it_comes_from() -> None:
    once, again = contract_of(shop()), contract_of(shop())
    assert once is not again
    assert python_client(once) == python_client(again)
    assert python_client(once) != python_client(once, sync=True)


def test_a_field_that_python_cannot_name_is_told() -> None:
    service = Service("moves")

    @service.method
    async def make(move: Move) -> None: ...

    with pytest.raises(UsageError, match="Move has a field 'from'"):
        python_client(contract_of(service))


def test_what_may_be_left_out_goes_by_name_also_where_a_method_is_called_as_the_word_for_it() -> None:
    service = Service("odd")

    @service.method
    async def OMITTED() -> None: ...

    @service.method
    async def two(first: list[int] = [1], second: int = 2) -> None: ...  # noqa: B006  # never called

    made = python_client(contract_of(service))
    assert "first: list[int] = OMITTED_," in made
    assert '{"first": first, "second": second},' in made


def test_an_empty_service_is_a_client_without_methods() -> None:
    made = python_client(contract_of(Service("empty")))
    compile(made, "made.py", "exec")
    assert "class EmptyRpcClient(" in made
    assert "def " not in made
