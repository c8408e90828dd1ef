"""A service with every type that travels, for what is generated from a contract."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from rpckit.contract import Service
from rpckit.errors import RemoteError

__all__ = ["OutOfStock", "shop"]


SEVEN = UUID(int=7)


class Colour(Enum):
    """What it looks like."""

    RED = "red"
    BLUE = 3


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Priority(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Item:
    """One line of an order.

    The price is that of one piece.
    """

    name: str
    price: Decimal = Decimal("1.50")
    colour: Colour | None = None
    size: Size = Size.SMALL
    tags: list[str] = field(default_factory=list)


class Order(BaseModel):
    """What somebody wants."""

    id: UUID
    at: datetime
    items: list[Item]
    takes: timedelta = timedelta(hours=1)
    parent: Order | None = None
    attachment: bytes = b""
    counts: dict[int, str] = Field(default_factory=dict)
    point: tuple[int, str] = (0, "zero")
    labels: set[str] = Field(default_factory=set)
    choice: int | Item | None = None
    of: str = Field(default="", alias="origin", description="where it comes from")


class OutOfStock(RemoteError):
    """There is not enough of it."""

    default_code = "FAILED_PRECONDITION"


def shop(address: str = "shop") -> Service:
    """Methods that give back what they take."""
    service = Service("shop", address=address, version="1.2", doc="Sells things.")

    @service.method(idempotent=True, default=True)
    async def place(order: Order, priority: Priority = Priority.LOW, *, note: str | None = None) -> Order:
        """Place an order.

        Returns it as it was placed.
        """
        return order

    @service.method(raises=[OutOfStock, KeyError])
    async def reserve(item: Item, count: int = 1) -> dict[str, list[Item]]:
        """Set some aside."""
        if count > 9:
            raise OutOfStock(f"only 9 of {item.name}", details={"left": 9})
        if count < 0:
            raise KeyError(item.name)
        return {item.name: [item] * count}

    @service.method(deprecated="use place")
    async def scalars(
        number: int | str,
        ratio: float = 0.5,
        day: date = date(2020, 1, 2),
        at: time = time(9, 30),
        key: UUID = SEVEN,
        price: Decimal = Decimal("9.99"),
    ) -> tuple[int | str, float, date, time, UUID, Decimal]:
        return number, ratio, day, at, key, price

    @service.method
    async def others(
        kind: Literal["a", "b"] = "a",
        data: bytes = b"x",
        words: list[str] | None = None,
        several: tuple[str, ...] = ("one", "two"),
        anything: Any = None,
    ) -> tuple[str, bytes, list[str] | None, list[str], Any]:
        return kind, data, words, list(several), anything

    @service.method
    async def call(timeout: float, list: list[int]) -> list[int]:
        """Its name and those of its arguments mean something to a client."""
        return [round(timeout), *list]

    @service.method(no_reply=True)
    async def note(text: str) -> None:
        """Nobody waits for it."""

    @service.method
    def quotes(text: str = 'a "quoted" \\ word', other: str = "it's") -> str:
        '''Says """three quotes""" and a backslash \\.'''
        return text + other

    return service
