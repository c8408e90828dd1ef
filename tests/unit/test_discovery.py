"""What a side offers, as an OpenRPC document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rpckit import Context, Service
from rpckit.discovery import describe, discovery


@dataclass
class Item:
    name: str
    price: float


def shop() -> Service:
    service = Service("shop")

    @service.method
    async def place(item: Item, count: int = 1, *, ctx: Context) -> str:
        """Order something."""
        return item.name

    @service.method
    async def anything(value: Any): ...  # without a type, as people write it

    return service


def method(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in describe([shop()])["methods"] if each["name"] == name)
    return found


def test_a_method_is_described_as_it_is_called() -> None:
    """The running call is not one of its parameters."""
    place = method("shop.place")
    assert place["description"] == "Order something."
    assert [(each["name"], each["required"]) for each in place["params"]] == [("item", True), ("count", False)]
    assert place["params"][0]["schema"] == {"$ref": "#/components/schemas/Item"}
    assert place["result"]["schema"] == {"type": "string"}


def test_what_has_no_type_is_anything() -> None:
    assert method("shop.anything")["params"][0]["schema"] == {}


async def test_it_is_a_service_itself() -> None:
    spec = discovery([shop()]).methods["discover"]
    assert (await spec.function())["openrpc"] == "1.3.2"
