"""What an instance answers about itself, and how an answer is read."""

from __future__ import annotations

import os
from typing import Any

import pytest

from rpckit import Service, codec
from rpckit.message import Kind, Message
from rpckit.queries import Instance, as_answer, query_service, read_answer


def shop() -> Service:
    service = Service("shop", address="orders", version="1.2")

    @service.method
    async def place(item: str) -> int: ...

    @service.on("user.created")
    async def welcome(user: int) -> None: ...

    return service


def hearing() -> Service:
    service = Service("hearing")

    @service.on("news")
    async def news() -> None: ...

    return service


async def ask(query: str, address: str = "") -> Any:
    queries = query_service([shop(), hearing()], Instance("i-1"), lambda address: [{"of": address}])
    return await queries.methods[query].function(address)


def test_an_instance_is_this_process_and_never_the_same_again() -> None:
    one, other = Instance.here([]), Instance.here([])
    assert (one.pid, one.rpckit != "", len(one.id)) == (os.getpid(), True, 32)
    assert one.id != other.id


async def test_info_names_services_versions_methods_and_events() -> None:
    info = await ask("info")
    assert info["instance"]["id"] == "i-1"
    shop, hearing = info["services"]
    fingerprint = shop.pop("fingerprint")
    assert shop == {
        "name": "shop",
        "version": "1.2",
        "address": "orders",
        "methods": ["place"],
        "events": ["user.created"],
    }
    assert (hearing["name"], hearing["methods"], hearing["events"]) == ("hearing", [], ["news"])
    assert fingerprint == (await ask("schema", "orders"))["contracts"][0]["fingerprint"]


async def test_only_what_is_served_at_an_address_is_told_of_it() -> None:
    assert [each["name"] for each in (await ask("info", "orders"))["services"]] == ["shop"]
    assert (await ask("stats", "orders"))["stats"] == [{"of": "orders"}]
    assert [each["address"] for each in (await ask("schema"))["contracts"]] == ["orders"]
    for query in ("ping", "info", "stats", "schema"):
        assert await ask(query, "hearing") is None  # it hears events, and nobody can call it
        assert await ask(query, "elsewhere") is None


def test_an_answer_of_a_later_version_may_say_more() -> None:
    content = {"instance": {"id": "i", "host": "h", "colour": "red"}, "more": 1}
    answer = as_answer(content, 0.5)
    assert answer is not None
    assert (answer.instance, answer.content, answer.seconds) == (Instance("i", "h"), content, 0.5)


SOMEBODY = {"id": "i"}


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, [], {}, {"instance": 7}, {"instance": {}}, {"instance": {"id": 7}}),
        *(
            {"instance": SOMEBODY | each}
            for each in ({"started": "now"}, {"transports": 3}, {"host": []}, {"pid": "x"})
        ),
        *({"instance": SOMEBODY, name: each} for name in ("services", "stats") for each in (7, [7], [{}])),
        {"instance": SOMEBODY, "contracts": [None]},
    ],
)
def test_what_is_no_answer_is_none(value: object) -> None:
    assert as_answer(value, 0.0) is None


def test_a_fault_is_no_answer_and_rubbish_is_told() -> None:
    body = codec.encode(codec.MSGPACK, {"instance": {"id": "i"}})
    assert read_answer(Message(Kind.REPLY, content_type=codec.MSGPACK, body=body), 0.0) is not None
    assert read_answer(Message(Kind.FAULT, content_type=codec.MSGPACK, body=body), 0.0) is None
    with pytest.raises(codec.CodecError):
        read_answer(Message(Kind.REPLY, content_type=codec.MSGPACK, body=b"\xc1"), 0.0)
