"""Values that go through a call and come back as what they were."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, TypeAdapter

from rpckit.contract import Service
from rpckit.testing.conformance._probe import Probe
from rpckit.testing.conformance._rig import Rig, RigFixtures
from rpckit.typed import TypedClient

__all__ = ["Values"]


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Item:
    name: str
    price: Decimal
    colour: Colour | None = None


class Order(BaseModel):
    id: UUID
    at: datetime
    takes: timedelta
    items: list[Item]
    attachment: bytes
    tags: dict[str, list[int]]
    note: str | None = None


class _Shop(TypedClient):
    async def place(self, order: Order, colour: Colour, at: datetime) -> Order:
        return await self._call("place", TypeAdapter(Order), (order, colour), {"at": at})


class Values(RigFixtures):
    async def test_types_arrive_as_they_were_sent(self, rig: Rig, address: str) -> None:
        """Dataclasses, models, enums, datetimes, UUIDs, decimals and bytes, nested, both ways."""
        seen: list[tuple[Order, Colour, datetime]] = []
        service = Service("shop", address=address)

        @service.method
        async def place(order: Order, colour: Colour, at: datetime) -> Order:
            seen.append((order, colour, at))
            return order

        await rig.server(service)
        shop = type("Shop", (_Shop,), {"address": address})(client=await rig.client())
        now = datetime.now(UTC)
        order = _order(now)
        assert await shop.place(order, Colour.BLUE, now) == order
        assert seen == [(order, Colour.BLUE, now)]

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            0,
            -(2**63),
            2**64 - 1,
            1.5,
            "",
            "Grüße ✓ 🎈",
            b"",
            b"\x00\xff",
            [1, [2, []]],
            {"a": {"b": None}},
        ],
        ids=repr,
    )
    async def test_plain_data_comes_back(self, rig: Rig, address: str, value: Any) -> None:
        probe = Probe(address)
        await rig.server(probe.service)
        client = await rig.client()
        result = await client.call(probe.at("echo"), value)
        assert (result, type(result)) == (value, type(value))


def _order(at: datetime) -> Order:
    items = [Item("tea", Decimal("3.10"), Colour.RED), Item("milk", Decimal("0.95"))]
    return Order(
        id=uuid4(),
        at=at,
        takes=timedelta(hours=1.5),
        items=items,
        attachment=b"\x00\xff",
        tags={"a": [1, 2], "b": []},
    )
