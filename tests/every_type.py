"""A service with every type that a contract can say, for whatever is made of contracts; it answers with what it gets.

::

    rpckit serve tests.every_type:service
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from rpckit import RemoteError, Service

__all__ = ["service", "shop"]


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Point:
    """A place on a plane."""

    x: float
    y: float = 0.0


class Item(BaseModel):
    """Something to buy. */ is no end of it."""

    sku: str = Field(description="As printed on the box.")
    price: Decimal
    color: Color = Color.RED
    tags: list[str] = []


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Settings(TypedDict):
    name: str
    level: Level


class OutOfStock(RemoteError):
    """There is not enough of it."""

    default_code = "FAILED_PRECONDITION"


class NoSuchItem(LookupError):
    """Nobody sells that."""


service = Service("every type", address="every/type", version="1.2", doc="Says what it hears.")
shop = Service("shop")  # with events, whose groups not every transport has


@service.method
async def scalars(i: int, f: float, s: str, b: bool, raw: bytes, nothing: None = None) -> tuple[int, float, str, bool]:
    """The simple ones.

    Of bytes nothing comes back.
    """
    assert isinstance(raw, bytes)
    return i, f, s, b


@service.method
async def raw(value: bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


@service.method
async def times(at: datetime, day: date, hour: time, length: timedelta) -> tuple[datetime, date, time, timedelta]:
    assert isinstance(length, timedelta)
    return at, day, hour, length


@service.method
async def money(amount: Decimal, account: UUID) -> dict[str, Decimal]:
    assert isinstance(amount, Decimal)
    return {str(account): amount + 1}


@service.method(idempotent=True)
async def paint(point: Point, color: Color = Color.BLUE, *, level: Level | None = None) -> Point:
    assert isinstance(point, Point)
    assert isinstance(color, Color)
    return Point(point.x + 1, point.y if level is None else float(level))


@service.method(raises=[OutOfStock, NoSuchItem])
async def buy(items: list[Item], by_name: dict[str, Item], count: int = 1) -> Item | None:
    if count > 10:
        raise OutOfStock(f"only 10 are left, not {count}", details={"left": 10})
    if not items:
        raise NoSuchItem("nothing to buy")
    return items[0] if count else None


@service.method
async def grow(tree: Tree, by: int = 1) -> Tree:
    return Tree(value=tree.value + by, children=tree.children)


@service.method
async def choose(word: Literal["a", "b", 3], either: int | str | Point, sure: Settings, many: set[int]) -> Settings:
    assert isinstance(many, set)
    return sure


@service.method(name="delete", deprecated="use remove")
async def delete_(default: int, options: str = "no", /, fast: bool = False) -> list[Any]:
    """Names that are words of other languages."""
    return [default, options, fast]


@service.method
async def keywords(first: int, second: int = 2, *, needed: int, table: dict[int, Color] | None = None) -> int:
    assert not table or all(type(key) is int for key in table)
    return first + second + needed


@service.method
async def anything(value: Any = None) -> Any:
    return value


@service.method(no_reply=True)
async def forget(value: int) -> None: ...


@service.method(default=True)
async def slow(seconds: float = 0.0) -> str:
    await asyncio.sleep(seconds)
    return "done"


@dataclass
class Basket:
    points: list[Point] = field(default_factory=list)


@shop.method
async def fill(basket: Basket) -> None: ...


class Freight:
    class Item(BaseModel):
        """Another of the same name."""

        weight: float


@shop.method
async def weigh(item: Freight.Item) -> float:
    return item.weight


@shop.on("item/sold")
async def sold(where: Point, count: int = 1) -> None:
    """Somebody bought something there."""


@shop.on("item/sold", group="mail")
async def thank(where: Point, *, to: str) -> None: ...
