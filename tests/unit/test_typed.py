"""Typed clients: what they ask of the contract, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from pydantic import TypeAdapter

from rpckit import (
    BadReply,
    Call,
    Client,
    DeadlineExceeded,
    InvalidArgument,
    RemoteError,
    Service,
    TypedClient,
    UsageError,
)
from rpckit.message import CONTRACT_HEADER
from rpckit.middleware import CallNext
from rpckit.schema import compact, contract_of
from rpckit.testing import memory_pair, virtual_time

_INT = TypeAdapter(int)
seen: list[bool] = []


def service() -> Service:
    service = Service("shop")

    @service.method
    async def count(n: int) -> int:
        return n

    return service


class Shop(TypedClient):
    address: ClassVar[str] = "shop"

    async def count(self, n: Any, **options: Any) -> int:
        return await self._call("count", _INT, (n,), **options)


Shop.contract = json.dumps(compact(contract_of(service())))


async def watch(call: Call, call_next: CallNext[Call]) -> Any:
    seen.append(CONTRACT_HEADER in call.headers)
    return await call_next(call)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    seen.clear()
    async with memory_pair(service(), client_middleware=[watch]) as client:
        yield client


async def test_the_contract_is_asked_for_once_a_method(client: Client) -> None:
    shop = Shop(client=client)
    assert [await shop.count(n) for n in range(2)] == [0, 1]
    assert await shop.using(timeout=3).count(2) == 2
    assert seen == [True, False, False]


async def test_what_says_that_it_does_not_fit_has_it_asked_again(client: Client) -> None:
    shop = Shop(client=client)
    for n in (1, "many", 2, 3):
        if n == "many":
            with pytest.raises(InvalidArgument):
                await shop.count(n)
        else:
            assert await shop.count(n) == n
    assert seen == [True, False, True, False]


async def test_a_changed_contract_is_asked_for_until_it_fits(client: Client) -> None:
    class Old(Shop):
        contract = Shop.contract.replace("integer", "string")

    old = Old(client=client)
    for _ in range(2):
        with pytest.raises(
            UsageError, match=r"since Old was generated: count\(n\): is now integer, was string"
        ) as told:
            await old.count(1)
        assert told.value.__context__ is None  # one error, not two in a traceback
    assert seen == [True, True]


async def test_an_additive_change_is_agreed_to_once(client: Client) -> None:
    class Old(Shop):
        contract = Shop.contract.replace('"result": {"type": "integer"}', '"result": {}')

    old = Old(client=client)
    assert [await old.count(n) for n in range(2)] == [0, 1]
    assert seen == [True, False, False]


async def test_without_a_contract_nothing_is_asked(client: Client) -> None:
    class Handwritten(Shop):
        contract = ""

    assert await Handwritten(client=client).count(1) == 1
    assert seen == [False]


async def test_a_result_of_another_type_is_a_bad_reply(client: Client) -> None:
    class Wrong(Shop):
        contract = ""

        async def count(self, n: Any, **options: Any) -> Any:
            return await self._call("count", TypeAdapter(list[int]), (n,), **options)

    with pytest.raises(BadReply, match="something else than it promises"):
        await Wrong(client=client).count(1)


# -- what a server says of its contract -------------------------------------------------------------


def refusing(document: Any, calls: list[float], time_s: float = 0.0) -> Service:
    """A server that says for ever that its contract has changed."""
    service = Service("shop")

    @service.method
    async def count(n: int) -> int:
        calls.append(asyncio.get_running_loop().time())
        await asyncio.sleep(time_s)
        raise RemoteError("it has changed", code="FAILED_PRECONDITION", type="ContractChanged", details=document)

    return service


async def test_a_server_that_refuses_for_ever_is_asked_twice() -> None:
    calls: list[float] = []
    async with memory_pair(refusing({"contract": contract_of(service())}, calls)) as client:
        with pytest.raises(RemoteError, match="it has changed"):
            await Shop(client=client).count(1)
    assert len(calls) == 2


@virtual_time
async def test_the_second_try_has_what_is_left_of_the_callers_time() -> None:
    calls: list[float] = []
    async with memory_pair(refusing({"contract": contract_of(service())}, calls, time_s=6)) as client:
        began = asyncio.get_running_loop().time()
        with pytest.raises(DeadlineExceeded):
            await Shop(client=client).count(1, timeout=10)
        assert len(calls) == 2
        assert asyncio.get_running_loop().time() - began == pytest.approx(10, abs=0.1)


@virtual_time
async def test_without_any_time_left_for_the_second_try_the_deadline_is_exceeded() -> None:
    """It was a `UsageError`: a timeout of less than nothing, which nobody had given."""
    calls: list[float] = []

    async def dawdle(call: Call, call_next: CallNext[Call]) -> Any:
        try:
            return await call_next(call)
        finally:
            await asyncio.sleep(6)

    document = {"contract": contract_of(service())}
    async with memory_pair(refusing(document, calls, time_s=6), client_middleware=[dawdle]) as client:
        with pytest.raises(DeadlineExceeded, match=r"shop\.count had no time left"):
            await Shop(client=client).count(1, timeout=10)
    assert len(calls) == 1


ITSELF = {"X": {"$ref": "#/definitions/X"}}
COUNT = contract_of(service())["methods"]["count"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"methods": None},
        {"methods": {"count": []}, "definitions": {}},
        {"methods": {"count": {**COUNT, "parameters": 3}}, "definitions": {}},
        {"methods": {"count": {**COUNT, "result": {"$ref": "#/definitions/Y"}}}, "definitions": {}},
        {"methods": {"count": {**COUNT, "result": {"$ref": "#/definitions/X"}}}, "definitions": ITSELF},
    ],
    ids=["empty", "no methods", "no method", "no parameters", "a missing definition", "a definition of itself"],
)
async def test_what_is_no_contract_is_a_bad_reply(document: Any) -> None:
    async with memory_pair(refusing({"contract": document}, [])) as client:
        with pytest.raises(BadReply, match="another contract, which cannot be read"):
            await Shop(client=client).count(1)


async def test_a_contract_larger_than_a_body_is_still_compared() -> None:
    large = service()
    for number in range(50):
        large.method(name=f"other_{number}")(lambda a, b: a)

    class Old(Shop):
        contract = Shop.contract.replace('"result": {"type": "integer"}', '"result": {}')

    assert len(json.dumps(contract_of(large))) > 3000
    async with memory_pair(large, max_body=3000) as client:
        assert await Old(client=client).count(1) == 1
