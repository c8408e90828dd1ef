"""Generated clients over the transport: types come back as they were sent, and a changed contract is told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import make_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest

from rpckit.codegen import python_client
from rpckit.context import Context
from rpckit.contract import Service
from rpckit.errors import InvalidArgument, UsageError
from rpckit.ids import new_id
from rpckit.schema import Document, contract_of
from rpckit.testing.conformance._rig import PATIENCE_S, Rig, RigFixtures
from rpckit.testing.conformance._types_service import shop

__all__ = ["Generated"]

Generate = Callable[[Document], Any]


class Generated(RigFixtures):
    @pytest.fixture
    def generate(self) -> Iterator[Generate]:
        """A document's client as an imported module."""
        made = []

        def generate(document: Document) -> ModuleType:
            module = ModuleType(f"generated_{new_id()}")
            sys.modules[module.__name__] = module  # where the types of its classes are looked up
            exec(compile(python_client(document), module.__name__, "exec"), module.__dict__)
            made.append(module)
            return module

        yield generate
        for module in made:
            del sys.modules[module.__name__]

    async def test_every_type_comes_back_typed(self, rig: Rig, address: str, generate: Generate) -> None:
        service = shop(address)
        await rig.server(service)
        made = generate(contract_of(service))
        made_shop = made.ShopRpcClient(client=await rig.client())
        item = made.Item("tea", Decimal("3.10"), made.Colour.BLUE, made.Size.LARGE, ["green"])
        order = made.Order(
            id=uuid4(),
            at=datetime.now(UTC),
            items=[item],
            takes=made.timedelta(minutes=5),
            attachment=b"\x00\xff",
            counts={1: "one"},
            point=(1, "x"),
            labels={"a", "b"},
            choice=item,
            origin="here",
        )
        order.parent = made.Order(id=uuid4(), at=datetime.now(UTC), items=[], takes=order.takes, point=(0, ""))
        assert await made_shop.place(order, made.Priority.HIGH, note="quick", timeout=9) == order
        assert await made_shop.reserve(item, 2) == {"tea": [item, item]}
        with pytest.raises(made.OutOfStock, match="only 9 of tea"):
            await made_shop.reserve(item, 10)

    @pytest.mark.parametrize("sync", [False, True])
    async def test_from_a_running_server_it_is_the_same_file(self, rig: Rig, address: str, sync: bool) -> None:
        await rig.server(shop(address))
        client = await rig.client()
        answer, *_ = await client.survey("schema", address, wait=PATIENCE_S, first=True)
        [contract] = answer.content["contracts"]
        assert python_client(contract, sync=sync) == python_client(contract_of(shop(address)), sync=sync)

    async def test_an_additive_change_works_with_an_old_client(
        self, rig: Rig, address: str, generate: Generate
    ) -> None:
        made = generate(contract_of(_orders(address, ("name", str))))
        await rig.server(_orders(address, ("name", str), ("note", str, "none"), raises=[KeyError]))
        client = made.OrdersRpcClient(client=await rig.client())
        assert await client.place(made.Item("tea")) == made.Item("tea")
        assert await client.place(made.Item("milk")) == made.Item("milk")

    async def test_a_breaking_change_is_told_on_the_first_call_with_the_field(
        self, rig: Rig, address: str, generate: Generate
    ) -> None:
        """The call did not run, and the next one is told as well."""
        begun: list[Any] = []
        made = generate(contract_of(_orders(address, ("name", str))))
        await rig.server(_orders(address, ("name", str), ("price", Decimal), begun=begun))
        client = made.OrdersRpcClient(client=await rig.client())
        for _ in range(2):
            with pytest.raises(UsageError, match=r"place\(item\.price\): is required now"):
                await client.place(made.Item("tea"))
        assert begun == []

    async def test_a_method_that_is_gone_is_told(self, rig: Rig, address: str, generate: Generate) -> None:
        made, other = generate(contract_of(_orders(address, ("name", str)))), Service("orders", address=address)

        @other.method
        async def cancel() -> None: ...

        await rig.server(other)
        client = made.OrdersRpcClient(client=await rig.client())
        with pytest.raises(UsageError, match="place: is gone; there are cancel"):
            await client.place(made.Item("tea"))

    async def test_handlers_do_not_see_that_the_contract_was_asked_for(
        self, rig: Rig, address: str, generate: Generate
    ) -> None:
        seen, service = [], Service("orders", address=address)

        @service.method
        async def place(count: int, ctx: Context) -> int:
            seen.append(dict(ctx.headers))
            return count

        await rig.server(service)
        client = generate(contract_of(service)).OrdersRpcClient(client=await rig.client())
        assert [await client.place(n, headers={"user": "7"}) for n in range(2)] == [0, 1]
        assert seen == [{"user": "7"}] * 2
        with pytest.raises(InvalidArgument):
            await client.place("many")


def _orders(address: str, *fields: Any, raises: Any = (), begun: list[Any] | None = None) -> Service:
    """A service whose item has these fields: a name, a type, and perhaps a default."""
    service = Service("orders", address=address)
    item = make_dataclass("Item", fields, namespace={"__doc__": f"One of {len(fields)} words."})

    async def place(item):  # type: ignore[no-untyped-def]  # its annotations are made here
        if begun is not None:
            begun.append(item)
        return item

    place.__annotations__ = {"item": item, "return": item}
    service.method(raises=raises)(place)
    return service
